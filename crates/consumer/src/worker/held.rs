//! The leases that a worker holds, shared by the loop that takes them and the task that renews them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use kinesink_core::ShardId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::coordination::Standing;
use crate::lease::{HeldLease, LeaseError, Term};
use crate::metrics::Metrics;

/// KCL's maxLeaseRenewalThreads.
const RENEWALS_AT_ONCE: usize = 20;
/// How long a machine that woke may go on as if it had not slept; checkpoints and renewals know at once.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);

/// One held lease and the means to end its shard's run.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) lease: Arc<HeldLease>,
    /// Ends the run of this shard alone; cancelled with the worker's.
    pub(super) drain: CancellationToken,
    /// Who gets the lease once the run has ended.
    pub(super) gift: Arc<OnceLock<Gift>>,
}

/// A lease on its way.
#[derive(Debug)]
pub(super) struct Gift {
    pub(super) to: String,
    pub(super) since: Instant,
}

impl Holding {
    /// Drains the shard and gives its lease to `worker`. Once: a lease on its way stays on it.
    pub(super) fn give(&self, worker: &str) -> bool {
        let first = self.gift.set(Gift { to: worker.to_owned(), since: Instant::now() }).is_ok();
        self.drain.cancel();
        first
    }
}

/// Every lease that is held now. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<Mutex<BTreeMap<ShardId, Holding>>>);

impl Held {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Holding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<HeldLease>> {
        self.lock().values().map(|holding| Arc::clone(&holding.lease)).collect()
    }

    pub(super) fn shards(&self) -> BTreeSet<ShardId> {
        self.lock().keys().cloned().collect()
    }

    /// Those that are on their way to another worker, and since when.
    pub(super) fn gifts(&self) -> BTreeMap<ShardId, Instant> {
        let held = self.lock();
        held.iter().filter_map(|(shard, holding)| Some((shard.clone(), holding.gift.get()?.since))).collect()
    }
}

/// Renews every held lease once a `period`. Never ends by itself. Where a leader of KCL 3.x assigns, the throughput of
/// each goes with it.
pub(super) async fn renew_all(
    held: Held,
    period: Duration,
    standing: watch::Receiver<Standing>,
    metrics: Metrics,
) -> Infallible {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut throughputs = BTreeMap::new();
    loop {
        let now = ticks.tick().await;
        let leases = held.all();
        let mut measured = BTreeMap::new();
        if standing.borrow().assigns() {
            for shard in leases.iter().map(|lease| lease.shard()) {
                let before = throughputs.remove(shard);
                measured.insert(shard.clone(), Throughput::next(before, metrics.shard_bytes(shard), now));
            }
        }
        throughputs = measured;
        let kbps =
            |lease: &HeldLease| throughputs.get(lease.shard()).and_then(|throughput: &Throughput| throughput.kbps);
        let renewals = leases.into_iter().map(|lease| (kbps(&lease), lease));
        stream::iter(renewals).for_each_concurrent(RENEWALS_AT_ONCE, |(kbps, lease)| renew(lease, kbps)).await;
    }
}

/// Looks at the clocks, so that a machine that wakes does not believe in its leases. Never ends by itself.
pub(super) async fn watch_clocks(term: Term) -> Infallible {
    let mut ticks = interval(CLOCK_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        term.now();
    }
}

async fn renew(lease: Arc<HeldLease>, kbps: Option<f64>) {
    match lease.renew(kbps).await {
        // One that is not held any more may have been given away since it was its turn: its shard's end says which.
        Ok(()) | Err(LeaseError::Lost) => {}
        Err(LeaseError::Failed(failure)) => {
            warn!(shard = %lease.shard(), %failure, "lease not renewed; trying again");
        }
    }
}

/// A shard's moving average of KB/s, half of it the last measurement, as KCL's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Throughput {
    bytes: u64,
    at: Instant,
    /// None after the first measurement.
    kbps: Option<f64>,
}

impl Throughput {
    /// `bytes` have come so far. A reader that was made anew counts from zero.
    fn next(before: Option<Self>, bytes: u64, at: Instant) -> Self {
        let Some(before) = before else { return Self { bytes, at, kbps: None } };
        let came = bytes.checked_sub(before.bytes).unwrap_or(bytes);
        let seconds = at.saturating_duration_since(before.at).as_secs_f64();
        if seconds == 0.0 {
            return before;
        }
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let now = came as f64 / 1024.0 / seconds;
        Self { bytes, at, kbps: Some(before.kbps.map_or(now, |average| average / 2.0 + now / 2.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_an_average_that_forgets_by_half() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = Throughput::next(None, 1_000, at(0));
        assert_eq!(first.kbps, None, "not known since when these bytes came");
        let second = Throughput::next(Some(first), 1_000 + 4_096, at(2));
        assert_eq!(second.kbps, Some(2.0));
        let third = Throughput::next(Some(second), 1_000 + 4_096, at(3));
        assert_eq!(third.kbps, Some(1.0));
        let anew = Throughput::next(Some(third), 3_072, at(4));
        assert_eq!(anew.kbps, Some(2.0));
    }
}
