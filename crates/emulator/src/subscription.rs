//! A subscription: a consumer's open connection to a shard, on which records are pushed.
//!
//! ```text
//! loop:
//!     cut or expired by a test?               end
//!     taken over, deregistered, deleted?      the error, end
//!     five minutes old?                       end
//!     records, and the rate allows them?      an event with records
//!     closed and read to its end?             an event with the children and without a number to go on from, end
//!     no event for some seconds?              an event without records
//!     wait for a record, the close, a change of the stream, a moment of the clock, a fault, or the end of the claim
//! ```
//!
//! Nobody drives it but the connection that reads it: a client that does not read stops it, and a connection that is
//! dropped ends it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream as Events;
use futures::stream;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::emulator::{ACCOUNT, Shared};
use crate::faults::{FaultKind, SubscriptionFault};
use crate::limits::{Bucket, Limit};
use crate::stream::StreamId;
use crate::stream::consumer::ConsumerStatus;
use crate::stream::reading::{self, ChildShard, Read, ReadLimit};
use crate::stream::sequence_number::SequenceNumber;
use crate::wire::encoding::Encoding;
use crate::wire::event_stream;
use crate::wire::payload::Payload;
use crate::wire::records;
use crate::wire::service_error::ServiceError;

const LIFETIME_MS: i64 = 300_000;
/// A consumer hears from an idle shard this often.
const IDLE_EVENT_MS: i64 = 5000;
const RATE_BYTES_PER_S: u32 = 2 * 1024 * 1024;
const EVENT_LIMIT: ReadLimit = ReadLimit { records: 10_000, bytes: 1024 * 1024 };

/// What is subscribed to, and how far it is read.
#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) stream: String,
    pub(crate) stream_id: StreamId,
    pub(crate) consumer: String,
    /// Tells the consumer from a later one of the same name.
    pub(crate) consumer_created_ms: i64,
    pub(crate) shard: u32,
    pub(crate) index: u64,
    /// A number behind which the first record is.
    pub(crate) continuation: SequenceNumber,
}

/// An open subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    encoding: Encoding,
    subscribed: Subscribed,
    news: watch::Receiver<u64>,
    /// Ends when another subscription takes over.
    claim: CancellationToken,
    faults_added: watch::Receiver<u64>,
    expires_at_ms: i64,
    idle_event_at_ms: i64,
    bytes: Bucket,
    is_over: bool,
    /// The rest of a message.
    unsent: VecDeque<io::Result<Bytes>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tail {
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_sequence_number: Option<String>,
    millis_behind_latest: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<ChildShard>,
}

/// What a client sees of a connection that a test has cut.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by an injected fault")
}

/// What there is to do.
enum Next {
    Send(Payload),
    SendLast(Payload),
    End,
    WaitUntil(i64),
}

