//! What each shard is doing, for a health page.

use std::collections::BTreeMap;
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
        /// When it last read, sent or committed something.
        last_progress: Instant,
        /// Whether something is under way that has to end by itself: a reply is taken in, or a window commits. A window
        /// that waits for more records is not.
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
    /// What is under way, or a pause, has lasted longer than the limit.
    Stuck {
        /// Since when.
        since: Instant,
        /// The failure that it retries, if it is one.
        why: Option<String>,
    },
}

/// Every shard's status at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// By shard.
    pub shards: BTreeMap<ShardId, ShardStatus>,
}

impl HealthReport {
    /// Whether no shard is halted or stuck. A paused shard is healthy: so far, it needs nobody.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.shards.values().any(|status| matches!(status, ShardStatus::Halted { .. } | ShardStatus::Stuck { .. }))
    }
}

/// How long a commit may go without an answer, or a pause last, before the shard counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(300);
/// What is on its way to sinks has so much longer: a large object takes its time over the slowest line that a sink waits for, and to
/// be ended and begun anew for that would take more.
const SLOWEST_BYTES_PER_S: u64 = 128 * 1024;

/// The status of every shard that runs here. Cheap to clone; clones are one value. A shard appears when its pipeline
/// starts and leaves when it ends.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shards: Shards,
}

type Shards = Arc<Mutex<BTreeMap<ShardId, Entry>>>;

/// What is known of one shard. A pause that ends leaves the clock of a commit as it was, so that a reader that fails
/// now and then does not hide a sink that hangs.
#[derive(Debug)]
struct Entry {
    last_progress: Instant,
    busy: bool,
    /// What sinks have been given and have not answered for.
    sending_bytes: usize,
    /// By what has it: what is retried, or the shard as a whole.
    troubles: BTreeMap<String, Trouble>,
}

#[derive(Debug)]
enum Trouble {
    Paused { since: Instant, why: String },
    Halted { reason: String },
}

impl Entry {
    fn stuck_after(&self) -> Duration {
        let bytes = u64::try_from(self.sending_bytes).unwrap_or(u64::MAX);
        STUCK_AFTER + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S)
    }

    fn status(&self, now: Instant) -> ShardStatus {
        let lasts = |since: Instant| now.saturating_duration_since(since) > STUCK_AFTER;
        let (last_progress, busy) = (self.last_progress, self.busy);
        match self.worst() {
            Some(Trouble::Halted { reason }) => ShardStatus::Halted { reason: reason.clone() },
            Some(Trouble::Paused { since, why }) if lasts(*since) => {
                ShardStatus::Stuck { since: *since, why: Some(why.clone()) }
            }
            _ if busy && now.saturating_duration_since(last_progress) > self.stuck_after() => {
                ShardStatus::Stuck { since: last_progress, why: None }
            }
            Some(Trouble::Paused { since, why }) => ShardStatus::Paused { since: *since, why: why.clone() },
            None => ShardStatus::Running { last_progress, busy },
        }
    }

    /// What somebody has to mend, or else what has lasted longest.
    fn worst(&self) -> Option<&Trouble> {
        self.troubles.values().min_by_key(|trouble| match trouble {
            Trouble::Halted { .. } => None,
            Trouble::Paused { since, .. } => Some(*since),
        })
    }
}

impl Health {
    /// Every shard's status.
    #[must_use]
    pub fn report(&self, now: Instant) -> HealthReport {
        let shards = lock(&self.shards);
        HealthReport { shards: shards.iter().map(|(shard, entry)| (shard.clone(), entry.status(now))).collect() }
    }

    /// The handle through which one running shard reports.
    pub(crate) fn shard(&self, shard: ShardId) -> ShardHealth {
        let entry = Entry { last_progress: Instant::now(), busy: false, sending_bytes: 0, troubles: BTreeMap::new() };
        lock(&self.shards).insert(shard.clone(), entry);
        ShardHealth { shard, health: self.clone() }
    }
}

/// Bytes that a sink has not answered for.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    health: &'a ShardHealth,
    bytes: usize,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.health.change(|entry| entry.sending_bytes = entry.sending_bytes.saturating_sub(self.bytes));
    }
}

/// Reports one shard; dropping it removes the shard.
#[derive(Debug)]
pub(crate) struct ShardHealth {
    shard: ShardId,
    health: Health,
}

impl ShardHealth {
    /// That of every shard.
    pub(crate) fn of_all(&self) -> Health {
        self.health.clone()
    }

    /// It moved. A pause or a halt ends only with [`running`](Self::running).
    pub(crate) fn progress(&self, busy: bool) {
        self.change(|entry| (entry.last_progress, entry.busy) = (Instant::now(), busy));
    }

