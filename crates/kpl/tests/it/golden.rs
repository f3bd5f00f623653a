//! `tests/golden` holds aggregates made by `aws_kinesis_agg` for Python, and the records that went in.

use bytes::Bytes;
use kinesink_kpl::{Aggregator, Unpacked, UserRecord, unpack};

use crate::user_record;

/// The text columns of a file made by `make.py`.
fn records(table: &str) -> Vec<UserRecord> {
    let rows = table.lines().map(|row| row.split('\t').collect::<Vec<_>>());
    let records = rows.map(|row| {
        let [partition_key, explicit_hash_key, data] = row[..] else { panic!("not three columns: {row:?}") };
        let explicit_hash_key = (!explicit_hash_key.is_empty()).then_some(explicit_hash_key);
        user_record(partition_key, explicit_hash_key, unhex(data))
    });
    records.collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn check(aggregate: &'static [u8], table: &str) {
    let expected = records(table);
    assert!(!expected.is_empty());
    assert_eq!(unpack(&Bytes::from_static(aggregate)), Unpacked::Aggregated(expected.clone()));

    let mut aggregator = Aggregator::default();
    for record in &expected {
        let full = aggregator.push(&record.partition_key, record.explicit_hash_key.as_deref(), &record.data).unwrap();
        assert!(full.is_none(), "it fills more than one aggregate");
    }
    let packed = aggregator.finish().unwrap();
    assert!(packed.data == aggregate, "packed here, the bytes differ");
    assert_eq!(packed.partition_key, *expected[0].partition_key);
    assert_eq!(packed.explicit_hash_key.as_deref(), expected[0].explicit_hash_key.as_deref());
    assert_eq!(packed.records, expected.len());
}

macro_rules! golden {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            check(
                include_bytes!(concat!("../golden/", stringify!($name), ".bin")),
                include_str!(concat!("../golden/", stringify!($name), ".tsv")),
            );
        }
    )*};
}

golden!(one, many, explicit_hash_keys, empty_data, unicode_keys, wide);

#[test]
fn one_damaged_byte_anywhere_makes_it_plain() {
    let aggregate = include_bytes!("../golden/explicit_hash_keys.bin");
    for place in 0..aggregate.len() {
        for bit in 0..8 {
            let mut damaged = *aggregate;
            damaged[place] ^= 1 << bit;
            assert_eq!(unpack(&Bytes::copy_from_slice(&damaged)), Unpacked::Plain, "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn any_piece_of_an_aggregate_is_plain() {
    let aggregate = Bytes::from_static(include_bytes!("../golden/one.bin"));
    for length in 0..aggregate.len() {
        assert_eq!(unpack(&aggregate.slice(..length)), Unpacked::Plain, "the first {length} bytes");
    }
}
