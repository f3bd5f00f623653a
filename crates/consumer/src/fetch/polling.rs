//! A shard by GetRecords.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::operation::get_records::GetRecordsError;
use kinesink_aws::kinesis::primitives::DateTime;
use kinesink_aws::{HttpResponse, SdkError, code, failure, get_records, is_throttle};
use kinesink_core::{Class, Failure, Record, Records, ShardId};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::Cursor;
use super::pace::Pace;
use super::reader::{Fetch, Fetched, ReaderSettings, pay};
use super::reply::{self, Reply};
use crate::planted::{Fault, planted};

/// A reply is at most 10 MiB of data.
const REPLY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Replies are kept near this size: large enough to cost little, small enough to share the budget.
const REPLY_BYTES_AIM: usize = 2 * 1024 * 1024;
/// What a first request asks for, before the size of a record is known.
const RECORDS_FIRST: usize = 100;
/// What a shard takes in, at most: a reply at the tip cannot have more than came since the last one.
const SHARD_BYTES_PER_S: usize = 1024 * 1024;
/// A record of the usual maximum size, which may have come in any moment.
const TIP_BYTES_MIN: usize = 1024 * 1024;
/// After a reply that has nothing and is not at the newest record: the service looks through a stretch without records,
/// and takes five calls a second.
const EMPTY_PAUSE: Duration = Duration::from_millis(200);

/// Asks again and again.
#[derive(Debug)]
pub(super) struct Polling {
    settings: Arc<ReaderSettings>,
    shard: ShardId,
    cursor: Cursor,
    iterator: Option<String>,
    /// How long to wait before the next request.
    pause: Duration,
    pace: Pace,
    /// Bytes that a stored record took on average, overhead included.
    record_bytes: Option<usize>,
    /// When the last reply was asked for, if it reached the newest record.
    at_tip: Option<Instant>,
    /// What a reply that was given up would have needed.
    owed_bytes: usize,
}

impl Polling {
    pub(super) const BACKOFF_BASE: Duration = Duration::from_millis(200);
    pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(5);
    pub(super) const USUAL_FAILURES: u32 = 1;

    pub(super) fn new(settings: Arc<ReaderSettings>, shard: ShardId, cursor: Cursor) -> Self {
        Self {
            settings,
            shard,
            cursor,
            iterator: None,
            pause: Duration::ZERO,
            pace: Pace::default(),
            record_bytes: None,
            at_tip: None,
            owed_bytes: 0,
        }
    }

    /// How many records to ask for, and how many bytes to reserve for them.
    fn size(&self) -> (usize, usize) {
        let (records_max, total_bytes) = (self.settings.records_max, self.settings.budget.total_bytes());
        let (limit, reply_bytes) = match self.record_bytes {
            None => (RECORDS_FIRST.min(records_max), REPLY_BYTES_MAX.min(total_bytes / 4)),
            Some(average) => {
                let limit = (REPLY_BYTES_AIM.min(total_bytes / 16) / average).clamp(1, records_max);
                (limit, with_text(limit * average).min(REPLY_BYTES_MAX))
            }
        };
        let came_bytes = self.at_tip.map_or(usize::MAX, |asked_at| with_text(came_bytes_max(asked_at.elapsed())));
        (limit, reply_bytes.min(came_bytes).max(self.owed_bytes))
    }

    /// The reply to a request of `stored` records would have needed so much. A smaller one is asked for, if there is
    /// one: to wait for so much memory is to wait until everybody else has none.
    fn owe(&mut self, bytes: usize, stored: usize) {
        self.owed_bytes = 0;
        let (limit, _) = self.size();
        if limit >= stored {
            self.owed_bytes = bytes;
        }
    }

    fn refused(&mut self, error: &SdkError<GetRecordsError, HttpResponse>) -> Failure {
        let what = format!("shard {} of stream {}", self.shard, self.settings.stream);
        let mut failure = failure("read", &what, error);
        match code(error) {
            // Five minutes without a request, or a token that is no good any more: continue where memory says.
            Some("ExpiredIteratorException" | "InvalidArgumentException") => {
                self.iterator = None;
                failure.class = Class::Transient;
            }
            _ if is_throttle(error) => self.pace.throttled(),
            _ if matches!(error, SdkError::ServiceError(_)) => {}
            // The reply was lost on its way; the same iterator gives it again.
            _ => debug!(shard = %self.shard, "no reply"),
        }
        failure
    }

