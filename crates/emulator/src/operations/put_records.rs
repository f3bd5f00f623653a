//! PutRecords, and the way in for every record.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ServiceError, target, throttle};
use crate::emulator::{Shared, Store};
use crate::limits::Limit;
use crate::stream::event::{Distribution, Event, Placement};
use crate::stream::shard::Shard;
use crate::stream::{RECORD_KIB_DEFAULT, Streams, hash_key};
use crate::wire::blob::Blob;
use crate::wire::stored_record;
use crate::wire::validation::{Validation, is_number};

const RECORDS_MAX: usize = 500;
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
    records: Option<Vec<NewRecord>>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NewRecord {
    pub(super) data: Option<Blob>,
    pub(super) partition_key: Option<String>,
    pub(super) explicit_hash_key: Option<String>,
}

/// Where a record went, or why it went nowhere.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "PascalCase")]
pub(super) enum Outcome {
    Stored { sequence_number: String, shard_id: String },
    Refused { error_code: &'static str, error_message: String },
}

/// What a stream takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepts {
    /// Of data and partition key together.
    record_bytes_max: usize,
    request_bytes_max: usize,
    pub(super) is_key_required: bool,
}

impl Accepts {
    /// What the stream takes; what any does if there is no such stream, which is found out later.
    pub(super) fn of(shared: &Shared, streams: &Streams, name: Option<&str>, arn: Option<&str>) -> Self {
        let name = target::stream_name(shared, name, arn).ok();
        let stream = name.and_then(|name| streams.get(&name));
        let record_kib_max = stream.map_or(RECORD_KIB_DEFAULT, |stream| stream.record_kib_max);
        let is_limited = shared.limits.has(Limit::RequestSizes);
        Self {
            record_bytes_max: if is_limited { 1024 * record_kib_max as usize } else { usize::MAX },
            request_bytes_max: if is_limited { REQUEST_BYTES_MAX } else { usize::MAX },
            is_key_required: stream.is_none_or(|stream| stream.distribution == Distribution::UserPartitionKey),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    failed_record_count: usize,
    records: Vec<Outcome>,
    encryption_type: &'static str,
}

impl NewRecord {
    /// Checks the members, named with the prefix in messages.
    pub(super) fn validate(&self, prefix: &str, accepts: Accepts, validation: &mut Validation) {
        let key_chars = self.partition_key.as_ref().map(|key| key.chars().count());
        // Formatting the names of 500 records' members would cost more than storing them.
        let key_fits =
            key_chars.map_or(!accepts.is_key_required, |chars| (1..=PARTITION_KEY_CHARS_MAX).contains(&chars));
        let explicit = self.explicit_hash_key.as_deref();
        let explicit_fits = explicit.is_none_or(|explicit| is_number(explicit, hash_key::DIGITS_MAX));
        if key_fits && explicit_fits && self.data.is_some() && self.size_bytes() <= accepts.record_bytes_max {
            return;
        }
        let (data, key) = (format!("{prefix}data"), format!("{prefix}partitionKey"));
        validation.digits(&format!("{prefix}explicitHashKey"), explicit, hash_key::DIGITS_MAX);
        let room_for_data = accepts.record_bytes_max.saturating_sub(self.partition_key.as_ref().map_or(0, String::len));
        validation
            .required(&data, self.data.as_ref())
            .length(&data, self.data.as_ref().map_or(0, Blob::len_bytes), 0..=room_for_data)
            .required(&key, self.partition_key.as_ref().or((!accepts.is_key_required).then_some(&String::new())))
            .length(&key, key_chars.unwrap_or(1), 1..=PARTITION_KEY_CHARS_MAX);
    }

    fn size_bytes(&self) -> usize {
        self.data.as_ref().map_or(0, Blob::len_bytes) + self.partition_key.as_ref().map_or(0, String::len)
    }

    /// About the bytes of its JSON: more, unless its key is of characters that are longer there.
    fn json_bytes_estimate(&self) -> usize {
        JSON_OVERHEAD_BYTES + self.base64().len() + self.partition_key.as_ref().map_or(0, String::len)
    }

    fn base64(&self) -> &str {
        self.data.as_ref().map_or("", Blob::base64)
    }

    fn hash_key(&self) -> Result<u128, ServiceError> {
        let Some(explicit) = &self.explicit_hash_key else {
            return Ok(hash_key::of_partition_key(self.partition_key.as_deref().unwrap_or_default()));
        };
        hash_key::parse(explicit).ok_or_else(|| {
            let message = "ExplicitHashKey must be a number from 0 to 2^128 - 1.";
            ServiceError::invalid_argument(message)
        })
    }
}

/// The records' hash keys, or the error of the first that has none. Takes a while, so nobody should wait for it.
pub(super) fn hash_keys(given: &[NewRecord]) -> Result<Vec<u128>, ServiceError> {
    given.iter().map(NewRecord::hash_key).collect()
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let given = request.records.as_deref().unwrap_or_default();
    let hash_keys = hash_keys(given);
    // From here on nothing else changes what the stream takes.
    let mut store = shared.store();
    let accepts = Accepts::of(shared, &store.streams, request.stream_name.as_deref(), request.stream_arn.as_deref());
    let mut validation = Validation::default();
    validation
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("records", request.records.as_ref())
        .length("records", request.records.as_ref().map_or(1, Vec::len), 1..=RECORDS_MAX);
    for (position, new) in (1..).zip(given) {
        new.validate(&format!("records.{position}.member."), accepts, &mut validation);
    }
    validation.finish()?;
    if given.iter().map(NewRecord::size_bytes).sum::<usize>() > accepts.request_bytes_max {
        return Err(ServiceError::invalid_argument("Records size exceeds 10 MB limit"));
    }
    let stream = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let is_dry_run = request.dry_run == Some(true);
    let records = put(shared, &mut store, &stream, given, &hash_keys?, is_dry_run)?;
    let refused = records.iter().filter(|outcome| matches!(outcome, Outcome::Refused { .. }));
    Ok(Answer { failed_record_count: refused.count(), records, encryption_type: "NONE" })
}

/// Stores the records that their shards have throughput for, all or none of these, and says where. They have been checked
/// against what this same store takes. A dry run ends with the error that it ends with.
pub(super) fn put(
    shared: &Shared,
    store: &mut Store,
    name: &str,
    given: &[NewRecord],
    hash_keys: &[u128],
    is_dry_run: bool,
) -> Result<Vec<Outcome>, ServiceError> {
    let now_ms = shared.now_ms();
    let stream = target::usable(&mut store.streams, name)?;
    if is_dry_run {
        return Err(throttle::dry_run(shared, stream, name));
    }
    let mut batch = Batch::of(given);
    for (new, hash_key) in given.iter().zip(hash_keys) {
        let hash_key = match stream.distribution {
            Distribution::Auto => stream.any_hash_key(),
            Distribution::UserPartitionKey => *hash_key,
        };
        let shard = stream.shard_for_mut(hash_key);
        let shard = shard.ok_or_else(|| ServiceError::internal_failure("no open shard owns the hash key"))?;
        if shard.rates.try_write(new.size_bytes() as u64, shared.limits, now_ms) {
            batch.accept(shard, new, now_ms);
        } else {
            batch.refuse(throttle::shard_exceeded(name, &shard.id()));
        }
    }
    let last_hash_key = stream.last_hash_key();
    let Batch { accepted, outcomes, next_index } = batch;
    if accepted.is_empty() {
        return Ok(outcomes);
    }
    let touched: Vec<u32> = next_index.into_keys().collect();
    let (records, json) = written(accepted)
        .map_err(|error| ServiceError::internal_failure(format!("the records cannot be encoded: {error}")))?;
    store.commit(Event::PutRecords { stream: name.to_owned(), records, json, last_hash_key })?;
    if let Some(stream) = store.streams.get_mut(name) {
        stream.trim_shards(&touched, now_ms);
    }
    Ok(outcomes)
}

/// Records on their way in.
struct Batch<'a> {
    accepted: Vec<Accepted<'a>>,
    outcomes: Vec<Outcome>,
    next_index: HashMap<u32, u64>,
}

/// A record that has its place.
struct Accepted<'a> {
    new: &'a NewRecord,
    sequence_number: String,
    place: Placement,
}

