//! Kinesis records as user records.

use kinesink_core::{Position, Record};
use kinesink_kpl::Unpacked;
use tracing::warn;

use super::Cursor;

/// The user records of Kinesis records, those that are still to be given. Most streams hold no aggregates, and their
/// records stay where they are.
pub(super) fn user_records(stored: Vec<Record>, cursor: &mut Cursor) -> Vec<Record> {
    if let Some(first) = stored.first() {
        cursor.saw(first.position.sequence, first.arrival);
    }
    let cursor = &*cursor;
    let as_stored = |record: &Record| cursor.wants(record.position) && !kinesink_kpl::has_magic(&record.data);
    if stored.iter().all(as_stored) {
        return stored;
    }
    let mut records = Vec::with_capacity(stored.len());
    for record in stored {
        unpack(record, &mut records);
    }
    records.retain(|record| cursor.wants(record.position));
    records
}

fn unpack(stored: Record, records: &mut Vec<Record>) {
    match kinesink_kpl::unpack(&stored.data) {
        Unpacked::Plain => records.push(stored),
        // Its digest is right and its contents are not: it goes on whole, so that nothing is lost.
        Unpacked::Malformed(why) => {
            let (shard, sequence) = (&stored.shard, stored.position.sequence);
            warn!(%shard, %sequence, why, "an aggregated record cannot be unpacked and goes on as one record");
            records.push(stored);
        }
        Unpacked::Aggregated(users) => records.extend((0..).zip(users).map(|(sub_sequence, user)| Record {
            position: Position { sub_sequence, ..stored.position },
            partition_key: Some(user.partition_key.into()),
            data: user.data,
            ..stored.clone()
        })),
    }
}
