//! What each shard is doing, for a health page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kinesink_core::ShardId;
use tokio::time::Instant;

/// What one shard is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardStatus {
    /// It moves, or has nothing to do.
    Running {
        /// When it last read, closed or committed something.
        last_progress: Instant,
        /// Whether it holds records that are not checkpointed.
        busy: bool,
    },
    /// It retries something that should pass by itself.
    Paused {
        /// Since when.
        since: Instant,
        /// The failure, and what was attempted.
        why: String,
    },
    /// It waits for someone to mend something.
    Halted {
        /// The failure, and what to do.
        reason: String,
    },
    /// It holds records and has not moved for longer than the limit.
    Stuck {
        /// When it last moved.
        last_progress: Instant,
    },
}

/// Every shard's status at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// By shard.
    pub shards: BTreeMap<ShardId, ShardStatus>,
}

impl HealthReport {
    /// Whether no shard is halted or stuck. A paused shard is healthy: it needs nobody.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.shards.values().any(|status| matches!(status, ShardStatus::Halted { .. } | ShardStatus::Stuck { .. }))
    }

    /// Whether there are shards and every one of them is halted.
    #[must_use]
    pub fn all_halted(&self) -> bool {
        !self.shards.is_empty() && self.shards.values().all(|status| matches!(status, ShardStatus::Halted { .. }))
    }
}

/// The status of every shard that runs here. Cheap to clone; clones are one value.
///
/// A shard appears when its pipeline starts and leaves when it ends, except one that was drained while it was
/// halted: it stays, so that the end of the process can say so.
#[derive(Debug, Clone)]
pub struct Health {
    stuck_after: Duration,
    shards: Shards,
}

type Shards = Arc<Mutex<BTreeMap<ShardId, ShardStatus>>>;

impl Default for Health {
    fn default() -> Self {
        Self::new(Duration::from_secs(300))
    }
}

impl Health {
    /// No shards yet. `stuck_after` must be longer than a window's age and a sink's slowest answer.
    #[must_use]
    pub fn new(stuck_after: Duration) -> Self {
        Self { stuck_after, shards: Arc::default() }
    }

    /// Every shard's status, with the ones that hold records and have not moved for too long as
    /// [`Stuck`](ShardStatus::Stuck).
    #[must_use]
    pub fn report(&self, now: Instant) -> HealthReport {
        let mut shards = lock(&self.shards).clone();
        for status in shards.values_mut() {
            if let ShardStatus::Running { last_progress, busy: true } = *status
                && now.saturating_duration_since(last_progress) > self.stuck_after
            {
                *status = ShardStatus::Stuck { last_progress };
            }
        }
        HealthReport { shards }
    }

    /// The handle through which one running shard reports.
    pub(crate) fn shard(&self, shard: ShardId) -> ShardHealth {
        let health = ShardHealth { shard, shards: Arc::clone(&self.shards), left: AtomicBool::new(false) };
        health.running(false);
        health
    }
}

/// Reports one shard; dropping it removes the shard, unless it was left.
#[derive(Debug)]
pub(crate) struct ShardHealth {
    shard: ShardId,
    shards: Shards,
    left: AtomicBool,
}

impl ShardHealth {
    /// It moved. A pause or a halt ends only with [`running`](Self::running).
    pub(crate) fn progress(&self, now_busy: bool) {
        if let Some(ShardStatus::Running { last_progress, busy }) = lock(&self.shards).get_mut(&self.shard) {
            (*last_progress, *busy) = (Instant::now(), now_busy);
        }
    }

    pub(crate) fn running(&self, busy: bool) {
        self.set(ShardStatus::Running { last_progress: Instant::now(), busy });
    }

    pub(crate) fn paused(&self, since: Instant, why: &str) {
        self.set(ShardStatus::Paused { since, why: why.into() });
    }

    pub(crate) fn halted(&self, reason: &str) {
        self.set(ShardStatus::Halted { reason: reason.into() });
    }

    /// Leaves the shard in the report as it is now, when the handle goes.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    fn set(&self, status: ShardStatus) {
        lock(&self.shards).insert(self.shard.clone(), status);
    }
}

impl Drop for ShardHealth {
    fn drop(&mut self) {
        if !self.left.load(Ordering::Relaxed) {
            lock(&self.shards).remove(&self.shard);
        }
    }
}

fn lock(shards: &Shards) -> MutexGuard<'_, BTreeMap<ShardId, ShardStatus>> {
    shards.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ShardId {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_shard_that_holds_records_can_be_stuck() {
        let health = Health::new(Duration::from_secs(10));
        let (idle, busy) = (health.shard(id("idle")), health.shard(id("busy")));
        idle.progress(false);
        busy.progress(true);
        tokio::time::advance(Duration::from_secs(11)).await;
        let report = health.report(Instant::now());
        assert!(matches!(report.shards[&id("idle")], ShardStatus::Running { .. }), "{report:?}");
        assert!(matches!(report.shards[&id("busy")], ShardStatus::Stuck { .. }), "{report:?}");
        assert!(!report.is_healthy());
        busy.progress(true);
        assert!(health.report(Instant::now()).is_healthy());
    }

    #[tokio::test(start_paused = true)]
    async fn a_halt_outlives_progress_and_only_a_left_shard_outlives_its_handle() {
        let health = Health::default();
        let (left, gone) = (health.shard(id("left")), health.shard(id("gone")));
        left.halted("no permission");
        left.progress(true);
        gone.halted("no permission");
        assert!(health.report(Instant::now()).all_halted());
        left.leave();
        drop((left, gone));
        let report = health.report(Instant::now());
        assert_eq!(report.shards.keys().collect::<Vec<_>>(), [&id("left")]);
        assert!(report.all_halted());
    }
}
