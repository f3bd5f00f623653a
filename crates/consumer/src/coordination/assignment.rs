//! What a leader does in one round: by the number of leases, as KCL 3.x does with `LEASE_COUNT_BASED`. Pure.
//!
//! Unowned and expired leases go to the worker with the fewest, the longest neglected first. What is left of a
//! difference is moved from live owners by handoffs. Finished shards cost nothing and do not count, but have a holder,
//! who deletes them one day.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_core::ShardId;
use tokio::time::Instant;

use super::Report;
use crate::lease::{LeaseRow, View};

/// KCL's `gracefulLeaseHandoffTimeoutMillis`.
pub(crate) const HANDOFF_TIMEOUT: Duration = Duration::from_secs(30);

/// What to write, and who is to have each lease.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Leases that nobody renews.
    pub(crate) assign: Vec<(LeaseRow, String)>,
    /// Leases of live owners whose handoff took too long: taken away from them.
    pub(crate) force: Vec<(LeaseRow, String)>,
    /// Leases of live owners.
    pub(crate) hand_over: Vec<(LeaseRow, String)>,
}

/// What a leader remembers from one round to the next.
#[derive(Debug, Default)]
pub(crate) struct Leading {
    watched: BTreeMap<ShardId, Watched>,
    /// Workers that let a lease expire, and when they had reported then: a dead worker's report is fresh for a while.
    suspects: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Watched {
    holder: Option<String>,
    /// The counter with which the lease came to its holder, until the holder has moved it.
    came_with: Option<u64>,
    /// Since when its handoff has been under way before these eyes.
    handoff_since: Option<Instant>,
}

/// What a round looks at.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    pub(crate) view: &'a View,
    pub(crate) reports: &'a [Report],
    pub(crate) me: &'a str,
    /// Leases that this worker holds: it knows better than the view.
    pub(crate) held: &'a BTreeSet<ShardId>,
    /// KCL's `maxLeasesForWorker`, which a leader applies to every worker.
    pub(crate) leases_max: usize,
    pub(crate) failover: Duration,
    pub(crate) now: Instant,
    /// In epoch seconds.
    pub(crate) now_s: u64,
}

impl Leading {
    /// One round. A worker that does not lead acts only if it is the only one.
    pub(crate) fn moves(&mut self, round: &Round<'_>, leads: bool) -> Moves {
        self.watch(round);
        let (mut neglected, live): (Vec<_>, Vec<_>) =
            round.view.leases().iter().partition(|lease| self.is_neglected(round, lease));
        self.suspect(round, &neglected);
        let workers = self.workers(round);
        let mut moves = Moves::default();
        if !leads && workers.len() > 1 {
            return moves;
        }
        let mut loads = loads(&live, &workers);
        let age = |lease: &LeaseRow| (round.view.is_very_old(lease, round.now), round.view.still_for(lease, round.now));
        neglected.sort_by(|a, b| age(b).cmp(&age(a)).then_with(|| a.shard.cmp(&b.shard)));
        for lease in neglected {
            let Some(worker) = emptiest(&loads, round.leases_max) else { break };
            *loads.entry(worker).or_default() += usize::from(!lease.is_finished());
            moves.assign.push((lease.clone(), worker.to_owned()));
        }
        if leads {
            moves.force = self.overdue(round, &live, &workers);
            moves.hand_over = hand_over(&live, &workers, loads, round.leases_max);
        }
        moves
    }

    fn watch(&mut self, round: &Round<'_>) {
        let mut before = std::mem::take(&mut self.watched);
        for lease in round.view.leases() {
            let before = before.remove(&lease.shard);
            let same_holder = before.as_ref().is_some_and(|before| before.holder.as_deref() == lease.holder());
            let came_with = match &before {
                Some(before) if same_holder => before.came_with.filter(|counter| *counter == lease.counter),
                Some(_) => Some(lease.counter),
                None => None,
            };
            let handoff = before.filter(|_| same_holder).and_then(|before| before.handoff_since);
            let handoff_since = lease.checkpoint_owner.is_some().then(|| handoff.unwrap_or(round.now));
            let watched = Watched { holder: lease.holder().map(str::to_owned), came_with, handoff_since };
            self.watched.insert(lease.shard.clone(), watched);
        }
    }

    /// Whether nobody renews the lease. Who was just given one has to find it first: KCL's workers look once a
    /// failover, and renew later still.
    fn is_neglected(&self, round: &Round<'_>, lease: &LeaseRow) -> bool {
        let is_new = self.watched.get(&lease.shard).is_some_and(|watched| watched.came_with.is_some());
        let patience = if is_new { round.failover * 3 } else { round.failover };
        let is_still = lease.holder().is_none() || round.view.still_for(lease, round.now) > patience;
        is_still && !round.held.contains(&lease.shard)
    }