    /// A sink is given so many bytes, until the guard is dropped.
    pub(crate) fn sending(&self, bytes: usize) -> Sending<'_> {
        self.change(|entry| entry.sending_bytes += bytes);
        Sending { health: self, bytes }
    }

    /// `what` works, or is not tried any more.
    pub(crate) fn running(&self, what: &str) {
        self.change(|entry| drop(entry.troubles.remove(what)));
    }

    /// `what` is tried again.
    pub(crate) fn paused(&self, what: &str, since: Instant, why: &str) {
        self.trouble(what, Trouble::Paused { since, why: why.into() });
    }

    /// `what` waits for someone.
    pub(crate) fn halted(&self, what: &str, reason: &str) {
        self.trouble(what, Trouble::Halted { reason: reason.into() });
    }

    fn trouble(&self, what: &str, trouble: Trouble) {
        self.change(|entry| drop(entry.troubles.insert(what.into(), trouble)));
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = lock(&self.health.shards).get_mut(&self.shard) {
            change(entry);
        }
    }
}

impl Drop for ShardHealth {
    fn drop(&mut self) {
        lock(&self.health.shards).remove(&self.shard);
    }
}

fn lock(shards: &Shards) -> MutexGuard<'_, BTreeMap<ShardId, Entry>> {
    shards.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ShardId {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_shard_that_has_something_under_way_can_be_stuck() {
        let health = Health::default();
        let (idle, busy) = (health.shard(id("idle")), health.shard(id("busy")));
        idle.progress(false);
        busy.progress(true);
        tokio::time::advance(STUCK_AFTER + Duration::from_secs(1)).await;
        let report = health.report(Instant::now());
        assert!(matches!(report.shards[&id("idle")], ShardStatus::Running { .. }), "{report:?}");
        assert!(matches!(report.shards[&id("busy")], ShardStatus::Stuck { why: None, .. }), "{report:?}");
        assert!(!report.is_healthy());
        busy.progress(true);
        assert!(health.report(Instant::now()).is_healthy());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_lasts_is_stuck_and_one_that_passed_does_not_hide_a_commit_that_hangs() {
        let health = Health::default();
        let shard = health.shard(id("shard"));
        shard.progress(true);
        let since = Instant::now();
        for seconds in [200, 110] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            shard.paused("reader", Instant::now(), "throttled");
            shard.running("reader");
        }
        let ShardStatus::Stuck { since: told, why: None } = health.report(Instant::now()).shards[&id("shard")] else {
            panic!("{health:?}")
        };
        assert_eq!(told, since);
        shard.progress(false);
        shard.paused("sink", Instant::now(), "no space left");
        assert!(health.report(Instant::now()).is_healthy(), "a short pause needs nobody");
        tokio::time::advance(STUCK_AFTER + Duration::from_secs(1)).await;
        let report = health.report(Instant::now());
        let ShardStatus::Stuck { why: Some(why), .. } = &report.shards[&id("shard")] else { panic!("{report:?}") };
        assert_eq!(why, "no space left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_object_that_is_sent_slowly_is_not_stuck_before_its_time() {
        let health = Health::default();
        let shard = health.shard(id("shard"));
        shard.progress(true);
        let sending = [600, 300].map(|mebibytes| shard.sending(mebibytes << 20));
        let is_healthy_after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            health.report(Instant::now()).is_healthy()
        };
        assert!(is_healthy_after(300 + 8 * (600 + 300)).await);
        assert!(!is_healthy_after(1).await, "as slow as that it is not");
        shard.progress(true);
        drop(sending);
        assert!(is_healthy_after(300).await);
        assert!(!is_healthy_after(1).await, "nothing is under way any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_halt_outlives_progress_and_never_its_shard() {
        let health = Health::default();
        let shard = health.shard(id("shard"));
        shard.halted("sink", "no permission");
        shard.progress(true);
        assert!(!health.report(Instant::now()).is_healthy());
        drop(shard);
        assert!(health.report(Instant::now()).shards.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_in_the_reader_does_not_hide_a_sink_that_waits_for_someone() {
        let health = Health::default();
        let shard = health.shard(id("shard"));
        let status = || health.report(Instant::now()).shards[&id("shard")].clone();
        shard.halted("sink", "no permission");
        shard.paused("reader", Instant::now(), "throttled");
        assert_eq!(status(), ShardStatus::Halted { reason: "no permission".into() });
        shard.running("reader");
        assert_eq!(status(), ShardStatus::Halted { reason: "no permission".into() });
        let since = Instant::now();
        shard.paused("sink", since, "slow down");
        tokio::time::advance(Duration::from_secs(1)).await;
        shard.paused("another", Instant::now(), "throttled");
        assert_eq!(status(), ShardStatus::Paused { since, why: "slow down".into() }, "what lasts longest");
    }
}
