//! The consumer that a request is about, and what replies say of one.

use serde::Serialize;

use super::{ServiceError, target};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::Streams;
use crate::stream::consumer::Consumer;
use crate::wire::timestamp::Timestamp;

/// A consumer as requests name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConsumerName {
    pub(super) stream: String,
    pub(super) consumer: String,
    /// The seconds in the ARN, which tell a consumer from a later one of the same name.
    created_s: Option<i64>,
}

/// What replies say of a consumer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConsumerText {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    pub(super) consumer_status: &'static str,
    consumer_creation_timestamp: Timestamp,
}

impl ConsumerText {
    pub(super) fn new(shared: &Shared, stream: &str, name: &str, consumer: &Consumer) -> Self {
        Self {
            consumer_name: name.to_owned(),
            consumer_arn: consumer_arn(shared, stream, name, consumer.created_ms),
            consumer_status: consumer.status(shared.now_ms()).text(),
            consumer_creation_timestamp: Timestamp(consumer.created_ms),
        }
    }
}

pub(super) fn consumer_arn(shared: &Shared, stream: &str, name: &str, created_ms: i64) -> String {
    format!("{}/consumer/{name}:{}", target::stream_arn(shared, stream), created_ms.div_euclid(1000))
}

/// The consumer that a request gives by its ARN, or by its name and its stream's ARN.
pub(super) fn consumer_name(
    shared: &Shared,
    stream_arn: Option<&str>,
    name: Option<&str>,
    consumer_arn: Option<&str>,
) -> Result<ConsumerName, ServiceError> {
    let by_name = match (stream_arn, name) {
        (Some(arn), Some(name)) => {
            let stream = target::stream_name(shared, None, Some(arn))?;
            Some(ConsumerName { stream, consumer: name.to_owned(), created_s: None })
        }
        _ => None,
    };
    let by_arn = consumer_arn.map(|arn| from_arn(shared, arn)).transpose()?;
    match (by_name, by_arn) {
        (Some(by_name), Some(by_arn)) if (&by_name.stream, &by_name.consumer) != (&by_arn.stream, &by_arn.consumer) => {
            let message = "ConsumerARN does not name the same consumer as StreamARN and ConsumerName.";
            Err(ServiceError::invalid_argument(message))
        }
        (_, Some(name)) | (Some(name), None) => Ok(name),
        (None, None) => {
            let message = "Either ConsumerARN or both StreamARN and ConsumerName must be provided.";
            Err(ServiceError::invalid_argument(message))
        }
    }
}

fn from_arn(shared: &Shared, arn: &str) -> Result<ConsumerName, ServiceError> {
    let parts = arn.split_once("/consumer/").and_then(|(stream_arn, rest)| {
        let (consumer, created_s) = rest.rsplit_once(':')?;
        Some((stream_arn, consumer.to_owned(), created_s.parse().ok()?))
    });
    let (stream_arn, consumer, created_s) =
        parts.ok_or_else(|| ServiceError::resource_not_found(format!("Consumer {arn} not found.")))?;
    let stream = target::stream_name(shared, None, Some(stream_arn))?;
    Ok(ConsumerName { stream, consumer, created_s: Some(created_s) })
}

/// The consumer of that name, while it exists.
pub(super) fn consumer<'a>(
    shared: &Shared,
    streams: &'a Streams,
    name: &ConsumerName,
) -> Result<&'a Consumer, ServiceError> {
    let stream = target::stream(streams, &name.stream)?;
    let consumer = stream.consumers.get(&name.consumer, shared.now_ms());
    let is_meant =
        |consumer: &&Consumer| name.created_s.is_none_or(|created_s| created_s == consumer.created_ms.div_euclid(1000));
    consumer.filter(is_meant).ok_or_else(|| {
        let (stream, consumer) = (&name.stream, &name.consumer);
        let message = format!("Consumer {consumer} of stream {stream} under account {ACCOUNT} not found.");
        ServiceError::resource_not_found(message)
    })
}
