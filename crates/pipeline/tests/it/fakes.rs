//! A shard whose records are numbered, destinations that remember what they made durable, and the lease between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{
    Batch, Budget, Checkpoint, CheckpointError, Checkpointer, Durable, Emitted, Emitter, Failure, Fingerprint, Item,
    Position, Prepared, Read, Record, Records, Reject, Reservation, ShardId, ShardReader, Transformer,
};
use kinesink_pipeline::{Finished, Health, Metrics, Pipeline, Retry, ShardInput, Sink, Spill, WindowLimits};
use prometheus_client::registry::Registry;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) fn shard() -> ShardId {
    "shardId-000000000000".parse().unwrap()
}

pub(crate) fn position(number: u64) -> Position {
    Position { sequence: number.to_string().parse().unwrap(), sub_sequence: 0 }
}

pub(crate) fn number(position: Position) -> u64 {
    position.sequence.to_string().parse().unwrap()
}

const ARRIVAL: &str = "2023-11-14T22:13:20Z";

pub(crate) fn record(number: u64, data: &str) -> Record {
    Record {
        shard: shard(),
        position: position(number),
        arrival: ARRIVAL.parse().unwrap(),
        partition_key: Some(format!("key-{number}").as_str().into()),
        data: Bytes::from(data.to_owned()),
    }
}

/// Each record's data is a list of outputs, split by commas; `bad` refuses the record while `refusing` says so.
#[derive(Default)]
pub(crate) struct Split {
    pub(crate) refusing: Arc<Mutex<bool>>,
}

impl Transformer for Split {
    type Model = String;
    type Output = String;

    fn to_model(&self, record: &Record, models: &mut Vec<String>) -> Result<(), Reject> {
        let text = std::str::from_utf8(&record.data).unwrap();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            models.push(part.to_owned());
            if part == "bad" && *self.refusing.lock().unwrap() {
                return Err(Reject::new("it is bad"));
            }
        }
        Ok(())
    }

    fn to_output(&self, model: String) -> Result<String, Reject> {
        if model == "unencodable" { Err(Reject::new("cannot be encoded")) } else { Ok(model) }
    }
}

/// What a shard gives, step by step.
#[derive(Clone)]
pub(crate) enum Step {
    /// A reply, after a delay.
    Reply(Duration, Vec<Record>),
    Fail(Failure),
    /// The shard's end; without it the reader waits for ever after the last step.
    End,
}

pub(crate) struct Reader {
    script: Vec<Step>,
    left: VecDeque<Step>,
    budget: Budget,
    bytes_per_reply: usize,
    pub(crate) rewinds: Arc<Mutex<Vec<Checkpoint>>>,
}

#[async_trait]
impl ShardReader for Reader {
    async fn next(&mut self) -> Result<Read, Failure> {
        let Some(step) = self.left.front_mut() else { return std::future::pending().await };
        match step {
            Step::Reply(delay, _) => {
                sleep(*delay).await;
                let reservation = if self.bytes_per_reply == 0 {
                    Reservation::none()
                } else {
                    self.budget.reserve(self.bytes_per_reply).await
                };
                let Some(Step::Reply(_, records)) = self.left.pop_front() else { unreachable!() };
                let more = self.left.iter().any(|step| matches!(step, Step::Reply(_, later) if !later.is_empty()));
                Ok(Read::Records(Records { records, behind_latest_ms: u64::from(more), reservation }))
            }
            Step::Fail(failure) => {
                let failure = failure.clone();
                self.left.pop_front();
                Err(failure)
            }
            Step::End => Ok(Read::ShardEnd),
        }
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        self.rewinds.lock().unwrap().push(checkpoint);
        self.left = self.again(|position| checkpoint.is_before(position)).collect();
        for step in &mut self.left {
            if let Step::Reply(delay, _) = step {
                *delay = Duration::ZERO;
            }
        }
    }

    fn seek(&mut self, first: Position) {
        self.left = self.again(|position| first <= position).collect();
    }
}

impl Reader {
    /// The script without its failures and the records that are not wanted.
    fn again(&self, wanted: impl Fn(Position) -> bool) -> impl Iterator<Item = Step> {
        let steps = self.script.iter().filter(|step| !matches!(step, Step::Fail(_))).cloned();
        steps.map(move |mut step| {
            if let Step::Reply(_, records) = &mut step {
                records.retain(|record| wanted(record.position));
            }
            step
        })
    }
}

