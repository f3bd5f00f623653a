//! MergeShards: two neighbours close, one child has the hash keys of both.

use serde::Deserialize;

use super::{ServiceError, target};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::transition::Change;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("shardToMerge", request.shard_to_merge.as_ref())
        .name("shardToMerge", request.shard_to_merge.as_deref())
        .required("adjacentShardToMerge", request.adjacent_shard_to_merge.as_ref())
        .name("adjacentShardToMerge", request.adjacent_shard_to_merge.as_deref())
        .finish()?;
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let (id, adjacent_id) = (request.shard_to_merge.as_deref(), request.adjacent_shard_to_merge.as_deref());
    let (id, adjacent_id) = (id.unwrap_or_default(), adjacent_id.unwrap_or_default());
    let mut store = shared.store();
    let stream = target::active(&store.streams, &name)?;
    let shard = target::open_shard(shared, stream, &name, id)?;
    let adjacent = target::open_shard(shared, stream, &name, adjacent_id)?;
    let follows = |below: u128, above: u128| below.checked_add(1) == Some(above);
    if !follows(shard.range.end, adjacent.range.start) && !follows(adjacent.range.end, shard.range.start) {
        return Err(ServiceError::invalid_argument(format!(
            "Shards {id} and {adjacent_id} in stream {name} under account {ACCOUNT} are not an adjacent pair \
             of shards eligible for merging",
        )));
    }
    let (shard, adjacent) = (shard.number, adjacent.number);
    shared.begin(&mut store, name, Change::MergeShards { shard, adjacent })?;
    Ok(())
}
