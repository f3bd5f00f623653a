//! A shard read by GetRecords, one reply ahead of its consumer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::operation::get_records::GetRecordsError;
use kinesink_aws::kinesis::primitives::DateTime;
use kinesink_aws::{HttpResponse, SdkError, code, failure, get_records};
use kinesink_core::{
    Backoff, Budget, Checkpoint, Class, Failure, Read, Record, Records, Reservation, ShardId, ShardReader, StreamName,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Cursor;
use super::reply::{self, Child, Reply};
use crate::metrics::Metrics;

/// A reply is at most 10 MiB of data.
const REPLY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Replies are kept near this size: large enough to cost little, small enough to share the budget.
const REPLY_BYTES_AIM: usize = 1024 * 1024;
const RECORDS_MAX: usize = 10_000;
/// What a first request asks for, before the size of a record is known.
const RECORDS_FIRST: usize = 100;
/// After a reply that has nothing and is not at the newest record: the service looks through a stretch without records,
/// and takes five calls a second.
const EMPTY_PAUSE: Duration = Duration::from_millis(200);
const BACKOFF_BASE: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What every reader of a consumer shares.
#[derive(Debug, Clone)]
pub(crate) struct ReaderSettings {
    pub(crate) client: Client,
    pub(crate) stream: StreamName,
    pub(crate) budget: Budget,
    /// The pause after a reply that reached the newest record.
    pub(crate) idle: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) seed: u64,
}

/// Reads one shard. Its one task fetches ahead and ends with the reader.
#[derive(Debug)]
pub(crate) struct PollingReader {
    settings: ReaderSettings,
    shard: ShardId,
    /// Where the lease stood when this reader was made.
    start: Cursor,
    state: Option<State>,
    fetching: JoinSet<(State, Result<Fetched, Failure>)>,
    children: Arc<Mutex<Vec<Child>>>,
    ended: bool,
}

#[derive(Debug, Clone)]
struct State {
    cursor: Cursor,
    iterator: Option<String>,
    /// How long to wait before the next request.
    pause: Duration,
    /// Bytes that a stored record took on average, overhead included.
    record_bytes: Option<usize>,
    /// What a reply that was given up would have needed.
    owed_bytes: usize,
    backoff: Backoff,
}

impl State {
    fn new(cursor: Cursor, seed: u64) -> Self {
        let backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX, seed);
        Self { cursor, iterator: None, pause: Duration::ZERO, record_bytes: None, owed_bytes: 0, backoff }
    }
}

#[derive(Debug)]
enum Fetched {
    Records(Records),
    End(Records, Vec<Child>),
}

impl PollingReader {
    /// `children` receives the shards that follow, before the end is given.
    pub(crate) fn new(
        settings: ReaderSettings,
        shard: ShardId,
        cursor: Cursor,
        children: Arc<Mutex<Vec<Child>>>,
    ) -> Self {
        let start = State::new(cursor.clone(), settings.seed);
        Self { settings, shard, start: cursor, state: Some(start), fetching: JoinSet::new(), children, ended: false }
    }

    fn fetch_ahead(&mut self) {
        if let Some(state) = self.state.take() {
            let fetch = Fetch { settings: self.settings.clone(), shard: self.shard.clone(), state };
            self.fetching.spawn(fetch.run());
        }
    }
}

