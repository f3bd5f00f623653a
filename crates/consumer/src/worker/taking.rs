//! One look at the table, and what follows from it: leases taken, asked for, given away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kinesink_core::{Checkpoint, ShardId};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use super::drive::Drive;
use super::held::Holding;
use super::shard::ShardRun;
use super::{EPSILON, WRITES_AT_ONCE, Worker, mixed};
use crate::Start;
use crate::fetch::ReaderSettings;
use crate::lease::fleet::{Moves, Round, is_ours};
use crate::lease::{HeldLease, LeaseError, LeaseRow, Purpose, Rhythm, Scan, View, Wish, assignment};

/// Among ourselves the table is read this often at least, so that a dead worker's last renewal is timed closely.
const SCAN_MAX: Duration = Duration::from_millis(1_500);
/// So long after a lease was taken LATEST may still be asked for.
const FRESH_MAX: Duration = Duration::from_secs(1);
/// In failovers: how long a lease that was promised is kept for the worker that asked. A handler that does not drain by
/// then is taken for one that never will.
const PROMISE_FAILOVERS_MAX: u32 = 20;
/// A stored start time is so much earlier than our clock says, which may be ahead of the service's.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(10);

/// What a worker remembers from one look to the next.
#[derive(Debug)]
pub(super) struct Taker {
    failover: Duration,
    pub(super) view: View,
    rhythm: Rhythm,
    rng: Rng,
    /// Leases that may have become this worker's without an answer to it: asked for, or taken by a write that was not
    /// answered.
    expected: BTreeSet<ShardId>,
    /// Rows that are left alone, and were logged.
    unreadable: BTreeSet<String>,
    began: bool,
    ours: bool,
    /// When KCL's taker has its next round.
    share_at: Instant,
}

/// What to do after one look.
#[derive(Debug, Default)]
struct Plan {
    /// Leases that are this worker's already, without being held.
    adopt: Vec<LeaseRow>,
    take: Vec<LeaseRow>,
    steal: Vec<LeaseRow>,
    wish: Vec<LeaseRow>,
    give: Vec<(ShardId, String)>,
    /// Wishes that were granted and are made again, in the name of who made them, until the shard is drained.
    keep: Vec<LeaseRow>,
    refuse: Vec<LeaseRow>,
}

impl Taker {
    pub(super) fn new(failover: Duration, rng: Rng) -> Self {
        let (view, rhythm) = (View::new(failover), Rhythm::new(failover));
        let share_at = Instant::now();
        let (expected, unreadable) = (BTreeSet::new(), BTreeSet::new());
        Self { failover, view, rhythm, rng, expected, unreadable, began: false, ours: true, share_at }
    }

    /// How often workers of ours look.
    pub(super) fn scan_period(&self) -> Duration {
        (self.failover / 3).min(SCAN_MAX)
    }

    /// How long a worker waits for a lease that it asked for.
    fn patience(&self) -> Duration {
        self.failover * 2
    }

    /// When to look again: soon among ourselves, and as soon as a lease expires; at KCL's pace beside others.
    pub(super) fn next_scan(&self, me: &str) -> Instant {
        let now = Instant::now();
        let soon = now + self.scan_period();
        if !self.ours && self.expected.is_empty() {
            // A scan that failed has not moved it.
            return if self.share_at > now { self.share_at } else { soon };
        }
        let expiry = self.view.next_expiry(me, now).map(|expiry| expiry + Duration::from_millis(1));
        expiry.map_or(soon, |expiry| expiry.clamp(now, soon))
    }

    /// When to look after a shard's end, if the next look was due at `due`.
    pub(super) fn soonest(&self, due: Instant) -> Instant {
        if self.ours { Instant::now() } else { due }
    }

    /// From now on a lease in this worker's name may be another process's.
    pub(super) fn begin(&mut self) {
        self.began = true;
    }

    /// Takes in a scan. What cannot be read is told once.
    pub(super) fn note(&mut self, found: Scan, me: &str) {
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
    }

