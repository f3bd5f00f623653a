//! Shared with the fuzz target, so this file imports nothing of the test binary.

use bytes::Bytes;
use kinesink_kpl::{AGGREGATE_BYTES_MAX, Aggregator, Unpacked, UserRecord, unpack};
use md5::{Digest, Md5};

/// Shortest user record in an aggregate: its field's head, an index and empty data.
const USER_RECORD_BYTES_MIN: usize = 6;

/// Unpacks `input` as it stands and as the message of an aggregate with a right digest, which a fuzzer cannot guess.
pub(crate) fn check(input: &[u8]) {
    check_data(&Bytes::copy_from_slice(input));
    check_data(&Bytes::from([b"\xF3\x89\x9A\xC2", input, &Md5::digest(input)].concat()));
}

fn check_data(data: &Bytes) {
    let Unpacked::Aggregated(records) = unpack(data) else { return };
    assert!(!records.is_empty(), "an aggregate without records");
    assert!(records.capacity() <= data.len() / USER_RECORD_BYTES_MIN, "more memory than the data can need");
    for record in records.iter().filter(|record| !record.data.is_empty()) {
        assert!(data.as_ptr_range().contains(&record.data.as_ptr()), "the data is a copy");
    }
    assert_eq!(packed_and_unpacked(&records), records);
}

fn packed_and_unpacked(records: &[UserRecord]) -> Vec<UserRecord> {
    let mut aggregator = Aggregator::new(AGGREGATE_BYTES_MAX);
    let mut envelopes = Vec::new();
    for record in records {
        let full = aggregator.push(&record.partition_key, record.explicit_hash_key.as_deref(), &record.data).unwrap();
        envelopes.extend(full);
    }
    envelopes.extend(aggregator.finish());
    let unpacked = envelopes.iter().flat_map(|envelope| match unpack(&envelope.data) {
        Unpacked::Aggregated(records) => records,
        other => panic!("what was packed unpacks as {other:?}"),
    });
    unpacked.collect()
}
