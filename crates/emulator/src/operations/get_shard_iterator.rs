//! GetShardIterator: where in a shard to begin.

use serde::{Deserialize, Serialize};

use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::shard::Shard;
use crate::wire::timestamp::Timestamp;
use crate::wire::token::{self, ShardIterator};
use crate::wire::validation::Validation;

const TYPES: [&str; 5] = ["AFTER_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER", "AT_TIMESTAMP", "LATEST", "TRIM_HORIZON"];

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
        .required("shardId", request.shard_id.as_ref())
        .name("shardId", request.shard_id.as_deref())
        .required("shardIteratorType", request.shard_iterator_type.as_ref())
        .one_of("shardIteratorType", kind, &TYPES)
        .finish()?;
    let (kind, shard_id) = (kind.unwrap_or_default(), request.shard_id.as_deref().unwrap_or_default());
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let store = shared.store();
    let now_ms = shared.now_ms();
    let stream = target::stream(&store.streams, &name)?;
    let shard = target::shard(shared, stream, &name, shard_id)?;
    let index = match kind {
        "AT_SEQUENCE_NUMBER" => known_index(request, shard)?,
        "AFTER_SEQUENCE_NUMBER" => known_index(request, shard)?.saturating_add(1),
        "AT_TIMESTAMP" => shard.index_at_time(time(request, now_ms)?),
        "LATEST" => shard.latest_index(),
        _ => 0,
    };
    let iterator = ShardIterator {
        stream: name,
        stream_created_ms: stream.created_ms,
        shard: shard.number,
        index,
        issued_ms: now_ms,
    };
    Ok(Answer { shard_iterator: token::encode(&iterator) })
}

/// The index of a sequence number, which the shard must have given out.
fn known_index(request: &Request, shard: &Shard) -> Result<u64, ServiceError> {
    let Some(text) = &request.starting_sequence_number else {
        let message = "StartingSequenceNumber is required for AT_SEQUENCE_NUMBER and AFTER_SEQUENCE_NUMBER.";
        return Err(ServiceError::invalid_argument(message));
    };
    let known = text.parse().ok().filter(|number| shard.knows(*number));
    known.map(|number| number.index).ok_or_else(|| {
        ServiceError::invalid_argument(format!(
            "StartingSequenceNumber {text} used in GetShardIterator on shard {} is invalid because it did not come \
             from this shard.",
            shard.id()
        ))
    })
}

fn time(request: &Request, now_ms: i64) -> Result<i64, ServiceError> {
    let Some(Timestamp(at_ms)) = request.timestamp else {
        return Err(ServiceError::invalid_argument("Timestamp is required for AT_TIMESTAMP."));
    };
    if at_ms > now_ms {
        return Err(ServiceError::invalid_argument(format!(
            "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: \
             {at_ms}, currentTimestampInMillis: {now_ms}"
        )));
    }
    Ok(at_ms)
}