/// One thing that happened, in order, across every fake of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The sink made these outputs durable.
    Durable {
        sink: String,
        outputs: Vec<(u64, u32, String)>,
    },
    /// A batch was begun.
    Begun {
        sink: String,
        first: u64,
        last: u64,
        keep_existing: bool,
    },
    /// The lease row announces a window that ends there.
    Announced(u64),
    Checkpointed(Checkpoint),
}

pub(crate) type Log = Arc<Mutex<Vec<Event>>>;

/// How an emitter answers one batch.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Deliver,
    DeliverAfter(Duration),
    /// Nothing is durable.
    Fail(Failure),
    /// Nothing is reported durable, though everything is that is not refused.
    FailAfterDelivering(Failure),
    /// Items at these indexes, modulo the batch, are to be sent again.
    Retry(Vec<usize>),
    /// An item that is not in the batch is to be sent again.
    RetryBeyond,
    /// Waits until told.
    Hold(Arc<Notify>),
}

/// Answers as scripted, then delivers. Refuses the output `poison` while `refusing` says so.
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) answers: Mutex<VecDeque<Answer>>,
    pub(crate) refusing: Arc<Mutex<bool>>,
    refuses_all: bool,
    is_planned: bool,
    /// How often it was asked for a partition.
    pub(crate) asked: Arc<AtomicU64>,
}

impl Destination {
    pub(crate) fn new(name: &str, log: &Log) -> Self {
        Self {
            name: name.into(),
            log: Arc::clone(log),
            answers: Mutex::default(),
            refusing: Arc::new(Mutex::new(true)),
            refuses_all: false,
            is_planned: false,
            asked: Arc::default(),
        }
    }

    pub(crate) fn refusing_all(mut self) -> Self {
        self.refuses_all = true;
        self
    }

    /// Its windows are announced, as an object store's are.
    pub(crate) fn planned(mut self) -> Self {
        self.is_planned = true;
        self
    }

    pub(crate) fn answering(self, answers: impl IntoIterator<Item = Answer>) -> Self {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
        self
    }

    fn deliver(&self, outputs: Vec<(u64, u32, String)>) {
        self.log.lock().unwrap().push(Event::Durable { sink: self.name.clone(), outputs });
    }

    async fn answer<U: Text>(&self, batch: &Batch<'_, U>) -> Result<Emitted, Failure> {
        self.log.lock().unwrap().push(Event::Begun {
            sink: self.name.clone(),
            first: number(batch.first),
            last: number(batch.last),
            keep_existing: batch.keep_existing,
        });
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Deliver);
        let mut again = Vec::new();
        match answer {
            Answer::Deliver => {}
            Answer::DeliverAfter(delay) => sleep(delay).await,
            Answer::Fail(failure) => return Err(failure),
            Answer::FailAfterDelivering(failure) => {
                let taken = batch.items.iter().filter(|item| item.value.text() != "poison");
                self.deliver(taken.map(|item| triple(item)).collect());
                return Err(failure);
            }
            Answer::Retry(indexes) => again = indexes.iter().map(|index| index % batch.items.len()).collect(),
            Answer::RetryBeyond => {
                let mut emitted = Emitted::all();
                emitted.retry(batch.items.len(), Reject::new("later"));
                return Ok(emitted);
            }
            Answer::Hold(notify) => notify.notified().await,
        }
        let mut emitted = Emitted::all();
        let mut durable = Vec::new();
        for (index, item) in batch.items.iter().enumerate() {
            if again.contains(&index) {
                emitted.retry(index, Reject::new("later"));
            } else if self.refuses_all || (item.value.text() == "poison" && *self.refusing.lock().unwrap()) {
                emitted.reject(index, Reject::new("poisonous"));
            } else {
                durable.push(triple(item));
            }
        }
        self.deliver(durable);
        Ok(emitted)
    }
}

fn triple<U: Text>(item: &Item<U>) -> (u64, u32, String) {
    (number(item.record.position), item.ordinal, item.value.text())
}

pub(crate) trait Text: Send + Sync {
    fn text(&self) -> String;
}

impl Text for String {
    fn text(&self) -> String {
        self.clone()
    }
}

impl Text for Bytes {
    fn text(&self) -> String {
        String::from_utf8(self.to_vec()).unwrap()
    }
}

