//! DescribeStreamSummary: the stream without its shards.

use serde::{Deserialize, Serialize};

use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::event::Distribution;
use crate::stream::{Stream, StreamMode};
use crate::wire::timestamp::Timestamp;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    stream_description_summary: Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    #[serde(flatten)]
    common: Common,
    open_shard_count: usize,
    consumer_count: usize,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: u32,
    /// Only a stream on demand has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    record_distribution_strategy: Option<Distribution>,
}

/// What every description of a stream says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Common {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: ModeDetails,
    retention_period_hours: u32,
    stream_creation_timestamp: Timestamp,
    enhanced_monitoring: [Monitoring; 1],
    encryption_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ModeDetails {
    pub(super) stream_mode: StreamMode,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Monitoring {
    shard_level_metrics: [&'static str; 0],
}

impl Common {
    pub(super) fn new(shared: &Shared, name: &str, stream: &Stream) -> Self {
        Self {
            stream_name: name.to_owned(),
            stream_arn: target::stream_arn(shared, name),
            stream_status: stream.status(),
            stream_mode_details: ModeDetails { stream_mode: stream.mode },
            retention_period_hours: stream.retention_hours,
            stream_creation_timestamp: Timestamp(stream.created_ms),
            enhanced_monitoring: [Monitoring { shard_level_metrics: [] }],
            encryption_type: "NONE",
        }
    }
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<Answer, ServiceError> {
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .finish()?;
    let name = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let store = shared.store();
    let stream = target::stream(&store.streams, &name)?;
    let summary = Summary {
        common: Common::new(shared, &name, stream),
        open_shard_count: if stream.is_creating() { 0 } else { stream.open_shard_count() },
        consumer_count: stream.consumers.count(shared.now_ms()),
        max_record_size_in_kib: stream.record_kib_max,
        record_distribution_strategy: (stream.mode == StreamMode::OnDemand).then_some(stream.distribution),
    };
    Ok(Answer { stream_description_summary: summary })
}
