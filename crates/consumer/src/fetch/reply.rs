//! A GetRecords reply as records.

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_core::{Failure, Position, Record, SequenceNumber, ShardId};

use super::Cursor;
use super::contents::Contents;
use super::stored::{UserRecords, user_records};
use super::wire::{self, ChildShard, StoredRecord};
use crate::lease::HashRange;

/// Numbers, names and quotation marks of a record that has no data.
const RECORD_TEXT_BYTES_MIN: usize = 128;

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
    /// Whether all of it is here. Where not, what follows the cursor is to be asked for again.
    pub(crate) is_whole: bool,
}

/// Unpacks a reply to a request of `limit` records at most, aggregates no further than `bytes_max` and one of them, and moves
/// the cursor past what it gives.
///
/// What is no reply has lost something on its way: a transient failure, and the cursor stays.
pub(crate) fn read(
    text: &[u8],
    limit: usize,
    bytes_max: usize,
    shard: &ShardId,
    cursor: &mut Cursor,
) -> Result<Reply, Failure> {
    let garbled = |why: String| Failure::transient(format!("cannot read a reply of shard {shard}: {why}"));
    // An id of this reply's own: shards of one id count their clones in one place, and the threads that read and
    // commit would pass it to and fro for every record.
    let own_id: ShardId = shard.as_str().parse().map_err(|error| garbled(format!("{error}")))?;
    let mut records = Vec::with_capacity(limit.min(text.len() / RECORD_TEXT_BYTES_MIN));
    let mut contents = Contents::new(text.len(), records.capacity());
    let tail = wire::read(text, |stored| {
        let sequence: SequenceNumber = stored.sequence_number.parse().map_err(|error| format!("{error}"))?;
        contents
            .push(&stored.data.0, stored.partition_key.as_deref())
            .map_err(|_| format!("the data of record {sequence} are not base64"))?;
        records.push(Record {
            shard: own_id.clone(),
            position: Position { sequence, sub_sequence: 0 },
            arrival: arrival(&stored),
            partition_key: None,
            data: Bytes::new(),
        });
        Ok(())
    });
    let tail = tail.map_err(|error| garbled(error.to_string()))?;
    let children: Result<_, _> = tail.child_shards.iter().flatten().map(child).collect();
    let children = children.map_err(|error: kinesink_core::Error| garbled(error.to_string()))?;
    contents.hand_out(&mut records);
    let UserRecords { records, stored, last, is_whole } = user_records(records, cursor, bytes_max);
    if let Some(last) = last {
        cursor.advance(last);
    }
    Ok(Reply {
        records,
        behind_latest_ms: tail.millis_behind_latest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        next_iterator: tail.next_shard_iterator,
        children,
        stored,
        is_whole,
    })
}

fn arrival(record: &StoredRecord<'_>) -> Timestamp {
    let time = record.approximate_arrival_timestamp.and_then(|seconds| {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and is then no timestamp")]
        let ms = (seconds * 1000.0).round() as i64;
        Timestamp::from_millisecond(ms).ok()
    });
    time.unwrap_or(Timestamp::UNIX_EPOCH)
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
    use kinesink_aws::kinesis::types::ShardIteratorType;
    use kinesink_core::Checkpoint;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn start() -> Cursor {
        Cursor::new(Checkpoint::TrimHorizon, None, None)
    }

    fn shard() -> ShardId {
        "shardId-000000000000".parse().unwrap()
    }

    fn stored() -> impl Strategy<Value = (Vec<u8>, Option<String>, i64)> {
        let key = prop_oneof!["[a-z]{1,8}", ".{1,40}", Just("\"\\\n\u{1F980}".to_owned())];
        (prop::collection::vec(any::<u8>(), 0..200), prop::option::of(key), 0..4_000_000_000_000_i64)
    }

    proptest! {
        /// The text is made by `serde_json` and the `base64` of another crate, from what is expected.
        #[test]
        fn every_record_of_a_reply_is_given_as_it_was_stored(all in prop::collection::vec(stored(), 0..20), pretty: bool) {
            let records: Vec<Value> = (1..).zip(&all).map(|(number, (data, key, ms))| json!({
                "SequenceNumber": format!("{number}"),
                "ApproximateArrivalTimestamp": *ms as f64 / 1000.0,
                "Data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data),
                "PartitionKey": key,
                "EncryptionType": "NONE",
            })).collect();
            let reply = json!({"Records": records, "NextShardIterator": "n", "MillisBehindLatest": 7, "New": [{}]});
            let text = if pretty { serde_json::to_vec_pretty(&reply) } else { serde_json::to_vec(&reply) }.unwrap();
            let read = read(&text, 100, usize::MAX, &shard(), &mut start()).unwrap();
            prop_assert_eq!((read.stored, read.behind_latest_ms), (all.len(), 7));
            prop_assert_eq!(read.next_iterator.as_deref(), Some("n"));
            prop_assert_eq!(read.records.len(), all.len());
            for ((number, expected), record) in (1..).zip(&all).zip(&read.records) {
                let (data, key, ms) = expected;
                prop_assert_eq!(record.position.sequence.to_string(), format!("{number}"));
                prop_assert_eq!(&*record.data, &**data);
                prop_assert_eq!(record.partition_key.as_deref(), key.as_deref());
                prop_assert_eq!(record.arrival.as_millisecond(), *ms);
            }
        }

        #[test]
        fn foreign_bytes_are_a_failure_and_move_nothing(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut cursor = start();
            prop_assert!(read(&text, 100, usize::MAX, &shard(), &mut cursor).is_err());
            prop_assert_eq!(cursor, start());
        }
    }

    #[test]
    fn a_reply_of_aggregates_was_unpacked_whole_whatever_memory_there_was() {
        let aggregate = |number: u32| {
            let mut aggregator = kinesink_kpl::Aggregator::default();
            (0..1_000).for_each(|_| drop(aggregator.push("k", None, b"").unwrap()));
            let data =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, aggregator.finish().unwrap().data);
            json!({"SequenceNumber": format!("{number}"), "Data": data, "PartitionKey": "k"})
        };
        let records: Vec<_> = (1..=6).map(aggregate).collect();
        let text = serde_json::to_vec(&json!({"Records": records, "NextShardIterator": "n"})).unwrap();
        for (bytes_max, stored, is_whole) in [(0, 1, false), (1_000_000, 3, false), (usize::MAX, 6, true)] {
            let mut cursor = start();
            let read = read(&text, 100, bytes_max, &shard(), &mut cursor).unwrap();
            assert_eq!((read.records.len(), read.stored, read.is_whole), (1_000 * stored, stored, is_whole));
            let next = cursor.request();
            assert_eq!(next.kind, ShardIteratorType::AfterSequenceNumber);
            assert_eq!(next.sequence.map(|after| after.to_string()), Some(stored.to_string()));
        }
    }

    #[test]
    fn a_reply_with_one_bad_record_moves_nothing() {
        let good = json!({"SequenceNumber": "1", "Data": "YQ==", "PartitionKey": "k"});
        for bad in [
            json!({"SequenceNumber": "2", "Data": "Y", "PartitionKey": "k"}),
            json!({"SequenceNumber": "-2", "Data": "YQ==", "PartitionKey": "k"}),
            json!({"SequenceNumber": "2", "PartitionKey": "k"}),
        ] {
            let text = serde_json::to_vec(&json!({"Records": [good, bad]})).unwrap();
            let mut cursor = start();
            assert!(read(&text, 100, usize::MAX, &shard(), &mut cursor).is_err(), "{bad}");
            assert_eq!(cursor, start());
        }
    }
}
