use std::sync::Arc;

use bytes::Bytes;
use kinesink_kpl::{AGGREGATE_BYTES_MAX, Aggregate, Aggregator, Error, Unpacked, UserRecord, unpack};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use crate::{any_bytes, sealed, user_record};

/// The format's messages, encoded by prost: a second opinion that shares no code with this crate.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecordMessage {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<RecordMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct RecordMessage {
    #[prost(uint64, required, tag = "1")]
    partition_key_index: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<TagMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct TagMessage {
    #[prost(string, required, tag = "1")]
    key: String,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

prop_compose! {
    /// Few keys, so that they repeat, and enough that indexes need two bytes.
    fn any_record()(key in 0..200_u32, hash_key in option::of(0..200_u32), data in vec(any::<u8>(), 0..200))
        -> UserRecord
    {
        user_record(&format!("clé {key}"), hash_key.map(|key| key.to_string()).as_deref(), data)
    }
}

prop_compose! {
    /// Indexes up to 9, so that tables of up to 10 keys are missed sometimes.
    fn any_record_message()(
        partition_key_index in 0..10_u64,
        explicit_hash_key_index in option::of(0..10_u64),
        data in vec(any::<u8>(), 0..300),
        tag in option::of(".{0,5}"),
    ) -> RecordMessage {
        let tags = tag.map(|key| TagMessage { value: Some(key.clone()), key }).into_iter().collect();
        RecordMessage { partition_key_index, explicit_hash_key_index, data, tags }
    }
}

prop_compose! {
    fn any_message()(
        partition_key_table in vec(".{0,20}", 6..=10),
        explicit_hash_key_table in vec("[0-9]{1,39}", 6..=10),
        records in vec(any_record_message(), 0..6),
    ) -> AggregatedRecordMessage {
        AggregatedRecordMessage { partition_key_table, explicit_hash_key_table, records }
    }
}

/// What a message means; `None` if an index misses its table or there is no record.
fn meaning(message: &AggregatedRecordMessage) -> Option<Vec<UserRecord>> {
    let mut records = Vec::new();
    for record in &message.records {
        let partition_key = message.partition_key_table.get(usize::try_from(record.partition_key_index).ok()?)?;
        let explicit_hash_key = match record.explicit_hash_key_index {
            Some(index) => Some(message.explicit_hash_key_table.get(usize::try_from(index).ok()?)?.as_str()),
            None => None,
        };
        records.push(user_record(partition_key, explicit_hash_key, record.data.clone()));
    }
    (!records.is_empty()).then_some(records)
}

fn pack(aggregator: &mut Aggregator, records: &[UserRecord]) -> Vec<Aggregate> {
    let mut aggregates = Vec::new();
    for record in records {
        let full = aggregator.push(&record.partition_key, record.explicit_hash_key.as_deref(), &record.data).unwrap();
        aggregates.extend(full);
    }
    aggregates.extend(aggregator.finish());
    aggregates
}

fn unpacked(aggregate: &Aggregate) -> Vec<UserRecord> {
    match unpack(&aggregate.data) {
        Unpacked::Aggregated(records) => records,
        other => panic!("what was packed unpacks as {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_packed_unpacks_within_the_limit(records in vec(any_record(), 0..60), bytes_max in 300..5_000_usize) {
        let aggregates = pack(&mut Aggregator::new(bytes_max), &records);
        let mut back = Vec::new();
        for aggregate in &aggregates {
            let records = unpacked(aggregate);
            prop_assert!(aggregate.data.len() <= bytes_max);
            prop_assert_eq!(aggregate.partition_key.as_str(), &*records[0].partition_key);
            prop_assert_eq!(aggregate.explicit_hash_key.as_deref(), records[0].explicit_hash_key.as_deref());
            prop_assert_eq!(aggregate.records, records.len());
            back.extend(records);
        }
        prop_assert_eq!(back, records);
    }

    /// No aggregate is closed early: the first record of the next would not have fitted.
    #[test]
    fn aggregates_are_filled(records in vec(any_record(), 0..60)) {
        let bytes_max = 1_000;
        let aggregates = pack(&mut Aggregator::new(bytes_max), &records);
        for pair in aggregates.windows(2) {
            let mut together = unpacked(&pair[0]);
            together.extend(unpacked(&pair[1]).into_iter().take(1));
            let whole = pack(&mut Aggregator::new(AGGREGATE_BYTES_MAX), &together);
            prop_assert_eq!(whole.len(), 1);
            prop_assert!(whole[0].data.len() > bytes_max);
        }
    }

    #[test]
    fn what_another_protobuf_library_encodes_is_understood(message in any_message()) {
        let unpacked = unpack(&sealed(&message.encode_to_vec()));
        match meaning(&message) {
            Some(records) => prop_assert_eq!(unpacked, Unpacked::Aggregated(records)),
            None => prop_assert!(matches!(unpacked, Unpacked::Malformed(_))),
        }
    }

    #[test]
    fn another_protobuf_library_understands_what_is_packed(records in vec(any_record(), 1..60)) {
        for aggregate in pack(&mut Aggregator::default(), &records) {
            let message = &aggregate.data[4..aggregate.data.len() - 16];
            let decoded = AggregatedRecordMessage::decode(message).unwrap();
            prop_assert_eq!(meaning(&decoded), Some(unpacked(&aggregate)));
        }
    }

    #[test]
    fn any_bytes_hold(input in vec(any::<u8>(), 0..300)) {
        any_bytes::check(&input);
    }

    /// Bytes near the format reach further into it than random ones.
    #[test]
    fn damaged_messages_hold(message in any_message(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut message = message.encode_to_vec();
        let place = place.index(message.len());
        message[place] = byte;
        any_bytes::check(&message);
    }
}

#[test]
fn equal_keys_are_shared() {
    let key = "k".repeat(100_000);
    let mut aggregator = Aggregator::new(AGGREGATE_BYTES_MAX);
    for _ in 0..1_000 {
        assert_eq!(aggregator.push(&key, None, b""), Ok(None));
    }
    let records = unpacked(&aggregator.finish().unwrap());
    assert_eq!(records.len(), 1_000);
    assert!(records.iter().all(|record| Arc::ptr_eq(&record.partition_key, &records[0].partition_key)));
}

#[test]
fn a_record_too_large_for_any_aggregate_is_refused_and_changes_nothing() {
    let mut aggregator = Aggregator::new(100);
    assert_eq!(aggregator.push("a", None, b"small"), Ok(None));
    let refused = aggregator.push("a", None, &[0; 100]);
    assert_eq!(refused, Err(Error::TooLarge { bytes: 4 + 3 + 2 + 2 + 2 + 100 + 16, bytes_max: 100 }));
    assert_eq!(unpacked(&aggregator.finish().unwrap()), [user_record("a", None, Bytes::from("small"))]);
    assert_eq!(aggregator.finish(), None);
}

#[test]
fn no_limit_exceeds_what_the_service_takes() {
    let mut aggregator = Aggregator::new(usize::MAX);
    let full = (0..200).find_map(|_| aggregator.push("a", None, &[0; 10_000]).unwrap()).unwrap();
    assert!(full.data.len() <= AGGREGATE_BYTES_MAX);
    assert_eq!(full.records, AGGREGATE_BYTES_MAX / 10_008);
}