    fn suspect(&mut self, round: &Round<'_>, neglected: &[&LeaseRow]) {
        let reported = |worker: &str| round.reports.iter().find(|report| report.worker == worker);
        self.suspects.retain(|worker, at| reported(worker).is_some_and(|report| report.updated_s == *at));
        for holder in neglected.iter().filter_map(|lease| lease.holder()) {
            if let Some(report) = reported(holder) {
                self.suspects.insert(report.worker.clone(), report.updated_s);
            }
        }
    }

    /// Who may be given leases and asked for them; this worker is alive whatever its report says.
    fn workers<'a>(&self, round: &Round<'a>) -> BTreeSet<&'a str> {
        let active = round.reports.iter().filter(|report| report.is_active(round.now_s));
        let active = active.map(|report| report.worker.as_str());
        active.filter(|worker| !self.suspects.contains_key(*worker)).chain([round.me]).collect()
    }

    /// Handoffs that took too long, to those who wait for them.
    fn overdue(&self, round: &Round<'_>, live: &[&LeaseRow], workers: &BTreeSet<&str>) -> Vec<(LeaseRow, String)> {
        let is_overdue = |lease: &LeaseRow| {
            let since = self.watched.get(&lease.shard).and_then(|watched| watched.handoff_since);
            since.is_some_and(|since| round.now.saturating_duration_since(since) > HANDOFF_TIMEOUT + round.failover)
        };
        let overdue = live.iter().filter(|lease| is_overdue(lease));
        let waits = |lease: &LeaseRow| lease.owner.clone().filter(|next| workers.contains(next.as_str()));
        overdue.filter_map(|lease| Some(((*lease).clone(), waits(lease)?))).collect()
    }
}

/// How many leases each worker has, those on their way to it included.
fn loads<'a>(live: &[&LeaseRow], workers: &BTreeSet<&'a str>) -> BTreeMap<&'a str, usize> {
    let mut loads: BTreeMap<_, _> = workers.iter().map(|worker| (*worker, 0)).collect();
    for owner in live.iter().filter(|lease| !lease.is_finished()).filter_map(|lease| lease.owner.as_deref()) {
        if let Some(load) = loads.get_mut(owner) {
            *load += 1;
        }
    }
    loads
}

/// Moves from the most to the least loaded while that lessens the difference. Leases of owners that do not report stay.
fn hand_over<'a>(
    live: &[&'a LeaseRow],
    workers: &BTreeSet<&'a str>,
    mut loads: BTreeMap<&'a str, usize>,
    leases_max: usize,
) -> Vec<(LeaseRow, String)> {
    let mut movable: BTreeMap<&str, Vec<&LeaseRow>> = BTreeMap::new();
    for lease in live.iter().filter(|lease| !lease.is_finished() && lease.checkpoint_owner.is_none()) {
        if let Some(owner) = lease.owner.as_deref().filter(|owner| workers.contains(owner)) {
            movable.entry(owner).or_default().push(lease);
        }
    }
    let mut moves = Vec::new();
    while let Some(least) = emptiest(&loads, leases_max) {
        let fewest = loads.get(least).copied().unwrap_or(0);
        let gives =
            |donor: &str, load: usize| load > fewest + 1 && movable.get(donor).is_some_and(|leases| !leases.is_empty());
        let donors = loads.iter().filter(|(donor, load)| gives(donor, **load));
        let Some(donor) = donors.max_by_key(|(_, load)| **load).map(|(donor, _)| *donor) else { break };
        let Some(lease) = movable.get_mut(donor).and_then(Vec::pop) else { break };
        loads.entry(donor).and_modify(|load| *load -= 1);
        loads.entry(least).and_modify(|load| *load += 1);
        moves.push((lease.clone(), least.to_owned()));
    }
    moves
}

/// The worker with the fewest leases, if it may have one more.
fn emptiest<'a>(loads: &BTreeMap<&'a str, usize>, leases_max: usize) -> Option<&'a str> {
    let (worker, load) = loads.iter().min_by_key(|(_, load)| **load)?;
    (*load < leases_max).then_some(*worker)
}

#[cfg(test)]
mod tests {
    use kinesink_core::Checkpoint;
    use proptest::prelude::*;

    use super::*;
    use crate::coordination::report::tests::reported;

    const FAILOVER: Duration = Duration::from_secs(10);
    const ME: &str = "worker0";

    fn worker(index: usize) -> String {
        format!("worker{index}")
    }

    fn id(index: usize) -> ShardId {
        format!("shardId-{index:012}").parse().unwrap()
    }

