//! How many shards and streams there may be.

use super::ServiceError;
use crate::emulator::{ACCOUNT, Shared};
use crate::limits::Limit;
use crate::stream::{OPEN_SHARDS_MAX, StreamMode, Streams};

/// Shards of one stream.
pub(super) const PER_STREAM_MAX: u32 = 10_000;
/// The service's default in its largest regions.
const QUOTA: usize = 20_000;
const ON_DEMAND_QUOTA: usize = 50;

/// Open shards that all streams together may have.
pub(super) fn quota(shared: &Shared) -> usize {
    if shared.limits.has(Limit::Shards) { QUOTA } else { OPEN_SHARDS_MAX as usize }
}

/// Streams that may be on demand.
pub(super) fn on_demand_quota(shared: &Shared) -> usize {
    if shared.limits.has(Limit::OnDemandStreams) { ON_DEMAND_QUOTA } else { OPEN_SHARDS_MAX as usize }
}

pub(super) fn on_demand_streams(streams: &Streams) -> usize {
    streams.after(None).filter(|(_, stream)| stream.mode == StreamMode::OnDemand).count()
}

/// Refuses more open shards than there may be.
pub(super) fn assert_room(shared: &Shared, streams: &Streams, more: usize) -> Result<(), ServiceError> {
    let (open, quota) = (streams.open_shard_count(), quota(shared));
    if open.saturating_add(more) <= quota {
        return Ok(());
    }
    Err(ServiceError::limit_exceeded(format!(
        "This request would exceed the shard limit for the account {ACCOUNT} in {}. Current shard count for the \
         account: {open}. Limit: {quota}. Number of additional shards that would have resulted from this request: {more}.",
        shared.region
    )))
}

/// Refuses one more stream on demand than there may be.
pub(super) fn assert_room_on_demand(shared: &Shared, streams: &Streams) -> Result<(), ServiceError> {
    let quota = on_demand_quota(shared);
    if on_demand_streams(streams) < quota {
        return Ok(());
    }
    let message =
        format!("This request would exceed the limit of {quota} on-demand streams for the account {ACCOUNT}.");
    Err(ServiceError::limit_exceeded(message))
}
