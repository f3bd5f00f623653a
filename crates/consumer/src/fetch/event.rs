//! An event of a subscription as records.

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::kinesis::primitives::DateTime;
use kinesink_aws::kinesis::types::{ChildShard, SubscribeToShardEvent};
use kinesink_core::{Failure, Position, Record, SequenceNumber, ShardId};

use super::Cursor;
use super::reply::Child;
use super::stored::user_records;
use crate::lease::HashRange;

/// What one event holds.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) records: Vec<Record>,
    pub(super) behind_latest_ms: u64,
    /// There is no number to continue from.
    pub(super) is_end: bool,
    /// At the end of a closed shard.
    pub(super) children: Vec<Child>,
}

/// Unpacks an event and moves the cursor past it: to its continuation, which may be ahead of its last record.
///
/// What cannot be read has lost something on its way: a transient failure, and the cursor stays.
pub(super) fn read(event: SubscribeToShardEvent, shard: &ShardId, cursor: &mut Cursor) -> Result<Event, Failure> {
    let garbled = |error| Failure::transient(format!("cannot read an event of shard {shard}: {error}"));
    // An id of this event's own, as a reply has one.
    let own_id: ShardId = shard.as_str().parse().map_err(garbled)?;
    let (mut moved, mut stored) = (cursor.clone(), Vec::with_capacity(event.records.len()));
    for record in event.records {
        let sequence: SequenceNumber = record.sequence_number.parse().map_err(garbled)?;
        stored.push(Record {
            shard: own_id.clone(),
            position: Position { sequence, sub_sequence: 0 },
            arrival: arrival(record.approximate_arrival_timestamp.as_ref()),
            partition_key: record.partition_key.map(|key| key.as_str().into()),
            data: Bytes::from(record.data.into_inner()),
        });
        moved.advance(sequence);
    }
    let records = user_records(stored, &mut moved, usize::MAX).records;
    // The SDK gives a number that was left out as an empty one.
    let is_end = event.continuation_sequence_number.is_empty();
    if !is_end {
        moved.advance(event.continuation_sequence_number.parse().map_err(garbled)?);
    }
    let children: Result<_, _> = event.child_shards.unwrap_or_default().iter().map(child).collect();
    let children = children.map_err(garbled)?;
    *cursor = moved;
    Ok(Event { records, behind_latest_ms: u64::try_from(event.millis_behind_latest).unwrap_or(0), is_end, children })
}

fn arrival(time: Option<&DateTime>) -> Timestamp {
    let ms = time.and_then(|time| time.to_millis().ok());
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn child(child: &ChildShard) -> Result<Child, kinesink_core::Error> {
    let parents: Result<_, _> = child.parent_shards.iter().map(|id| id.parse()).collect();
    let range = child.hash_key_range.as_ref().and_then(|range| {
        Some(HashRange { first: range.starting_hash_key.parse().ok()?, last: range.ending_hash_key.parse().ok()? })
    });
    Ok(Child { id: child.shard_id.parse()?, parents: parents?, hash_range: range })
}

#[cfg(test)]
mod tests {
    use kinesink_aws::kinesis::primitives::{Blob, DateTime};
    use kinesink_aws::kinesis::types::{Record as EventRecord, ShardIteratorType};
    use kinesink_core::Checkpoint;

    use super::*;

    fn record(sequence: &str) -> EventRecord {
        let record = EventRecord::builder().sequence_number(sequence).partition_key("k").data(Blob::new("data"));
        record.approximate_arrival_timestamp(DateTime::from_millis(1_234)).build().unwrap()
    }

    fn event(records: &[&str], continuation: &str) -> SubscribeToShardEvent {
        let records = records.iter().map(|sequence| record(sequence)).collect();
        let event = SubscribeToShardEvent::builder().set_records(Some(records)).millis_behind_latest(7);
        event.continuation_sequence_number(continuation).build().unwrap()
    }

    fn shard() -> ShardId {
        "shardId-000000000000".parse().unwrap()
    }

    #[test]
    fn an_event_continues_at_its_continuation_and_not_at_its_last_record() {
        let mut cursor = Cursor::new(Checkpoint::TrimHorizon, None, None);
        let read = read(event(&["3", "5"], "9"), &shard(), &mut cursor).unwrap();
        assert_eq!((read.records.len(), read.behind_latest_ms, read.is_end), (2, 7, false));
        assert_eq!(read.records[1].arrival.as_millisecond(), 1_234);
        assert_eq!((cursor.request().kind, cursor.request().sequence), after("9"));
    }

    #[test]
    fn an_event_without_a_continuation_is_an_end_that_its_last_record_stands_for() {
        let mut cursor = Cursor::new(Checkpoint::TrimHorizon, None, None);
        assert!(read(event(&["3"], ""), &shard(), &mut cursor).unwrap().is_end);
        assert_eq!((cursor.request().kind, cursor.request().sequence), after("3"));
    }

    #[test]
    fn an_event_with_one_bad_number_moves_nothing() {
        for (records, continuation) in [(&["3", "-5"][..], "9"), (&["3"], "x")] {
            let mut cursor = Cursor::new(Checkpoint::TrimHorizon, None, None);
            assert!(read(event(records, continuation), &shard(), &mut cursor).is_err());
            assert_eq!(cursor, Cursor::new(Checkpoint::TrimHorizon, None, None));
        }
    }

    fn after(sequence: &str) -> (ShardIteratorType, Option<SequenceNumber>) {
        (ShardIteratorType::AfterSequenceNumber, Some(sequence.parse().unwrap()))
    }
}