#[async_trait]
impl Emitter<String> for Destination {
    async fn emit(&self, batch: &Batch<'_, String>) -> Result<Emitted, Failure> {
        self.answer(batch).await
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        self.is_planned
    }

    fn plan_item(&self, item: &Item<String>, partition: Option<&str>, content: &mut Fingerprint) {
        content.part(partition.unwrap_or_default().as_bytes());
        content.part(item.value.as_bytes());
    }

    /// What stands before a slash.
    fn partition(&self, item: &Item<String>) -> Option<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.is_planned.then(|| item.value.split_once('/')).flatten().map(|(partition, _)| partition.to_owned())
    }
}

#[async_trait]
impl Emitter<Bytes> for Destination {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        self.answer(batch).await
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        self.is_planned
    }
}

pub(crate) struct Lease {
    log: Log,
    pub(crate) answers: VecDeque<CheckpointError>,
    /// The lease is lost at the n-th commit.
    pub(crate) lost_at: Option<usize>,
    commits: usize,
    /// As the row has it.
    pub(crate) prepared: Arc<Mutex<Option<Prepared>>>,
}

#[async_trait]
impl Checkpointer for Lease {
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError> {
        self.log.lock().unwrap().push(Event::Announced(number(last)));
        *self.prepared.lock().unwrap() = Some(Prepared { checkpoint: Checkpoint::At(last), plan: Some(plan) });
        Ok(())
    }

    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError> {
        self.commits += 1;
        if self.lost_at.is_some_and(|at| self.commits >= at) {
            return Err(CheckpointError::LeaseLost);
        }
        if let Some(error) = self.answers.pop_front() {
            return Err(error);
        }
        self.log.lock().unwrap().push(Event::Checkpointed(durable.through()));
        *self.prepared.lock().unwrap() = None;
        Ok(())
    }
}

/// One shard with everything around it.
pub(crate) struct Rig {
    pub(crate) log: Log,
    pub(crate) script: Vec<Step>,
    pub(crate) limits: WindowLimits,
    pub(crate) sinks: Vec<Destination>,
    pub(crate) dead_letters: Option<Destination>,
    pub(crate) lease: Lease,
    pub(crate) drain: CancellationToken,
    pub(crate) budget: Budget,
    pub(crate) bytes_per_reply: usize,
    pub(crate) health: Health,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) refusing: Arc<Mutex<bool>>,
    pub(crate) rewinds: Arc<Mutex<Vec<Checkpoint>>>,
    pub(crate) start: Checkpoint,
    pub(crate) spill: Option<Spill<String>>,
}

impl Rig {
    pub(crate) fn new(script: Vec<Step>) -> Self {
        let log = Log::default();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        Self {
            sinks: vec![Destination::new("one", &log)],
            dead_letters: None,
            lease: Lease {
                log: Arc::clone(&log),
                answers: VecDeque::new(),
                lost_at: None,
                commits: 0,
                prepared: Arc::default(),
            },
            log,
            script,
            limits: WindowLimits { records: 3, bytes: 1_000_000, age: Duration::from_secs(60) },
            drain: CancellationToken::new(),
            budget: Budget::new(1024 * 1024),
            bytes_per_reply: 0,
            health: Health::default(),
            registry,
            metrics,
            refusing: Arc::new(Mutex::new(true)),
            rewinds: Arc::default(),
            start: Checkpoint::TrimHorizon,
            spill: None,
        }
    }

    pub(crate) fn with_dead_letters(mut self) -> Self {
        self.dead_letters = Some(Destination::new("dead_letters", &self.log));
        self
    }

