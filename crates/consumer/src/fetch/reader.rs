//! A shard's reader: one fetch ahead of whoever reads, again and again until it succeeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::Client;
use kinesink_core::{
    Backoff, Budget, Checkpoint, Class, Clock, Failure, Position, Read, Records, Reservation, ShardId, ShardReader,
    StreamName,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::fan_out::FanOut;
use super::gap::BeyondRetention;
use super::polling::Polling;
use super::registration::Registration;
use super::reply::Child;
use super::{Cursor, Texts};
use crate::Start;
use crate::metrics::Metrics;
use crate::planted::{Fault, planted};

/// Who does not ask for so long does something else: waits for a sink, or for someone to mend one.
pub(super) const REST_AFTER: Duration = Duration::from_secs(10);

/// What every reader of a consumer shares.
#[derive(Debug)]
pub(crate) struct ReaderSettings {
    pub(crate) client: Client,
    pub(crate) stream: StreamName,
    pub(crate) budget: Budget,
    pub(crate) texts: Texts,
    /// Who subscribes. None: shards are polled.
    pub(crate) registration: Option<Arc<Registration>>,
    /// Kinesis records that one GetRecords asks for at most.
    pub(crate) records_max: usize,
    /// The pause after a reply that reached the newest record.
    pub(crate) idle: Duration,
    pub(crate) beyond_retention: BeyondRetention,
    pub(crate) start: Start,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
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
    /// Until the next attempt may be made. Apart from the attempt, whose request needs memory that a shard which is
    /// mostly idle does without.
    async fn wait(&mut self) {}

    /// One attempt, which stands behind what it gave. None is to be tried again at once: what came was larger than
    /// what was reserved, or it was nothing.
    ///
    /// # Errors
    /// A transient failure is to be tried again after a pause.
    async fn once(&mut self) -> Result<Option<Fetched>, Failure>;

    /// Nobody asks for more for now: what is held open at the service is given up.
    fn rest(&mut self) {}
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
pub(super) fn pay(budget: &Budget, reservation: &mut Reservation, bytes: usize) -> Result<(), usize> {
    let owed_bytes = bytes.min(budget.total_bytes());
    let missing = owed_bytes.saturating_sub(reservation.bytes());
    if missing > 0 && !planted(Fault::Unpaid) {
        reservation.merge(budget.try_reserve(missing).ok_or(owed_bytes)?);
    }
    reservation.shrink_to(bytes);
    Ok(())
}

/// Reads one shard. Its one task fetches ahead and ends with the reader.
#[derive(Debug)]
pub(crate) struct Reader {
    settings: Arc<ReaderSettings>,
    /// Of the waits between attempts.
    seed: u64,
    shard: ShardId,
    /// Where the lease stood when this reader was made, or where it was rewound to.
    start: Cursor,
    /// None until the first record is asked for.
    ahead: Option<Ahead>,
    children: Arc<Mutex<Vec<Child>>>,
    ended: bool,
}

/// Boxed: a channel keeps room for 32, whatever it may hold.
type Outcome = Box<Result<Fetched, Failure>>;

/// What was fetched and not asked for yet, and the task that fetches the next.
#[derive(Debug)]
struct Ahead {
    fetched: mpsc::Receiver<Outcome>,
    _task: JoinSet<()>,
}

impl Reader {
    /// `children` receives the shards that follow, before the end is given.
    pub(crate) fn new(
        settings: Arc<ReaderSettings>,
        seed: u64,
        shard: ShardId,
        start: Cursor,
        children: Arc<Mutex<Vec<Child>>>,
    ) -> Self {
        Self { settings, seed, shard, start, ahead: None, children, ended: false }
    }

    /// What is under way is given up; its memory goes back when the task is dropped.
    fn give_up(&mut self) {
        self.ahead = None;
        self.ended = false;
    }

    fn fetch_from(&self, cursor: Cursor) -> Ahead {
        let (sender, fetched) = mpsc::channel(1);
        let mut task = JoinSet::new();
        let fetcher = Fetcher::new(&self.settings, self.seed, &self.shard, cursor);
        task.spawn(Box::new(fetcher).run(sender));
        Ahead { fetched, _task: task }
    }
}

#[async_trait]
impl ShardReader for Reader {
    async fn next(&mut self) -> Result<Read, Failure> {
        if self.ended {
            return Ok(Read::ShardEnd);
        }
        let ahead = self.ahead.take().unwrap_or_else(|| self.fetch_from(self.start.clone()));
        // Cancel safe: what was fetched stays in the channel until it is taken here.
        let fetched = self.ahead.insert(ahead).fetched.recv().await;
        match fetched.map(|fetched| *fetched) {
            Some(Ok(Fetched::Records(records))) => Ok(Read::Records(records)),
            Some(Ok(Fetched::End(records, children))) => {
                *self.children.lock().unwrap_or_else(PoisonError::into_inner) = children;
                self.ended = true;
                Ok(if records.records.is_empty() { Read::ShardEnd } else { Read::Records(records) })
            }
            Some(Err(failure)) => Err(failure),
            None => Err(Failure::fatal(format!("the task that fetches shard {} is gone", self.shard))),
        }
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        self.give_up();
        self.start.rewind(checkpoint);
    }

    fn seek(&mut self, first: Position) {
        self.give_up();
        self.start.seek(first);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ahead = None;
        self.settings.metrics.left(&self.shard);
    }
}

/// A fetch and how it is tried again.
struct Fetcher {
    settings: Arc<ReaderSettings>,
    shard: ShardId,
    fetch: Box<dyn Fetch>,
    backoff: Backoff,
    /// So many failures in a row are nothing to warn of.
    usual_failures: u32,
}

impl Fetcher {
    fn new(settings: &Arc<ReaderSettings>, seed: u64, shard: &ShardId, cursor: Cursor) -> Self {
        let (of_fetch, shard_of_fetch) = (Arc::clone(settings), shard.clone());
        let (fetch, backoff, usual_failures): (Box<dyn Fetch>, _, _) = match settings.registration.clone() {
            None => {
                let backoff = Backoff::new(Polling::BACKOFF_BASE, Polling::BACKOFF_MAX, seed);
                (Box::new(Polling::new(of_fetch, shard_of_fetch, cursor)), backoff, Polling::USUAL_FAILURES)
            }
            Some(registration) => {
                let backoff = Backoff::new(FanOut::BACKOFF_BASE, FanOut::BACKOFF_MAX, seed);
                (Box::new(FanOut::new(of_fetch, registration, shard_of_fetch, cursor)), backoff, FanOut::USUAL_FAILURES)
            }
        };
        Self { settings: Arc::clone(settings), shard: shard.clone(), fetch, backoff, usual_failures }
    }

    /// Fetches one ahead, to the shard's end or that of the receiver.
    async fn run(mut self: Box<Self>, sender: mpsc::Sender<Outcome>) {
        loop {
            // Room first: a fetch whose result nobody takes would hold its memory.
            let room = match timeout(REST_AFTER, sender.reserve()).await {
                Ok(room) => room,
                Err(_) => {
                    self.fetch.rest();
                    sender.reserve().await
                }
            };
            let Ok(room) = room else { return };
            let fetched = self.fetch().await;
            let is_end = matches!(fetched, Ok(Fetched::End(..)));
            room.send(Box::new(fetched));
            if is_end {
                return;
            }
        }
    }

    async fn fetch(&mut self) -> Result<Fetched, Failure> {
        loop {
            self.fetch.wait().await;
            match self.fetch.once().await {
                Ok(Some(fetched)) => {
                    self.backoff.reset();
                    return Ok(fetched);
                }
                Ok(None) => {}
                Err(failure) if failure.class == Class::Transient => self.pause(&failure).await,
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn pause(&mut self, failure: &Failure) {
        let attempts = self.backoff.attempts() + 1;
        let wait = self.backoff.next_wait(failure.retry_after);
        self.settings.metrics.fetch_failed();
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
    use bytes::Bytes;
    use jiff::Timestamp;
    use kinesink_core::{Position, Record};

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

    #[test]
    fn an_end_that_is_not_trusted_gives_its_records_and_is_asked_for_again() {
        let shard: ShardId = "a".parse().unwrap();
        let fetched = |children: &[Child], count| {
            let position = Position { sequence: "1".parse().unwrap(), sub_sequence: 0 };
            let (arrival, partition_key, data) = (Timestamp::UNIX_EPOCH, None, Bytes::new());
            let record = Record { shard: shard.clone(), position, arrival, partition_key, data };
            let records =
                Records { records: vec![record; count], behind_latest_ms: 0, reservation: Reservation::none() };
            Fetched::at_end(&shard, records, children.to_vec())
        };
        let whole = [child(&["a"]), child(&["a"])];
        assert!(matches!(fetched(&whole, 0), Ok(Fetched::End(_, children)) if children.len() == 2));
        assert!(matches!(fetched(&[], 1), Ok(Fetched::Records(records)) if records.records.len() == 1));
        assert!(fetched(&[], 0).is_err());
    }
}
