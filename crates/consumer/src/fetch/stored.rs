//! Kinesis records as user records.

use kinesink_core::{Position, Record, SequenceNumber};
use kinesink_kpl::Unpacked;
use tracing::warn;

use super::Cursor;

/// The user records of some Kinesis records.
#[derive(Debug)]
pub(super) struct UserRecords {
    /// Those that are still to be given.
    pub(super) records: Vec<Record>,
    /// Of how many Kinesis records they are.
    pub(super) stored: usize,
    /// The last of these.
    pub(super) last: Option<SequenceNumber>,
    /// Whether that was all.
    pub(super) is_whole: bool,
}

/// The user records of Kinesis records, of aggregates no more than fill so many bytes and one Kinesis record: an aggregate
/// takes many times its size in memory. Most streams hold no aggregates, and their records stay where they are.
pub(super) fn user_records(stored: Vec<Record>, cursor: &mut Cursor, bytes_max: usize) -> UserRecords {
    if let Some(first) = stored.first() {
        cursor.saw(first.position.sequence, first.arrival);
    }
    let cursor = &*cursor;
    let as_stored = |record: &Record| cursor.wants(record.position) && !kinesink_kpl::has_magic(&record.data);
    let all = stored.len();
    if stored.iter().all(as_stored) {
        let last = stored.last().map(|record| record.position.sequence);
        return UserRecords { records: stored, stored: all, last, is_whole: true };
    }
    let mut records = Vec::with_capacity(all);
    let (mut bytes, mut unpacked, mut last) = (0, 0, None);
    for record in stored {
        if bytes > bytes_max {
            break;
        }
        (unpacked, last) = (unpacked + 1, Some(record.position.sequence));
        let before = records.len();
        unpack(record, &mut records);
        bytes += records.iter().skip(before).map(Record::memory_bytes).sum::<usize>();
    }
    records.retain(|record| cursor.wants(record.position));
    UserRecords { records, stored: unpacked, last, is_whole: unpacked == all }
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