    /// The pipeline and its input; `skip` is filtered.
    pub(crate) fn build(&mut self) -> (Pipeline<Split>, ShardInput) {
        let transformer = Split { refusing: Arc::clone(&self.refusing) };
        let mut sinks = self.sinks.drain(..).map(|sink| Sink::new(sink.name.clone(), Arc::new(sink)));
        let mut pipeline = Pipeline::new(transformer, sinks.next().unwrap())
            .filter(Arc::new(|model: &String| model != "skip"))
            .limits(self.limits)
            .retry(Retry { seed: 7, ..Retry::default() });
        for sink in sinks {
            pipeline = pipeline.and_sink(sink);
        }
        if let Some(spill) = &self.spill {
            pipeline = pipeline.spill(spill.clone());
        }
        if let Some(dead_letters) = self.dead_letters.take() {
            pipeline = pipeline.dead_letters(Arc::new(dead_letters));
        }
        let reader = Reader {
            left: self.script.clone().into(),
            script: std::mem::take(&mut self.script),
            budget: self.budget.clone(),
            bytes_per_reply: self.bytes_per_reply,
            rewinds: Arc::clone(&self.rewinds),
        };
        let lease = Lease {
            log: Arc::clone(&self.log),
            answers: std::mem::take(&mut self.lease.answers),
            lost_at: self.lease.lost_at,
            commits: 0,
            prepared: Arc::clone(&self.lease.prepared),
        };
        let input = ShardInput {
            stream: "orders".parse().unwrap(),
            shard: shard(),
            start: self.start,
            prepared: self.lease.prepared.lock().unwrap().clone(),
            reader: Box::new(reader),
            checkpointer: Box::new(lease),
            drain: self.drain.clone(),
            budget: self.budget.clone(),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
        };
        (pipeline, input)
    }

    pub(crate) async fn run(&mut self) -> Result<Finished, Failure> {
        let (pipeline, input) = self.build();
        pipeline.run_shard(input).await
    }

    /// Where the lease stands.
    pub(crate) fn committed(&self) -> Checkpoint {
        let checkpoint = |event: &Event| match event {
            Event::Checkpointed(checkpoint) => Some(*checkpoint),
            _ => None,
        };
        self.log.lock().unwrap().iter().rev().find_map(checkpoint).unwrap_or(self.start)
    }

    /// The same lease for the next owner.
    pub(crate) fn next_lease(&self) -> Lease {
        let (log, prepared) = (Arc::clone(&self.log), Arc::clone(&self.lease.prepared));
        Lease { log, prepared, answers: VecDeque::new(), lost_at: None, commits: 0 }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.log.lock().unwrap().clone()
    }

    /// The numbers of the records that `sink` made durable, in order.
    pub(crate) fn delivered(&self, sink: &str) -> Vec<u64> {
        self.batches(sink).concat()
    }

    /// The same, batch by batch.
    pub(crate) fn batches(&self, sink: &str) -> Vec<Vec<u64>> {
        let durable = |event| match event {
            Event::Durable { sink: name, outputs } if name == sink => {
                Some(outputs.into_iter().map(|(number, ..)| number).collect())
            }
            _ => None,
        };
        self.events().into_iter().filter_map(durable).collect()
    }

    pub(crate) fn checkpoints(&self) -> Vec<String> {
        let checkpoint = |event| match event {
            Event::Checkpointed(Checkpoint::At(position)) => Some(number(position).to_string()),
            Event::Checkpointed(sentinel) => Some(sentinel.to_string()),
            _ => None,
        };
        self.events().into_iter().filter_map(checkpoint).collect()
    }

    /// Whether a sample begins so.
    pub(crate) fn shows(&self, sample: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|line| line.starts_with(sample))
    }

    /// The value of one sample, such as `windows_closed_total{reason="age"}`.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }
}

/// An envelope, read by other means than it was written by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) number: u64,
    pub(crate) ordinal: u32,
    pub(crate) stage: String,
    pub(crate) reason: String,
    pub(crate) data: String,
}

pub(crate) fn letter(json: &str) -> Letter {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let text = |field: &str| value[field].as_str().unwrap().to_owned();
    assert_eq!((&value["version"], &value["sub_sequence"]), (&1.into(), &0.into()));
    assert_eq!((&*text("stream"), &*text("shard"), &*text("arrival")), ("orders", &*shard().to_string(), ARRIVAL));
    let number = text("sequence").parse().unwrap();
    assert_eq!(text("partition_key"), format!("key-{number}"));
    let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text("data")).unwrap();
    let ordinal = value["ordinal"].as_u64().unwrap().try_into().unwrap();
    Letter { number, ordinal, stage: text("stage"), reason: text("reason"), data: String::from_utf8(data).unwrap() }
}

pub(crate) fn reply(records: impl IntoIterator<Item = Record>) -> Step {
    Step::Reply(Duration::ZERO, records.into_iter().collect())
}

/// Records `from..=to`, one output each.
pub(crate) fn plain(from: u64, to: u64) -> Vec<Record> {
    (from..=to).map(|number| record(number, &format!("out-{number}"))).collect()
}