impl Subscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        encoding: Encoding,
        subscribed: Subscribed,
        news: watch::Receiver<u64>,
        claim: CancellationToken,
    ) -> Result<Self, ServiceError> {
        let now_ms = shared.now_ms();
        let faults_added = shared.faults.added();
        let mut subscription = Self {
            shared,
            encoding,
            subscribed,
            news,
            claim,
            faults_added,
            expires_at_ms: now_ms.saturating_add(LIFETIME_MS),
            idle_event_at_ms: now_ms,
            bytes: Bucket::default(),
            is_over: false,
            unsent: VecDeque::new(),
        };
        subscription.send(event_stream::initial_response(encoding)?);
        Ok(subscription)
    }

    /// The bytes of its messages, to its end.
    pub(crate) fn into_stream(self) -> impl Events<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut subscription| async move {
            while subscription.unsent.is_empty() && !subscription.is_over {
                subscription = subscription.step().await;
            }
            subscription.unsent.pop_front().map(|chunk| (chunk, subscription))
        })
    }

    fn send(&mut self, message: Payload) {
        self.unsent.extend(message.into_chunks().map(Ok));
    }

    /// Sends something, ends, or waits for a reason to look again.
    async fn step(mut self) -> Self {
        // A test may have asked for the end. It comes before what there is to send, which can be without end.
        if let Some(fault) = self.fault() {
            self.is_over = true;
            if fault == SubscriptionFault::Cut {
                self.unsent.push_back(Err(broken()));
            }
            return self;
        }
        let shared = Arc::clone(&self.shared);
        let look = move |_: &Arc<Shared>| {
            let mut subscription = self;
            let next = subscription.look();
            (subscription, next)
        };
        let (mut subscription, next) = shared.run(look).await;
        match next {
            Ok(Next::Send(message)) => subscription.send_unless_faulty(message).await,
            Ok(Next::SendLast(message)) => {
                subscription.is_over = true;
                subscription.send_unless_faulty(message).await;
            }
            Ok(Next::End) => subscription.is_over = true,
            Ok(Next::WaitUntil(at_ms)) => subscription.wait_until(at_ms).await,
            Err(error) => subscription.fail(&error),
        }
        subscription
    }

    async fn wait_until(&mut self, at_ms: i64) {
        let moment = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = self.claim.cancelled() => {}
            _ = self.faults_added.changed() => {}
            _ = self.news.changed() => {}
            () = self.shared.clock.wait_until(moment) => {}
        }
    }

    /// The fault that ends it, unless it is over by itself.
    fn fault(&mut self) -> Option<SubscriptionFault> {
        self.faults_added.mark_unchanged();
        if self.claim.is_cancelled() { None } else { self.shared.faults.take_end() }
    }

    fn fail(&mut self, error: &ServiceError) {
        self.is_over = true;
        match event_stream::exception(error, self.encoding) {
            Ok(message) => self.send(message),
            Err(error) => self.unsent.push_back(Err(io::Error::other(error.message))),
        }
    }

    /// A test may have asked for a fault in place of the next event.
    async fn send_unless_faulty(&mut self, mut message: Payload) {
        match self.shared.faults.take_event() {
            Some(FaultKind::ClockJumpMs(ms)) => {
                self.shared.faults.jump_clock(ms);
                self.send(message);
            }
            Some(FaultKind::DelayMs(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.send(message);
            }
            Some(FaultKind::Error { code, message } | FaultKind::ErrorAfter { code, message }) => {
                self.fail(&ServiceError::of_type(&code, message));
            }
            Some(FaultKind::Cut) => {
                self.is_over = true;
                self.unsent.push_back(Err(broken()));
            }
            Some(FaultKind::Truncate) => {
                self.is_over = true;
                message.truncate(message.len_bytes() / 2);
                self.send(message);
                self.unsent.push_back(Err(broken()));
            }
            None | Some(FaultKind::Expire | FaultKind::StaleShardsMs(_) | FaultKind::CutSubscription) => {
                self.send(message);
            }
        }
    }

    fn stream_not_found(&self) -> ServiceError {
        let stream = &self.subscribed.stream;
        ServiceError::resource_not_found(format!("Stream {stream} under account {ACCOUNT} not found."))
    }

    fn look(&mut self) -> Result<Next, ServiceError> {
        let shared = Arc::clone(&self.shared);
        let mut store = shared.store();
        let now_ms = shared.now_ms();
        let subscribed = &self.subscribed;
        let stream = store.streams.get_mut(&subscribed.stream);
        let stream = stream.filter(|stream| stream.id() == subscribed.stream_id);
        let stream = stream.ok_or_else(|| self.stream_not_found())?;
        let consumer = stream.consumers.get(&subscribed.consumer, now_ms);
        let consumer = consumer.filter(|consumer| {
            consumer.created_ms == subscribed.consumer_created_ms && consumer.status(now_ms) == ConsumerStatus::Active
        });
        if consumer.is_none() {
            let (consumer, stream) = (&subscribed.consumer, &subscribed.stream);
            let message = format!("Consumer {consumer} of stream {stream} under account {ACCOUNT} not found.");
            return Err(ServiceError::resource_not_found(message));
        }
        if self.claim.is_cancelled() {
            let message = "Another subscription of the consumer to the shard has taken over.";
            return Err(ServiceError::resource_in_use(message));
        }
        if now_ms >= self.expires_at_ms {
            return Ok(Next::End);
        }
        // There is no more news of a stream that was deleted, also if there is another of its name.
        if self.news.has_changed().is_err() {
            return Err(self.stream_not_found());
        }
        let is_limited = shared.limits.has(Limit::SubscriptionBytes);
        if is_limited && !self.bytes.has(1, RATE_BYTES_PER_S, now_ms) {
            let ready_at_ms = self.bytes.ready_at_ms(1, RATE_BYTES_PER_S, now_ms);
            return Ok(Next::WaitUntil(ready_at_ms.min(self.expires_at_ms)));
        }
        stream.trim_shards(&[subscribed.shard], now_ms);
        // A change that is overdue waits for room in the log: there is no moment to look again at.
        let done_at_ms = stream.transition.as_ref().map(|transition| transition.done_at_ms);
        let done_at_ms = done_at_ms.filter(|at_ms| *at_ms > now_ms).unwrap_or(i64::MAX);
        let shard =
            stream.shard(subscribed.shard).ok_or_else(|| ServiceError::internal_failure("the shard is gone"))?;
        let read = reading::read(shard, subscribed.index, EVENT_LIMIT, now_ms);
        if read.records.is_empty() && read.is_end {
            let child_shards = reading::child_shards(stream, shard);
            let tail = Tail { continuation_sequence_number: None, millis_behind_latest: 0, child_shards };
            return self.event(&read, &tail).map(Next::SendLast);
        }
        if read.records.is_empty() && now_ms < self.idle_event_at_ms {
            return Ok(Next::WaitUntil(self.idle_event_at_ms.min(self.expires_at_ms).min(done_at_ms)));
        }
        drop(store);
        self.subscribed.index = read.next_index;
        self.subscribed.continuation = read.last.unwrap_or(self.subscribed.continuation);
        self.bytes.take(read.bytes, RATE_BYTES_PER_S, now_ms);
        self.idle_event_at_ms = now_ms.saturating_add(IDLE_EVENT_MS);
        let tail = Tail {
            continuation_sequence_number: Some(self.subscribed.continuation.to_string()),
            millis_behind_latest: read.millis_behind_latest,
            child_shards: Vec::new(),
        };
        self.event(&read, &tail).map(Next::Send)
    }

    fn event(&self, read: &Read, tail: &Tail) -> Result<Payload, ServiceError> {
        let payload = records::encode(self.encoding, &read.records, tail)?;
        event_stream::event("SubscribeToShardEvent", self.encoding, payload)
    }
}
