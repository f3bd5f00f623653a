//! Which leases to take. KCL has no shared clock: an observer times how long a counter has not moved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_core::{Checkpoint, ShardId};
use tokio::time::Instant;

use super::row::LeaseRow;

/// When each lease's counter was last seen to move, on this worker's monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Observations(BTreeMap<ShardId, (u64, Instant)>);

impl Observations {
    /// Notes one scan of the table that finished at `now`. A lease seen for the first time counts as moved now, so a
    /// new worker waits at least one failover before it takes from somebody who may be alive.
    pub(crate) fn note(&mut self, leases: &[LeaseRow], now: Instant) {
        let seen = leases.iter().map(|lease| {
            let moved = match self.0.get(&lease.shard) {
                Some((counter, since)) if *counter == lease.counter => *since,
                _ => now,
            };
            (lease.shard.clone(), (lease.counter, moved))
        });
        self.0 = seen.collect();
    }

    fn still_for(&self, shard: &ShardId, now: Instant) -> Duration {
        self.0.get(shard).map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }
}

/// The leases that this worker should take now, of a worker that owns every shard: unfinished ones whose parents are
/// finished, and that nobody holds, that this worker held before a restart, or whose holder let them expire.
pub(crate) fn to_take<'a>(
    leases: &'a [LeaseRow],
    held: &BTreeSet<ShardId>,
    worker: &str,
    observations: &Observations,
    failover: Duration,
    now: Instant,
) -> Vec<&'a LeaseRow> {
    let finished = |shard: &ShardId| {
        // A parent without a lease has left the stream, or was cleaned up after it ended.
        leases.iter().find(|lease| lease.shard == *shard).is_none_or(|lease| lease.checkpoint == Checkpoint::ShardEnd)
    };
    let available = |lease: &&LeaseRow| match lease.owner.as_deref() {
        None => true,
        Some(owner) if owner == worker => true,
        Some(_) => observations.still_for(&lease.shard, now) > failover,
    };
    let wanted = leases.iter().filter(|lease| lease.checkpoint != Checkpoint::ShardEnd && !held.contains(&lease.shard));
    wanted.filter(|lease| lease.parents.iter().all(finished)).filter(available).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: &str, owner: Option<&str>, counter: u64, checkpoint: Checkpoint, parents: &[&str]) -> LeaseRow {
        let parents = parents.iter().map(|id| id.parse().unwrap()).collect();
        let mut lease = LeaseRow::new(id.parse().unwrap(), checkpoint, parents, None);
        lease.owner = owner.map(str::to_owned);
        lease.counter = counter;
        lease
    }

    fn taken(leases: &[LeaseRow], observations: &Observations, now: Instant) -> Vec<String> {
        let failover = Duration::from_secs(10);
        let leases = to_take(leases, &BTreeSet::new(), "me", observations, failover, now);
        leases.into_iter().map(|lease| lease.shard.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_strangers_lease_is_taken_only_after_its_counter_stood_still_for_longer_than_failover() {
        let mut leases = [lease("a", Some("other"), 5, Checkpoint::TrimHorizon, &[])];
        let start = Instant::now();
        let mut observations = Observations::default();
        observations.note(&leases, start);
        assert!(taken(&leases, &observations, start + Duration::from_secs(10)).is_empty());
        assert_eq!(taken(&leases, &observations, start + Duration::from_millis(10_001)), ["a"]);
        leases[0].counter = 6;
        observations.note(&leases, start + Duration::from_secs(9));
        assert!(taken(&leases, &observations, start + Duration::from_secs(19)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn unowned_and_own_leases_are_taken_at_once_and_finished_ones_never() {
        let leases = [
            lease("unowned", None, 0, Checkpoint::TrimHorizon, &[]),
            lease("mine", Some("me"), 3, Checkpoint::Latest, &[]),
            lease("finished", None, 3, Checkpoint::ShardEnd, &[]),
        ];
        assert_eq!(taken(&leases, &Observations::default(), Instant::now()), ["unowned", "mine"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_waits_until_every_parent_is_finished_or_gone() {
        let mut leases = vec![
            lease("left", None, 0, Checkpoint::ShardEnd, &[]),
            lease("right", Some("other"), 0, Checkpoint::TrimHorizon, &[]),
            lease("merged", None, 0, Checkpoint::TrimHorizon, &["left", "right"]),
            lease("orphan", None, 0, Checkpoint::TrimHorizon, &["gone"]),
        ];
        let mut observations = Observations::default();
        observations.note(&leases, Instant::now());
        assert_eq!(taken(&leases, &observations, Instant::now()), ["orphan"]);
        leases[1].checkpoint = Checkpoint::ShardEnd;
        assert_eq!(taken(&leases, &observations, Instant::now()), ["merged", "orphan"]);
    }
}
