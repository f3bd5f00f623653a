//! SubscribeToShard: the checks before a [`Subscription`] is open.

use std::sync::Arc;

use serde::Deserialize;

use super::consumer_target::{self, ConsumerName};
use super::position::{self, Position};
use super::{ServiceError, target, throttle};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::claims::Refused;
use crate::stream::consumer::ConsumerStatus;
use crate::subscription::{Subscribed, Subscription};
use crate::wire::encoding::Encoding;
use crate::wire::timestamp::Timestamp;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
    dry_run: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: Option<String>,
    sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}

impl Request {
    fn validate(&self) -> Result<(), ServiceError> {
        let kind = self.starting_position.as_ref().and_then(|position| position.r#type.as_ref());
        let mut validation = Validation::default();
        validation
            .required("consumerARN", self.consumer_arn.as_ref())
            .consumer_arn("consumerARN", self.consumer_arn.as_deref())
            .required("shardId", self.shard_id.as_ref())
            .name("shardId", self.shard_id.as_deref())
            .required("startingPosition", self.starting_position.as_ref());
        if self.starting_position.is_some() {
            validation.required("startingPosition.type", kind).one_of(
                "startingPosition.type",
                kind.map(String::as_str),
                &position::TYPES,
            );
        }
        validation.finish()
    }
}

pub(super) fn call(shared: &Arc<Shared>, encoding: Encoding, request: &Request) -> Result<Subscription, ServiceError> {
    request.validate()?;
    let name = consumer_target::consumer_name(shared, None, None, request.consumer_arn.as_deref())?;
    let shard_id = request.shard_id.as_deref().unwrap_or_default();
    let mut store = shared.store();
    let now_ms = shared.now_ms();
    let consumer = consumer_target::consumer(shared, &store.streams, &name)?;
    let consumer_created_ms = consumer.created_ms;
    if consumer.status(now_ms) != ConsumerStatus::Active {
        let (consumer, status) = (&name.consumer, consumer.status(now_ms).text());
        return Err(ServiceError::resource_in_use(format!("Consumer {consumer} is not ACTIVE but {status}.")));
    }
    let stream = target::stream(&store.streams, &name.stream)?;
    let shard = target::shard(shared, stream, &name.stream, shard_id)?;
    let position = request.starting_position.as_ref();
    let position = Position {
        kind: position.and_then(|position| position.r#type.as_deref()).unwrap_or_default(),
        sequence_number: position.and_then(|position| position.sequence_number.as_deref()),
        timestamp: position.and_then(|position| position.timestamp),
        operation: "SubscribeToShard",
    };
    let index = position.index(shard, now_ms);
    let subscribed = index.map(|index| Subscribed {
        stream: name.stream.clone(),
        stream_id: stream.id(),
        consumer: name.consumer.clone(),
        consumer_created_ms,
        shard: shard.number,
        index,
        continuation: shard.sequence_number(index.saturating_sub(1), now_ms),
    });
    let number = shard.number;
    let stream = store.streams.get_mut(&name.stream).ok_or_else(|| target::stream_not_found(&name.stream))?;
    let gone = || ServiceError::internal_failure("the consumer or the shard is gone");
    let claims = stream.consumers.claims(&name.consumer).ok_or_else(gone)?;
    let refused = |reason| refusal(reason, &name, shard_id);
    if request.dry_run == Some(true) {
        subscribed?;
        claims.check(number, shared.limits, now_ms).map_err(refused)?;
        return Err(throttle::dry_run(shared, stream, &name.stream));
    }
    claims.try_call(number, shared.limits, now_ms).map_err(refused)?;
    let subscribed = subscribed?;
    let claim = claims.take(number, shared.limits, now_ms).map_err(refused)?;
    let news = stream.shard_mut(number).ok_or_else(gone)?.news();
    Subscription::new(Arc::clone(shared), encoding, subscribed, news, claim)
}

fn refusal(reason: Refused, name: &ConsumerName, shard_id: &str) -> ServiceError {
    let ConsumerName { stream, consumer, .. } = name;
    match reason {
        Refused::TooManyCalls => ServiceError::limit_exceeded(format!(
            "Rate exceeded for SubscribeToShard of consumer {consumer} to shard {shard_id} in stream {stream}."
        )),
        Refused::InUse => ServiceError::resource_in_use(format!(
            "Another active subscription exists for this consumer: {ACCOUNT}:{stream}:{shard_id}:{consumer}"
        )),
    }
}
