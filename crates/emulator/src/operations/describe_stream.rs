//! DescribeStream: the stream and a page of its shards.

use serde::{Deserialize, Serialize};

use super::describe_stream_summary::Common;
use super::{ServiceError, page, target};
use crate::emulator::Shared;
use crate::stream::shard::ShardText;
use crate::wire::validation::Validation;

const SHARDS_PER_PAGE_MAX: usize = 100;
const LIMIT_MAX: i64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    limit: Option<i64>,
    exclusive_start_shard_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    stream_description: Description,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(flatten)]
    common: Common,
    shards: Vec<ShardText>,
    has_more_shards: bool,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let after = request.exclusive_start_shard_id.as_deref();
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .number("limit", request.limit, 1..=LIMIT_MAX)
        .name("exclusiveStartShardId", after)
        .finish()?;
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let store = shared.store();
    let stream = target::stream(&store.streams, &name)?;
    let after = target::list_after(&name, after)?;
    let limit = page::size(request.limit, SHARDS_PER_PAGE_MAX);
    let now_ms = shared.now_ms();
    let as_of_ms = target::shards_as_of_ms(shared, "DescribeStream", now_ms);
    let mut shards = stream.live_shards(after, now_ms).filter(|shard| shard.created_ms <= as_of_ms);
    let page = shards.by_ref().take(limit).map(|shard| shard.text(as_of_ms)).collect();
    let has_more_shards = shards.next().is_some();
    let common = Common::new(shared, &name, stream);
    Ok(Answer { stream_description: Description { common, shards: page, has_more_shards } })
}
