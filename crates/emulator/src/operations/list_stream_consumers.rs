//! ListStreamConsumers: consumers in the order of their names, by pages.

use serde::{Deserialize, Serialize};

use super::consumer_target::ConsumerText;
use super::{ServiceError, page, target, throttle};
use crate::emulator::Shared;
use crate::wire::timestamp::Timestamp;
use crate::wire::token::{self, ConsumersToken, LIFETIME_MS};
use crate::wire::validation::Validation;

const CONSUMERS_PER_PAGE_MAX: usize = 100;
const RESULTS_MAX: i64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    consumers: Vec<ConsumerText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    Validation::default()
        .required("streamARN", request.stream_arn.as_ref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .number("maxResults", request.max_results, 1..=RESULTS_MAX)
        .finish()?;
    let name = target::stream_name(shared, None, request.stream_arn.as_deref())?;
    let limit = page::size(request.max_results, CONSUMERS_PER_PAGE_MAX);
    let now_ms = shared.now_ms();
    let token = request.next_token.as_deref();
    let token = token.map(|text| continued(shared, request, &name, text, now_ms)).transpose()?;
    let mut store = shared.store();
    throttle::stream(shared, target::stream_mut(&mut store.streams, &name)?, &name, "ListStreamConsumers")?;
    let stream = target::stream(&store.streams, &name)?;
    // A stream of that name from another time is another stream.
    let is_other = token.as_ref().is_some_and(|token| token.stream_id != stream.id())
        || request.stream_creation_timestamp.is_some_and(|created| created != Timestamp(stream.created_ms));
    if is_other {
        return Err(target::stream_not_found(&name));
    }
    let mut chosen = stream.consumers.after(token.as_ref().map(|token| &*token.after_consumer), now_ms);
    let page: Vec<_> = chosen.by_ref().take(limit).collect();
    let last = page.last().filter(|_| chosen.next().is_some());
    let next_token = last.map(|(after_consumer, _)| {
        token::encode(&ConsumersToken {
            stream: name.clone(),
            stream_id: stream.id(),
            after_consumer: (*after_consumer).clone(),
            issued_ms: now_ms,
        })
    });
    let describe = |(consumer_name, consumer): (&String, _)| ConsumerText::new(shared, &name, consumer_name, consumer);
    Ok(Answer { consumers: page.into_iter().map(describe).collect(), next_token })
}

/// The place that the token continues at, which must be in the same stream.
fn continued(
    shared: &Shared,
    request: &Request,
    stream: &str,
    text: &str,
    now_ms: i64,
) -> Result<ConsumersToken, ServiceError> {
    if request.stream_creation_timestamp.is_some() {
        let message = "NextToken and StreamCreationTimestamp cannot be provided together.";
        return Err(ServiceError::invalid_argument(message));
    }
    let token: Option<ConsumersToken> = token::decode(text);
    let token = token.filter(|token| token.stream == stream);
    let token = token.ok_or_else(|| ServiceError::invalid_argument("Invalid NextToken."))?;
    if token::is_expired(token.issued_ms, now_ms) || shared.faults.take_expiry("ListStreamConsumers") {
        let message = format!("NextToken expired: it can be used for {LIFETIME_MS} milliseconds.");
        return Err(ServiceError::expired_next_token(message));
    }
    Ok(token)
}
