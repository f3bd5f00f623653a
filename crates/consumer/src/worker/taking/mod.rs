//! One look at the table, and what follows from it: leases taken, asked for, given away.

#[cfg(test)]
mod large_fleet;
mod taker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use futures::stream::{self, Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kinesink_core::{Checkpoint, ShardId};
use tokio::time::Instant;
use tracing::{Instrument as _, debug, error_span, info, warn};

pub(super) use self::taker::{Made, Taker};
use super::drive::Drive;
use super::held::Holding;
use super::shard::ShardRun;
use super::{WRITES_AT_ONCE, Worker, mixed};
use crate::Start;
use crate::lease::{HeldLease, LeaseError, LeaseRow, Purpose, Wish};

/// So long after a lease was taken LATEST may still be asked for.
const FRESH_MAX: Duration = Duration::from_secs(1);
/// A stored start time is so much earlier than our clock says, which may be ahead of the service's.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(10);

impl Drive<'_> {
    /// One round. Dropped anywhere, it leaves nothing that the next one does not find.
    pub(super) async fn round(&mut self) {
        let began = Instant::now();
        let table = self.worker.table.by(Purpose::Take);
        let looks = self.taker.looks();
        if looks {
            let drain = self.drain.clone();
            let found = match drain.run_until_cancelled(table.scan()).await {
                None => return,
                Some(Ok(found)) => found,
                Some(Err(error)) => {
                    self.not_read(&error);
                    return self.taker.look_later();
                }
            };
            self.unread = None;
            self.worker.metrics.cannot_read(found.unreadable.len());
            self.taker.note(found, &self.worker.id);
        }
        let slow = began.elapsed() > self.worker.renew_period() / 2;
        let (held, gifts) = (self.held.shards(), self.held.gifts());
        let mut plan = self.taker.plan(&self.worker.id, self.worker.appetite, &held, &gifts, looks);
        for (shard, to) in &plan.give {
            let holding = self.held.lock().get(shard).cloned();
            if holding.is_some_and(|holding| holding.give(to)) {
                info!(%shard, %to, "draining the shard to give its lease away");
            }
        }
        if self.drain.is_cancelled() {
            return;
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
            let steal = std::mem::take(&mut plan.steal);
            plan.steal = self.drain.run_until_cancelled(self.read_again(steal)).await.unwrap_or_default();
        }
        let taken = [plan.adopt, plan.take, plan.steal].concat();
        // Others have come meanwhile, who count on their part.
        let until = self.taker.ours.then(|| Instant::now() + self.taker.scan_period());
        self.take(taken, until).await;
        self.wish(plan.wish, until).await;
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

    /// Takes leases, or what there is time for until then or until the drain.
    pub(super) async fn take(&mut self, leases: Vec<LeaseRow>, until: Option<Instant>) {
        let worker = self.worker;
        let (table, term) = (&worker.table.by(Purpose::Take), &self.term.clone());
        let take = |observed: LeaseRow| async move {
            let start = worker.start_time(&observed);
            let taken = HeldLease::take(table, &observed, &worker.id, start, term).await;
            (observed, taken)
        };
        let mut taking = self.in_time(leases, until).map(take).buffer_unordered(WRITES_AT_ONCE);
        while let Some((observed, taken)) = taking.next().await {
            match taken {
                Ok(lease) => {
                    info!(shard = %observed.shard, checkpoint = %observed.checkpoint, "lease taken");
                    self.taker.expected.remove(&observed.shard);
                    self.start(lease, &observed);
                }
                Err(LeaseError::Lost) => {
                    debug!(shard = %observed.shard, "another worker was faster");
                    self.taker.overtaken();
                }
                Err(LeaseError::Failed(failure)) => {
                    warn!(shard = %observed.shard, %failure, "lease not taken");
                    self.taker.expected.insert(observed.shard);
                }
            }
        }
        self.taker.look_again_after(until);
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
            reader: Arc::clone(&worker.reader),
            seed: mixed(worker.seed, &worker.id, shard.as_str()),
            failover: worker.failover,
            cleanup: worker.cleanup,
            ended: Arc::clone(&self.ended),
        };
        // Of the highest level, so that a warning names its shard whatever level is logged.
        let span = error_span!("lease", stream = %worker.reader.stream, %shard, lease_owner = worker.id);
        self.shards.spawn(Box::new(run).run().instrument(span));
    }

    /// What is begun until then, and before the drain.
    pub(super) fn in_time<T>(&self, all: Vec<T>, until: Option<Instant>) -> impl Stream<Item = T> + use<T> {
        let drain = self.drain.clone();
        let is_in_time = move || !drain.is_cancelled() && until.is_none_or(|until| Instant::now() < until);
        stream::iter(all).take_while(move |_| future::ready(is_in_time()))
    }

    /// Takes this worker's wishes back, and releases what it was given for them or took without an answer: it leaves.
    pub(super) async fn withdraw(&self) {
        let asked = |lease: &&LeaseRow| lease.wish.as_ref().is_some_and(|wish| wish.by == self.worker.id);
        let seen = self.taker.view.leases().iter().filter(asked).map(|lease| &lease.shard);
        let shards: BTreeSet<_> = seen.chain(&self.taker.expected).collect();
        stream::iter(shards).for_each_concurrent(WRITES_AT_ONCE, |shard| self.let_go(shard)).await;
    }

    /// What fails expires.
    async fn let_go(&self, shard: &ShardId) {
        let (worker, table) = (self.worker, self.worker.table.by(Purpose::Take));
        let Ok(Some(lease)) = table.get(shard).await else { return };
        if lease.wish.as_ref().is_some_and(|wish| wish.by == worker.id) {
            let _expires = table.refuse(&lease).await;
        } else if lease.owner.as_ref() == Some(&worker.id)
            && lease.checkpoint_owner.is_none()
            && let Ok(lease) = HeldLease::take(&table, &lease, &worker.id, None, &self.term).await
        {
            let _expires = lease.give(None).await;
        }
    }

    /// Asks for leases, or for what there is time for until then or until the drain.
    async fn wish(&mut self, leases: Vec<LeaseRow>, until: Option<Instant>) {
        let worker = self.worker;
        let table = &worker.table.by(Purpose::Take);
        // Expected even if the answer is lost.
        self.taker.expected.extend(leases.iter().map(|lease| lease.shard.clone()));
        let numbered: Vec<_> = leases.into_iter().map(|lease| (self.taker.rng.u64(..), lease)).collect();
        let wish = |(number, lease): (u64, LeaseRow)| async move {
            let asked = table.wish(&lease, &Wish { number, by: worker.id.clone() }).await;
            match &asked {
                Ok(true) => debug!(shard = %lease.shard, "asked for the lease"),
                Ok(false) => debug!(shard = %lease.shard, "the lease has moved, or another worker asked for it"),
                Err(failure) => debug!(shard = %lease.shard, %failure, "could not ask for the lease"),
            }
            matches!(asked, Ok(false))
        };
        let asking = self.in_time(numbered, until).map(wish).buffer_unordered(WRITES_AT_ONCE);
        if asking.filter(|overtaken| future::ready(*overtaken)).count().await > 0 {
            self.taker.overtaken();
        }
        self.taker.look_again_after(until);
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
