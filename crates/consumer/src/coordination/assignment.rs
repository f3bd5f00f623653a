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
