//! Why a consumer does not run, by what the caller can do.

use kinesink_core::Failure;

/// What ends a consumer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing or out of range: mend the call.
    #[error("cannot build the consumer: {0}")]
    Setting(String),
    /// The stream or the lease table cannot be used, before any record was read.
    #[error("{0}")]
    Start(Failure),
    /// There is no lease table of this name: no worker has run, or the name, region or account is another's.
    #[error("cannot read lease table {0}: there is no such table; check the application's name, region and account")]
    NoTable(String),
    /// A row of the lease table is not what KCL or we write: look at it, or use another table.
    #[error("cannot read lease table {table}: {row}; is it the lease table of another kind of application?")]
    Row {
        /// The table.
        table: String,
        /// Which row and attribute, and why.
        row: String,
    },
    /// The leases are of a stream that was deleted, and one of the same name was created: delete the lease table, or use
    /// another application.
    #[error("{0}")]
    EarlierStream(String),
    /// Running cannot go on; what is not checkpointed is read again at the next start.
    #[error("{0}")]
    Running(Failure),
}
