//! GetRecords: the records behind an iterator, in the bytes they are stored as.

use serde::{Deserialize, Serialize};

use super::{Reply, ServiceError, target};
use crate::emulator::Shared;
use crate::stream::Stream;
use crate::stream::hash_key::HashKeyRangeText;
use crate::stream::shard::{Shard, shard_id};
use crate::wire::encoding::Encoding;
use crate::wire::records::{self, SentRecord};
use crate::wire::token::{self, LIFETIME_MS, ShardIterator};
use crate::wire::validation::Validation;

const RECORDS_MAX: u16 = 10_000;
const REPLY_BYTES_MAX: u64 = 10 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    shard_iterator: Option<String>,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

/// The stored records, and what the reply says after them.
#[derive(Debug)]
pub(super) struct Answer {
    records: Vec<SentRecord>,
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChildShard {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRangeText,
}

impl Answer {
    pub(super) fn encode(&self, encoding: Encoding) -> Reply {
        records::encode(encoding, &self.records, &self.tail)
    }
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    Validation::default()
        .required("shardIterator", request.shard_iterator.as_ref())
        .number("limit", request.limit, 1..=i64::from(RECORDS_MAX))
        .finish()?;
    let limit = request.limit.and_then(|limit| u16::try_from(limit).ok()).unwrap_or(RECORDS_MAX);
    let iterator: Option<ShardIterator> = request.shard_iterator.as_deref().and_then(token::decode);
    let iterator = iterator.ok_or_else(|| ServiceError::invalid_argument("Invalid ShardIterator."))?;
    if request.stream_arn.is_some() {
        target::stream_name(shared, Some(&iterator.stream), request.stream_arn.as_deref())?;
    }
    let now_ms = shared.now_ms();
    if token::is_expired(iterator.issued_ms, now_ms) {
        let issued_ms = iterator.issued_ms;
        return Err(ServiceError::expired_iterator(format!(
            "Iterator expired. The iterator was created at time {issued_ms} while right now it is {now_ms} which is \
             further in the future than the tolerated delay of {LIFETIME_MS} milliseconds."
        )));
    }
    read(shared, iterator, usize::from(limit), now_ms)
}

/// Reads records while the streams are locked, without copying any.
fn read(shared: &Shared, iterator: ShardIterator, limit: usize, now_ms: i64) -> Result<Answer, ServiceError> {
    let mut store = shared.store();
    let name = iterator.stream.clone();
    let stream = store.streams.get_mut(&name).filter(|stream| stream.created_ms == iterator.stream_created_ms);
    let stream = stream.ok_or_else(|| target::stream_not_found(&name))?;
    stream.trim_shards(&[iterator.shard], now_ms);
    let shard = target::shard(shared, stream, &name, &shard_id(iterator.shard))?;

    let mut stored = shard.records_from(iterator.index).peekable();
    let mut records = Vec::new();
    let (mut bytes, mut next_index, mut last_arrival_ms) = (0, iterator.index, now_ms);
    while let Some(record) = stored.peek() {
        bytes += u64::from(record.size_bytes);
        if records.len() == limit || (bytes > REPLY_BYTES_MAX && !records.is_empty()) {
            break;
        }
        next_index = record.index + 1;
        last_arrival_ms = record.arrival_ms;
        records.push(SentRecord { arrival_ms: record.arrival_ms, json: record.json.clone() });
        stored.next();
    }
    let more = stored.peek().is_some();
    let millis_behind_latest = if more { (now_ms - last_arrival_ms).max(0) } else { 0 };
    let ended = shard.closed.is_some() && !more;
    let child_shards = if ended { child_shards(stream, shard) } else { Vec::new() };
    let next = ShardIterator { index: next_index, issued_ms: now_ms, ..iterator };
    let next_shard_iterator = (!ended).then(|| token::encode(&next));
    Ok(Answer { records, tail: Tail { next_shard_iterator, millis_behind_latest, child_shards } })
}

fn child_shards(stream: &Stream, shard: &Shard) -> Vec<ChildShard> {
    let children = shard.closed.iter().flat_map(|closed| &closed.children);
    let describe = |child: &Shard| ChildShard {
        shard_id: child.id(),
        parent_shards: child.parent.into_iter().chain(child.adjacent_parent).map(shard_id).collect(),
        hash_key_range: child.range.text(),
    };
    children.filter_map(|number| stream.shard(*number)).map(describe).collect()
}
