//! The stream and the shard that a request is about.

use super::ServiceError;
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::shard::{Shard, shard_number};
use crate::stream::{Stream, Streams};

/// The name of the stream that a request gives by name, by ARN, or by both.
pub(super) fn stream_name(shared: &Shared, name: Option<&str>, arn: Option<&str>) -> Result<String, ServiceError> {
    let Some(arn) = arn else {
        let missing = || ServiceError::invalid_argument("Either StreamName or StreamARN must be provided.");
        return name.map(str::to_owned).ok_or_else(missing);
    };
    let in_arn = arn.rsplit_once(":stream/").map(|(_, name)| name.to_owned());
    let valid = in_arn.filter(|name| *arn == stream_arn(shared, name));
    let in_arn = valid.ok_or_else(|| ServiceError::resource_not_found(format!("Stream {arn:?} not found.")))?;
    if name.is_some_and(|name| name != in_arn) {
        return Err(ServiceError::invalid_argument("StreamName and StreamARN do not name the same stream."));
    }
    Ok(in_arn)
}

pub(super) fn stream_arn(shared: &Shared, name: &str) -> String {
    format!("arn:aws:kinesis:{}:{ACCOUNT}:stream/{name}", shared.region)
}

pub(super) fn stream<'a>(streams: &'a Streams, name: &str) -> Result<&'a Stream, ServiceError> {
    streams.get(name).ok_or_else(|| stream_not_found(name))
}

pub(super) fn stream_mut<'a>(streams: &'a mut Streams, name: &str) -> Result<&'a mut Stream, ServiceError> {
    streams.get_mut(name).ok_or_else(|| stream_not_found(name))
}

/// The stream, if it has shards: while it is being created, nothing can be written or read.
pub(super) fn usable<'a>(streams: &'a mut Streams, name: &str) -> Result<&'a mut Stream, ServiceError> {
    streams.get_mut(name).filter(|stream| !stream.is_creating()).ok_or_else(|| stream_not_found(name))
}

/// The stream, if nothing is changing it.
pub(super) fn active<'a>(streams: &'a Streams, name: &str) -> Result<&'a Stream, ServiceError> {
    let stream = stream(streams, name)?;
    if stream.transition.is_none() { Ok(stream) } else { Err(not_active(stream, name)) }
}

/// What the service says about a stream that is being changed.
pub(super) fn not_active(stream: &Stream, name: &str) -> ServiceError {
    let status = stream.status();
    let message = format!("Stream {name} under account {ACCOUNT} not ACTIVE, instead in state {status}");
    ServiceError::resource_in_use(message)
}

/// The time whose shards a call lists. Long ago for a list that is stale on purpose; else for ever from now, as a shard
/// may have been made before the clock went back.
pub(super) fn shards_as_of_ms(shared: &Shared, operation: &str, now_ms: i64) -> i64 {
    let stale_ms = shared.faults.take_stale_ms(operation);
    stale_ms.map_or(i64::MAX, |ms| now_ms.saturating_sub_unsigned(ms))
}

pub(super) fn stream_not_found(name: &str) -> ServiceError {
    ServiceError::resource_not_found(format!("Stream {name} under account {ACCOUNT} not found."))
}

/// The shard of that id, unless retention has removed it.
pub(super) fn shard<'a>(shared: &Shared, stream: &'a Stream, name: &str, id: &str) -> Result<&'a Shard, ServiceError> {
    let shard = shard_number(id).and_then(|number| stream.shard(number));
    let horizon_ms = stream.horizon_ms(shared.now_ms());
    shard.filter(|shard| !shard.is_expired(horizon_ms)).ok_or_else(|| shard_not_found(name, id))
}

/// The number of the shard that a list begins behind, which may be gone or to come. What is the id of none has none behind
/// it, and a list that began anew instead would never end.
pub(super) fn list_after(name: &str, id: Option<&str>) -> Result<Option<u32>, ServiceError> {
    id.map(|id| shard_number(id).ok_or_else(|| shard_not_found(name, id))).transpose()
}

pub(super) fn shard_not_found(name: &str, id: &str) -> ServiceError {
    let message = format!("Could not find shard {id} in stream {name} under account {ACCOUNT}.");
    ServiceError::resource_not_found(message)
}

/// The shard of that id, if it can still be split or merged.
pub(super) fn open_shard<'a>(
    shared: &Shared,
    stream: &'a Stream,
    name: &str,
    id: &str,
) -> Result<&'a Shard, ServiceError> {
    let shard = shard(shared, stream, name, id)?;
    if shard.closed.is_none() {
        return Ok(shard);
    }
    Err(ServiceError::invalid_argument(format!(
        "Shard {id} in stream {name} under account {ACCOUNT} has already been merged or split, and thus is not \
         eligible for merging or splitting.",
    )))
}
