//! A Kinesis record as user records.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_core::{Position, Record, SequenceNumber, ShardId};
use kinesink_kpl::Unpacked;
use tracing::warn;

use super::Cursor;

/// A record as Kinesis stores it.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) sequence: SequenceNumber,
    pub(super) arrival: Timestamp,
    pub(super) partition_key: Option<&'a str>,
    pub(super) data: Bytes,
}

impl Stored<'_> {
    /// Adds those of its user records that are still to be given.
    pub(super) fn unpack(self, shard: &ShardId, cursor: &Cursor, records: &mut Vec<Record>) {
        let Self { sequence, arrival, partition_key, data } = self;
        let mut add = |sub_sequence, partition_key, data| {
            let position = Position { sequence, sub_sequence };
            if cursor.wants(position) {
                records.push(Record { shard: shard.clone(), position, arrival, partition_key, data });
            }
        };
        let key = || partition_key.map(Arc::from);
        match kinesink_kpl::unpack(&data) {
            Unpacked::Plain => add(0, key(), data),
            // Its digest is right and its contents are not: it goes on whole, so that nothing is lost.
            Unpacked::Malformed(why) => {
                warn!(%shard, %sequence, why, "an aggregated record cannot be unpacked and goes on as one record");
                add(0, key(), data);
            }
            Unpacked::Aggregated(users) => {
                for (sub_sequence, user) in (0..).zip(users) {
                    add(sub_sequence, Some(user.partition_key), user.data);
                }
            }
        }
    }
}
