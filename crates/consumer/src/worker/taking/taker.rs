//! What a worker remembers from one look at the table to the next, and what it decides by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use kinesink_core::ShardId;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::lease::assignment::{self, Appetite};
use crate::lease::fleet::{Moves, Round, is_ours};
use crate::lease::{LeaseRow, Rhythm, Scan, View};
use crate::worker::EPSILON;

/// Among ourselves the table is read this often at least, so that a dead worker's last renewal is timed closely.
const SCAN_MAX: Duration = Duration::from_millis(1_500);
/// In failovers: how long a lease that was promised is kept for the worker that asked. A handler that does not drain by
/// then is taken for one that never will.
const PROMISE_FAILOVERS_MAX: u32 = 20;

/// What a worker remembers from one look to the next.
#[derive(Debug)]
pub(in crate::worker) struct Taker {
    failover: Duration,
    pub(in crate::worker) view: View,
    rhythm: Rhythm,
    pub(super) rng: Rng,
    /// Leases that may have become this worker's without an answer to it: asked for, or taken by a write that was not
    /// answered.
    pub(super) expected: BTreeSet<ShardId>,
    /// Rows that are left alone, and were logged.
    unreadable: BTreeSet<String>,
    began: bool,
    pub(super) ours: bool,
    /// When KCL's taker has its next round.
    share_at: Instant,
    /// Whether others saw this worker when it looked last.
    seen: bool,
    looked_at: Option<Instant>,
    /// Until the first look.
    made: Option<Made>,
    /// When to look again among ourselves because something is left to do.
    again_at: Option<Instant>,
}

/// What a worker did for the table before its first look.
#[derive(Debug, Clone, Copy)]
pub(in crate::worker) struct Made {
    pub(in crate::worker) since: Instant,
    /// Leases that were not there.
    pub(in crate::worker) leases: usize,
}

/// What to do after one look.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Leases that are this worker's already, without being held.
    pub(super) adopt: Vec<LeaseRow>,
    pub(super) take: Vec<LeaseRow>,
    pub(super) steal: Vec<LeaseRow>,
    pub(super) wish: Vec<LeaseRow>,
    pub(super) give: Vec<(ShardId, String)>,
    /// Wishes that were granted and are made again, in the name of who made them, until the shard is drained.
    pub(super) keep: Vec<LeaseRow>,
    pub(super) refuse: Vec<LeaseRow>,
}

impl Taker {
    pub(in crate::worker) fn new(failover: Duration, rng: Rng, made: Option<Made>) -> Self {
        let (view, rhythm) = (View::new(failover), Rhythm::new(failover));
        let share_at = Instant::now();
        let (expected, unreadable) = (BTreeSet::new(), BTreeSet::new());
        let (began, ours, seen, looked_at, again_at) = (false, true, false, None, None);
        Self {
            failover,
            view,
            rhythm,
            rng,
            expected,
            unreadable,
            began,
            ours,
            share_at,
            seen,
            looked_at,
            made,
            again_at,
        }
    }

    /// How often workers of ours look.
    pub(in crate::worker) fn scan_period(&self) -> Duration {
        (self.failover / 3).min(SCAN_MAX)
    }

    /// How long a worker waits for a lease that it asked for.
    fn patience(&self) -> Duration {
        self.failover * 2
    }

    /// When to act again: soon among ourselves, and as soon as a lease expires; at KCL's pace beside others.
    pub(in crate::worker) fn next_round(&self, me: &str) -> Instant {
        let now = Instant::now();
        let due = self.looked_at.map_or(now, |at| at + self.scan_period());
        let soon = self.again_at.unwrap_or(due).max(now);
        if !self.ours && self.expected.is_empty() {
            // A scan that failed has not moved it.
            return if self.share_at > now { self.share_at } else { soon };
        }
        let expiry = self.view.next_expiry(me, now).map(|expiry| expiry + Duration::from_millis(1));
        expiry.map_or(soon, |expiry| expiry.clamp(now, soon))
    }

    /// Whether this round looks at the table. If not, a lease has expired since the last look, which is enough: to take
    /// it is conditional on its counter.
    pub(super) fn looks(&self) -> bool {
        let is_old = |at: Instant| at + self.scan_period() <= Instant::now();
        !self.ours || self.again_at.is_some() || self.looked_at.is_none_or(is_old)
    }

    /// When to look after a shard's end, if the next look was due at `due`.
    pub(in crate::worker) fn soonest(&mut self, due: Instant) -> Instant {
        self.look_now();
        if self.ours { Instant::now() } else { due }
    }

    /// The next round looks, whenever it is: the table is not as it was seen.
    pub(in crate::worker) fn look_now(&mut self) {
        self.again_at = Some(Instant::now());
    }

    /// A look was in vain.
    pub(super) fn look_later(&mut self) {
        self.again_at = Some(Instant::now() + self.scan_period());
    }

