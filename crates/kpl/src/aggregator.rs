use std::collections::HashMap;
use std::{fmt, mem};

use bytes::Bytes;
use md5::{Digest, Md5};

use crate::wire;
use crate::{DIGEST_BYTES, Error, MAGIC};

/// The KPL's own limit for one aggregate: two `PutRecords` units of 25 KiB, which keeps latency and retries small.
pub const AGGREGATE_BYTES_DEFAULT: usize = 51_200;

/// Largest aggregate in bytes. A Kinesis record may have 1 MiB, its partition key included, and that key may have 256
/// characters of up to 4 bytes.
pub const AGGREGATE_BYTES_MAX: usize = 1024 * 1024 - 256 * 4;

/// What an aggregate has besides its message.
const FRAME_BYTES: usize = MAGIC.len() + DIGEST_BYTES;

/// A finished aggregate: the data and keys of one Kinesis record. `Debug` never shows the data.
#[derive(Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The Kinesis record's data.
    pub data: Bytes,
    /// The partition key to send it with: that of its first user record.
    pub partition_key: String,
    /// The explicit hash key to send it with, if its first user record has one.
    pub explicit_hash_key: Option<String>,
    /// How many user records it holds.
    pub records: usize,
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregate")
            .field("data_bytes", &self.data.len())
            .field("partition_key", &self.partition_key)
            .field("explicit_hash_key", &self.explicit_hash_key)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

/// Packs user records into aggregates of a limited size. Each key is written once per aggregate.
///
/// It does not know the stream's shards. Java consumers drop an aggregate that holds a record of another shard, so a
/// producer for them keeps one aggregator per shard. Keys are taken as they are; the service checks the envelope's.
#[derive(Debug)]
pub struct Aggregator {
    bytes_max: usize,
    partition_keys: Table,
    explicit_hash_keys: Table,
    /// Encoded `records` fields.
    records: Vec<u8>,
    records_count: usize,
    /// The keys of the first record, once there is one.
    envelope_keys: Option<(String, Option<String>)>,
}

impl Default for Aggregator {
    fn default() -> Self {
        Self::new(AGGREGATE_BYTES_DEFAULT)
    }
}

impl Aggregator {
    /// An empty aggregator whose aggregates have at most `bytes_max` bytes, and never more than
    /// [`AGGREGATE_BYTES_MAX`].
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.min(AGGREGATE_BYTES_MAX),
            partition_keys: Table::new(wire::PARTITION_KEY_TABLE),
            explicit_hash_keys: Table::new(wire::EXPLICIT_HASH_KEY_TABLE),
            records: Vec::new(),
            records_count: 0,
            envelope_keys: None,
        }
    }

    /// Adds one user record; its explicit hash key, if any, is in decimal. If it does not fit beside those held, they
    /// are returned as an aggregate and the record starts the next one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it does not fit an aggregate of its own either; nothing changes then.
    pub fn push(
        &mut self,
        partition_key: &str,
        explicit_hash_key: Option<&str>,
        data: &[u8],
    ) -> Result<Option<Aggregate>, Error> {
        let record = Addition { partition_key, explicit_hash_key, data };
        if self.bytes_with(record) <= self.bytes_max {
            self.add(record);
            return Ok(None);
        }
        let mut next = Self::new(self.bytes_max);
        let bytes = next.bytes_with(record);
        if bytes > self.bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max: self.bytes_max });
        }
        next.add(record);
        Ok(mem::replace(self, next).seal())
    }

    /// What is held as an aggregate, or `None` if nothing is. The aggregator starts afresh.
    pub fn finish(&mut self) -> Option<Aggregate> {
        let empty = Self::new(self.bytes_max);
        mem::replace(self, empty).seal()
    }

    fn bytes_with(&self, record: Addition<'_>) -> usize {
        let partition_key_index = self.partition_keys.index(record.partition_key);
        let explicit_hash_key_index = record.explicit_hash_key.map(|key| self.explicit_hash_keys.index(key));
        let held = self.partition_keys.encoded.len() + self.explicit_hash_keys.encoded.len() + self.records.len();
        FRAME_BYTES
            + held
            + self.partition_keys.growth_bytes(record.partition_key)
            + record.explicit_hash_key.map_or(0, |key| self.explicit_hash_keys.growth_bytes(key))
            + wire::length_field_bytes(record_bytes(partition_key_index, explicit_hash_key_index, record.data))
    }

    fn add(&mut self, record: Addition<'_>) {
        let partition_key_index = self.partition_keys.insert(record.partition_key);
        let explicit_hash_key_index = record.explicit_hash_key.map(|key| self.explicit_hash_keys.insert(key));
        let out = &mut self.records;
        wire::put_length_head(
            out,
            wire::RECORDS,
            record_bytes(partition_key_index, explicit_hash_key_index, record.data),
        );
        wire::put_varint_field(out, wire::PARTITION_KEY_INDEX, partition_key_index);
        if let Some(index) = explicit_hash_key_index {
            wire::put_varint_field(out, wire::EXPLICIT_HASH_KEY_INDEX, index);
        }
        wire::put_length_head(out, wire::DATA, record.data.len());
        out.extend_from_slice(record.data);
        self.records_count += 1;
        self.envelope_keys
            .get_or_insert_with(|| (record.partition_key.to_owned(), record.explicit_hash_key.map(str::to_owned)));
    }

    fn seal(self) -> Option<Aggregate> {
        let (partition_key, explicit_hash_key) = self.envelope_keys?;
        let parts = [self.partition_keys.encoded, self.explicit_hash_keys.encoded, self.records];
        let message = parts.concat();
        let data = [&MAGIC[..], &message, &Md5::digest(&message)].concat();
        Some(Aggregate { data: Bytes::from(data), partition_key, explicit_hash_key, records: self.records_count })
    }
}

/// A user record on its way in.
#[derive(Clone, Copy)]
struct Addition<'a> {
    partition_key: &'a str,
    explicit_hash_key: Option<&'a str>,
    data: &'a [u8],
}

/// A key table: what is encoded so far, and where each key stands in it.
#[derive(Debug)]
struct Table {
    field: u32,
    encoded: Vec<u8>,
    indexes: HashMap<String, u64>,
}

impl Table {
    fn new(field: u32) -> Self {
        Self { field, encoded: Vec::new(), indexes: HashMap::new() }
    }

    /// Where `key` stands, or would stand if it were inserted now.
    fn index(&self, key: &str) -> u64 {
        self.indexes.get(key).copied().unwrap_or(self.indexes.len() as u64)
    }

    /// By how much inserting `key` lengthens the table.
    fn growth_bytes(&self, key: &str) -> usize {
        if self.indexes.contains_key(key) { 0 } else { wire::length_field_bytes(key.len()) }
    }

    fn insert(&mut self, key: &str) -> u64 {
        let index = self.index(key);
        if !self.indexes.contains_key(key) {
            wire::put_length_head(&mut self.encoded, self.field, key.len());
            self.encoded.extend_from_slice(key.as_bytes());
            self.indexes.insert(key.to_owned(), index);
        }
        index
    }
}

/// Length of an encoded `Record` message.
fn record_bytes(partition_key_index: u64, explicit_hash_key_index: Option<u64>, data: &[u8]) -> usize {
    wire::varint_field_bytes(partition_key_index)
        + explicit_hash_key_index.map_or(0, wire::varint_field_bytes)
        + wire::length_field_bytes(data.len())
}
