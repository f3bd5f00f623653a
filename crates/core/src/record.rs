//! One user record of a shard.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{PartitionKey, Position, ShardId};

/// What a record costs beside its data while it is held: 160 bytes in its reply, 216 as an item of its window, 8 of a
/// reference in a batch.
const OVERHEAD_BYTES: usize = 384;

/// One user record: a Kinesis record, or one record of a KPL aggregate.
///
/// `data` is a slice of what many records of its reply share, and so is its key: neither costs an allocation, and a clone
/// no copy. `Debug` never shows the data.
#[derive(Clone)]
pub struct Record {
    /// The shard it was read from.
    pub shard: ShardId,
    /// Its place in the shard.
    pub position: Position,
    /// When Kinesis received it, to the millisecond, by the service's clock.
    pub arrival: Timestamp,
    /// The producer's partition key. Streams with automatic distribution have none.
    pub partition_key: Option<PartitionKey>,
    /// The producer's bytes.
    pub data: Bytes,
}

impl Record {
    /// Memory that holding this record takes, in bytes: its data and a fixed overhead.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.data.len() + OVERHEAD_BYTES
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("shard", &self.shard)
            .field("position", &self.position)
            .field("arrival", &self.arrival)
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}
