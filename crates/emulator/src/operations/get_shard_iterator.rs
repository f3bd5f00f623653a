//! GetShardIterator: where in a shard to begin.

use serde::{Deserialize, Serialize};

use super::position::{self, Position};
use super::{ServiceError, target, throttle};
use crate::emulator::Shared;
use crate::wire::timestamp::Timestamp;
use crate::wire::token::{self, ShardIterator};
use crate::wire::validation::Validation;

/// As the service's constraint has it; its numbers are shorter.
const SEQUENCE_NUMBER_DIGITS_MAX: usize = 129;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
    dry_run: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    shard_iterator: String,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let kind = request.shard_iterator_type.as_deref();
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("shardId", request.shard_id.as_ref())
        .name("shardId", request.shard_id.as_deref())
        .required("shardIteratorType", request.shard_iterator_type.as_ref())
        .one_of("shardIteratorType", kind, &position::TYPES)
        .digits("startingSequenceNumber", request.starting_sequence_number.as_deref(), SEQUENCE_NUMBER_DIGITS_MAX)
        .finish()?;
    if matches!(kind, Some("LATEST" | "TRIM_HORIZON")) && request.starting_sequence_number.is_some() {
        let message = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER ShardIteratorType and \
                       provide StartingSequenceNumber; or (2) TRIM_HORIZON or LATEST ShardIteratorType and no \
                       StartingSequenceNumber.";
        return Err(ServiceError::invalid_argument(message));
    }
    let (kind, shard_id) = (kind.unwrap_or_default(), request.shard_id.as_deref().unwrap_or_default());
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let mut store = shared.store();
    let now_ms = shared.now_ms();
    let stream = target::usable(&mut store.streams, &name)?;
    let stream_id = stream.id();
    let number = target::shard(shared, stream, &name, shard_id)?.number;
    let is_dry_run = request.dry_run == Some(true);
    let shard = stream.shard_mut(number).ok_or_else(|| target::shard_not_found(&name, shard_id))?;
    if !is_dry_run && !shard.rates.try_iterator(shared.limits, now_ms) {
        return Err(ServiceError::throughput_exceeded(throttle::shard_exceeded(&name, shard_id)));
    }
    let position = Position {
        kind,
        sequence_number: request.starting_sequence_number.as_deref(),
        timestamp: request.timestamp,
        operation: "GetShardIterator",
    };
    let index = position.index(shard, now_ms)?;
    if is_dry_run {
        return Err(throttle::dry_run(shared, stream, &name));
    }
    let iterator = ShardIterator { stream: name, stream_id, shard: number, index, issued_ms: now_ms };
    Ok(Answer { shard_iterator: token::encode(&iterator) })
}
