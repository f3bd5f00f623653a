//! One shard with everything around it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kinesink_core::{Budget, Checkpoint, Failure};
use kinesink_pipeline::{Finished, Health, Metrics, Pipeline, Retry, ShardInput, Sink, Spill, WindowLimits};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::reader::Reader;
use super::{Destination, Event, Lease, Log, Split, Step, number, shard};

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
