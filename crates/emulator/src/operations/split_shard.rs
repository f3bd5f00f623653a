//! SplitShard: one shard closes, two children share its hash keys.

use serde::Deserialize;

use super::{ServiceError, shard_count, target};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::hash_key;
use crate::stream::transition::Change;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("shardToSplit", request.shard_to_split.as_ref())
        .name("shardToSplit", request.shard_to_split.as_deref())
        .required("newStartingHashKey", request.new_starting_hash_key.as_ref())
        .digits("newStartingHashKey", request.new_starting_hash_key.as_deref(), hash_key::DIGITS_MAX)
        .finish()?;
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let (id, new_start) = (request.shard_to_split.as_deref(), request.new_starting_hash_key.as_deref());
    let (id, new_start) = (id.unwrap_or_default(), new_start.unwrap_or_default());
    let mut store = shared.store();
    let stream = target::active(&store.streams, &name)?;
    let shard = target::open_shard(shared, stream, &name, id)?;
    let range = shard.range;
    let (above, below) = (range.start.saturating_add(1), range.end);
    let inside = hash_key::parse(new_start).filter(|key| *key > above && *key < below);
    let new_start = inside.ok_or_else(|| {
        ServiceError::invalid_argument(format!(
            "NewStartingHashKey {new_start} used in SplitShard() on shard {id} in stream {name} under account \
             {ACCOUNT} is not both greater than one plus the shard's StartingHashKey {} and less than the shard's \
             EndingHashKey {}.",
            range.start, range.end
        ))
    })?;
    let shard = shard.number;
    shard_count::assert_room(shared, &store.streams, 1)?;
    shared.begin(&mut store, name, Change::SplitShard { shard, new_start })?;
    Ok(())
}
