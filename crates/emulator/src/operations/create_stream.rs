//! CreateStream.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::update_max_record_size::RECORD_KIB;
use super::{ServiceError, shard_count, tags};
use crate::emulator::{ACCOUNT, Shared};
use crate::limits::Limit;
use crate::stream::StreamMode;
use crate::stream::event::{Creation, Distribution, Event, Setting};
use crate::wire::validation::Validation;

/// Streams in the state CREATING.
const IN_CREATION_MAX: usize = 5;
/// What the service gives an on-demand stream to begin with.
const ON_DEMAND_SHARDS: u32 = 4;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
    record_distribution_strategy: Option<String>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput_mibps: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamModeDetails {
    pub(super) stream_mode: Option<String>,
}

/// The words for who decides where a record goes.
pub(super) const STRATEGIES: [&str; 2] = ["AUTO", "USER_PARTITION_KEY"];
/// The words for a stream's mode.
pub(super) const MODES: [&str; 2] = ["PROVISIONED", "ON_DEMAND"];

pub(super) fn call(shared: &Shared, request: Request) -> Result<(), ServiceError> {
    let given_mode = request.stream_mode_details.as_ref().and_then(|details| details.stream_mode.as_deref());
    let strategy = request.record_distribution_strategy.as_deref();
    let mut validation = Validation::default();
    validation
        .required("streamName", request.stream_name.as_ref())
        .name("streamName", request.stream_name.as_deref())
        .number("shardCount", request.shard_count, 1..=i64::MAX)
        .one_of("streamModeDetails.streamMode", given_mode, &MODES)
        .number("maxRecordSizeInKiB", request.max_record_size_in_kib, RECORD_KIB)
        .one_of("recordDistributionStrategy", strategy, &STRATEGIES);
    tags::validate(request.tags.as_ref(), &mut validation);
    validation.finish()?;
    refuse_warm_throughput(request.warm_throughput_mibps)?;
    let (mode, shard_count) = mode_and_shards(given_mode == Some("ON_DEMAND"), request.shard_count)?;
    let distribution = match (strategy, mode) {
        (Some("AUTO"), StreamMode::OnDemand) => Some(Distribution::Auto),
        (Some("AUTO"), StreamMode::Provisioned) => return Err(not_on_demand()),
        _ => None,
    };
    let stream = request.stream_name.unwrap_or_default();
    request.tags.as_ref().map_or(Ok(()), |tags| tags::check_new(&stream, tags))?;
    let mut store = shared.store();
    if store.streams.get(&stream).is_some() {
        let message = format!("Stream {stream} under account {ACCOUNT} already exists.");
        return Err(ServiceError::resource_in_use(message));
    }
    shard_count::assert_room(shared, &store.streams, shard_count as usize)?;
    if mode == StreamMode::OnDemand {
        shard_count::assert_room_on_demand(shared, &store.streams)?;
    }
    if shared.limits.has(Limit::StreamsInCreation) && store.streams.creating_count() >= IN_CREATION_MAX {
        let message = format!("At most {IN_CREATION_MAX} streams under account {ACCOUNT} can be in state CREATING.");
        return Err(ServiceError::limit_exceeded(message));
    }
    let kib = request.max_record_size_in_kib.and_then(|kib| u32::try_from(kib).ok());
    let size = kib.map(|kib| Setting::MaxRecordSize { kib });
    let distribution = distribution.map(|strategy| Setting::Distribution { strategy });
    let (at_ms, ms, number) = (shared.now_ms(), shared.transitions_ms, store.streams.next_number());
    let epoch_s_min = store.streams.epoch_s_min();
    store.commit(Event::CreateStream(Creation {
        stream,
        mode,
        shard_count,
        at_ms,
        number,
        settings: size.into_iter().chain(distribution).collect(),
        tags: request.tags.unwrap_or_default(),
        epoch_s_min,
        active_at_ms: (ms > 0).then(|| at_ms.saturating_add(ms)),
    }))
}

fn mode_and_shards(on_demand: bool, count: Option<i64>) -> Result<(StreamMode, u32), ServiceError> {
    match (on_demand, count) {
        (false, Some(count)) => Ok((StreamMode::Provisioned, u32::try_from(count).unwrap_or(u32::MAX))),
        (true, None) => Ok((StreamMode::OnDemand, ON_DEMAND_SHARDS)),
        (false, None) => Err(ServiceError::invalid_argument("ShardCount is required for a provisioned stream.")),
        (true, Some(_)) => Err(ServiceError::invalid_argument("ShardCount cannot be given for an on-demand stream.")),
    }
}

/// Only accounts that have committed to a minimum of throughput may set it, and none has here.
pub(super) fn refuse_warm_throughput(mibps: Option<i64>) -> Result<(), ServiceError> {
    match mibps {
        Some(_) => Err(ServiceError::invalid_argument("kinesink local does not emulate WarmThroughputMiBps")),
        None => Ok(()),
    }
}

/// What is said to who wants records distributed by a stream that cannot.
pub(super) fn not_on_demand() -> ServiceError {
    ServiceError::invalid_argument("RecordDistributionStrategy AUTO is only supported for on-demand streams.")
}
