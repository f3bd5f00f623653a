//! ListStreams: names in order, by pages.

use serde::{Deserialize, Serialize};

use super::describe_stream_summary::ModeDetails;
use super::{ServiceError, page, target};
use crate::emulator::Shared;
use crate::wire::timestamp::Timestamp;
use crate::wire::token::{self, LIFETIME_MS, StreamsToken};
use crate::wire::validation::Validation;

const STREAMS_PER_PAGE_MAX: usize = 100;
const LIMIT_MAX: i64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    limit: Option<i64>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    stream_names: Vec<String>,
    stream_summaries: Vec<StreamSummary>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamSummary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    stream_creation_timestamp: Timestamp,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    Validation::default()
        .number("limit", request.limit, 1..=LIMIT_MAX)
        .name("exclusiveStartStreamName", request.exclusive_start_stream_name.as_deref())
        .finish()?;
    let now_ms = shared.now_ms();
    let after = match &request.next_token {
        Some(text) => Some(continued(shared, text, now_ms)?),
        None => request.exclusive_start_stream_name.clone(),
    };
    let limit = page::size(request.limit, STREAMS_PER_PAGE_MAX);
    let store = shared.store();
    let mut streams = store.streams.after(after.as_deref());
    let summaries = streams.by_ref().take(limit).map(|(name, stream)| StreamSummary {
        stream_name: name.clone(),
        stream_arn: target::stream_arn(shared, name),
        stream_status: stream.status(),
        stream_mode_details: ModeDetails { stream_mode: stream.mode },
        stream_creation_timestamp: Timestamp(stream.created_ms),
    });
    let stream_summaries: Vec<_> = summaries.collect();
    let has_more_streams = streams.next().is_some();
    let stream_names: Vec<_> = stream_summaries.iter().map(|summary| summary.stream_name.clone()).collect();
    let last = stream_names.last().filter(|_| has_more_streams).cloned();
    let next_token = last.map(|after_stream| token::encode(&StreamsToken { after_stream, issued_ms: now_ms }));
    Ok(Answer { stream_names, stream_summaries, has_more_streams, next_token })
}

/// The name that the token continues after.
fn continued(shared: &Shared, text: &str, now_ms: i64) -> Result<String, ServiceError> {
    let token: Option<StreamsToken> = token::decode(text);
    let token = token.ok_or_else(|| ServiceError::invalid_argument("Invalid NextToken."))?;
    if token::is_expired(token.issued_ms, now_ms) || shared.faults.take_expiry("ListStreams") {
        let message = format!("NextToken expired: it can be used for {LIFETIME_MS} milliseconds.");
        return Err(ServiceError::expired_next_token(message));
    }
    Ok(token.after_stream)
}
