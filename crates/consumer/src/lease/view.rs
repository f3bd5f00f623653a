//! What one worker knows of the table. KCL has no shared clock: an observer times how long a counter has not moved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_core::ShardId;
use tokio::time::Instant;

use super::row::{LeaseRow, Wish};
use crate::planted::{Fault, planted};

/// The last scan, and since when each lease has been as it is. One worker's roles share it.
#[derive(Debug)]
pub(crate) struct View {
    failover: Duration,
    leases: Vec<LeaseRow>,
    seen: BTreeMap<ShardId, Seen>,
    /// Who holds leases or asks for some, and since when it is these.
    workers: BTreeSet<String>,
    workers_since: Option<Instant>,
    /// Workers that made a lease nobody's in the last two failovers, as who leaves does, and when.
    released: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Seen {
    owner: Option<String>,
    counter: u64,
    /// When the counter was first seen at its value, on this worker's monotonic clock.
    since: Instant,
    /// Nobody's at first sight and unchanged since: KCL takes it as if it had stood still for ever.
    never_moved: bool,
    wish: Option<(Wish, Instant)>,
}

impl View {
    pub(crate) fn new(failover: Duration) -> Self {
        let (seen, workers, released) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { failover, leases: Vec::new(), seen, workers, workers_since: None, released }
    }

    /// Replaces the view by a scan that finished at `now`. A lease with an owner that is seen for the first time counts
    /// as moved now, so a new worker waits at least one failover before it takes from somebody who may be alive.
    pub(crate) fn note(&mut self, leases: Vec<LeaseRow>, now: Instant) {
        let mut before = std::mem::take(&mut self.seen);
        for lease in &leases {
            let mut old = before.remove(&lease.shard);
            match (old.as_mut().and_then(|old| old.owner.take()), &lease.owner) {
                (Some(owner), None) => drop(self.released.insert(owner, now)),
                (old, Some(owner)) if old.as_ref() != Some(owner) => drop(self.released.remove(owner)),
                _ => {}
            }
            let (old_wish, old) = (old.as_ref().and_then(|old| old.wish.clone()), old);
            let wish = lease.wish.clone().map(|wish| match old_wish {
                Some((same, since)) if same == wish => (wish, since),
                _ => (wish, now),
            });
            let (since, never_moved) = match old {
                Some(old) if old.counter == lease.counter => (old.since, old.never_moved),
                Some(_) => (now, false),
                None if planted(Fault::TakesAtFirstSight) => (now.checked_sub(self.failover * 2).unwrap_or(now), true),
                None => (now, lease.owner.is_none()),
            };
            let (owner, counter) = (lease.owner.clone(), lease.counter);
            self.seen.insert(lease.shard.clone(), Seen { owner, counter, since, never_moved, wish });
        }
        let owners = leases.iter().filter_map(|lease| self.live_owner(lease, now));
        let wishers = leases.iter().filter_map(|lease| lease.wish.as_ref().map(|wish| wish.by.as_str()));
        let workers = owners.chain(wishers).collect::<BTreeSet<_>>();
        if self.workers_since.is_none() || !workers.iter().copied().eq(self.workers.iter().map(String::as_str)) {
            self.workers = workers.into_iter().map(str::to_owned).collect();
            self.workers_since = Some(now);
        }
        self.released.retain(|_, at| now.saturating_duration_since(*at) <= self.failover * 2);
        self.leases = leases;
    }

    /// Other owners that have renewed nothing for so long that they are dead, probably: from one renewal that is seen to
    /// the next it takes two thirds of a failover at most.
    pub(crate) fn silent(&self, me: &str, now: Instant) -> BTreeSet<&str> {
        let mut silent = BTreeMap::new();
        for lease in &self.leases {
            let Some(owner) = lease.owner.as_deref().filter(|owner| *owner != me) else { continue };
            let still = self.still_for(lease, now);
            silent.entry(owner).and_modify(|since: &mut Duration| *since = still.min(*since)).or_insert(still);
        }
        silent.into_iter().filter(|(_, since)| *since > self.failover * 3 / 4).map(|(owner, _)| owner).collect()
    }

    /// How long the workers have been the same.
    pub(crate) fn unchanged_for(&self, now: Instant) -> Duration {
        self.workers_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether the worker has just made a lease nobody's, and has got none since.
    pub(crate) fn has_released(&self, worker: &str) -> bool {
        self.released.contains_key(worker)
    }

    pub(crate) fn leases(&self) -> &[LeaseRow] {
        &self.leases
    }

    /// How long the counter has stood still before these eyes.
    pub(crate) fn still_for(&self, lease: &LeaseRow, now: Instant) -> Duration {
        self.seen.get(&lease.shard).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen.since))
    }

    /// Whether the lease may be taken: nobody has it, or its owner let it expire.
    pub(crate) fn is_available(&self, lease: &LeaseRow, now: Instant) -> bool {
        let failover = if planted(Fault::TakesEarly) { self.failover / 2 } else { self.failover };
        lease.owner.is_none() || self.still_for(lease, now) > failover
    }

    /// Whether the lease has gone without an owner so long that KCL takes it beyond the worker's share.
    pub(crate) fn is_very_old(&self, lease: &LeaseRow, now: Instant) -> bool {
        let never_moved = self.seen.get(&lease.shard).is_some_and(|seen| seen.never_moved);
        never_moved || self.still_for(lease, now) > self.failover * 3
    }

