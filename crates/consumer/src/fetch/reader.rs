//! A shard's reader: one fetch ahead of whoever reads, again and again until it succeeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::Client;
use kinesink_core::{
    Backoff, Budget, Checkpoint, Class, Failure, Read, Records, Reservation, ShardId, ShardReader, StreamName,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::fan_out::FanOut;
use super::polling::Polling;
use super::registration::Registration;
use super::reply::Child;
use super::{Cursor, Texts};
use crate::metrics::Metrics;

/// What every reader of a consumer shares.
#[derive(Debug, Clone)]
pub(crate) struct ReaderSettings {
    pub(crate) client: Client,
    pub(crate) stream: StreamName,
    pub(crate) budget: Budget,
    pub(crate) texts: Texts,
    /// Who subscribes. None: shards are polled.
    pub(crate) registration: Option<Arc<Registration>>,
    /// The pause after a reply that reached the newest record.
    pub(crate) idle: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) seed: u64,
}

impl ReaderSettings {
    /// Finds what readers need besides the stream, so that what is missing is known before the first of them.
    ///
    /// # Errors
    /// The consumer cannot be found or registered.
    pub(crate) async fn prepare(&self) -> Result<(), Failure> {
        if let Some(registration) = &self.registration {
            registration.arn().await?;
        }
        Ok(())
    }
}

/// A way to get the records of a shard, in order, from where it stands.
#[async_trait]
pub(super) trait Fetch: Send {
    /// One attempt, which stands behind what it gave. None is to be tried again at once: what came was larger than
    /// what was reserved, or it was nothing.
    ///
    /// # Errors
    /// A transient failure is to be tried again after a pause.
    async fn once(&mut self) -> Result<Option<Fetched>, Failure>;
}

/// What an attempt gave.
#[derive(Debug)]
pub(super) enum Fetched {
    Records(Records),
    /// The last records, which may be none, and the shards that follow.
    End(Records, Vec<Child>),
}

impl Fetched {
    /// Where the service says that the shard ended. A closed shard names its children and they their parents; an end
    /// that does not is not trusted.
    pub(super) fn at_end(shard: &ShardId, records: Records, children: Vec<Child>) -> Result<Self, Failure> {
        if are_whole(&children) {
            Ok(Self::End(records, children))
        } else if records.records.is_empty() {
            Err(Failure::transient(format!("shard {shard} ended without naming its children")))
        } else {
            Ok(Self::Records(records))
        }
    }
}

/// A shard is split into two, each with its parent, or merged into one with two parents.
fn are_whole(children: &[Child]) -> bool {
    match children {
        [] => false,
        [merged] => merged.parents.len() == 2,
        split => split.iter().all(|child| !child.parents.is_empty()),
    }
}

/// Makes the reservation cover `bytes`, or all of the budget where they are more. Waits for nothing: readers that
/// held replies while waiting for each other's memory would wait for ever.
///
/// # Errors
/// How much has to be reserved before the same is fetched again.
pub(super) async fn pay(budget: &Budget, reservation: &mut Reservation, bytes: usize) -> Result<(), usize> {
    let owed_bytes = bytes.min(budget.total_bytes());
    let missing = owed_bytes.saturating_sub(reservation.bytes());
    if missing > 0 {
        let more = timeout(Duration::ZERO, budget.reserve(missing)).await.map_err(|_| owed_bytes)?;
        reservation.merge(more);
    }
    reservation.shrink_to(bytes);
    Ok(())
}

/// Reads one shard. Its one task fetches ahead and ends with the reader.
#[derive(Debug)]
pub(crate) struct Reader {
    settings: ReaderSettings,
    shard: ShardId,
    /// Where the lease stood when this reader was made.
    start: Cursor,
    /// While nothing is under way.
    fetcher: Option<Fetcher>,
    fetching: JoinSet<(Fetcher, Result<Fetched, Failure>)>,
    children: Arc<Mutex<Vec<Child>>>,
    ended: bool,
}

impl Reader {
    /// `children` receives the shards that follow, before the end is given.
    pub(crate) fn new(
        settings: ReaderSettings,
        shard: ShardId,
        cursor: Cursor,
        children: Arc<Mutex<Vec<Child>>>,
    ) -> Self {
        let fetcher = Some(Fetcher::new(&settings, &shard, cursor.clone()));
        Self { settings, shard, start: cursor, fetcher, fetching: JoinSet::new(), children, ended: false }
    }

