//! UpdateStreamRecordDistributionStrategy: whether records go where their keys say, or anywhere.

use serde::Deserialize;

use super::{ServiceError, create_stream, target};
use crate::emulator::Shared;
use crate::stream::StreamMode;
use crate::stream::event::{Distribution, Event, Setting};
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    record_distribution_strategy: Option<String>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    let given = request.record_distribution_strategy.as_deref();
    Validation::default()
        .required("streamARN", request.stream_arn.as_ref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("recordDistributionStrategy", given.as_ref())
        .one_of("recordDistributionStrategy", given, &create_stream::STRATEGIES)
        .finish()?;
    let stream = target::stream_name(shared, None, request.stream_arn.as_deref())?;
    let strategy = if given == Some("AUTO") { Distribution::Auto } else { Distribution::UserPartitionKey };
    let mut store = shared.store();
    if target::active(&store.streams, &stream)?.mode == StreamMode::Provisioned && strategy == Distribution::Auto {
        return Err(create_stream::not_on_demand());
    }
    store.commit(Event::Set { stream, setting: Setting::Distribution { strategy } })
}
