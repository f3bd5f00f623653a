//! A shard by SubscribeToShard: enhanced fan-out.
//!
//! ```text
//! loop:
//!     reserve what an event took lately          a short budget stops the stream here
//!     no subscription?                           subscribe behind what was given, at most once a second
//!     an event in 35 s?                          records; the subscription continues at its continuation
//!     the end of the five minutes, or an error?  the subscription is gone; the next attempt opens one
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::config::{Config, StalledStreamProtectionConfig};
use kinesink_aws::kinesis::operation::subscribe_to_shard::SubscribeToShardError;
use kinesink_aws::kinesis::primitives::DateTime;
use kinesink_aws::kinesis::primitives::event_stream::EventReceiver;
use kinesink_aws::kinesis::types::error::SubscribeToShardEventStreamError;
use kinesink_aws::kinesis::types::{StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream};
use kinesink_aws::{HttpResponse, SdkError, broken_stream, code, failure};
use kinesink_core::{Class, Failure, Record, Records, Reservation, ShardId};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::Cursor;
use super::cursor::Request;
use super::event::{self, Event};
use super::reader::{Fetch, Fetched, REST_AFTER, ReaderSettings, pay};
use super::registration::Registration;

type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;

/// The service takes one call a second of a consumer for a shard.
const CALL_PAUSE: Duration = Duration::from_secs(1);
/// How long the answer to a call may take, its first message included: the SDK's own limit ends before that.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// An open subscription has an event every few seconds, with records or without. The SDK never notices a dead one.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// What is reserved before the size of an event is known.
const EVENT_BYTES_FIRST: usize = 1024 * 1024;
/// An idle shard's share of the budget.
const EVENT_BYTES_MIN: usize = 4 * 1024;

/// Is sent what arrives.
pub(super) struct FanOut {
    settings: Arc<ReaderSettings>,
    registration: Arc<Registration>,
    shard: ShardId,
    cursor: Cursor,
    events: Option<Events>,
    /// The next call is not sent before.
    call_at: Instant,
    /// What an event took lately.
    event_bytes: usize,
    /// What an event that was given up would have needed.
    owed_bytes: usize,
}

impl FanOut {
    /// A lease that moved is refused for the 5 seconds that the last owner's subscription is safe.
    pub(super) const BACKOFF_BASE: Duration = Duration::from_secs(2);
    pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(5);
    /// As often is a lease that moved refused.
    pub(super) const USUAL_FAILURES: u32 = 3;

    pub(super) fn new(
        settings: Arc<ReaderSettings>,
        registration: Arc<Registration>,
        shard: ShardId,
        cursor: Cursor,
    ) -> Self {
        let event_bytes = EVENT_BYTES_FIRST.min(settings.budget.total_bytes() / 8);
        let call_at = Instant::now();
        Self { settings, registration, shard, cursor, events: None, call_at, event_bytes, owed_bytes: 0 }
    }

    fn what(&self) -> String {
        format!("shard {} of stream {}", self.shard, self.settings.stream)
    }

    async fn subscribe(&mut self) -> Result<Events, Failure> {
        let arn = self.registration.arn().await?;
        sleep_until(self.call_at).await;
        self.call_at = Instant::now() + CALL_PAUSE;
        let request = self.cursor.request();
        self.cursor.asked();
        let position = StartingPosition::builder()
            .r#type(request.kind.clone())
            .set_sequence_number(request.sequence.map(|sequence| sequence.to_string()))
            .set_timestamp(request.time.map(|time| DateTime::from_millis(time.as_millisecond())))
            .build();
        let position = position.map_err(|error| Failure::fatal(format!("cannot subscribe: {error}")))?;
        // An idle shard is slow by the SDK's measure; the watch is ours.
        let patient = Config::builder().stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let call = self.settings.client.subscribe_to_shard().consumer_arn(&arn).shard_id(self.shard.as_str());
        let call = call.starting_position(position).customize().config_override(patient).send();
        match timeout(ANSWER_MAX, call).await {
            Ok(Ok(reply)) => Ok(reply.event_stream),
            Ok(Err(error)) => Err(self.refused(&arn, &request, &error).await),
            Err(_) => {
                let (what, answer_s) = (self.what(), ANSWER_MAX.as_secs());
                Err(Failure::transient(format!("cannot subscribe to {what}: no answer in {answer_s} s")))
            }
        }
    }