    fn fetch_ahead(&mut self) {
        if let Some(fetcher) = self.fetcher.take() {
            self.fetching.spawn(fetcher.run());
        }
    }
}

#[async_trait]
impl ShardReader for Reader {
    async fn next(&mut self) -> Result<Read, Failure> {
        if self.ended {
            return Ok(Read::ShardEnd);
        }
        self.fetch_ahead();
        // Cancel safe: a finished fetch stays in the set until it is taken here.
        let Some(joined) = self.fetching.join_next().await else {
            return Err(Failure::fatal(format!("the fetch of shard {} is gone", self.shard)));
        };
        let (fetcher, fetched) =
            joined.map_err(|error| Failure::fatal(format!("the fetch of shard {} failed: {error}", self.shard)))?;
        self.fetcher = Some(fetcher);
        match fetched? {
            Fetched::Records(records) => {
                self.fetch_ahead();
                Ok(Read::Records(records))
            }
            Fetched::End(records, children) => {
                *self.children.lock().unwrap_or_else(PoisonError::into_inner) = children;
                self.ended = true;
                Ok(if records.records.is_empty() { Read::ShardEnd } else { Read::Records(records) })
            }
        }
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        // What is under way is given up; its memory goes back when the task is dropped.
        self.fetching = JoinSet::new();
        let mut cursor = self.start.clone();
        cursor.rewind(checkpoint);
        self.fetcher = Some(Fetcher::new(&self.settings, &self.shard, cursor));
        self.ended = false;
    }
}

/// A fetch and how it is tried again.
struct Fetcher {
    shard: ShardId,
    metrics: Metrics,
    fetch: Box<dyn Fetch>,
    backoff: Backoff,
    /// So many failures in a row are nothing to warn of.
    usual_failures: u32,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Fetcher {
    fn new(settings: &ReaderSettings, shard: &ShardId, cursor: Cursor) -> Self {
        let (settings, shard) = (settings.clone(), shard.clone());
        let (metrics, seed) = (settings.metrics.clone(), settings.seed);
        let own = shard.clone();
        let (fetch, backoff, usual_failures): (Box<dyn Fetch>, _, _) = match settings.registration.clone() {
            None => {
                let backoff = Backoff::new(Polling::BACKOFF_BASE, Polling::BACKOFF_MAX, seed);
                (Box::new(Polling::new(settings, shard, cursor)), backoff, Polling::USUAL_FAILURES)
            }
            Some(registration) => {
                let backoff = Backoff::new(FanOut::BACKOFF_BASE, FanOut::BACKOFF_MAX, seed);
                (Box::new(FanOut::new(settings, registration, shard, cursor)), backoff, FanOut::USUAL_FAILURES)
            }
        };
        Self { shard: own, metrics, fetch, backoff, usual_failures }
    }

    async fn run(mut self) -> (Self, Result<Fetched, Failure>) {
        loop {
            match self.fetch.once().await {
                Ok(Some(fetched)) => {
                    self.backoff.reset();
                    return (self, Ok(fetched));
                }
                Ok(None) => {}
                Err(failure) if failure.class == Class::Transient => self.pause(&failure).await,
                Err(failure) => return (self, Err(failure)),
            }
        }
    }

    async fn pause(&mut self, failure: &Failure) {
        let attempts = self.backoff.attempts() + 1;
        let wait = self.backoff.next_wait(failure.retry_after);
        self.metrics.fetch_failed();
        if attempts <= self.usual_failures {
            debug!(shard = %self.shard, %failure, ?wait, "fetching again");
        } else {
            warn!(shard = %self.shard, %failure, attempts, ?wait, "fetching again");
        }
        sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(parents: &[&str]) -> Child {
        let parents = parents.iter().map(|id| id.parse().unwrap()).collect();
        Child { id: "child".parse().unwrap(), parents, hash_range: None }
    }

    #[test]
    fn an_end_whose_children_do_not_name_their_parents_is_not_trusted() {
        assert!(are_whole(&[child(&["a"]), child(&["a"])]) && are_whole(&[child(&["a", "b"])]));
        assert!(!are_whole(&[]));
        assert!(!are_whole(&[child(&["a"])]), "a merge has two parents");
        assert!(!are_whole(&[child(&["a"]), child(&[])]));
    }
}