    fn plan(&mut self, worker: &Worker, held: &BTreeSet<ShardId>, gifts: &BTreeMap<ShardId, Instant>) -> Plan {
        let now = Instant::now();
        let giving = &gifts.keys().cloned().collect();
        let me = worker.id.as_str();
        let mut plan = Plan { adopt: self.adoptable(me, held), ..Plan::default() };
        self.begin();
        let (view, leases_max) = (&self.view, worker.appetite.leases_max);
        self.ours = is_ours(view, me, now);
        let round = Round { view, me, held, giving, leases_max, patience: self.patience(), now };
        if self.ours {
            let Moves { take, wish, give, refuse } = round.moves(&mut self.rng);
            plan.take = take.into_iter().cloned().collect();
            plan.wish = wish.into_iter().cloned().collect();
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
            let choice = assignment::choose(view, me, held, worker.appetite, now, &mut self.rng);
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

impl Drive<'_> {
    /// One look. Dropped anywhere, it leaves nothing that the next one does not find.
    pub(super) async fn round(&mut self) {
        let began = Instant::now();
        let table = self.worker.table.by(Purpose::Take);
        let found = match table.scan().await {
            Ok(found) => found,
            Err(error) => return error!(%error, "leases not read; trying again"),
        };
        self.worker.metrics.cannot_read(found.unreadable.len());
        self.taker.note(found, &self.worker.id);
        let slow = began.elapsed() > self.worker.renew_period() / 2;
        let (held, gifts) = (self.held.shards(), self.held.gifts());
        let mut plan = self.taker.plan(self.worker, &held, &gifts);
        for (shard, to) in &plan.give {
            let holding = self.held.lock().get(shard).cloned();
            if holding.is_some_and(|holding| holding.give(to)) {
                info!(%shard, %to, "draining the shard to give its lease away");
            }
        }
        for lease in &plan.refuse {
            if let Err(failure) = table.refuse(lease).await {
                debug!(shard = %lease.shard, %failure, "wish not refused; trying again");
            }
        }
        for lease in &plan.keep {
            let Some(Wish { by, .. }) = lease.wish.clone() else { continue };
            let wish = Wish { number: self.taker.rng.u64(..), by };
            if let Err(failure) = table.wish(lease, &wish).await {
                debug!(shard = %lease.shard, %failure, "granted wish not kept; trying again");
            }
        }
        if slow {
            plan.steal = self.read_again(plan.steal).await;
        }
        let taken = [plan.adopt, plan.take, plan.steal].concat();
        self.take(taken).await;
        self.wish(plan.wish).await;
        self.worker.metrics.holds(self.held.lock().len());
    }

    /// After a slow scan the counters of live leases have moved on.
    async fn read_again(&self, leases: Vec<LeaseRow>) -> Vec<LeaseRow> {
        let mut fresh = Vec::new();
        for lease in leases {
            match self.worker.table.by(Purpose::Take).get(&lease.shard).await {
                Ok(Some(now)) if now.owner == lease.owner => fresh.push(now),
                Ok(_) => {}
                Err(failure) => debug!(shard = %lease.shard, %failure, "lease not read"),
            }
        }
        fresh
    }

    pub(super) async fn take(&mut self, leases: Vec<LeaseRow>) {
        let worker = self.worker;
        let (table, term) = (&worker.table.by(Purpose::Take), &self.term.clone());
        let take = |observed: LeaseRow| async move {
            let start = worker.start_time(&observed);
            let taken = HeldLease::take(table, &observed, &worker.id, start, term).await;
            (observed, taken)
        };
        let mut taking = stream::iter(leases).map(take).buffer_unordered(WRITES_AT_ONCE);
        while let Some((observed, taken)) = taking.next().await {
            match taken {
                Ok(lease) => {
                    info!(shard = %observed.shard, checkpoint = %observed.checkpoint, "lease taken");
                    self.taker.expected.remove(&observed.shard);
                    self.start(lease, &observed);
                }
                Err(LeaseError::Lost) => debug!(shard = %observed.shard, "another worker was faster"),
                Err(LeaseError::Failed(failure)) => {
                    warn!(shard = %observed.shard, %failure, "lease not taken");
                    self.taker.expected.insert(observed.shard);
                }
            }
        }
    }

    fn start(&mut self, lease: HeldLease, observed: &LeaseRow) {
        let worker = self.worker;
        let shard = &observed.shard;
        let holding = Holding { lease: lease.into(), drain: self.drain.child_token(), gift: Arc::default() };
        self.held.lock().insert(shard.clone(), holding.clone());
        let run = ShardRun {
            holding,
            // The time was stored just now.
            fresh_until: observed.start.is_none().then(|| Instant::now() + FRESH_MAX),
            handler: Arc::clone(&self.handler),
            reader: ReaderSettings {
                seed: mixed(worker.reader.seed, &worker.id, shard.as_str()),
                ..worker.reader.clone()
            },
            failover: worker.failover,
            cleanup: worker.cleanup,
            ended: Arc::clone(&self.ended),
            metrics: worker.metrics.clone(),
        };
        let span = info_span!("lease", stream = %worker.reader.stream, %shard, lease_owner = worker.id);
        self.shards.spawn(run.run().instrument(span));
    }

    /// Takes this worker's wishes back: it leaves.
    pub(super) async fn withdraw(&self) {
        let me = self.worker.id.as_str();
        let table = self.worker.table.by(Purpose::Take);
        let asked = |lease: &&LeaseRow| lease.wish.as_ref().is_some_and(|wish| wish.by == me);
        for lease in self.taker.view.leases().iter().filter(asked) {
            match table.get(&lease.shard).await {
                Ok(Some(now)) if asked(&&now) => {
                    let _expires = table.refuse(&now).await;
                }
                _ => {}
            }
        }
    }

    async fn wish(&mut self, leases: Vec<LeaseRow>) {
        let worker = self.worker;
        let table = &worker.table.by(Purpose::Take);
        // Expected even if the answer is lost.
        self.taker.expected.extend(leases.iter().map(|lease| lease.shard.clone()));
        let numbered: Vec<_> = leases.into_iter().map(|lease| (self.taker.rng.u64(..), lease)).collect();
        let wish = |(number, lease): (u64, LeaseRow)| async move {
            match table.wish(&lease, &Wish { number, by: worker.id.clone() }).await {
                Ok(true) => debug!(shard = %lease.shard, "asked for the lease"),
                Ok(false) => debug!(shard = %lease.shard, "the lease has moved, or another worker asked for it"),
                Err(failure) => debug!(shard = %lease.shard, %failure, "could not ask for the lease"),
            }
        };
        stream::iter(numbered).for_each_concurrent(WRITES_AT_ONCE, wish).await;
    }
}

impl Worker {
    /// What a lease without a position stores as its start, unless one is stored. Its row decides, not our setting:
    /// another program may have made it.
    fn start_time(&self, observed: &LeaseRow) -> Option<Timestamp> {
        match (observed.checkpoint, self.start) {
            _ if observed.start.is_some() => None,
            (Checkpoint::Latest, _) => {
                Some(self.clock.now().checked_sub(CLOCK_SKEW_MAX).unwrap_or(Timestamp::UNIX_EPOCH))
            }
            (Checkpoint::AtTimestamp, Start::AtTimestamp(time)) => Some(time),
            (Checkpoint::AtTimestamp, Start::Latest | Start::TrimHorizon) => {
                warn!(shard = %observed.shard, "the lease starts at a time that is not set; reading from TRIM_HORIZON");
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
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
        let mut taker = Taker::new(Duration::from_secs(10), Rng::with_seed(1));
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
        let mut taker = Taker::new(failover, Rng::with_seed(1));
        taker.view.note(vec![lease("a", "other")], start);
        assert_eq!(taker.next_scan("me"), start + SCAN_MAX);
        tokio::time::advance(failover - Duration::from_secs(1)).await;
        let expired = start + failover + Duration::from_millis(1);
        assert_eq!(taker.next_scan("me"), expired, "as soon as the lease expires");
        taker.ours = false;
        taker.share_at = start + Duration::from_millis(20_050);
        assert_eq!(taker.next_scan("me"), taker.share_at);
    }
}
