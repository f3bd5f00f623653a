//! How workers of ours divide the leases among themselves while nobody else takes part. Pure.
//!
//! Each worker counts the same rows and moves what lessens the difference between the most and the least loaded. A
//! lease moves by a wish of the worker that lacks one; its owner finishes what it has in flight and gives it away, so
//! that nothing is read twice. Finished shards cost nothing and do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use kinesink_core::ShardId;
use tokio::time::Instant;

use super::assignment::share;
use super::row::{LeaseRow, Wish};
use super::view::View;

/// What one round does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves<'a> {
    /// Leases to take that nobody renews.
    pub(crate) take: Vec<&'a LeaseRow>,
    /// Leases to ask their owners for.
    pub(crate) wish: Vec<&'a LeaseRow>,
    /// Leases of this worker's to give away, and to whom.
    pub(crate) give: Vec<(&'a LeaseRow, &'a str)>,
    /// Leases of this worker's whose wishes are in vain.
    pub(crate) refuse: Vec<&'a LeaseRow>,
}

/// One worker's round.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    pub(crate) view: &'a View,
    pub(crate) me: &'a str,
    pub(crate) held: &'a BTreeSet<ShardId>,
    /// Those of the held ones that are on their way to another worker.
    pub(crate) giving: &'a BTreeSet<ShardId>,
    pub(crate) leases_max: usize,
    /// How long a wish counts.
    pub(crate) patience: Duration,
    pub(crate) now: Instant,
}

/// Whether every live owner but `me` is one of ours.
pub(crate) fn is_ours(view: &View, me: &str, now: Instant) -> bool {
    let mut others = view.leases().iter().filter(|lease| view.live_owner(lease, now).is_some_and(|owner| owner != me));
    others.all(LeaseRow::is_marked)
}