impl<'a> Batch<'a> {
    fn of(given: &[NewRecord]) -> Self {
        let (accepted, outcomes) = (Vec::with_capacity(given.len()), Vec::with_capacity(given.len()));
        Self { accepted, outcomes, next_index: HashMap::new() }
    }

    /// Gives the record its place.
    fn accept(&mut self, shard: &Shard, new: &'a NewRecord, now_ms: i64) {
        let (first_index, arrival_ms) = shard.next_position(now_ms);
        let next_index = self.next_index.entry(shard.number).or_insert(first_index);
        let index = *next_index;
        *next_index = index.saturating_add(1);
        let sequence_number = shard.sequence_number(index, arrival_ms).to_string();
        self.outcomes.push(Outcome::Stored { sequence_number: sequence_number.clone(), shard_id: shard.id() });
        let size_bytes = u32::try_from(new.size_bytes()).unwrap_or(u32::MAX);
        let place = Placement { shard: shard.number, index, arrival_ms, size_bytes, json_bytes: 0 };
        self.accepted.push(Accepted { new, sequence_number, place });
    }

    fn refuse(&mut self, error_message: String) {
        let error_code = "ProvisionedThroughputExceededException";
        self.outcomes.push(Outcome::Refused { error_code, error_message });
    }
}

/// The records in their form for ever: those of a shard side by side, as they will be read.
fn written(mut accepted: Vec<Accepted<'_>>) -> io::Result<(Vec<Placement>, Bytes)> {
    accepted.sort_by_key(|record| record.place.shard);
    let mut json = Vec::with_capacity(accepted.iter().map(|record| record.new.json_bytes_estimate()).sum());
    let mut records = Vec::with_capacity(accepted.len());
    for Accepted { new, sequence_number, place } in accepted {
        let start = json.len();
        stored_record::write(
            &mut json,
            &sequence_number,
            place.arrival_ms,
            new.base64(),
            new.partition_key.as_deref(),
        )?;
        let json_bytes = u32::try_from(json.len() - start).unwrap_or(u32::MAX);
        records.push(Placement { json_bytes, ..place });
    }
    // What the records needed less than the estimate is given back.
    Ok((records, Bytes::from(json.into_boxed_slice())))
}
