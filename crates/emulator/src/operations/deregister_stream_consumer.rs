//! DeregisterStreamConsumer. The consumer's subscriptions end at once, also while it is still `DELETING`.

use serde::Deserialize;

use super::{ServiceError, consumer_target, target, throttle};
use crate::emulator::Shared;
use crate::stream::consumer::ConsumerStatus;
use crate::stream::event::Event;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: Option<String>,
    pub(super) consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    pub(super) consumer_arn: Option<String>,
}

impl Request {
    /// The consumer that the request names.
    pub(super) fn name(&self, shared: &Shared) -> Result<consumer_target::ConsumerName, ServiceError> {
        let (stream_arn, consumer_arn) = (self.stream_arn.as_deref(), self.consumer_arn.as_deref());
        Validation::default()
            .stream_arn("streamARN", stream_arn)
            .name("consumerName", self.consumer_name.as_deref())
            .consumer_arn("consumerARN", consumer_arn)
            .finish()?;
        consumer_target::consumer_name(shared, stream_arn, self.consumer_name.as_deref(), consumer_arn)
    }
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    let name = request.name(shared)?;
    let mut store = shared.store();
    let now_ms = shared.now_ms();
    let stream = target::stream_mut(&mut store.streams, &name.stream)?;
    throttle::stream(shared, stream, &name.stream, "DeregisterStreamConsumer")?;
    let consumer = consumer_target::consumer(shared, &store.streams, &name)?;
    if consumer.status(now_ms) == ConsumerStatus::Deleting {
        let message = format!("Consumer {} of stream {} is being deleted.", name.consumer, name.stream);
        return Err(ServiceError::resource_in_use(message));
    }
    let gone_at_ms = now_ms.saturating_add(shared.transitions_ms);
    store.commit(Event::DeregisterConsumer { stream: name.stream, consumer: name.consumer, gone_at_ms })
}
