//! DescribeStreamConsumer.

use serde::Serialize;

use super::consumer_target::{self, ConsumerText};
use super::deregister_stream_consumer::Request;
use super::{ServiceError, target, throttle};
use crate::emulator::Shared;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    consumer_description: Description,
}

#[derive(Debug, Serialize)]
struct Description {
    #[serde(flatten)]
    consumer: ConsumerText,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    let name = request.name(shared)?;
    let mut store = shared.store();
    let stream = target::stream_mut(&mut store.streams, &name.stream)?;
    throttle::stream(shared, stream, &name.stream, "DescribeStreamConsumer")?;
    let consumer = consumer_target::consumer(shared, &store.streams, &name)?;
    let consumer = ConsumerText::new(shared, &name.stream, &name.consumer, consumer);
    let stream_arn = target::stream_arn(shared, &name.stream);
    Ok(Answer { consumer_description: Description { consumer, stream_arn } })
}
