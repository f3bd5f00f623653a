//! How workers of ours divide the leases among themselves while nobody else takes part. Pure.
//!
//! Each worker reads the same rows and divides the leases as the others do. A lease moves by a wish of the worker that
//! lacks one; its owner finishes what it has in flight and gives it away, so that nothing is read twice. Who has no
//! lease makes itself seen first, by one lease or by one wish: until then nobody counts on it, nor it on others that
//! have just come. Finished shards cost nothing and do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use kinesink_core::ShardId;
use tokio::time::Instant;

use super::division::Division;
use super::row::{LeaseRow, Wish};
use super::view::View;

/// What a worker that nobody sees yet takes at most, or a 64th of all leases if that is more: others may begin in the
/// same moment, and who takes everything has to give it away again.
const FIRST_LEASES_MAX: usize = 16;

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
        let division = self.division();
        let (give, refuse) = self.to_give(&division);
        let mut take = self.to_take(&division);
        let mut wish = Vec::new();
        let mine = division.counts.get(self.me).copied().unwrap_or(0);
        let mut part = if self.is_seen() { division.part(self.me) } else { self.first(&division, rng) };
        part.retain(|lease| !self.refused(lease) && !take.contains(lease));
        for lease in part {
            match self.view.live_owner(lease, self.now) {
                None => take.push(lease),
                Some(owner) if division.counts.contains_key(owner) => wish.push(lease),
                // Of one that is silent: it expires, perhaps.
                Some(_) => {}
            }
        }
        take.truncate(self.leases_max.saturating_sub(self.held.len()));
        wish.truncate(self.leases_max.saturating_sub(mine + take.len()));
        Moves { take, wish, give, refuse }
    }

    /// Whether others see this worker: by its leases or by its wishes.
    pub(crate) fn is_seen(&self) -> bool {
        let is_me = |worker: Option<&str>| worker == Some(self.me);
        let by_others = |lease| is_me(self.view.live_owner(lease, self.now)) || is_me(self.wanted_by(lease));
        !self.held.is_empty() || self.active().any(by_others)
    }

    /// The leases as they will be if every wish is granted, among those who stay.
    fn division(&self) -> Division<'a> {
        let silent = self.view.silent(self.me, self.now);
        let settled = silent.is_empty() && self.view.unchanged_for(self.now) > self.patience;
        let mut division = Division { settled, ..Division::default() };
        let mut has = |worker| *division.counts.entry(worker).or_default() += 1;
        for lease in self.active() {
            match (self.view.live_owner(lease, self.now), self.wanted_by(lease)) {
                (None, _) if self.held.contains(&lease.shard) => has(self.me),
                (None, _) => division.free.push(lease),
                // Dead, probably. What each has of it is known before it may be taken, and to all alike.
                (Some(owner), _) if silent.contains(owner) => division.free.push(lease),
                (Some(_), Some(worker)) => has(worker),
                (Some(owner), None) => {
                    has(owner);
                    division.owned.entry(owner).or_default().push(lease);
                }
            }
        }
        division.counts.retain(|worker, _| !self.view.has_released(worker) && !silent.contains(worker));
        division.counts.entry(self.me).or_default();
        division.free.sort_unstable_by_key(|lease| &lease.shard);
        // What somebody has asked for in vain comes last.
        let in_order =
            |leases: &mut Vec<&LeaseRow>| leases.sort_unstable_by_key(|lease| (lease.wish.is_some(), &lease.shard));
        division.owned.values_mut().for_each(in_order);
        division
    }

    /// What this worker takes beside its part: what the others leave lying, and of the leases of finished shards one of
    /// so many as there are workers.
    fn to_take(&self, division: &Division<'a>) -> Vec<&'a LeaseRow> {
        let left_lying = |lease: &LeaseRow| self.view.still_for(lease, self.now) > self.patience * 2;
        let mut take: Vec<_> = division.free.iter().copied().filter(|lease| left_lying(lease)).collect();
        let rank = division.counts.keys().take_while(|worker| **worker < self.me).count();
        let is_free = |lease: &&LeaseRow| self.view.is_available(lease, self.now) && !self.held.contains(&lease.shard);
        let mut finished: Vec<_> =
            self.view.leases().iter().filter(|lease| lease.is_finished()).filter(is_free).collect();
        finished.sort_unstable_by_key(|lease| &lease.shard);
        let own = |(index, lease): &(usize, &LeaseRow)| index % division.counts.len() == rank || left_lying(lease);
        take.extend(finished.into_iter().enumerate().filter(own).map(|(_, lease)| lease));
        take
    }

    /// What makes this worker seen. Any of what can be had: others that begin now do not know its part either.
    fn first(&self, division: &Division<'a>, rng: &mut Rng) -> Vec<&'a LeaseRow> {
        if division.free.is_empty() {
            return rng.choice(division.surplus(self.me)).into_iter().collect();
        }
        let most = FIRST_LEASES_MAX.max(self.active().count() / 64);
        rng.choose_multiple(division.free.iter().copied(), most.min(division.part(self.me).len()))
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

    /// Grants the wishes that lessen a difference and give nobody more than its share, and refuses the others: workers
    /// that ask at once have each counted without the other. Every owner goes through all wishes in the same order, so
    /// that together they grant no more than one of them would.
    fn to_give(&self, division: &Division<'a>) -> (Vec<(&'a LeaseRow, &'a str)>, Vec<&'a LeaseRow>) {
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
        let mut shares = BTreeMap::new();
        for (lease, owner, worker) in wanted {
            let (has, gets) = (counts.get(owner).copied(), counts.get(worker).copied().unwrap_or(0));
            let share = *shares.entry(worker).or_insert_with(|| division.share_of(worker));
            let granted = gets < share && has.is_some_and(|has| has > gets + 1);
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
        /// Of each worker.
        leases_max: Vec<usize>,
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
            let leases_max = vec![usize::MAX; workers];
            Self { rows, views, now: Instant::now(), rng: Rng::with_seed(seed), moved: 0, leases_max }
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
                    leases_max: self.leases_max[index],
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
    fn what_one_worker_does_not_want_the_others_divide_once_it_has_had_the_time() {
        let owners: Vec<_> = (0..60).map(|lease| Some(lease % 2)).collect();
        let mut fleet = Fleet::new(&owners, 4, 1);
        fleet.leases_max[3] = 2;
        for _ in 0..60 {
            fleet.round();
        }
        let mut loads = fleet.loads();
        loads[..3].sort_unstable();
        assert_eq!(loads, [19, 19, 20, 2]);
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
