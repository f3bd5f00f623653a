//! GetRecords: the records behind an iterator, in the bytes they are stored as.

use serde::{Deserialize, Serialize};

use super::{Reply, ServiceError, target, throttle};
use crate::emulator::Shared;
use crate::stream::reading::{self, ChildShard, Read, ReadLimit};
use crate::stream::shard::{Record, shard_id};
use crate::stream::{Stream, Streams};
use crate::wire::encoding::Encoding;
use crate::wire::records;
use crate::wire::token::{self, LIFETIME_MS, ShardIterator};
use crate::wire::validation::Validation;

const RECORDS_MAX: usize = 10_000;
const ITERATOR_BYTES_MAX: usize = 512;
const REPLY_BYTES_MAX: u64 = 10 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    dry_run: Option<bool>,
}

/// The stored records, and what the reply says after them.
#[derive(Debug)]
pub(super) struct Answer {
    records: Vec<Record>,
    tail: Tail,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tail {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<String>,
    millis_behind_latest: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<ChildShard>,
}

impl Answer {
    pub(super) fn encode(&self, encoding: Encoding) -> Reply {
        records::encode(encoding, &self.records, &self.tail)
    }
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    Validation::default()
        .required("shardIterator", request.shard_iterator.as_ref())
        .length("shardIterator", request.shard_iterator.as_ref().map_or(1, String::len), 1..=ITERATOR_BYTES_MAX)
        .number("limit", request.limit, 1..=i64::MAX)
        .finish()?;
    let limit = request.limit.map_or(Some(RECORDS_MAX), |limit| usize::try_from(limit).ok());
    let limit = limit
        .filter(|limit| *limit <= RECORDS_MAX)
        .ok_or_else(|| ServiceError::invalid_argument(format!("Limit cannot be greater than {RECORDS_MAX}.")))?;
    let iterator: Option<ShardIterator> = request.shard_iterator.as_deref().and_then(token::decode);
    let iterator = iterator.ok_or_else(|| ServiceError::invalid_argument("Invalid ShardIterator."))?;
    if request.stream_arn.is_some() {
        target::stream_name(shared, Some(&iterator.stream), request.stream_arn.as_deref())?;
    }
    let now_ms = shared.now_ms();
    if token::is_expired(iterator.issued_ms, now_ms) || shared.faults.take_expiry("GetRecords") {
        let issued_ms = iterator.issued_ms;
        return Err(ServiceError::expired_iterator(format!(
            "Iterator expired. The iterator was created at time {issued_ms} while right now it is {now_ms} which is \
             further in the future than the tolerated delay of {LIFETIME_MS} milliseconds."
        )));
    }
    if request.dry_run == Some(true) {
        let mut store = shared.store();
        let stream = readable(shared, &mut store.streams, &iterator)?;
        return Err(throttle::dry_run(shared, stream, &iterator.stream));
    }
    read(shared, iterator, limit, now_ms)
}

/// The iterator's stream, if that still has its shard.
fn readable<'a>(
    shared: &Shared,
    streams: &'a mut Streams,
    iterator: &ShardIterator,
) -> Result<&'a mut Stream, ServiceError> {
    let name = &iterator.stream;
    let stream = streams.get_mut(name).filter(|stream| stream.id() == iterator.stream_id);
    let stream = stream.ok_or_else(|| target::stream_not_found(name))?;
    target::shard(shared, stream, name, &shard_id(iterator.shard))?;
    Ok(stream)
}

/// Reads records while the streams are locked, without copying any.
fn read(shared: &Shared, iterator: ShardIterator, limit: usize, now_ms: i64) -> Result<Answer, ServiceError> {
    let mut store = shared.store();
    let stream = readable(shared, &mut store.streams, &iterator)?;
    stream.trim_shards(&[iterator.shard], now_ms);
    let (name, id) = (iterator.stream.clone(), shard_id(iterator.shard));
    let shard = stream.shard_mut(iterator.shard).ok_or_else(|| target::shard_not_found(&name, &id))?;
    if !shard.rates.try_read(shared.limits, now_ms) {
        return Err(ServiceError::throughput_exceeded(throttle::shard_exceeded(&name, &id)));
    }
    let limit = ReadLimit { records: limit, bytes: REPLY_BYTES_MAX };
    let Read { records, bytes, is_full, next_index, millis_behind_latest, is_end, .. } =
        reading::read(shard, iterator.index, limit, now_ms);
    shard.rates.was_read(bytes, is_full || bytes >= REPLY_BYTES_MAX, now_ms);
    let ended = stream.shard(iterator.shard).filter(|_| is_end);
    let child_shards = ended.map(|shard| reading::child_shards(stream, shard)).unwrap_or_default();
    let next = ShardIterator { index: next_index, issued_ms: now_ms, ..iterator };
    let next_shard_iterator = (!is_end).then(|| token::encode(&next));
    Ok(Answer { records, tail: Tail { next_shard_iterator, millis_behind_latest, child_shards } })
}
