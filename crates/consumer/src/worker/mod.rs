//! One worker: sync, then take, renew, run, release.
//!
//! - `drive`: the loop
//! - `taking`: one look at the table, and what follows from it
//! - `assigned`: the same where a leader of KCL 3.x assigns
//! - `held`: the leases that are held, and their renewal
//! - `shard`: the run of one held shard, from its parents' end to its own
//! - `finished`: when the lease of a finished shard goes
//! - `trimmed`: a shard that left the stream before it was read

mod assigned;
mod drive;
mod finished;
mod held;
mod shard;
mod taking;
mod trimmed;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kinesink_core::{Backoff, Class, Clock, Failure};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::drive::Drive;
use self::taking::Made;
use crate::coordination::{Coordinator, Standing};
use crate::fetch::ReaderSettings;
use crate::lease::assignment::Appetite;
use crate::lease::{LeaseRow, LeaseTable, Purpose, TableOptions};
use crate::metrics::Metrics;
use crate::shard_list::{self, Listing};
use crate::shard_sync::{self, Misfit};
use crate::{Error, ShardHandler, Start};

/// Attempts before the first record; afterwards everything transient is tried without end.
const START_ATTEMPTS_MAX: u32 = 6;
/// A stream that is being resharded shows a listing that does not fit together for a moment.
const LISTINGS_MAX: u32 = 30;
const LISTING_PAUSE: Duration = Duration::from_secs(1);
const WRITES_AT_ONCE: usize = 20;
/// KCL's `epsilonMillis`: clocks differ a little.
const EPSILON: Duration = Duration::from_millis(25);

/// One worker of an application.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) table: LeaseTable,
    pub(crate) coordinator: Coordinator,
    pub(crate) reader: Arc<ReaderSettings>,
    pub(crate) seed: u64,
    pub(crate) start: Start,
    pub(crate) failover: Duration,
    pub(crate) appetite: Appetite,
    pub(crate) table_options: TableOptions,
    pub(crate) shard_sync: Duration,
    pub(crate) listing: Listing,
    /// None: rows of finished shards stay.
    pub(crate) cleanup: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

impl Worker {
    pub(crate) async fn run(
        &self,
        handler: Arc<dyn ShardHandler>,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Result<(), Error> {
        let (standing, made) = tokio::select! {
            biased;
            () = abort.cancelled() => return Ok(()),
            () = drain.cancelled() => return Ok(()),
            prepared = self.prepare() => prepared?,
        };

        tokio::select! {
            biased;
            () = abort.cancelled() => Ok(()),
            // Boxed: it is most of the consumer, and every caller's future would hold it.
            done = Box::pin(Drive::new(self, handler, &drain, standing, made).run()) => done,
        }
    }

    /// Table, stream and leases are there, or it is known why not. With what this worker has made of them.
    async fn prepare(&self) -> Result<(Standing, Made), Error> {
        let mut backoff =
            Backoff::new(Duration::from_millis(200), Duration::from_secs(2), mixed(self.seed, &self.id, ""));
        loop {
            let prepared = async {
                // The stream first: without it no table should be made.
                let (client, stream) = (&self.reader.client, &self.reader.stream);
                shard_list::find(client, stream, self.listing).await.map_err(Error::Start)?;
                self.reader.prepare().await.map_err(Error::Start)?;
                self.table.ensure(&self.table_options).await.map_err(Error::Start)?;
                let standing = self.coordinator.prepare().await.map_err(Error::Start)?;
                let since = Instant::now();
                let leases = self.sync_shards(LISTINGS_MAX, self.listing, Purpose::Start).await?;
                Ok((standing, Made { since, leases }))
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

    /// Creates the leases that the table lacks, after at most so many listings that do not fit together. Others do the
    /// same and read meanwhile, so each listing is held against the table as it is then. How many it has created.
    async fn sync_shards(&self, listings_max: u32, listing: Listing, purpose: Purpose) -> Result<usize, Error> {
        let table = self.table.by(purpose);
        let mut misfit = Misfit::Ranges;
        for attempt in 0..listings_max {
            if attempt > 0 {
                sleep(LISTING_PAUSE).await;
            }
            let missing = match self.missing_leases(&table, listing).await? {
                Ok(missing) => missing,
                Err(why) => {
                    misfit = why;
                    continue;
                }
            };
            return create(&table, missing).await;
        }
        Err(match misfit {
            // It has lasted: no listing is behind for so long.
            Misfit::Reopened(_) if listings_max > 1 => Error::EarlierStream(self.earlier_stream(&misfit)),
            Misfit::Reopened(_) => Error::Start(Failure::transient(self.earlier_stream(&misfit))),
            misfit => Error::Start(Failure::transient(format!("stream {}: {misfit}", self.reader.stream))),
        })
    }

    /// What one listing and one scan show to be missing, if they fit together.
    async fn missing_leases(
        &self,
        table: &LeaseTable,
        listing: Listing,
    ) -> Result<Result<Vec<LeaseRow>, Misfit>, Error> {
        let (client, stream, start) = (&self.reader.client, &self.reader.stream, &self.start);
        let found = table.scan().await?;
        if found.is_empty() {
            let shards = shard_list::list(client, stream, Some(start), listing).await.map_err(Error::Start)?;
            let missing = shard_sync::for_new_application(&shards, start);
            // Another worker that began meanwhile has listed other shards, perhaps, than there are now.
            return Ok(if table.scan().await?.is_empty() { missing } else { Err(Misfit::Overtaken) });
        }
        let shards = shard_list::list(client, stream, None, listing).await.map_err(Error::Start)?;
        match shard_sync::for_known_application(&shards, &found, start) {
            Err(misfit @ Misfit::Renumbered(_)) => Err(Error::EarlierStream(self.earlier_stream(&misfit))),
            // A listing takes long where the service has no room: of a new shard whose parents got their leases meanwhile,
            // records would be skipped.
            Ok(missing) if !missing.is_empty() && !table.scan().await?.has_same_rows(&found) => {
                Ok(Err(Misfit::Overtaken))
            }
            missing => Ok(missing),
        }
    }

    fn earlier_stream(&self, misfit: &Misfit) -> String {
        let (table, stream) = (self.table.name(), &self.reader.stream);
        format!(
            "lease table {table} is of an earlier stream {stream}, which was deleted and created again: {misfit}; \
             delete the table to read the present stream from its start, or use another application"
        )
    }

    /// KCL's pace: three renewals before the lease expires.
    fn renew_period(&self) -> Duration {
        self.failover / 3 - EPSILON
    }
}

/// In the order given, some at once: a stream may have thousands of shards. How many were not there.
async fn create(table: &LeaseTable, leases: Vec<LeaseRow>) -> Result<usize, Error> {
    let create = |lease: LeaseRow| async move {
        let is_new = table.create(&lease).await.map_err(Error::Start)?;
        if is_new {
            info!(shard = %lease.shard, checkpoint = %lease.checkpoint, "lease created");
        }
        Ok(is_new)
    };
    let created = stream::iter(leases).map(create).buffered(WRITES_AT_ONCE);
    created.try_fold(0, |count, is_new| future::ready(Ok(count + usize::from(is_new)))).await
}

/// A seed of its own for each worker and shard: they must not back off in step.
fn mixed(seed: u64, worker: &str, shard: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, worker, shard).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
