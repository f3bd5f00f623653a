//! ListShards: shards in the order of their ids, chosen by a filter, by pages.

use serde::{Deserialize, Serialize};

use super::{ServiceError, page, target, throttle};
use crate::emulator::Shared;
use crate::stream::Stream;
use crate::stream::shard::{Shard, ShardText, shard_number};
use crate::wire::timestamp::Timestamp;
use crate::wire::token::{self, LIFETIME_MS, ShardsToken};
use crate::wire::validation::Validation;

const SHARDS_PER_PAGE_MAX: usize = 1000;
const RESULTS_MAX: i64 = 10_000;
const FILTER_TYPES: [&str; 6] =
    ["AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Timestamp>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    r#type: Option<String>,
    shard_id: Option<String>,
    timestamp: Option<Timestamp>,
}

/// Which shards are listed. Shards that retention has removed never are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Filter {
    All,
    AfterShard(u32),
    AtTrimHorizon,
    AtLatest,
    AtTimestamp(i64),
    FromTimestamp(i64),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    shards: Vec<ShardText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Filter {
    fn from_request(request: &Request) -> Result<Self, ServiceError> {
        let Some(filter) = &request.shard_filter else { return Ok(Self::All) };
        let shard_id = filter.shard_id.as_deref().and_then(shard_number);
        let shard = || {
            let message = "ShardFilter of type AFTER_SHARD_ID needs the ShardId of a shard.";
            shard_id.ok_or_else(|| ServiceError::invalid_argument(message))
        };
        let time = || {
            let message = "ShardFilter of a type with a time needs a Timestamp.";
            filter.timestamp.map(|Timestamp(at_ms)| at_ms).ok_or_else(|| ServiceError::invalid_argument(message))
        };
        Ok(match filter.r#type.as_deref().unwrap_or_default() {
            "AFTER_SHARD_ID" => Self::AfterShard(shard()?),
            "AT_TRIM_HORIZON" => Self::AtTrimHorizon,
            "AT_LATEST" => Self::AtLatest,
            "AT_TIMESTAMP" => Self::AtTimestamp(time()?),
            "FROM_TIMESTAMP" => Self::FromTimestamp(time()?),
            _ => Self::All,
        })
    }

    fn keeps(self, stream: &Stream, shard: &Shard, horizon_ms: i64, as_of_ms: i64) -> bool {
        // A shard is read up to the moment it closed, so that moment still belongs to it.
        let open_at = |at_ms| shard.closed_by(as_of_ms).is_none_or(|closed| closed.at_ms >= at_ms);
        match self {
            Self::All => true,
            Self::AfterShard(number) => shard.number > number,
            Self::AtTrimHorizon => {
                // The oldest that is left of each line of descent: these tile the hash keys whatever the clock did.
                let mut parents = shard.parent.into_iter().chain(shard.adjacent_parent);
                parents.all(|parent| stream.shard(parent).is_none_or(|parent| parent.is_expired(horizon_ms)))
            }
            Self::AtLatest => shard.closed_by(as_of_ms).is_none(),
            Self::AtTimestamp(at_ms) => {
                let at_ms = at_ms.max(horizon_ms).max(stream.created_ms);
                shard.created_ms <= at_ms && open_at(at_ms)
            }
            Self::FromTimestamp(at_ms) => open_at(at_ms),
        }
    }
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let filter = request.shard_filter.as_ref();
    let mut validation = Validation::default();
    validation
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .name("exclusiveStartShardId", request.exclusive_start_shard_id.as_deref())
        .number("maxResults", request.max_results, 1..=RESULTS_MAX);
    if let Some(filter) = filter {
        validation
            .required("shardFilter.type", filter.r#type.as_ref())
            .one_of("shardFilter.type", filter.r#type.as_deref(), &FILTER_TYPES)
            .name("shardFilter.shardId", filter.shard_id.as_deref());
    }
    validation.finish()?;
    let limit = page::size(request.max_results, SHARDS_PER_PAGE_MAX);
    let now_ms = shared.now_ms();
    match request.next_token.as_deref() {
        Some(text) => {
            let token = continued(shared, request, text, now_ms)?;
            let is_meant = |stream: &Stream| token.stream_id == stream.id();
            page(shared, &token.stream, is_meant, Some(token.after_shard), token.filter, limit)
        }
        None => {
            let filter = Filter::from_request(request)?;
            let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
            let created = request.stream_creation_timestamp;
            let is_meant = |stream: &Stream| created.is_none_or(|created| created == Timestamp(stream.created_ms));
            let after = target::list_after(&name, request.exclusive_start_shard_id.as_deref())?;
            page(shared, &name, is_meant, after, filter, limit)
        }
    }
}

/// The place that the token continues at. It says everything, so that nothing else may be given.
fn continued(shared: &Shared, request: &Request, text: &str, now_ms: i64) -> Result<ShardsToken<Filter>, ServiceError> {
    let alone = request.stream_name.is_none()
        && request.exclusive_start_shard_id.is_none()
        && request.stream_creation_timestamp.is_none()
        && request.shard_filter.is_none();
    if !alone {
        let message = "NextToken cannot be provided together with StreamName, ExclusiveStartShardId, \
                       StreamCreationTimestamp or ShardFilter.";
        return Err(ServiceError::invalid_argument(message));
    }
    let token: Option<ShardsToken<Filter>> = token::decode(text);
    let token = token.ok_or_else(|| ServiceError::invalid_argument("Invalid NextToken."))?;
    if token::is_expired(token.issued_ms, now_ms) || shared.faults.take_expiry("ListShards") {
        let message = format!("NextToken expired: it can be used for {LIFETIME_MS} milliseconds.");
        return Err(ServiceError::expired_next_token(message));
    }
    Ok(token)
}

fn page(
    shared: &Shared,
    name: &str,
    is_meant: impl Fn(&Stream) -> bool,
    after: Option<u32>,
    filter: Filter,
    limit: usize,
) -> Result<Answer, ServiceError> {
    let now_ms = shared.now_ms();
    let mut store = shared.store();
    let stream = store.streams.get_mut(name).ok_or_else(|| target::stream_not_found(name))?;
    throttle::stream(shared, stream, name, "ListShards")?;
    if stream.is_creating() {
        return Err(target::not_active(stream, name));
    }
    let stream = &*stream;
    // A stream of that name from another time is another stream.
    if !is_meant(stream) {
        return Err(target::stream_not_found(name));
    }
    let horizon_ms = stream.horizon_ms(now_ms);
    let as_of_ms = target::shards_as_of_ms(shared, "ListShards", now_ms);
    let mut chosen = stream
        .live_shards(after, now_ms)
        .filter(|shard| shard.created_ms <= as_of_ms && filter.keeps(stream, shard, horizon_ms, as_of_ms));
    let shards: Vec<&Shard> = chosen.by_ref().take(limit).collect();
    let last = shards.last().filter(|_| chosen.next().is_some());
    let next_token = last.map(|last| {
        token::encode(&ShardsToken {
            stream: name.to_owned(),
            stream_id: stream.id(),
            after_shard: last.number,
            filter,
            issued_ms: now_ms,
        })
    });
    Ok(Answer { shards: shards.into_iter().map(|shard| shard.text(as_of_ms)).collect(), next_token })
}
