//! The loop of a worker.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kinesink_core::{Failure, ShardId};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::held::{Held, renew_all, watch_clocks};
use super::taking::{Made, Taker};
use super::{Worker, mixed};
use crate::coordination::{Keeper, Leading, Standing};
use crate::lease::{Purpose, Term};
use crate::shard_list::Listing;
use crate::{Error, Finished, ShardHandler};

/// How long a worker that leaves waits for the answers to what it has sent, tries to take its wishes back, and looks
/// whether the table is there. A lease that is its own nevertheless expires.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// How often it is said that the table cannot be read, which is looked at every second or so.
const UNREAD_PERIOD: Duration = Duration::from_secs(60);

/// What ended: the shard's id, and how.
pub(super) type Ended = (ShardId, Result<Finished, Failure>);

/// Since the table was read last.
#[derive(Debug)]
pub(super) struct Unread {
    told_at: Instant,
    /// It is not there any more: what was not checkpointed cannot be, and no lease is held.
    is_gone: bool,
}

/// A worker under way.
pub(super) struct Drive<'a> {
    pub(super) worker: &'a Worker,
    pub(super) handler: Arc<dyn ShardHandler>,
    /// A failure of one shard drains the others too.
    pub(super) drain: CancellationToken,
    pub(super) held: Held,
    pub(super) term: Term,
    pub(super) shards: JoinSet<Ended>,
    pub(super) taker: Taker,
    /// What this worker remembers while it leads.
    pub(super) leading: Leading,
    standing: Standing,
    /// None: the last look at the table saw it.
    pub(super) unread: Option<Unread>,
    /// Whether a lease was lost, perhaps because the table is gone.
    has_lost: bool,
    /// Told whenever a shard was read to its end.
    pub(super) ended: Arc<Notify>,
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        handler: Arc<dyn ShardHandler>,
        drain: &CancellationToken,
        standing: Standing,
        made: Made,
    ) -> Self {
        Self {
            worker,
            handler,
            drain: drain.child_token(),
            held: Held::default(),
            term: Term::new(worker.failover, Arc::clone(&worker.clock)),
            shards: JoinSet::new(),
            taker: Taker::new(worker.failover, Rng::with_seed(mixed(worker.seed, &worker.id, "")), Some(made)),
            leading: Leading::default(),
            standing,
            unread: None,
            has_lost: false,
            ended: Arc::default(),
        }
    }

    /// Until everything is drained. Dropped, it leaves its leases to expire.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let drain = self.drain.clone();
        let mut failed = None;
        // Dropped with this future, and with it the renewals.
        let mut renewer = JoinSet::new();
        let (keeper, mut standing) = Keeper::new(self.worker.coordinator.clone(), self.standing);
        let (held, metrics) = (self.held.clone(), self.worker.metrics.clone());
        renewer.spawn(renew_all(held, self.worker.renew_period(), standing.clone(), metrics));
        renewer.spawn(watch_clocks(self.term.clone()));
        // Ends with the drain, once nobody counts on this worker any more.
        let mut keepers = JoinSet::new();
        keepers.spawn(keeper.run(drain.clone()));
        let told = Arc::clone(&self.ended);
        let mut ended = pin!(told.notified());
        // What is told while a branch is at work counts too.
        ended.as_mut().enable();
        let mut scan_at = Instant::now();
        let mut syncs = interval(self.worker.shard_sync);
        syncs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        syncs.reset();
        loop {
            let draining = drain.is_cancelled();
            if draining && self.shards.is_empty() && keepers.is_empty() {
                let _out_of_time = timeout(LEAVE_MAX, self.withdraw()).await;
                let gone = self.is_gone().await.then(|| self.gone());
                return failed.or(gone).map_or(Ok(()), |failure| Err(Error::Running(failure)));
            }
            let went_on = tokio::select! {
                biased;
                () = drain.cancelled(), if !draining => Ok(()),
                Some(joined) = self.shards.join_next() => self.left(joined),
                Some(Err(error)) = renewer.join_next() => {
                    Err(Failure::fatal(format!("the task that renews the leases failed: {error}")))
                }
                Some(joined) = keepers.join_next() => {
                    joined.map_err(|error| Failure::fatal(format!("the task that coordinates failed: {error}")))
                }
                Ok(()) = standing.changed() => {
                    self.standing = *standing.borrow_and_update();
                    self.taker.look_now();
                    scan_at = Instant::now();
                    Ok(())
                }
                () = ended.as_mut() => {
                    ended.set(told.notified());
                    ended.as_mut().enable();
                    // Its children's leases are free now.
                    scan_at = if self.standing.assigns() { Instant::now() } else { self.taker.soonest(scan_at) };
                    Ok(())
                }
                () = sleep_until(scan_at), if !draining => {
                    scan_at = self.look(&drain).await;
                    Ok(())
                }
                _ = syncs.tick(), if !draining => {
                    // One listing: the next sync comes soon enough. Dropped anywhere: the next one creates the rest.
                    match drain.run_until_cancelled(self.worker.sync_shards(1, Listing::ONCE, Purpose::Sync)).await {
                        Some(Err(error @ Error::EarlierStream(_))) => Err(Failure::configuration(error.to_string())),
                        Some(Err(error)) => {
                            warn!(%error, "shards not synchronized; trying again later");
                            Ok(())
                        }
                        _ => Ok(()),
                    }
                }
            };
            if let Err(failure) = went_on {
                error!(%failure, "the consumer ends; its shards are drained first");
                drain.cancel();
                failed.get_or_insert(failure);
            }
        }
    }

    /// One look at the table; when the next one is due. Where a drain begins meanwhile, nothing more is read and no more
    /// leases are taken, and those that were just taken are released with the others. Dropped anywhere: a lease whose take was sent and not
    /// answered expires.
    async fn look(&mut self, drain: &CancellationToken) -> Instant {
        let standing = self.standing;
        let round = async {
            match standing.assigns() {
                true => self.assigned_round(standing).await,
                false => self.round().await,
            }
        };
        let out_of_time = async {
            drain.cancelled().await;
            sleep(LEAVE_MAX).await;
        };
        tokio::select! {
            biased;
            () = round => {}
            () = out_of_time => {}
        }
        match standing.assigns() {
            true => Instant::now() + self.taker.scan_period(),
            false => self.taker.next_round(&self.worker.id),
        }
    }

    /// Notes that a look at the table was in vain.
    pub(super) fn not_read(&mut self, error: &Error) {
        let (now, is_gone) = (Instant::now(), matches!(error, Error::NoTable(_)));
        let told_at = self.unread.as_ref().filter(|unread| unread.is_gone == is_gone).map(|unread| unread.told_at);
        let told_at = told_at.filter(|at| now < *at + UNREAD_PERIOD);
        match (told_at, is_gone) {
            (Some(_), _) => debug!(%error, "leases not read; trying again"),
            (None, true) => error!(failure = %self.gone(), "leases not read; trying again"),
            (None, false) => error!(%error, "leases not read; trying again"),
        }
        self.unread = Some(Unread { told_at: told_at.unwrap_or(now), is_gone });
    }

    /// Whether the table is gone, as far as a worker that leaves can tell.
    async fn is_gone(&self) -> bool {
        match &self.unread {
            Some(unread) => unread.is_gone,
            // Beside others a lease expires before the next look.
            None if self.has_lost => {
                matches!(timeout(LEAVE_MAX, self.worker.table.rows()).await, Ok(Err(Error::NoTable(_))))
            }
            None => false,
        }
    }

    fn gone(&self) -> Failure {
        Failure::configuration(format!(
            "lease table {} is gone: without it nothing is read or checkpointed; restore it from a backup under its name, and its \
             workers go on; one that starts without it makes a new table and reads from `start`",
            self.worker.table.name()
        ))
    }

    /// Notes how a shard's task came to its end.
    fn left(&mut self, joined: Result<Ended, JoinError>) -> Result<(), Failure> {
        let (shard, ended) = joined.map_err(|error| Failure::fatal(format!("the task of a shard failed: {error}")))?;
        self.held.lock().remove(&shard);
        self.worker.metrics.holds(self.held.lock().len());
        let finished = ended?;
        if finished == Finished::LeaseLost {
            warn!(%shard, "lease lost");
            self.worker.metrics.lost();
            self.has_lost = true;
        }
        info!(%shard, ?finished, "shard finished");
        Ok(())
    }
}