impl<'a> Round<'a> {
    pub(crate) fn moves(&self, rng: &mut Rng) -> Moves<'a> {
        let mut counts = BTreeMap::from([(self.me, 0_usize)]);
        for lease in self.active() {
            let Some(owner) = self.view.live_owner(lease, self.now) else { continue };
            let wanted_by = self.wanted_by(lease);
            // Others' wishes may be refused, so only this worker's own are counted as granted.
            let holder = wanted_by.filter(|worker| *worker == self.me).unwrap_or(owner);
            *counts.entry(holder).or_default() += 1;
            for worker in [Some(owner), wanted_by].into_iter().flatten() {
                counts.entry(worker).or_default();
            }
        }
        let take = self.to_take(&counts, rng);
        *counts.entry(self.me).or_default() += take.iter().filter(|lease| !lease.is_finished()).count();
        let (give, refuse) = self.to_give();
        Moves { take, wish: self.to_wish(counts, rng), give, refuse }
    }

    /// Whether a wish of this worker has not been granted in time.
    pub(crate) fn was_refused(&self) -> bool {
        self.view.leases().iter().any(|lease| self.refused(lease))
    }

    fn refused(&self, lease: &LeaseRow) -> bool {
        let stale = |(wish, age): (&Wish, Duration)| wish.by == self.me && age > self.patience;
        lease.owner.as_deref() != Some(self.me) && self.view.wished_for(lease, self.now).is_some_and(stale)
    }

    fn active(&self) -> impl Iterator<Item = &'a LeaseRow> {
        self.view.leases().iter().filter(|lease| !lease.is_finished())
    }

    /// The worker that wants another's lease, and has not waited too long.
    pub(crate) fn wanted_by(&self, lease: &'a LeaseRow) -> Option<&'a str> {
        let (wish, age) = self.view.wished_for(lease, self.now)?;
        (age <= self.patience && lease.owner.as_ref() != Some(&wish.by)).then_some(())?;
        lease.wish.as_ref().map(|wish| wish.by.as_str())
    }

    fn to_take(&self, counts: &BTreeMap<&str, usize>, rng: &mut Rng) -> Vec<&'a LeaseRow> {
        let view = self.view;
        let free = |lease: &&LeaseRow| view.is_available(lease, self.now) && !self.held.contains(&lease.shard);
        let mut take: Vec<_> = self.active().filter(free).collect();
        rng.shuffle(&mut take);
        let mine = counts.get(self.me).copied().unwrap_or(0);
        let mut needed = share(self.active().count(), counts.len()).saturating_sub(mine);
        // What the others leave lying is taken beyond the share.
        let left_lying = |lease: &LeaseRow| view.still_for(lease, self.now) > self.patience * 2;
        take.retain(|lease| {
            let wanted = needed > 0 || left_lying(lease);
            needed = needed.saturating_sub(1);
            wanted
        });
        take.extend(view.leases().iter().filter(|lease| lease.is_finished()).filter(free));
        take.truncate(self.leases_max.saturating_sub(self.held.len()));
        take
    }

    fn to_wish(&self, mut counts: BTreeMap<&'a str, usize>, rng: &mut Rng) -> Vec<&'a LeaseRow> {
        let mut mine = counts.remove(self.me).unwrap_or(0);
        let mut asked: BTreeMap<&str, Vec<&LeaseRow>> = BTreeMap::new();
        for lease in self.active().filter(|lease| self.wanted_by(lease).is_none() && !self.refused(lease)) {
            if let Some(owner) = self.view.live_owner(lease, self.now) {
                asked.entry(owner).or_default().push(lease);
            }
        }
        let mut wish = Vec::new();
        while mine < self.leases_max {
            let Some((owner, count)) = counts.iter_mut().max_by_key(|(_, count)| **count) else { break };
            if *count <= mine + 1 {
                break;
            }
            let leases = asked.get_mut(owner).filter(|leases| !leases.is_empty());
            if let Some(leases) = leases {
                wish.push(leases.swap_remove(rng.usize(..leases.len())));
                mine += 1;
                *count -= 1;
            } else {
                // All of its leases are spoken for.
                *count = 0;
            }
        }
        wish
    }

    /// Grants the wishes that lessen a difference, and refuses the others: workers that ask at once have each counted
    /// without the other. Every owner goes through all wishes in the same order, so that together they grant no more
    /// than one of them would.
    fn to_give(&self) -> (Vec<(&'a LeaseRow, &'a str)>, Vec<&'a LeaseRow>) {
        let going = |lease: &LeaseRow| self.giving.contains(&lease.shard);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut wanted = Vec::new();
        for lease in self.active() {
            let Some(owner) = self.view.live_owner(lease, self.now) else { continue };
            let wanted_by = self.wanted_by(lease);
            *counts.entry(wanted_by.filter(|_| going(lease)).unwrap_or(owner)).or_default() += 1;
            wanted.extend(wanted_by.filter(|_| !going(lease)).map(|worker| (lease, owner, worker)));
        }
        wanted.sort_unstable_by_key(|(lease, ..)| &lease.shard);
        let (mut give, mut refuse) = (Vec::new(), Vec::new());
        for (lease, owner, worker) in wanted {
            let (has, gets) = (counts.get(owner).copied(), counts.get(worker).copied().unwrap_or(0));
            let granted = has.is_some_and(|has| has > gets + 1);
            if granted {
                counts.entry(owner).and_modify(|has| *has -= 1);
                counts.insert(worker, gets + 1);
            }
            if self.held.contains(&lease.shard) {
                if granted { give.push((lease, worker)) } else { refuse.push(lease) }
            }
        }
        (give, refuse)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use kinesink_core::Checkpoint;
    use proptest::prelude::*;

    use super::*;

    const FAILOVER: Duration = Duration::from_secs(10);

    /// A table of marked leases whose owners are alive, and workers that play rounds on it.
    struct Fleet {
        rows: Vec<LeaseRow>,
        views: Vec<View>,
        now: Instant,
        rng: Rng,
        moved: usize,
    }

    fn worker(index: usize) -> String {
        format!("worker{index}")
    }

    impl Fleet {
        fn new(owners: &[Option<usize>], workers: usize, seed: u64) -> Self {
            let row = |(index, owner): (usize, &Option<usize>)| {
                let id = format!("shardId-{index:012}").parse().unwrap();
                let mut row = LeaseRow::new(id, Checkpoint::TrimHorizon, Vec::new(), None);
                row.owner = owner.map(worker);
                row.mark = row.owner.clone();
                row
            };
            let views = (0..workers).map(|_| View::new(FAILOVER)).collect();
            let rows = owners.iter().enumerate().map(row).collect();
            Self { rows, views, now: Instant::now(), rng: Rng::with_seed(seed), moved: 0 }
        }

        fn held(&self, index: usize) -> BTreeSet<ShardId> {
            let held = self.rows.iter().filter(|row| row.owner == Some(worker(index)));
            held.map(|row| row.shard.clone()).collect()
        }

        /// Everybody looks at the same table, then acts, the writes in the workers' order.
        fn round(&mut self) {
            self.now += Duration::from_secs(1);
            for row in self.rows.iter_mut().filter(|row| row.owner.is_some()) {
                row.counter += 1;
            }
            let before = self.rows.clone();
            let held: Vec<_> = (0..self.views.len()).map(|index| self.held(index)).collect();
            for (index, held) in held.iter().enumerate() {
                self.views[index].note(before.clone(), self.now);
                let (me, giving) = (worker(index), BTreeSet::new());
                let round = Round {
                    view: &self.views[index],
                    me: &me,
                    held,
                    giving: &giving,
                    leases_max: usize::MAX,
                    patience: FAILOVER * 2,
                    now: self.now,
                };
                let moves = round.moves(&mut self.rng);
                let at = |rows: &[LeaseRow], lease: &LeaseRow| rows.iter().position(|row| row.shard == lease.shard);
                for lease in moves.take {
                    let row = at(&self.rows, lease).unwrap();
                    if self.rows[row].counter == lease.counter {
                        self.rows[row].owner = Some(me.clone());
                        self.rows[row].counter += 1;
                    }
                }
                for lease in moves.wish {
                    let row = at(&self.rows, lease).unwrap();
                    if (&self.rows[row].owner, &self.rows[row].wish) == (&lease.owner, &lease.wish) {
                        self.rows[row].wish = Some(Wish { number: self.rng.u64(..), by: me.clone() });
                    }
                }
                for lease in moves.refuse {
                    let row = at(&self.rows, lease).unwrap();
                    self.rows[row].wish = None;
                }
                for (lease, to) in moves.give {
                    let row = at(&self.rows, lease).unwrap();
                    assert_eq!(self.rows[row].owner.as_ref(), Some(&me), "given away without being held");
                    (self.rows[row].owner, self.rows[row].wish) = (Some(to.to_owned()), None);
                    self.moved += 1;
                }
            }
        }

        fn loads(&self) -> Vec<usize> {
            (0..self.views.len()).map(|index| self.held(index).len()).collect()
        }

        fn is_balanced(&self) -> bool {
            let loads = self.loads();
            loads.iter().sum::<usize>() == self.rows.len()
                && loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_start_is_balanced_within_a_few_rounds_and_then_stays(
            workers in 1_usize..8, owners in prop::collection::vec(prop::option::weighted(0.9, 0_usize..8), 1..60), seed: u64,
        ) {
            let owners: Vec<_> = owners.into_iter().map(|owner| owner.map(|owner| owner % workers)).collect();
            let mut fleet = Fleet::new(&owners, workers, seed);
            let mut rounds = 0;
            while !fleet.is_balanced() {
                fleet.round();
                rounds += 1;
                prop_assert!(rounds < 40, "{:?} after {rounds} rounds", fleet.loads());
            }
            // Wishes under way are granted or not.
            for _ in 0..5 {
                fleet.round();
            }
            prop_assert!(fleet.is_balanced(), "{:?}", fleet.loads());
            let moved = fleet.moved;
            for _ in 0..10 {
                fleet.round();
            }
            prop_assert_eq!(fleet.moved, moved, "leases move although nothing changes");
        }
    }

    #[test]
    fn a_worker_that_joins_gets_its_share_by_few_moves() {
        let owners: Vec<_> = (0..400).map(|lease| Some(lease % 4)).collect();
        let mut fleet = Fleet::new(&owners, 5, 1);
        for _ in 0..3 {
            fleet.round();
        }
        assert_eq!(fleet.loads(), [80; 5]);
        assert_eq!(fleet.moved, 80);
    }

    #[test]
    fn workers_that_join_at_once_move_hardly_more_than_they_must() {
        for seed in 0..20 {
            let owners: Vec<_> = (0..400).map(|lease| Some(lease % 4)).collect();
            let mut fleet = Fleet::new(&owners, 6, seed);
            while !fleet.is_balanced() {
                fleet.round();
            }
            assert!(fleet.moved <= 134 * 11 / 10, "{} leases moved", fleet.moved);
        }
    }

    #[test]
    fn one_unmarked_live_owner_ends_the_fleet_and_a_dead_one_does_not() {
        let mut fleet = Fleet::new(&[Some(0), Some(1)], 1, 1);
        let start = fleet.now;
        let ours = |fleet: &mut Fleet, now| {
            fleet.views[0].note(fleet.rows.clone(), now);
            is_ours(&fleet.views[0], "worker0", now)
        };
        assert!(ours(&mut fleet, start));
        // As Java takes it: the mark stays.
        fleet.rows[1].owner = Some("java".into());
        assert!(!ours(&mut fleet, start));
        assert!(ours(&mut fleet, start + FAILOVER + Duration::from_millis(1)));
    }
}
