//! The loop of a worker: sync, take, renew, run, release.
//!
//! - `shard`: the run of one held shard

mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use kinesink_core::{Backoff, Checkpoint, Class, Clock, Failure, ShardId};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use self::shard::ShardRun;
use crate::fetch::ReaderSettings;
use crate::lease::assignment::{Observations, to_take};
use crate::lease::{HeldLease, LeaseError, LeaseRow, LeaseTable};
use crate::metrics::Metrics;
use crate::{Error, Finished, ShardHandler, Start, shard_sync};

/// Attempts before the first record; afterwards everything transient is tried without end.
const START_ATTEMPTS_MAX: u32 = 6;
/// A stream that is being resharded shows a listing that does not fit together for a moment.
const LISTINGS_MAX: u32 = 30;
const LISTING_PAUSE: Duration = Duration::from_secs(1);
/// KCL's maxLeaseRenewalThreads.
const RENEWALS_AT_ONCE: usize = 20;
/// A stored start time is so much earlier than our clock says, which may be ahead of the service's.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(10);

/// One worker of an application.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) table: LeaseTable,
    pub(crate) reader: ReaderSettings,
    pub(crate) start: Start,
    pub(crate) failover: Duration,
    pub(crate) shard_sync: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

/// The leases that are held now, shared with the renewer.
#[derive(Debug, Clone, Default)]
struct Held(Arc<Mutex<BTreeMap<ShardId, Arc<HeldLease>>>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Arc<HeldLease>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<HeldLease>> {
        self.lock().values().cloned().collect()
    }
}

/// What ended: the shard's id, and how.
type Ended = (ShardId, Result<Finished, Failure>);

