//! DescribeLimits: the emulator's own limits.

use serde::Serialize;

use super::create_stream;
use crate::emulator::Shared;
use crate::stream::StreamMode;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    shard_limit: usize,
    open_shard_count: usize,
    on_demand_stream_count: usize,
    on_demand_stream_count_limit: usize,
}

pub(super) fn call(shared: &Shared) -> Answer {
    let store = shared.store();
    let on_demand = store.streams.after(None).filter(|(_, stream)| stream.mode == StreamMode::OnDemand);
    Answer {
        shard_limit: create_stream::SHARDS_MAX,
        open_shard_count: store.streams.open_shard_count(),
        on_demand_stream_count: on_demand.count(),
        on_demand_stream_count_limit: create_stream::SHARDS_MAX,
    }
}