    /// Another worker was faster: what it left is for who looks again soon. Not all at once, or they would get in each
    /// other's way again; and who has only just come waits for others that have.
    pub(super) fn overtaken(&mut self) {
        if !self.seen || !self.ours {
            return;
        }
        let wait = (self.scan_period() / 16).mul_f64(1.0 + self.rng.f64() * 3.0);
        self.again_at.get_or_insert(Instant::now() + wait);
    }

    /// What there was no time for until then is for the next look, at once.
    pub(super) fn look_again_after(&mut self, until: Option<Instant>) {
        self.again_at = until.filter(|until| Instant::now() >= *until).or(self.again_at);
    }

    /// From now on a lease in this worker's name may be another process's.
    pub(in crate::worker) fn begin(&mut self) {
        self.began = true;
    }

    /// Takes in a scan. What cannot be read is told once.
    pub(in crate::worker) fn note(&mut self, found: Scan, me: &str) {
        for row in &found.unreadable {
            if !self.unreadable.contains(row.row()) {
                error!(%row, "row left alone, and its shard and those after it are not read here; correct the row");
            }
        }
        self.unreadable = found.unreadable.iter().map(|row| row.row().to_owned()).collect();
        let now = Instant::now();
        for other in self.rhythm.note(&found.leases, me, now) {
            let (ours, theirs) = (self.failover, other.failover);
            warn!(
                owner = other.owner,
                ?ours,
                ?theirs,
                "another worker renews as if its failover were another: set all alike"
            );
        }
        self.view.note(found.leases, now);
        self.looked_at = Some(now);
    }

    pub(super) fn plan(
        &mut self,
        me: &str,
        appetite: Appetite,
        held: &BTreeSet<ShardId>,
        gifts: &BTreeMap<ShardId, Instant>,
        looked: bool,
    ) -> Plan {
        let now = Instant::now();
        let giving = &gifts.keys().cloned().collect();
        // What this worker has asked for since the last look is not seen in it.
        let adopt = if looked { self.adoptable(me, held) } else { Vec::new() };
        let mut plan = Plan { adopt, ..Plan::default() };
        self.begin();
        let (view, leases_max) = (&self.view, appetite.leases_max);
        self.ours = is_ours(view, me, now);
        let round = Round { view, me, held, giving, leases_max, patience: self.patience(), now };
        self.seen = round.is_seen();
        // Whoever began at the same time would have made some of the leases. To make thousands takes as long as others
        // are waited for.
        let alone = self.made.take().filter(|made| !self.seen && made.leases == view.leases().len());
        self.again_at = alone.map(|made| made.since + self.scan_period() / 2);
        if self.ours {
            let Moves { take, wish, give, refuse } = round.moves(&mut self.rng);
            plan.take = take.into_iter().cloned().collect();
            plan.wish = wish.into_iter().filter(|_| looked).cloned().collect();
            plan.refuse = refuse.into_iter().cloned().collect();
            let promised = |lease: &&LeaseRow| {
                let since = gifts.get(&lease.shard);
                since.is_some_and(|since| now - *since < self.failover * PROMISE_FAILOVERS_MAX)
                    && view.wished_for(lease, now).is_some_and(|(_, age)| age >= self.failover)
            };
            plan.keep = view.leases().iter().filter(promised).cloned().collect();
            plan.give = give.into_iter().map(|(lease, to)| (lease.shard.clone(), to.to_owned())).collect();
        }
        // Beside others, and for what was asked for in vain.
        if now >= self.share_at && (!self.ours || round.was_refused()) {
            self.share_at = now + (self.failover + EPSILON) * 2;
            let choice = assignment::choose(view, me, held, appetite, now, &mut self.rng);
            if !self.ours {
                plan.take = choice.free.into_iter().cloned().collect();
            }
            plan.steal = choice.stolen.into_iter().cloned().collect();
            // Its owner drains it for somebody else, or is asked to.
            plan.steal.retain(|lease| round.wanted_by(lease).is_none());
        }
        let adopted: BTreeSet<_> = plan.adopt.iter().map(|lease| lease.shard.clone()).collect();
        plan.take.retain(|lease| !adopted.contains(&lease.shard));
        plan
    }