impl Worker {
    pub(crate) async fn run(
        &self,
        handler: Arc<dyn ShardHandler>,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = abort.cancelled() => return Ok(()),
            () = drain.cancelled() => return Ok(()),
            prepared = self.prepare() => prepared?,
        }
        tokio::select! {
            biased;
            () = abort.cancelled() => Ok(()),
            done = self.drive(handler, drain) => done,
        }
    }

    /// Table, stream and leases are there, or it is known why not.
    async fn prepare(&self) -> Result<(), Error> {
        let mut backoff =
            Backoff::new(Duration::from_millis(200), Duration::from_secs(2), mixed(self.reader.seed, &self.id, ""));
        loop {
            let prepared = async {
                // The stream first: without it no table should be made.
                shard_sync::list(&self.reader.client, &self.reader.stream, None).await.map_err(Error::Start)?;
                self.reader.prepare().await.map_err(Error::Start)?;
                self.table.ensure().await.map_err(Error::Start)?;
                self.sync_shards(LISTINGS_MAX).await
            };
            match prepared.await {
                Err(Error::Start(failure))
                    if failure.class == Class::Transient && backoff.attempts() + 1 < START_ATTEMPTS_MAX =>
                {
                    debug!(%failure, "starting again");
                    sleep(backoff.next_wait(failure.retry_after)).await;
                }
                done => return done,
            }
        }
    }

    /// Creates the leases that the table lacks, after at most so many listings that do not fit together.
    async fn sync_shards(&self, listings_max: u32) -> Result<(), Error> {
        let (client, stream) = (&self.reader.client, &self.reader.stream);
        let leases = self.table.scan().await?;
        for listing in 0..listings_max {
            if listing > 0 {
                sleep(LISTING_PAUSE).await;
            }
            let missing = if leases.is_empty() {
                let shards = shard_sync::list(client, stream, Some(&self.start)).await.map_err(Error::Start)?;
                shard_sync::for_new_application(&shards, &self.start)
            } else {
                let shards = shard_sync::list(client, stream, None).await.map_err(Error::Start)?;
                let leased = leases.iter().map(|lease| lease.shard.clone()).collect();
                shard_sync::for_known_application(&shards, &leased, &self.start)
            };
            if let Some(missing) = missing {
                for lease in &missing {
                    self.table.create(lease).await.map_err(Error::Start)?;
                    info!(shard = %lease.shard, checkpoint = %lease.checkpoint, "lease created");
                }
                return Ok(());
            }
        }
        let message = format!("the shards of stream {stream} do not fit together; look at it with list-shards");
        Err(Error::Start(Failure::transient(message)))
    }

    async fn drive(&self, handler: Arc<dyn ShardHandler>, drain: CancellationToken) -> Result<(), Error> {
        // A failure of one drains the others too.
        let drain = drain.child_token();
        let mut failed = None;
        let held = Held::default();
        // Dropped with this future, and with it the renewals.
        let mut renewer = JoinSet::new();
        renewer.spawn(renew_all(held.clone(), self.failover));
        let mut shards: JoinSet<Ended> = JoinSet::new();
        let mut observations = Observations::default();
        let mut scans = interval((self.failover / 3).min(Duration::from_secs(5)));
        scans.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut syncs = interval(self.shard_sync);
        syncs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        syncs.reset();
        loop {
            let draining = drain.is_cancelled();
            if draining && shards.is_empty() {
                return failed.map_or(Ok(()), |failure| Err(Error::Running(failure)));
            }
            let went_on = tokio::select! {
                () = drain.cancelled(), if !draining => Ok(()),
                Some(joined) = shards.join_next() => {
                    // Its children, or the lease of a dead owner, may be free now.
                    scans.reset_immediately();
                    self.ended(joined, &held)
                }
                Some(Err(error)) = renewer.join_next() => {
                    Err(Failure::fatal(format!("the task that renews the leases failed: {error}")))
                }
                _ = scans.tick(), if !draining => {
                    // Dropped anywhere: a lease whose take was sent and not answered expires.
                    let take = self.take(&handler, &drain, &held, &mut shards, &mut observations);
                    drain.run_until_cancelled(take).await;
                    Ok(())
                }
                _ = syncs.tick(), if !draining => {
                    // One listing: the next sync comes soon enough. Dropped anywhere: the next one creates the rest.
                    if let Some(Err(error)) = drain.run_until_cancelled(self.sync_shards(1)).await {
                        warn!(%error, "shards not synchronized; trying again later");
                    }
                    Ok(())
                }
            };
            if let Err(failure) = went_on {
                error!(%failure, "the consumer ends; its shards are drained first");
                drain.cancel();
                failed.get_or_insert(failure);
            }
        }
    }

    /// Notes how a shard's task came to its end.
    fn ended(&self, joined: Result<Ended, JoinError>, held: &Held) -> Result<(), Failure> {
        let (shard, ended) = joined.map_err(|error| Failure::fatal(format!("the task of a shard failed: {error}")))?;
        held.lock().remove(&shard);
        self.metrics.holds(held.lock().len());
        let finished = ended?;
        if finished == Finished::LeaseLost {
            self.metrics.lost();
        }
        info!(%shard, ?finished, "shard finished");
        Ok(())
    }

    /// One look at the table, and the leases that are free.
    async fn take(
        &self,
        handler: &Arc<dyn ShardHandler>,
        drain: &CancellationToken,
        held: &Held,
        shards: &mut JoinSet<Ended>,
        observations: &mut Observations,
    ) {
        let leases = match self.table.scan().await {
            Ok(leases) => leases,
            Err(error) => return error!(%error, "leases not read; trying again"),
        };
        observations.note(&leases, Instant::now());
        let held_now: BTreeSet<ShardId> = held.lock().keys().cloned().collect();
        for observed in to_take(&leases, &held_now, &self.id, observations, self.failover, Instant::now()) {
            let start = self.start_time(observed);
            match HeldLease::take(&self.table, observed, &self.id, start, self.failover).await {
                Ok(lease) => {
                    info!(shard = %observed.shard, checkpoint = %observed.checkpoint, "lease taken");
                    let lease = Arc::new(lease);
                    held.lock().insert(observed.shard.clone(), Arc::clone(&lease));
                    let run = self.shard_run(handler, drain, lease, observed);
                    let span = info_span!("lease", stream = %self.reader.stream, shard = %observed.shard, lease_owner = self.id);
                    shards.spawn(run.run().instrument(span));
                }
                Err(LeaseError::Lost) => debug!(shard = %observed.shard, "another worker was faster"),
                Err(LeaseError::Failed(failure)) => warn!(shard = %observed.shard, %failure, "lease not taken"),
            }
        }
        self.metrics.holds(held.lock().len());
    }

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

    fn shard_run(
        &self,
        handler: &Arc<dyn ShardHandler>,
        drain: &CancellationToken,
        lease: Arc<HeldLease>,
        observed: &LeaseRow,
    ) -> ShardRun {
        ShardRun {
            lease,
            // The time was stored just now, so LATEST is still what was asked for.
            fresh: observed.start.is_none(),
            handler: Arc::clone(handler),
            drain: drain.clone(),
            reader: ReaderSettings {
                seed: mixed(self.reader.seed, &self.id, observed.shard.as_str()),
                ..self.reader.clone()
            },
            metrics: self.metrics.clone(),
        }
    }
}

/// A seed of its own for each worker and shard: they must not back off in step.
fn mixed(seed: u64, worker: &str, shard: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, worker, shard).hash(&mut hasher);
    hasher.finish()
}

/// Renews every held lease, three times per failover. Never ends by itself.
async fn renew_all(held: Held, failover: Duration) -> Infallible {
    let mut ticks = interval(failover / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stream::iter(held.all()).for_each_concurrent(RENEWALS_AT_ONCE, renew).await;
    }
}

async fn renew(lease: Arc<HeldLease>) {
    match lease.renew().await {
        Ok(()) => {}
        Err(LeaseError::Lost) => warn!(shard = %lease.shard(), "lease lost"),
        Err(LeaseError::Failed(failure)) => {
            warn!(shard = %lease.shard(), %failure, "lease not renewed; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_shards_of_one_seed_do_not_back_off_in_step() {
        let waits = |worker, shard| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), mixed(1, worker, shard));
            [(); 4].map(|()| backoff.next_wait(None))
        };
        let all = [waits("a", "0"), waits("a", "1"), waits("b", "0"), waits("b", "1")];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(waits("a", "0"), all[0], "the same seed gives the same waits");
    }
}
