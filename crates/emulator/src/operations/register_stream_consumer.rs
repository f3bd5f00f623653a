//! RegisterStreamConsumer: a consumer that can subscribe to the stream's shards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::consumer_target::ConsumerText;
use super::{ServiceError, tags, target, throttle};
use crate::emulator::{ACCOUNT, Shared};
use crate::limits::Limit;
use crate::stream::Stream;
use crate::stream::consumer::ConsumerStatus;
use crate::stream::event::Event;
use crate::wire::validation::Validation;

/// The service allows 50 with an account setting, On-demand Advantage, which is not emulated.
const CONSUMERS_PER_STREAM_MAX: usize = 20;
const CONSUMERS_IN_CREATION_MAX: usize = 5;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    consumer: ConsumerText,
}

pub(super) fn call(shared: &Shared, request: Request) -> Result<Answer, ServiceError> {
    let new_tags = request.tags.unwrap_or_default();
    let mut validation = Validation::default();
    validation
        .required("streamARN", request.stream_arn.as_ref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("consumerName", request.consumer_name.as_ref())
        .name("consumerName", request.consumer_name.as_deref())
        .length("tags", new_tags.len(), 0..=tags::TAGS_MAX);
    tags::validate_each(&new_tags, &mut validation);
    validation.finish()?;
    let consumer = request.consumer_name.unwrap_or_default();
    let name = target::stream_name(shared, None, request.stream_arn.as_deref())?;
    tags::check_new(&name, &new_tags)?;
    let mut store = shared.store();
    let now_ms = shared.now_ms();
    throttle::stream(shared, target::stream_mut(&mut store.streams, &name)?, &name, "RegisterStreamConsumer")?;
    let stream = target::stream(&store.streams, &name)?;
    if stream.is_creating() || stream.is_deleting() {
        return Err(target::not_active(stream, &name));
    }
    if stream.consumers.get(&consumer, now_ms).is_some() {
        let message = format!("Consumer {consumer} of stream {name} under account {ACCOUNT} already exists.");
        return Err(ServiceError::resource_in_use(message));
    }
    if shared.limits.has(Limit::Consumers) {
        assert_room(stream, now_ms)?;
    }
    let event = Event::RegisterConsumer {
        stream: name.clone(),
        consumer: consumer.clone(),
        tags: new_tags,
        at_ms: now_ms,
        active_at_ms: now_ms.saturating_add(shared.transitions_ms),
    };
    store.commit(event)?;
    let registered = target::stream(&store.streams, &name)?.consumers.get(&consumer, now_ms);
    let registered = registered.ok_or_else(|| ServiceError::internal_failure("the consumer is gone at once"))?;
    let mut consumer = ConsumerText::new(shared, &name, &consumer, registered);
    // The service says so however short the creation is.
    consumer.consumer_status = ConsumerStatus::Creating.text();
    Ok(Answer { consumer })
}

fn assert_room(stream: &Stream, now_ms: i64) -> Result<(), ServiceError> {
    if stream.consumers.count(now_ms) >= CONSUMERS_PER_STREAM_MAX {
        let message = format!("A stream can have at most {CONSUMERS_PER_STREAM_MAX} registered consumers.");
        return Err(ServiceError::limit_exceeded(message));
    }
    let consumers = stream.consumers.after(None, now_ms);
    let creating = consumers.filter(|(_, consumer)| consumer.status(now_ms) == ConsumerStatus::Creating);
    if creating.count() >= CONSUMERS_IN_CREATION_MAX {
        let message = format!("At most {CONSUMERS_IN_CREATION_MAX} consumers can be in the status CREATING at once.");
        return Err(ServiceError::limit_exceeded(message));
    }
    Ok(())
}