    /// Who holds the lease and renews it.
    pub(crate) fn live_owner<'a>(&self, lease: &'a LeaseRow, now: Instant) -> Option<&'a str> {
        lease.owner.as_deref().filter(|_| !self.is_available(lease, now))
    }

    /// How long the lease's wish has been seen.
    pub(crate) fn wished_for(&self, lease: &LeaseRow, now: Instant) -> Option<(&Wish, Duration)> {
        let (wish, since) = self.seen.get(&lease.shard)?.wish.as_ref()?;
        Some((wish, now.saturating_duration_since(*since)))
    }

    /// When the first of the others' leases expires unless its counter moves.
    pub(crate) fn next_expiry(&self, me: &str, now: Instant) -> Option<Instant> {
        let others = self.leases.iter().filter(|lease| self.live_owner(lease, now).is_some_and(|owner| owner != me));
        let expiry = |lease: &LeaseRow| Some(self.seen.get(&lease.shard)?.since + self.failover);
        others.filter_map(expiry).min()
    }
}

#[cfg(test)]
mod tests {
    use kinesink_core::Checkpoint;

    use super::*;

    fn lease(owner: Option<&str>, counter: u64) -> LeaseRow {
        let mut lease = LeaseRow::new("a".parse().unwrap(), Checkpoint::TrimHorizon, Vec::new(), None);
        lease.owner = owner.map(str::to_owned);
        lease.counter = counter;
        lease
    }

    const FAILOVER: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_strangers_lease_is_available_after_its_counter_stood_still_for_longer_than_failover() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        view.note(vec![lease(Some("other"), 5)], start);
        let seen = lease(Some("other"), 5);
        assert!(!view.is_available(&seen, start + FAILOVER) && view.is_available(&seen, start + FAILOVER + MS));
        assert_eq!(view.next_expiry("me", start), Some(start + FAILOVER));
        assert_eq!(view.next_expiry("other", start), None);
        view.note(vec![lease(Some("other"), 6)], start + FAILOVER);
        let moved = lease(Some("other"), 6);
        assert!(!view.is_available(&moved, start + FAILOVER * 2));
        assert!(!view.is_very_old(&moved, start + FAILOVER * 4));
        assert!(view.is_very_old(&moved, start + FAILOVER * 4 + MS));
    }

    #[tokio::test(start_paused = true)]
    async fn nobodys_lease_is_very_old_at_first_sight_and_one_given_back_is_not() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        view.note(vec![lease(None, 0)], start);
        assert!(view.is_available(&lease(None, 0), start) && view.is_very_old(&lease(None, 0), start));
        let mut view = View::new(FAILOVER);
        view.note(vec![lease(Some("other"), 5)], start);
        view.note(vec![lease(None, 6)], start + FAILOVER);
        let released = lease(None, 6);
        assert!(view.is_available(&released, start + FAILOVER));
        assert!(!view.is_very_old(&released, start + FAILOVER * 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_ages_from_its_first_sight_until_it_is_made_again() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        let wished = |number| {
            let mut lease = lease(Some("other"), 5);
            lease.wish = Some(Wish { number, by: "me".into() });
            lease
        };
        view.note(vec![wished(1)], start);
        view.note(vec![wished(1)], start + FAILOVER);
        assert_eq!(view.wished_for(&wished(1), start + FAILOVER).unwrap().1, FAILOVER);
        view.note(vec![wished(2)], start + FAILOVER);
        assert_eq!(view.wished_for(&wished(2), start + FAILOVER).unwrap().1, Duration::ZERO);
        view.note(vec![lease(Some("other"), 5)], start + FAILOVER);
        assert!(view.wished_for(&wished(2), start + FAILOVER).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_a_lease_nobodys_is_leaving_for_two_failovers_or_until_it_gets_one() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        view.note(vec![lease(Some("other"), 5)], start);
        assert!(!view.has_released("other"));
        view.note(vec![lease(None, 6)], start + MS);
        assert!(view.has_released("other"));
        view.note(vec![lease(None, 6)], start + FAILOVER * 2 + MS);
        assert!(view.has_released("other"));
        view.note(vec![lease(None, 6)], start + FAILOVER * 2 + MS * 2);
        assert!(!view.has_released("other"));
        for owner in [Some("other"), None, Some("third"), Some("other")] {
            view.note(vec![lease(owner, 7)], start + FAILOVER * 3);
        }
        assert!(!view.has_released("other"), "it takes leases");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_are_those_that_hold_or_ask_and_are_unchanged_until_one_comes_or_goes() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        let mut asked = lease(Some("other"), 5);
        view.note(vec![asked.clone()], start);
        view.note(vec![asked.clone()], start + FAILOVER);
        assert_eq!(view.unchanged_for(start + FAILOVER), FAILOVER);
        asked.wish = Some(Wish { number: 1, by: "me".into() });
        view.note(vec![asked.clone()], start + FAILOVER);
        assert_eq!(view.unchanged_for(start + FAILOVER), Duration::ZERO);
        asked.owner = Some("me".into());
        view.note(vec![asked], start + FAILOVER * 2);
        assert_eq!(view.unchanged_for(start + FAILOVER * 3), FAILOVER, "the other has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_silent_once_none_of_its_leases_has_moved_for_three_quarters_of_a_failover() {
        let (mut view, start) = (View::new(FAILOVER), Instant::now());
        let leases = |counter| {
            let second = LeaseRow { shard: "b".parse().unwrap(), ..lease(Some("other"), 5) };
            vec![lease(Some("other"), counter), second, LeaseRow { shard: "c".parse().unwrap(), ..lease(None, 5) }]
        };
        view.note(leases(5), start);
        view.note(leases(6), start + FAILOVER / 2);
        let silent_from = start + FAILOVER / 2 + FAILOVER * 3 / 4;
        assert_eq!(view.silent("me", silent_from), BTreeSet::new());
        assert_eq!(view.silent("me", silent_from + MS), BTreeSet::from(["other"]));
        assert_eq!(view.silent("other", silent_from + MS), BTreeSet::new());
    }
}