#[async_trait]
impl ShardReader for PollingReader {
    async fn next(&mut self) -> Result<Read, Failure> {
        if self.ended {
            return Ok(Read::ShardEnd);
        }
        self.fetch_ahead();
        // Cancel safe: a finished fetch stays in the set until it is taken here.
        let Some(joined) = self.fetching.join_next().await else {
            return Err(Failure::fatal(format!("the fetch of shard {} is gone", self.shard)));
        };
        let (state, fetched) =
            joined.map_err(|error| Failure::fatal(format!("the fetch of shard {} failed: {error}", self.shard)))?;
        self.state = Some(state);
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
        self.state = Some(State::new(cursor, self.settings.seed));
        self.ended = false;
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

/// One reply, however often it has to be asked for.
struct Fetch {
    settings: ReaderSettings,
    shard: ShardId,
    state: State,
}

impl Fetch {
    async fn run(mut self) -> (State, Result<Fetched, Failure>) {
        sleep(self.state.pause).await;
        loop {
            match self.once().await {
                Ok(Some(fetched)) => {
                    self.state.backoff.reset();
                    return (self.state, Ok(fetched));
                }
                Ok(None) => debug!(shard = %self.shard, "the reply was larger than its reservation; reading it again"),
                Err(failure) if failure.class == Class::Transient => {
                    let attempts = self.state.backoff.attempts() + 1;
                    let wait = self.state.backoff.next_wait(failure.retry_after);
                    self.settings.metrics.fetch_failed();
                    if attempts == 1 {
                        debug!(shard = %self.shard, %failure, ?wait, "fetching again");
                    } else {
                        warn!(shard = %self.shard, %failure, attempts, ?wait, "fetching again");
                    }
                    sleep(wait).await;
                }
                Err(failure) => return (self.state, Err(failure)),
            }
        }
    }

    /// One request. None if the reply was larger than what was reserved: it is given up, and its size is known then.
    async fn once(&mut self) -> Result<Option<Fetched>, Failure> {
        let (limit, reserve_bytes) = self.size();
        let mut reservation = self.settings.budget.reserve(reserve_bytes).await;
        let iterator = match self.state.iterator.clone() {
            Some(iterator) => iterator,
            None => self.iterator().await?,
        };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let text = match get_records(&self.settings.client, &iterator, limit).await {
            Ok(text) => text,
            Err(error) => return Err(self.refused(&error)),
        };
        let before = self.state.cursor.clone();
        let Reply { records, behind_latest_ms, next_iterator, children, stored } =
            reply::read(&text, &self.shard, &mut self.state.cursor)?;
        drop(text);
        let bytes: usize = records.iter().map(Record::memory_bytes).sum();
        if let Some(average) = bytes.checked_div(stored) {
            self.state.record_bytes = Some(average.max(1));
        }
        if !self.pay(&mut reservation, bytes).await {
            self.state.cursor = before;
            return Ok(None);
        }
        self.settings.metrics.fetched(records.len(), bytes);
        self.state.pause = match (behind_latest_ms, records.is_empty()) {
            (0, _) => self.settings.idle,
            (_, true) => EMPTY_PAUSE,
            (_, false) => Duration::ZERO,
        };
        let ended = next_iterator.is_none();
        if ended && !are_whole(&children) {
            // A closed shard names its children and they their parents; an end that does not is not trusted.
            self.state.iterator = None;
            if records.is_empty() {
                return Err(Failure::transient(format!("shard {} ended without naming its children", self.shard)));
            }
            return Ok(Some(Fetched::Records(Records { records, behind_latest_ms, reservation })));
        }
        self.state.iterator = next_iterator;
        let records = Records { records, behind_latest_ms, reservation };
        Ok(Some(if ended { Fetched::End(records, children) } else { Fetched::Records(records) }))
    }

    /// Makes the reservation cover `bytes`, or all of the budget where they are more. Waits for nothing: readers that
    /// held replies while waiting for each other's memory would wait for ever.
    async fn pay(&mut self, reservation: &mut Reservation, bytes: usize) -> bool {
        let owed = bytes.min(self.settings.budget.total_bytes());
        let missing = owed.saturating_sub(reservation.bytes());
        if missing > 0 {
            let Ok(more) = timeout(Duration::ZERO, self.settings.budget.reserve(missing)).await else {
                self.state.owed_bytes = owed;
                return false;
            };
            reservation.merge(more);
        }
        self.state.owed_bytes = 0;
        reservation.shrink_to(bytes);
        true
    }

    /// How many records to ask for, and how many bytes to reserve for them.
    fn size(&self) -> (usize, usize) {
        match self.state.record_bytes {
            None => (RECORDS_FIRST, REPLY_BYTES_MAX.min(self.settings.budget.total_bytes() / 4)),
            Some(average) => {
                let aim = REPLY_BYTES_AIM.min(self.settings.budget.total_bytes() / 8);
                let limit = (aim / average).clamp(1, RECORDS_MAX);
                // Three times as much: the reply exists as text, as the SDK's records and as ours for a moment.
                (limit, (limit * average * 3).min(REPLY_BYTES_MAX).max(self.state.owed_bytes))
            }
        }
    }

    fn refused(&mut self, error: &SdkError<GetRecordsError, HttpResponse>) -> Failure {
        let what = format!("shard {} of stream {}", self.shard, self.settings.stream);
        let mut failure = failure("read", &what, error);
        match code(error) {
            // Five minutes without a request, or a token that is no good any more: continue where memory says.
            Some("ExpiredIteratorException" | "InvalidArgumentException") => {
                self.state.iterator = None;
                failure.class = Class::Transient;
            }
            _ if matches!(error, SdkError::ServiceError(_)) => {}
            // The reply was lost on its way; the same iterator gives it again.
            _ => debug!(shard = %self.shard, "no reply"),
        }
        failure
    }

    async fn iterator(&mut self) -> Result<String, Failure> {
        let what = format!("shard {} of stream {}", self.shard, self.settings.stream);
        let request = self.state.cursor.request();
        let call = self
            .settings
            .client
            .get_shard_iterator()
            .stream_name(self.settings.stream.as_str())
            .shard_id(self.shard.as_str())
            .shard_iterator_type(request.kind)
            .set_starting_sequence_number(request.sequence.map(|sequence| sequence.to_string()))
            .set_timestamp(request.time.map(|time| DateTime::from_millis(time.as_millisecond())));
        let reply = call.send().await.map_err(|error| {
            let mut failure = failure("get an iterator of", &what, &error);
            // The service refuses a time that its clock has not reached yet.
            if request.time.is_some() && code(&error) == Some("InvalidArgumentException") {
                failure.class = Class::Transient;
            }
            failure
        })?;
        self.state.cursor.asked();
        self.state.iterator = reply.shard_iterator;
        self.state.iterator.clone().ok_or_else(|| Failure::transient(format!("no iterator came for {what}")))
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
