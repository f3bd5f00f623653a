use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};

use crate::wire::{self, Fields, Reason, Value};
use crate::{DIGEST_BYTES, MAGIC, UserRecord};

/// A record with both required fields: an index below 128 and empty data.
const RECORD_BYTES_MIN: usize = 4;
const INCOMPLETE: Reason = "a record lacks its partition key index or its data";

/// What the data of a Kinesis record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Unpacked {
    /// Not an aggregate: the data as it stands is the one user record.
    Plain,
    /// The user records of an aggregate, at least one, in sub-sequence order.
    Aggregated(Vec<UserRecord>),
    /// Magic and digest say that it is an aggregate, but its contents make no sense; the text says why and quotes
    /// nothing. Pass the data on as one user record, so that it ends up where someone sees it, and say so.
    Malformed(&'static str),
}

/// Finds out whether `data` is an aggregate and, if so, slices its user records out of it without copying them.
///
/// Takes any bytes and never panics. Data is an aggregate only if it starts with the magic, something stands between
/// that and the digest, and the digest is right; anything else, a damaged aggregate included, is [`Unpacked::Plain`].
pub fn unpack(data: &Bytes) -> Unpacked {
    let Some(message) = checked_message(data) else { return Unpacked::Plain };
    match user_records(data, message) {
        Ok(records) => Unpacked::Aggregated(records),
        Err(reason) => Unpacked::Malformed(reason),
    }
}

/// Whether `data` begins as every aggregate does. What does not is [`Unpacked::Plain`].
#[must_use]
pub fn has_magic(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}

fn checked_message(data: &[u8]) -> Option<&[u8]> {
    let (message, digest) = data.strip_prefix(&MAGIC)?.split_last_chunk::<DIGEST_BYTES>()?;
    let right = !message.is_empty() && Md5::digest(message).as_slice() == digest;
    right.then_some(message)
}

/// The key tables of an aggregate, and how many records it has.
#[derive(Default)]
struct Tables {
    partition_keys: Vec<Arc<str>>,
    explicit_hash_keys: Vec<Arc<str>>,
    records: usize,
}

/// Two passes, because protobuf allows the tables to come after the records that point into them.
fn user_records(data: &Bytes, message: &[u8]) -> Result<Vec<UserRecord>, Reason> {
    let tables = Tables::read(message)?;
    if tables.records == 0 {
        return Err("it holds no records");
    }
    let mut records = Vec::with_capacity(tables.records);
    for field in Fields::of(message) {
        if let (wire::RECORDS, Value::Bytes(record)) = field? {
            records.push(user_record(data, record, &tables)?);
        }
    }
    Ok(records)
}

impl Tables {
    fn read(message: &[u8]) -> Result<Self, Reason> {
        let mut tables = Self::default();
        for field in Fields::of(message) {
            match field? {
                (wire::PARTITION_KEY_TABLE, Value::Bytes(key)) => tables.partition_keys.push(text(key)?),
                (wire::EXPLICIT_HASH_KEY_TABLE, Value::Bytes(key)) => tables.explicit_hash_keys.push(text(key)?),
                // Counted records become capacity, so one that cannot be complete must not count.
                (wire::RECORDS, Value::Bytes(record)) if record.len() < RECORD_BYTES_MIN => return Err(INCOMPLETE),
                (wire::RECORDS, Value::Bytes(_)) => tables.records += 1,
                // A known field of another wire type counts as unknown, as in every protobuf library.
                _ => {}
            }
        }
        Ok(tables)
    }
}

fn user_record(data: &Bytes, record: &[u8], tables: &Tables) -> Result<UserRecord, Reason> {
    let mut partition_key_index = None;
    let mut explicit_hash_key_index = None;
    let mut payload = None;
    // A field that is written twice has the value written last.
    for field in Fields::of(record) {
        match field? {
            (wire::PARTITION_KEY_INDEX, Value::Varint(index)) => partition_key_index = Some(index),
            (wire::EXPLICIT_HASH_KEY_INDEX, Value::Varint(index)) => explicit_hash_key_index = Some(index),
            (wire::DATA, Value::Bytes(bytes)) => payload = Some(bytes),
            _ => {}
        }
    }
    let partition_key = entry(&tables.partition_keys, partition_key_index.ok_or(INCOMPLETE)?)?;
    let explicit_hash_key = match explicit_hash_key_index {
        Some(index) => Some(entry(&tables.explicit_hash_keys, index)?),
        None => None,
    };
    Ok(UserRecord { partition_key, explicit_hash_key, data: data.slice_ref(payload.ok_or(INCOMPLETE)?) })
}

fn entry(table: &[Arc<str>], index: u64) -> Result<Arc<str>, Reason> {
    let entry = usize::try_from(index).ok().and_then(|index| table.get(index));
    entry.cloned().ok_or("a record points outside a key table")
}

fn text(key: &[u8]) -> Result<Arc<str>, Reason> {
    std::str::from_utf8(key).map(Arc::from).map_err(|_| "a key is not UTF-8")
}
