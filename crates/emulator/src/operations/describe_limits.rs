//! DescribeLimits: the emulator's own limits.

use serde::Serialize;

use super::shard_count;
use crate::emulator::Shared;

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
    Answer {
        shard_limit: shard_count::quota(shared),
        open_shard_count: store.streams.open_shard_count(),
        on_demand_stream_count: shard_count::on_demand_streams(&store.streams),
        on_demand_stream_count_limit: shard_count::on_demand_quota(shared),
    }
}