    fn row(index: usize, owner: Option<&str>) -> LeaseRow {
        let mut row = LeaseRow::new(id(index), Checkpoint::TrimHorizon, Vec::new(), None);
        row.owner = owner.map(str::to_owned);
        row
    }

    /// A table, a leader, and workers that renew and hand over as they are told.
    struct Play {
        rows: Vec<LeaseRow>,
        view: View,
        leading: Leading,
        /// Who is alive, and who reports.
        alive: BTreeSet<String>,
        reports: BTreeMap<String, u64>,
        start: Instant,
        now: Instant,
        leases_max: usize,
        moved: usize,
    }

    impl Play {
        fn new(rows: Vec<LeaseRow>, workers: usize) -> Self {
            let alive: BTreeSet<_> = (0..workers).map(worker).collect();
            Self {
                rows,
                view: View::new(FAILOVER),
                leading: Leading::default(),
                reports: alive.iter().map(|worker| (worker.clone(), 0)).collect(),
                alive,
                start: Instant::now(),
                now: Instant::now(),
                leases_max: usize::MAX,
                moved: 0,
            }
        }

        /// A second passes: who is alive reports, renews, and ends handoffs; then the leader looks, if one does.
        fn second(&mut self, leads: Option<bool>) -> Moves {
            self.now += Duration::from_secs(1);
            let now_s = (self.now - self.start).as_secs();
            for (worker, updated_s) in &mut self.reports {
                if self.alive.contains(worker) && now_s >= *updated_s + 30 {
                    *updated_s = now_s;
                }
            }
            for row in &mut self.rows {
                if row.holder().is_some_and(|holder| self.alive.contains(holder)) {
                    row.counter += 1;
                    row.checkpoint_owner = None;
                }
            }
            let Some(leads) = leads else { return Moves::default() };
            self.view.note(self.rows.clone(), self.now);
            let reports: Vec<_> = self.reports.iter().map(|(worker, updated_s)| reported(worker, *updated_s)).collect();
            let held = self.rows.iter().filter(|row| row.holder() == Some(ME)).map(|row| row.shard.clone()).collect();
            let round = Round {
                view: &self.view,
                reports: &reports,
                me: ME,
                held: &held,
                leases_max: self.leases_max,
                failover: FAILOVER,
                now: self.now,
                now_s,
            };
            let moves = self.leading.moves(&round, leads);
            for (lease, to) in moves.assign.iter().chain(&moves.force) {
                let row = self.rows.iter_mut().find(|row| row.shard == lease.shard).unwrap();
                (row.owner, row.checkpoint_owner, row.counter) = (Some(to.clone()), None, row.counter + 1);
            }
            for (lease, to) in &moves.hand_over {
                let row = self.rows.iter_mut().find(|row| row.shard == lease.shard).unwrap();
                assert!(row.checkpoint_owner.is_none() && row.owner.is_some());
                (row.checkpoint_owner, row.owner) = (row.owner.take(), Some(to.clone()));
                self.moved += 1;
            }
            moves
        }

        /// Leases that are not finished, of each that is alive and reports.
        fn loads(&self) -> Vec<usize> {
            let owns = |worker: &String| {
                let owned = self.rows.iter().filter(|row| row.owner.as_ref() == Some(worker) && !row.is_finished());
                owned.count()
            };
            self.alive.iter().filter(|worker| self.reports.contains_key(*worker)).map(owns).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_start_is_even_soon_and_stays_so(
            workers in 1_usize..6,
            owners in prop::collection::vec((prop::option::weighted(0.8, 0_usize..8), any::<bool>(), any::<bool>()), 1..40),
        ) {
            let made = |(index, (owner, finished, stuck)): (usize, (Option<usize>, bool, bool))| {
                // Some of these owners are dead and do not report.
                let mut row = row(index, owner.map(worker).as_deref());
                if finished { row.checkpoint = Checkpoint::ShardEnd; }
                if stuck && row.owner.is_some() { row.checkpoint_owner = Some("gone".into()); }
                row
            };
            let mut play = Play::new(owners.into_iter().enumerate().map(made).collect(), workers);
            for _ in 0..15 {
                play.second(Some(true));
            }
            let loads = play.loads();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
            let active = |row: &LeaseRow| row.owner.as_ref().is_some_and(|owner| play.alive.contains(owner));
            prop_assert!(play.rows.iter().all(active), "{:?}", play.rows);
            prop_assert!(play.rows.iter().filter(|row| !row.is_finished()).count() == loads.iter().sum::<usize>());
            let before = play.rows.clone();
            for _ in 0..60 {
                prop_assert_eq!(play.second(Some(true)), Moves::default(), "something moves although nothing changes");
            }
            prop_assert!(before.iter().zip(&play.rows).all(|(before, now)| before.owner == now.owner));
        }
    }

