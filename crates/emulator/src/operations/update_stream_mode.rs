//! UpdateStreamMode: on demand or provisioned. The shards stay as they are.

use serde::Deserialize;

use super::create_stream::{MODES, StreamModeDetails, refuse_warm_throughput};
use super::{ServiceError, shard_count, target};
use crate::emulator::Shared;
use crate::stream::StreamMode;
use crate::stream::transition::Change;
use crate::wire::validation::Validation;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    stream_mode_details: Option<StreamModeDetails>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: Option<i64>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    let given = request.stream_mode_details.as_ref().and_then(|details| details.stream_mode.as_deref());
    Validation::default()
        .required("streamARN", request.stream_arn.as_ref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("streamModeDetails", request.stream_mode_details.as_ref())
        .required("streamModeDetails.streamMode", given.as_ref())
        .one_of("streamModeDetails.streamMode", given, &MODES)
        .finish()?;
    refuse_warm_throughput(request.warm_throughput_mibps)?;
    let name = target::stream_name(shared, None, request.stream_arn.as_deref())?;
    let mode = if given == Some("ON_DEMAND") { StreamMode::OnDemand } else { StreamMode::Provisioned };
    let mut store = shared.store();
    if target::active(&store.streams, &name)?.mode == mode {
        return Ok(());
    }
    if mode == StreamMode::OnDemand {
        shard_count::assert_room_on_demand(shared, &store.streams)?;
    }
    shared.begin(&mut store, name, Change::SetMode { mode })
}
