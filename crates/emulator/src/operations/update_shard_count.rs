//! UpdateShardCount: splits and merges to a number of even shards.
//!
//! Each open shard is split where an even one begins, and what does not begin there is merged with what is below it.
//! Shards that are split off and merged again live for a moment, as in the service. How often a stream is scaled in a
//! day is not limited.

use serde::{Deserialize, Serialize};

use super::{ServiceError, shard_count, target};
use crate::emulator::Shared;
use crate::limits::Limit;
use crate::stream::transition::Change;
use crate::stream::{Stream, StreamMode};
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_shard_count: usize,
    target_shard_count: usize,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let scaling_type = request.scaling_type.as_deref();
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("targetShardCount", request.target_shard_count.as_ref())
        .number("targetShardCount", request.target_shard_count, 1..=i64::MAX)
        .required("scalingType", request.scaling_type.as_ref())
        .one_of("scalingType", scaling_type, &["UNIFORM_SCALING"])
        .finish()?;
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let wanted = usize::try_from(request.target_shard_count.unwrap_or(1)).unwrap_or(usize::MAX);
    let mut store = shared.store();
    let stream = target::active(&store.streams, &name)?;
    if stream.mode == StreamMode::OnDemand {
        let message = "UpdateShardCount is not supported for streams in the on-demand capacity mode.";
        return Err(ServiceError::validation(message));
    }
    let open = stream.open_shard_count();
    let target_count = assert_reachable(shared, stream, wanted)?;
    shard_count::assert_room(shared, &store.streams, wanted.saturating_sub(open))?;
    let (splits, merges) = stream.steps_to(target_count);
    if !splits.is_empty() || !merges.is_empty() {
        shared.begin(&mut store, name.clone(), Change::UpdateShardCount { splits, merges })?;
    }
    Ok(Answer {
        stream_arn: target::stream_arn(shared, &name),
        stream_name: name,
        current_shard_count: open,
        target_shard_count: wanted,
    })
}

/// The number of shards, if the stream may be scaled to it in one step.
fn assert_reachable(shared: &Shared, stream: &Stream, wanted: usize) -> Result<u32, ServiceError> {
    let open = stream.open_shard_count();
    let count = u32::try_from(wanted).ok().filter(|count| *count <= shard_count::PER_STREAM_MAX);
    let Some(count) = count else {
        let message = format!("UpdateShardCount cannot scale over {} shards.", shard_count::PER_STREAM_MAX);
        return Err(ServiceError::limit_exceeded(message));
    };
    let is_limited = shared.limits.has(Limit::ShardCountSteps);
    let message = if is_limited && wanted > open.saturating_mul(2) {
        "UpdateShardCount cannot scale up over double your current open shard count."
    } else if is_limited && wanted < open.div_ceil(2) {
        "UpdateShardCount cannot scale down below half your current open shard count."
    } else {
        return Ok(count);
    };
    let counts = format!("Current open shard count: {open} Target shard count: {wanted}");
    Err(ServiceError::limit_exceeded(format!("{message} {counts}")))
}
