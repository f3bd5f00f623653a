//! The leases that a worker holds, shared by the loop that takes them and the task that renews them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use kinesink_core::ShardId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::lease::{HeldLease, LeaseError};

/// KCL's maxLeaseRenewalThreads.
const RENEWALS_AT_ONCE: usize = 20;

/// One held lease and the means to end its shard's run.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) lease: Arc<HeldLease>,
    /// Ends the run of this shard alone; cancelled with the worker's.
    pub(super) drain: CancellationToken,
    /// Who gets the lease once the run has ended.
    pub(super) next_owner: Arc<OnceLock<String>>,
}

impl Holding {
    /// Drains the shard and gives its lease to `worker`. Once: a lease on its way stays on it.
    pub(super) fn give(&self, worker: &str) -> bool {
        let first = self.next_owner.set(worker.to_owned()).is_ok();
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

    /// Those that are on their way to another worker.
    pub(super) fn giving(&self) -> BTreeSet<ShardId> {
        let held = self.lock();
        let giving = held.iter().filter(|(_, holding)| holding.next_owner.get().is_some());
        giving.map(|(shard, _)| shard.clone()).collect()
    }
}

/// Renews every held lease once a `period`. Never ends by itself.
pub(super) async fn renew_all(held: Held, period: Duration) -> Infallible {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stream::iter(held.all()).for_each_concurrent(RENEWALS_AT_ONCE, renew).await;
    }
}

async fn renew(lease: Arc<HeldLease>) {
    match lease.renew().await {
        Ok(()) => {}
        Err(LeaseError::Lost) => warn!(shard = %lease.shard(), "lease lost"),
        Err(LeaseError::Failed(failure)) => {
            warn!(shard = %lease.shard(), %failure, "lease not renewed; trying again");
        }
    }
}
