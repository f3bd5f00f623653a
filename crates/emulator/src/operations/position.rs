//! Where in a shard to begin, as GetShardIterator and SubscribeToShard are told.

use super::ServiceError;
use crate::stream::sequence_number::SequenceNumber;
use crate::stream::shard::Shard;
use crate::wire::timestamp::Timestamp;

pub(super) const TYPES: [&str; 5] =
    ["AFTER_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER", "AT_TIMESTAMP", "LATEST", "TRIM_HORIZON"];

/// A place in a shard, in the words of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    /// One of [`TYPES`].
    pub(super) kind: &'a str,
    pub(super) sequence_number: Option<&'a str>,
    pub(super) timestamp: Option<Timestamp>,
    /// For messages.
    pub(super) operation: &'static str,
}

impl Position<'_> {
    /// The index of the first record to read, or the one that the next record will have at least.
    pub(super) fn index(&self, shard: &Shard, now_ms: i64) -> Result<u64, ServiceError> {
        Ok(match self.kind {
            "AT_SEQUENCE_NUMBER" => shard.index_at(self.known(shard)?),
            "AFTER_SEQUENCE_NUMBER" => self.known(shard)?.index.saturating_add(1),
            "AT_TIMESTAMP" => shard.index_at_time(self.time(now_ms)?),
            "LATEST" => shard.latest_index(),
            _ => 0,
        })
    }

    /// The sequence number, which the shard must have given out.
    fn known(&self, shard: &Shard) -> Result<SequenceNumber, ServiceError> {
        let Some(text) = self.sequence_number else {
            let message = "StartingSequenceNumber is required for AT_SEQUENCE_NUMBER and AFTER_SEQUENCE_NUMBER.";
            return Err(ServiceError::invalid_argument(message));
        };
        text.parse().ok().filter(|number| shard.knows(*number)).ok_or_else(|| {
            ServiceError::invalid_argument(format!(
                "StartingSequenceNumber {text} used in {} on shard {} is invalid because it did not come from this \
                 shard.",
                self.operation,
                shard.id()
            ))
        })
    }

    fn time(&self, now_ms: i64) -> Result<i64, ServiceError> {
        let Some(Timestamp(at_ms)) = self.timestamp else {
            return Err(ServiceError::invalid_argument("Timestamp is required for AT_TIMESTAMP."));
        };
        if at_ms > now_ms {
            return Err(ServiceError::invalid_argument(format!(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                 timestampInMillis: {at_ms}, currentTimestampInMillis: {now_ms}"
            )));
        }
        Ok(at_ms)
    }
}
