//! PutRecords, and the way in for every record.

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::Stream;
use crate::stream::event::{Event, PutRecord};
use crate::stream::hash_key;
use crate::wire::blob::Blob;
use crate::wire::timestamp::Timestamp;
use crate::wire::validation::Validation;

const RECORDS_MAX: usize = 500;
/// Of data and partition key together.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
const PARTITION_KEY_CHARS_MAX: usize = 256;
/// Room for the members of a record's JSON besides its data and key.
const JSON_OVERHEAD_BYTES: usize = 160;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) data: Option<Blob>,
    pub(super) partition_key: Option<String>,
    pub(super) explicit_hash_key: Option<String>,
}

/// Where a record went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Placed {
    pub(super) sequence_number: String,
    pub(super) shard_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    failed_record_count: u32,
    records: Vec<Placed>,
    encryption_type: &'static str,
}

impl Entry {
    /// Checks the members, named with the prefix in messages.
    pub(super) fn validate(&self, prefix: &str, validation: &mut Validation) {
        let key_chars = self.partition_key.as_ref().map(|key| key.chars().count());
        // Formatting the names of 500 records' members would cost more than storing them.
        let key_fits = key_chars.is_some_and(|chars| (1..=PARTITION_KEY_CHARS_MAX).contains(&chars));
        if key_fits && self.data.is_some() && self.size_bytes() <= RECORD_BYTES_MAX {
            return;
        }
        let (data, key) = (format!("{prefix}data"), format!("{prefix}partitionKey"));
        let room_for_data = RECORD_BYTES_MAX.saturating_sub(self.partition_key.as_ref().map_or(0, String::len));
        validation
            .required(&data, self.data.as_ref())
            .length(&data, self.data.as_ref().map_or(0, Blob::len_bytes), 0..=room_for_data)
            .required(&key, self.partition_key.as_ref())
            .length(&key, key_chars.unwrap_or(1), 1..=PARTITION_KEY_CHARS_MAX);
    }

    fn size_bytes(&self) -> usize {
        self.data.as_ref().map_or(0, Blob::len_bytes) + self.partition_key.as_ref().map_or(0, String::len)
    }

    fn base64(&self) -> &str {
        self.data.as_ref().map_or("", Blob::base64)
    }

    fn hash_key(&self) -> Result<u128, ServiceError> {
        let Some(explicit) = &self.explicit_hash_key else {
            return Ok(hash_key::of_partition_key(self.partition_key.as_deref().unwrap_or_default()));
        };
        hash_key::parse(explicit).ok_or_else(|| {
            let message = "ExplicitHashKey must be a decimal number from 0 to 2^128 - 1, without leading zeros.";
            ServiceError::invalid_argument(message)
        })
    }
}

pub(super) fn call(shared: &Shared, request: Request) -> Result<Answer, ServiceError> {
    let mut validation = Validation::default();
    validation.name("streamName", request.stream_name.as_deref()).required("records", request.records.as_ref()).length(
        "records",
        request.records.as_ref().map_or(1, Vec::len),
        1..=RECORDS_MAX,
    );
    for (position, entry) in (1..).zip(request.records.iter().flatten()) {
        entry.validate(&format!("records.{position}.member."), &mut validation);
    }
    validation.finish()?;
    let entries = request.records.unwrap_or_default();
    if entries.iter().map(Entry::size_bytes).sum::<usize>() > REQUEST_BYTES_MAX {
        return Err(ServiceError::invalid_argument("Records size exceeds 10 MB limit"));
    }
    let stream = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let records = put(shared, &stream, &entries)?;
    Ok(Answer { failed_record_count: 0, records, encryption_type: "NONE" })
}

/// Stores the records, all or none, and says where.
pub(super) fn put(shared: &Shared, name: &str, entries: &[Entry]) -> Result<Vec<Placed>, ServiceError> {
    let hash_keys = entries.iter().map(Entry::hash_key).collect::<Result<Vec<_>, _>>()?;
    let mut store = shared.store();
    let now_ms = shared.now_ms();
    let stream = target::stream(&store.streams, name)?;
    let mut batch = Batch::for_entries(entries);
    for (entry, hash_key) in entries.iter().zip(hash_keys) {
        batch.push(stream, entry, hash_key, now_ms)?;
    }
    let Batch { records, json, placed, next_index } = batch;
    let touched: Vec<u32> = next_index.into_keys().collect();
    // What the last record needed less than the estimate is given back.
    let json = Bytes::from(json.into_boxed_slice());
    store.commit(Event::PutRecords { stream: name.to_owned(), records, json })?;
    if let Some(stream) = store.streams.get_mut(name) {
        stream.trim_shards(&touched, now_ms);
    }
    Ok(placed)
}

/// Records on their way in.
struct Batch {
    records: Vec<PutRecord>,
    json: Vec<u8>,
    placed: Vec<Placed>,
    next_index: HashMap<u32, u64>,
}

impl Batch {
    fn for_entries(entries: &[Entry]) -> Self {
        let keys_and_data = |entry: &Entry| entry.base64().len() + entry.partition_key.as_ref().map_or(0, String::len);
        let json_bytes = entries.iter().map(|entry| JSON_OVERHEAD_BYTES + keys_and_data(entry)).sum();
        Self {
            records: Vec::with_capacity(entries.len()),
            json: Vec::with_capacity(json_bytes),
            placed: Vec::with_capacity(entries.len()),
            next_index: HashMap::new(),
        }
    }

    /// Gives the record its place, and its form for ever.
    fn push(&mut self, stream: &Stream, entry: &Entry, hash_key: u128, now_ms: i64) -> Result<(), ServiceError> {
        let shard = stream.shard_for(hash_key);
        let shard = shard.ok_or_else(|| ServiceError::internal_failure("no open shard owns the hash key"))?;
        let (first_index, arrival_ms) = shard.next_position(now_ms);
        let next_index = self.next_index.entry(shard.number).or_insert(first_index);
        let index = *next_index;
        *next_index += 1;
        let sequence_number = shard.sequence_number(index, arrival_ms).to_string();
        let start = self.json.len();
        write_json(&mut self.json, entry, &sequence_number, arrival_ms)
            .map_err(|error| ServiceError::internal_failure(format!("the record cannot be encoded: {error}")))?;
        self.records.push(PutRecord {
            shard: shard.number,
            index,
            arrival_ms,
            size_bytes: u32::try_from(entry.size_bytes()).unwrap_or(u32::MAX),
            json_bytes: u32::try_from(self.json.len() - start).unwrap_or(u32::MAX),
        });
        self.placed.push(Placed { sequence_number, shard_id: shard.id() });
        Ok(())
    }
}

/// The record as `GetRecords` will send it.
fn write_json(json: &mut Vec<u8>, entry: &Entry, sequence_number: &str, arrival_ms: i64) -> std::io::Result<()> {
    let arrival = Timestamp(arrival_ms).seconds();
    write!(json, r#"{{"SequenceNumber":"{sequence_number}","ApproximateArrivalTimestamp":{arrival},"Data":""#)?;
    json.extend_from_slice(entry.base64().as_bytes());
    json.push(b'"');
    if let Some(partition_key) = &entry.partition_key {
        json.extend_from_slice(br#","PartitionKey":"#);
        serde_json::to_writer(&mut *json, partition_key)?;
    }
    json.push(b'}');
    Ok(())
}
