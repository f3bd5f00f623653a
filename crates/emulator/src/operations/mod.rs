//! The operations, a file each. A file holds the request, the checks, and the reply; what changes is an
//! [`Event`](crate::stream::event::Event) that it commits.

mod create_stream;
mod decrease_stream_retention_period;
mod delete_stream;
mod describe_limits;
mod describe_stream;
mod describe_stream_summary;
mod get_records;
mod get_shard_iterator;
mod increase_stream_retention_period;
mod list_shards;
mod list_streams;
mod merge_shards;
mod put_record;
mod put_records;
mod split_shard;
mod target;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::emulator::Shared;
use crate::wire::payload::Payload;
use crate::wire::service_error::ServiceError;

type Reply = Result<Payload, ServiceError>;

/// Calls the operation of that name.
pub(crate) fn call(shared: &Shared, operation: &str, body: &[u8]) -> Reply {
    match operation {
        "CreateStream" => create_stream::call(shared, parse(body)?),
        "DecreaseStreamRetentionPeriod" => decrease_stream_retention_period::call(shared, &parse(body)?),
        "DeleteStream" => delete_stream::call(shared, &parse(body)?),
        "DescribeLimits" => describe_limits::call(shared),
        "DescribeStream" => describe_stream::call(shared, &parse(body)?),
        "DescribeStreamSummary" => describe_stream_summary::call(shared, &parse(body)?),
        "GetRecords" => get_records::call(shared, &parse(body)?),
        "GetShardIterator" => get_shard_iterator::call(shared, &parse(body)?),
        "IncreaseStreamRetentionPeriod" => increase_stream_retention_period::call(shared, &parse(body)?),
        "ListShards" => list_shards::call(shared, &parse(body)?),
        "ListStreams" => list_streams::call(shared, &parse(body)?),
        "MergeShards" => merge_shards::call(shared, &parse(body)?),
        "PutRecord" => put_record::call(shared, parse(body)?),
        "PutRecords" => put_records::call(shared, parse(body)?),
        "SplitShard" => split_shard::call(shared, &parse(body)?),
        other => {
            let name: String = other.chars().take(128).collect();
            Err(ServiceError::unknown_operation(format!("kinesink local does not emulate {name}")))
        }
    }
}

fn parse<Q: DeserializeOwned>(body: &[u8]) -> Result<Q, ServiceError> {
    // Serde also takes an array for a struct; the service does not.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ServiceError::serialization("the request is not a JSON object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::serialization(format!("the request is not valid: {error}")))
}

/// A reply with these members.
fn json(reply: &impl Serialize) -> Reply {
    Ok(Payload::from(to_vec(reply)?))
}

fn to_vec(reply: &impl Serialize) -> Result<Vec<u8>, ServiceError> {
    let failed = |error| ServiceError::internal_failure(format!("the reply cannot be written: {error}"));
    serde_json::to_vec(reply).map_err(failed)
}

/// The reply of an operation that has nothing to say.
fn nothing() -> Reply {
    Ok(Payload::default())
}

/// A moment as replies write it: seconds since 1970, with milliseconds.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this era need 41 of the 53 bits")]
fn timestamp(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A moment as requests write it, to the millisecond.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and no stream is that old")]
fn milliseconds(timestamp: f64) -> i64 {
    (timestamp * 1000.0).round() as i64
}
