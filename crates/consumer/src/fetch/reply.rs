//! A GetRecords reply as records.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use kinesink_aws::kinesis::operation::get_records::GetRecordsOutput;
use kinesink_aws::kinesis::types::{ChildShard, Record as StoredRecord};
use kinesink_core::{Failure, Position, Record, SequenceNumber, ShardId};
use kinesink_kpl::Unpacked;
use tracing::warn;

use super::Cursor;
use crate::lease::HashRange;

/// A shard that follows one that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) id: ShardId,
    pub(crate) parents: Vec<ShardId>,
    pub(crate) hash_range: Option<HashRange>,
}

/// What one reply holds.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) records: Vec<Record>,
    pub(crate) behind_latest_ms: u64,
    pub(crate) next_iterator: Option<String>,
    /// At the end of a closed shard; empty where the service does not say which shards follow.
    pub(crate) children: Vec<Child>,
    /// Kinesis records in it, aggregates counted as one.
    pub(crate) stored: usize,
}

/// Unpacks a reply and moves the cursor past it. The data of its records become slices of one allocation, so that a
/// clone of each costs none, and what the SDK has decoded them into, which is larger than they are, goes back at once.
pub(crate) fn read(reply: GetRecordsOutput, shard: &ShardId, cursor: &mut Cursor) -> Result<Reply, Failure> {
    let cannot = |why: String| Failure::fatal(format!("cannot read a reply of shard {shard}: {why}"));
    let stored = reply.records.len();
    let bytes: usize = reply.records.iter().map(|record| record.data.as_ref().len()).sum();
    // An id of this reply's own: shards of one id count their clones in one place, and the threads that read and
    // commit would pass it to and fro for every record.
    let shard: ShardId = shard.as_str().parse().map_err(|error| cannot(format!("{error}")))?;
    let mut all = one_allocation(&reply.records, bytes);
    let mut records = Vec::with_capacity(stored);
    for record in reply.records {
        let data = all.split_to(record.data.as_ref().len());
        let sequence: SequenceNumber = record.sequence_number.parse().map_err(|error| cannot(format!("{error}")))?;
        unpack(record, data, sequence, &shard, cursor, &mut records);
        cursor.advance(sequence);
    }
    let children = reply.child_shards.unwrap_or_default();
    let children: Result<_, _> = children.iter().map(child).collect();
    Ok(Reply {
        records,
        behind_latest_ms: reply.millis_behind_latest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        next_iterator: reply.next_shard_iterator,
        children: children.map_err(|error: kinesink_core::Error| cannot(error.to_string()))?,
        stored,
    })
}

fn one_allocation(records: &[StoredRecord], bytes: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(bytes);
    for record in records {
        all.extend_from_slice(record.data.as_ref());
    }
    all.freeze()
}

fn unpack(
    stored: StoredRecord,
    data: Bytes,
    sequence: SequenceNumber,
    shard: &ShardId,
    cursor: &Cursor,
    records: &mut Vec<Record>,
) {
    let arrival = arrival(&stored);
    let mut add = |sub_sequence, partition_key, data| {
        let position = Position { sequence, sub_sequence };
        if cursor.wants(position) {
            records.push(Record { shard: shard.clone(), position, arrival, partition_key, data });
        }
    };
    match kinesink_kpl::unpack(&data) {
        Unpacked::Plain => add(0, stored.partition_key.map(Into::into), data),
        // Its digest is right and its contents are not: it goes on whole, so that nothing is lost.
        Unpacked::Malformed(why) => {
            warn!(%shard, %sequence, why, "an aggregated record cannot be unpacked and goes on as one record");
            add(0, stored.partition_key.map(Into::into), data);
        }
        Unpacked::Aggregated(users) => {
            for (sub_sequence, user) in (0..).zip(users) {
                add(sub_sequence, Some(user.partition_key), user.data);
            }
        }
    }
}

fn arrival(record: &StoredRecord) -> Timestamp {
    let time = record.approximate_arrival_timestamp.as_ref();
    let time = time.and_then(|time| {
        let nanos = i32::try_from(time.subsec_nanos()).ok()?;
        Timestamp::new(time.secs(), nanos).ok()
    });
    time.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn child(child: &ChildShard) -> Result<Child, kinesink_core::Error> {
    let parents: Result<_, _> = child.parent_shards().iter().map(|id| id.parse()).collect();
    let range = child.hash_key_range().and_then(|range| {
        Some(HashRange { first: range.starting_hash_key().parse().ok()?, last: range.ending_hash_key().parse().ok()? })
    });
    Ok(Child { id: child.shard_id().parse()?, parents: parents?, hash_range: range })
}
