//! PutRecord: a PutRecords of one, whose failure is the whole call's.

use serde::{Deserialize, Serialize};

use super::put_records::{Accepts, NewRecord, Outcome, hash_keys, put};
use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::sequence_number::SequenceNumber;
use crate::wire::blob::Blob;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
    dry_run: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    shard_id: String,
    sequence_number: String,
    encryption_type: &'static str,
}

pub(super) fn call(shared: &Shared, request: Request) -> Result<Answer, ServiceError> {
    let new = NewRecord {
        data: request.data,
        partition_key: request.partition_key,
        explicit_hash_key: request.explicit_hash_key,
    };
    let hash_keys = hash_keys(std::slice::from_ref(&new));
    let mut store = shared.store();
    let accepts = Accepts::of(shared, &store.streams, request.stream_name.as_deref(), request.stream_arn.as_deref());
    let mut validation = Validation::default();
    validation
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref());
    new.validate("", accepts, &mut validation);
    validation.finish()?;
    if request.sequence_number_for_ordering.is_some() && !accepts.is_key_required {
        let message = "SequenceNumberForOrdering cannot be provided to a stream that distributes records itself.";
        return Err(ServiceError::invalid_argument(message));
    }
    // Numbers always grow here, whatever number the caller wants to be behind: it only has to be one.
    if let Some(number) = &request.sequence_number_for_ordering
        && number.parse::<SequenceNumber>().is_err()
    {
        let message = format!("SequenceNumberForOrdering {number:?} is not a sequence number of this stream.");
        return Err(ServiceError::invalid_argument(message));
    }
    let stream = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let is_dry_run = request.dry_run == Some(true);
    let outcomes = put(shared, &mut store, &stream, &[new], &hash_keys?, is_dry_run)?;
    match outcomes.into_iter().next() {
        Some(Outcome::Stored { shard_id, sequence_number }) => {
            Ok(Answer { shard_id, sequence_number, encryption_type: "NONE" })
        }
        Some(Outcome::Refused { error_message, .. }) => Err(ServiceError::throughput_exceeded(error_message)),
        None => Err(ServiceError::internal_failure("kinesink local stored no record")),
    }
}