    #[test]
    fn a_worker_that_joins_gets_its_share_by_as_few_moves_as_there_are() {
        let mut play = Play::new((0..40).map(|index| row(index, Some(&worker(index % 4)))).collect(), 5);
        for _ in 0..5 {
            play.second(Some(true));
        }
        assert_eq!((play.loads(), play.moved), (vec![8; 5], 8));
    }

    #[test]
    fn the_longest_neglected_is_assigned_first_and_no_worker_has_more_than_it_may() {
        let mut play = Play::new((0..4).map(|index| row(index, Some("dead"))).collect(), 1);
        (play.leases_max, play.rows[1].owner) = (3, None);
        play.second(Some(true));
        // The last to stand still.
        play.rows[2].counter += 1;
        let mut assigned = Vec::new();
        for _ in 0..30 {
            assigned.extend(play.second(Some(true)).assign.into_iter().map(|(lease, _)| lease.shard));
        }
        // The second has nobody, and so is assigned in the first round.
        assert_eq!((assigned, play.rows[1].owner.as_deref()), (vec![id(0), id(3)], Some(ME)));
        assert_eq!(play.rows[2].owner.as_deref(), Some("dead"));
    }

    #[test]
    fn who_does_not_report_is_neither_given_leases_nor_asked_for_its_own() {
        let mut play = Play::new((0..6).map(|index| row(index, Some(&worker(1)))).collect(), 2);
        play.reports.remove(&worker(1));
        play.rows.push(row(6, None));
        for _ in 0..40 {
            play.second(Some(true));
        }
        let silent = play.rows.iter().filter(|row| row.owner == Some(worker(1))).count();
        assert_eq!((silent, play.rows[6].owner.as_deref()), (6, Some(ME)));
    }

    #[test]
    fn a_dead_worker_is_given_nothing_while_its_report_is_fresh() {
        let mut play = Play::new((0..9).map(|index| row(index, Some(&worker(index % 3)))).collect(), 3);
        for _ in 0..5 {
            play.second(Some(true));
        }
        play.alive.remove(&worker(2));
        for second in 1..=80 {
            let moves = play.second(Some(true));
            let to_dead = moves.assign.iter().chain(&moves.hand_over).any(|(_, to)| *to == worker(2));
            assert!(!to_dead, "after {second} s");
            let still_dead = play.rows.iter().any(|row| row.owner == Some(worker(2)));
            assert_eq!(still_dead, second <= 10, "after {second} s");
        }
        // Back to life: its next report counts.
        play.alive.insert(worker(2));
        for _ in 0..35 {
            play.second(Some(true));
        }
        assert_eq!(play.loads(), [3, 3, 3]);
    }

    #[test]
    fn whoever_is_given_a_lease_has_three_failovers_to_find_it() {
        let mut play = Play::new(vec![row(0, None), row(1, None)], 2);
        play.second(Some(true));
        assert_eq!(play.rows[1].owner, Some(worker(1)));
        play.alive.remove(&worker(1));
        for second in 1..=40 {
            play.second(Some(true));
            assert_eq!(play.rows[1].owner == Some(worker(1)), second <= 31, "after {second} s");
        }
    }

    #[test]
    fn who_does_not_lead_assigns_to_itself_alone_and_only_while_it_is_the_only_one() {
        let rows = || vec![row(0, None), row(1, Some("dead")), row(2, Some("renewing"))];
        let mut play = Play::new(rows(), 2);
        for _ in 0..12 {
            assert_eq!(play.second(Some(false)), Moves::default());
        }
        let mut play = Play::new(rows(), 1);
        play.alive.insert("renewing".into());
        for _ in 0..40 {
            play.second(Some(false));
        }
        let owners: Vec<_> = play.rows.iter().map(|row| row.owner.as_deref().unwrap()).collect();
        assert_eq!(owners, [ME, ME, "renewing"]);
    }

    #[test]
    fn a_handoff_that_its_holder_ignores_is_forced_when_its_time_is_over() {
        let mut stuck = row(0, Some(ME));
        stuck.checkpoint_owner = Some(worker(1));
        let mut play = Play::new(vec![stuck.clone(), row(1, Some(&worker(1)))], 2);
        for second in 1..=42 {
            // It renews, and does not hand over.
            (play.rows[0].checkpoint_owner, play.rows[0].counter) = (stuck.checkpoint_owner.clone(), second);
            play.alive.remove(&worker(1));
            play.rows[1].counter = second;
            play.reports.insert(worker(1), second);
            let moves = play.second(Some(true));
            let forced = !moves.force.is_empty();
            assert_eq!(forced, second == 42, "after {second} s: {moves:?}");
        }
        assert_eq!((play.rows[0].holder(), play.rows[0].counter), (Some(ME), 43));
    }
}
