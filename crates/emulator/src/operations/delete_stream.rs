//! DeleteStream.

use serde::Deserialize;

use super::{ServiceError, target};
use crate::emulator::{ACCOUNT, Shared};
use crate::stream::transition::Change;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    enforce_consumer_deletion: Option<bool>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .finish()?;
    let stream = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let mut store = shared.store();
    let consumers = target::active(&store.streams, &stream)?.consumers.count(shared.now_ms());
    if consumers > 0 && request.enforce_consumer_deletion != Some(true) {
        let message = format!(
            "Stream {stream} under account {ACCOUNT} has registered consumers and EnforceConsumerDeletion is not true."
        );
        return Err(ServiceError::resource_in_use(message));
    }
    shared.begin(&mut store, stream, Change::Delete)
}
