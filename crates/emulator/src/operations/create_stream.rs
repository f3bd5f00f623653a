//! CreateStream. The stream can be used at once.

use serde::Deserialize;

use super::ServiceError;
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::StreamMode;
use crate::stream::event::Event;
use crate::wire::validation::Validation;

/// Open shards in all streams together: what keeps a mistaken request from filling the memory.
pub(super) const SHARDS_MAX: usize = 100_000;
/// Shards that one request can ask for.
const SHARDS_PER_STREAM_MAX: i64 = 10_000;
/// What the service gives an on-demand stream to begin with.
const ON_DEMAND_SHARDS: u32 = 4;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamModeDetails {
    stream_mode: Option<String>,
}

pub(super) fn call(shared: &Shared, request: Request) -> Result<(), ServiceError> {
    let given_mode = request.stream_mode_details.and_then(|details| details.stream_mode);
    Validation::default()
        .required("streamName", request.stream_name.as_ref())
        .name("streamName", request.stream_name.as_deref())
        .number("shardCount", request.shard_count, 1..=SHARDS_PER_STREAM_MAX)
        .one_of("streamModeDetails.streamMode", given_mode.as_deref(), &["PROVISIONED", "ON_DEMAND"])
        .finish()?;
    let stream = request.stream_name.unwrap_or_default();
    let on_demand = given_mode.as_deref() == Some("ON_DEMAND");
    let (mode, shard_count) = match (on_demand, request.shard_count) {
        (false, Some(count)) => (StreamMode::Provisioned, u32::try_from(count).unwrap_or(1)),
        (true, None) => (StreamMode::OnDemand, ON_DEMAND_SHARDS),
        (false, None) => {
            return Err(ServiceError::invalid_argument("ShardCount is required for a provisioned stream."));
        }
        (true, Some(_)) => {
            return Err(ServiceError::invalid_argument("ShardCount cannot be given for an on-demand stream."));
        }
    };
    let mut store = shared.store();
    if store.streams.get(&stream).is_some() {
        let message = format!("Stream {stream} under account {ACCOUNT} already exists.");
        return Err(ServiceError::resource_in_use(message));
    }
    if store.streams.open_shard_count().saturating_add(shard_count as usize) > SHARDS_MAX {
        let message = format!("This request would exceed the limit of {SHARDS_MAX} open shards of kinesink local.");
        return Err(ServiceError::limit_exceeded(message));
    }
    store.commit(Event::CreateStream { stream, mode, shard_count, at_ms: shared.now_ms() })?;
    Ok(())
}