    async fn refused(
        &self,
        arn: &str,
        request: &Request,
        error: &SdkError<SubscribeToShardError, HttpResponse>,
    ) -> Failure {
        let mut failure = failure("subscribe to", &self.what(), error);
        match code(error) {
            Some("ResourceNotFoundException") => self.registration.forget(arn).await,
            code if request.is_refused_until_later(code) => failure.class = Class::Transient,
            code if request.is_of_another_stream(code) => failure.class = Class::Configuration,
            _ => {}
        }
        failure
    }

    /// The next event. None at the end of a subscription's time, and for what this version does not know.
    async fn event(&mut self) -> Result<Option<SubscribeToShardEvent>, Failure> {
        let mut events = match self.events.take() {
            Some(events) => events,
            // Boxed: most of the time an event is waited for.
            None => Box::pin(self.subscribe()).await?,
        };
        match timeout(SILENCE_MAX, events.recv()).await {
            Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => {
                self.events = Some(events);
                Ok(Some(event))
            }
            Ok(Ok(Some(_))) => {
                self.events = Some(events);
                Ok(None)
            }
            Ok(Ok(None)) => {
                debug!(shard = %self.shard, "the subscription is over; subscribing again");
                Ok(None)
            }
            // What lasts shows itself when the next one is opened.
            Ok(Err(error)) => Err(broken_stream("stay subscribed to", &self.what(), &error)),
            Err(_) => {
                let silence_s = SILENCE_MAX.as_secs();
                Err(Failure::transient(format!("cannot stay subscribed to {}: silent for {silence_s} s", self.what())))
            }
        }
    }

    /// Memory for the next event. A subscription that waits for it too long is given up: it would hold what the service
    /// sends on the connection that all of them share.
    async fn reserve(&mut self) -> Reservation {
        let budget = self.settings.budget.clone();
        // Twice as much: an event exists as text and as records for a moment.
        let mut reserve = pin!(budget.reserve((self.event_bytes * 2).max(self.owed_bytes)));
        match timeout(REST_AFTER, reserve.as_mut()).await {
            Ok(reservation) => reservation,
            Err(_) => {
                self.rest();
                reserve.await
            }
        }
    }

    /// Follows the size of events: up at once, down step by step.
    fn expect(&mut self, bytes: usize) {
        self.event_bytes = bytes.max((self.event_bytes * 3 + bytes) / 4).max(EVENT_BYTES_MIN);
    }
}

#[async_trait]
impl Fetch for FanOut {
    async fn once(&mut self) -> Result<Option<Fetched>, Failure> {
        let mut reservation = self.reserve().await;
        let Some(event) = self.event().await? else { return Ok(None) };
        let before = self.cursor.clone();
        let Event { records, behind_latest_ms, is_end, children } =
            match event::read(event, &self.shard, &mut self.cursor) {
                Ok(event) => event,
                Err(failure) => {
                    self.events = None;
                    return Err(failure);
                }
            };
        if let Some(gap) = self.cursor.take_gap(is_end) {
            match self.settings.bridge(&self.shard, &gap, &mut self.cursor) {
                Ok(true) => {}
                Ok(false) => {
                    self.events = None;
                    return Ok(None);
                }
                Err(failure) => {
                    (self.cursor, self.events) = (before, None);
                    return Err(failure);
                }
            }
        }
        let bytes: usize = records.iter().map(Record::memory_bytes).sum();
        if let Err(owed_bytes) = pay(&self.settings.budget, &mut reservation, bytes) {
            debug!(shard = %self.shard, bytes, "the event was larger than its reservation; subscribing again");
            self.cursor = before;
            self.events = None;
            self.owed_bytes = owed_bytes;
            return Ok(None);
        }
        self.owed_bytes = 0;
        self.expect(bytes);
        self.settings.metrics.fetched(&self.shard, &records, bytes);
        let records = Records { records, behind_latest_ms, reservation };
        if is_end {
            self.events = None;
            return Fetched::at_end(&self.shard, records, children).map(Some);
        }
        Ok(Some(Fetched::Records(records)))
    }
    fn rest(&mut self) {
        self.events = None;
    }
}