    async fn iterator(&mut self) -> Result<String, Failure> {
        let what = format!("shard {} of stream {}", self.shard, self.settings.stream);
        let request = self.cursor.request();
        self.cursor.asked();
        let call = self
            .settings
            .client
            .get_shard_iterator()
            .stream_name(self.settings.stream.as_str())
            .shard_id(self.shard.as_str())
            .shard_iterator_type(request.kind.clone())
            .set_starting_sequence_number(request.sequence.map(|sequence| sequence.to_string()))
            .set_timestamp(request.time.map(|time| DateTime::from_millis(time.as_millisecond())));
        let reply = call.send().await.map_err(|error| {
            let mut failure = failure("get an iterator of", &what, &error);
            if request.is_refused_until_later(code(&error)) {
                failure.class = Class::Transient;
            }
            if request.is_of_another_stream(code(&error)) {
                failure.class = Class::Configuration;
            }
            failure
        })?;
        self.iterator = reply.shard_iterator;
        self.iterator.clone().ok_or_else(|| Failure::transient(format!("no iterator came for {what}")))
    }
}

/// What a shard may have taken in within `since`.
fn came_bytes_max(since: Duration) -> usize {
    let since_ms = usize::try_from(since.as_millis()).unwrap_or(usize::MAX);
    (since_ms.saturating_mul(SHARD_BYTES_PER_S) / 1_000).max(TIP_BYTES_MIN)
}

/// Two and a half times as much: for a moment a reply is there as text too, which is mostly base64.
fn with_text(bytes: usize) -> usize {
    bytes.saturating_mul(5) / 2
}

#[async_trait]
impl Fetch for Polling {
    async fn wait(&mut self) {
        sleep(std::mem::take(&mut self.pause)).await;
        self.pace.wait().await;
    }

    async fn once(&mut self) -> Result<Option<Fetched>, Failure> {
        let (limit, reserve_bytes) = self.size();
        let mut reservation = self.settings.budget.reserve(reserve_bytes).await;
        let iterator = match self.iterator.clone() {
            Some(iterator) => iterator,
            None => self.iterator().await?,
        };
        let wire_limit = i32::try_from(limit).unwrap_or(i32::MAX);
        self.pace.called();
        let asked_at = Instant::now();
        let text = match get_records(&self.settings.client, &iterator, wire_limit, self.settings.texts.take()).await {
            Ok(text) => text,
            Err(error) => return Err(self.refused(&error)),
        };
        self.pace.answered();
        let before = self.cursor.clone();
        let Reply { records, behind_latest_ms, next_iterator, children, stored, is_whole } =
            reply::read(&text, limit, reservation.bytes(), &self.shard, &mut self.cursor)?;
        self.settings.texts.give_back(text);
        let ended = is_whole && next_iterator.is_none();
        // The rest of a reply is asked for again, behind what there was room for.
        let next_iterator = next_iterator.filter(|_| is_whole);
        let behind_latest_ms = if is_whole { behind_latest_ms } else { behind_latest_ms.max(1) };
        if let Some(gap) = self.cursor.take_gap(ended) {
            match self.settings.bridge(&self.shard, &gap, &mut self.cursor) {
                Ok(true) => {}
                Ok(false) => {
                    self.iterator = None;
                    return Ok(None);
                }
                Err(failure) => {
                    (self.cursor, self.iterator) = (before, None);
                    return Err(failure);
                }
            }
        }
        let bytes: usize = records.iter().map(Record::memory_bytes).sum();
        if let Some(average) = bytes.checked_div(stored) {
            self.record_bytes = Some(average.max(1));
        }
        if let Err(owed_bytes) = pay(&self.settings.budget, &mut reservation, bytes) {
            debug!(shard = %self.shard, bytes, "the reply was larger than its reservation; reading it again");
            if planted(Fault::SkipsUnpaid) {
                self.iterator = next_iterator;
                return Ok(None);
            }
            self.cursor = before;
            self.owe(owed_bytes, stored);
            return Ok(None);
        }
        self.owed_bytes = 0;
        self.at_tip = (behind_latest_ms == 0).then_some(asked_at);
        self.settings.metrics.fetched(&self.shard, &records, bytes);
        self.pause = match (behind_latest_ms, records.is_empty()) {
            (0, _) => self.settings.idle,
            (_, true) => EMPTY_PAUSE,
            (_, false) => Duration::ZERO,
        };
        let records = Records { records, behind_latest_ms, reservation };
        self.iterator = next_iterator;
        if ended {
            Fetched::at_end(&self.shard, records, children).map(Some)
        } else {
            Ok(Some(Fetched::Records(records)))
        }
    }
}
