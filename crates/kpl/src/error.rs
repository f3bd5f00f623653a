/// What packing can run into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The record alone exceeds the aggregator's limit: send it by itself, as a plain Kinesis record.
    #[error(
        "cannot aggregate a record: alone it makes an aggregate of {bytes} bytes, over the limit of {bytes_max}; \
         send it as a plain record"
    )]
    TooLarge {
        /// Size of an aggregate that holds only this record.
        bytes: usize,
        /// The aggregator's limit.
        bytes_max: usize,
    },
}