    /// Leases in this worker's name. After the start only those that it expects: another process with the same id
    /// would be robbed otherwise. One with a handoff of KCL 3.x under way belongs to its present owner.
    fn adoptable(&mut self, me: &str, held: &BTreeSet<ShardId>) -> Vec<LeaseRow> {
        let mine = |lease: &LeaseRow| lease.owner.as_deref() == Some(me);
        let asked = |lease: &LeaseRow| lease.wish.as_ref().is_some_and(|wish| wish.by == me);
        let open = self.view.leases().iter().filter(|lease| mine(lease) || asked(lease));
        let open: BTreeSet<_> = open.map(|lease| lease.shard.clone()).collect();
        self.expected.retain(|shard| open.contains(shard) && !held.contains(shard));
        let free = |lease: &&LeaseRow| mine(lease) && lease.checkpoint_owner.is_none() && !held.contains(&lease.shard);
        let known = |lease: &&LeaseRow| !self.began || self.expected.contains(&lease.shard);
        self.view.leases().iter().filter(free).filter(known).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use kinesink_core::Checkpoint;

    use super::*;

    fn lease(id: &str, owner: &str) -> LeaseRow {
        let mut lease = LeaseRow::new(id.parse().unwrap(), Checkpoint::TrimHorizon, Vec::new(), None);
        lease.owner = Some(owner.to_owned());
        lease
    }

    fn adopted(taker: &mut Taker, leases: Vec<LeaseRow>) -> Vec<String> {
        taker.view.note(leases, Instant::now());
        let adopted = taker.adoptable("me", &BTreeSet::from(["held".parse().unwrap()]));
        adopted.into_iter().map(|lease| lease.shard.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn own_leases_are_adopted_at_the_start_and_later_only_expected_ones() {
        let mut taker = Taker::new(Duration::from_secs(10), Rng::with_seed(1), None);
        let handed = LeaseRow { checkpoint_owner: Some("java".into()), ..lease("handed", "me") };
        let leases = || vec![lease("mine", "me"), lease("held", "me"), lease("theirs", "other"), handed.clone()];
        assert_eq!(adopted(&mut taker, leases()), ["mine"]);
        taker.began = true;
        assert!(adopted(&mut taker, leases()).is_empty(), "another process with this id would be robbed");
        taker.expected.extend(["mine".parse().unwrap(), "handed".parse().unwrap(), "theirs".parse().unwrap()]);
        assert_eq!(adopted(&mut taker, leases()), ["mine"]);
        assert!(!taker.expected.contains(&"theirs".parse::<ShardId>().unwrap()), "nobody asked for it any more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_look_is_soon_among_ourselves_and_at_kcls_pace_beside_others() {
        let (start, failover) = (Instant::now(), Duration::from_secs(10));
        let mut taker = Taker::new(failover, Rng::with_seed(1), None);
        taker.note(Scan { leases: vec![lease("a", "other")], unreadable: Vec::new() }, "me");
        assert_eq!(taker.next_round("me"), start + SCAN_MAX);
        tokio::time::advance(failover - Duration::from_secs(1)).await;
        assert_eq!(taker.next_round("me"), Instant::now(), "the next look is late");
        taker.note(Scan { leases: vec![lease("a", "other")], unreadable: Vec::new() }, "me");
        let expired = start + failover + Duration::from_millis(1);
        assert_eq!(taker.next_round("me"), expired, "as soon as the lease expires");
        tokio::time::advance(expired - Instant::now()).await;
        assert!(!taker.looks(), "the last look is enough to take it");
        taker.look_now();
        assert!(taker.looks());
        taker.ours = false;
        taker.share_at = start + Duration::from_millis(20_050);
        assert_eq!(taker.next_round("me"), taker.share_at);
    }

    #[tokio::test(start_paused = true)]
    async fn who_made_all_leases_takes_more_than_the_first_half_a_look_after_it_began_and_others_a_look_after() {
        let any = Appetite { leases_max: usize::MAX, steals_max: 1 };
        let leases = || (0..40).map(|n| LeaseRow { owner: None, ..lease(&format!("shard-{n}"), "") }).collect();
        let since = Instant::now();
        for (made, next) in [(40, SCAN_MAX / 2), (39, SCAN_MAX)] {
            let made = Some(Made { since, leases: made });
            let mut taker = Taker::new(Duration::from_secs(10), Rng::with_seed(1), made);
            let scan = Scan { leases: leases(), unreadable: Vec::new() };
            taker.note(scan, "me");
            assert_eq!(taker.plan("me", any, &BTreeSet::new(), &BTreeMap::new(), true).take.len(), 16);
            assert_eq!(taker.next_round("me"), since + next);
            taker.plan("me", any, &BTreeSet::new(), &BTreeMap::new(), true);
            assert_eq!(taker.next_round("me"), since + SCAN_MAX, "in vain, it goes on as all do");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_without_a_look_forgets_nothing_that_was_asked_for_since_the_last_one() {
        let mut taker = Taker::new(Duration::from_secs(10), Rng::with_seed(1), None);
        let any = Appetite { leases_max: usize::MAX, steals_max: 1 };
        let none = (BTreeSet::new(), BTreeMap::new());
        taker.note(Scan { leases: vec![lease("a", "other")], unreadable: Vec::new() }, "me");
        taker.plan("me", any, &none.0, &none.1, true);
        taker.expected.insert("a".parse().unwrap());
        taker.plan("me", any, &none.0, &none.1, false);
        taker.note(Scan { leases: vec![lease("a", "me")], unreadable: Vec::new() }, "me");
        assert_eq!(taker.plan("me", any, &none.0, &none.1, true).adopt.len(), 1, "it was given, and nobody reads it");
    }
}
