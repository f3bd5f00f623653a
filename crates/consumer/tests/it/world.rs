//! Everything that a consumer needs, sharing one clock that follows the paused runtime.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::config::retry::RetryConfig;
use kinesink_aws::kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use kinesink_aws::kinesis::primitives::Blob;
use kinesink_aws::kinesis::types::PutRecordsRequestEntry;
use kinesink_aws::{Clients, SdkConfig};
use kinesink_consumer::{Consumer, ConsumerBuilder, Error, ShardHandler, Start};
use kinesink_emulator::{Builder, Emulator, Limits};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::dynamo::Dynamo;

pub(crate) const STREAM: &str = "orders";
pub(crate) const APP: &str = "orders-to-s3";
pub(crate) const FAILOVER: Duration = Duration::from_secs(10);
/// Of virtual time: a test that waits this long waits for what never comes.
const NEVER: Duration = Duration::from_secs(3600);

/// Wall-clock time that moves with the runtime's paused clock.
#[derive(Debug)]
pub(crate) struct PausedClock {
    start: Timestamp,
    origin: Instant,
    ahead_ms: AtomicI64,
}

impl PausedClock {
    /// The wall clock alone goes on, or back: the machine slept, or somebody set its clock.
    pub(crate) fn jump(&self, jump: SignedDuration) {
        let ms = i64::try_from(jump.as_millis()).unwrap();
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    fn read(&self) -> Timestamp {
        self.start + self.origin.elapsed() + SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl kinesink_core::Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.read()
    }
}

impl kinesink_emulator::Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.read()
    }
}

pub(crate) struct World {
    pub(crate) emulator: Emulator,
    pub(crate) kinesis: Client,
    pub(crate) dynamo: Dynamo,
    pub(crate) clock: Arc<PausedClock>,
}

/// A consumer under way.
pub(crate) struct Running {
    pub(crate) drain: CancellationToken,
    pub(crate) abort: CancellationToken,
    task: JoinSet<Result<(), Error>>,
}

impl World {
    /// With the stream, of so many shards.
    pub(crate) async fn new(shards: i32) -> Self {
        Self::of(shards, |emulator| emulator).await
    }

    /// With the stream, of so many shards, by a Kinesis of other settings. None of its limits holds unless they say so.
    pub(crate) async fn of(shards: i32, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let clock = Arc::new(PausedClock {
            start: "2026-03-01T12:00:00Z".parse().unwrap(),
            origin: Instant::now(),
            ahead_ms: AtomicI64::new(0),
        });
        let builder = Emulator::builder().clock(Arc::<PausedClock>::clone(&clock)).limits(Limits::none());
        let emulator = settings(builder).build().unwrap();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials())
            .retry_config(RetryConfig::disabled())
            .endpoint_url("http://in-process")
            .http_client(emulator.http_client());
        let kinesis = Client::from_conf(config.build());
        kinesis.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
        Self { emulator, kinesis, dynamo: Dynamo::new(), clock }
    }

    /// From the oldest record, with short pauses, as worker `id`.
    pub(crate) fn consumer(&self, id: &str) -> ConsumerBuilder {
        self.consumer_by(&self.dynamo, id)
    }

    /// The same, which reaches its tables that way.
    pub(crate) fn consumer_by(&self, dynamo: &Dynamo, id: &str) -> ConsumerBuilder {
        let clients = Clients {
            kinesis: self.kinesis.clone(),
            dynamodb: dynamo.client(),
            region: "us-east-1".into(),
            s3_endpoint: None,
            config: SdkConfig::builder().build(),
        };
        Consumer::builder(APP, STREAM.parse().unwrap(), clients)
            .worker_id(id)
            .start(Start::TrimHorizon)
            .failover(FAILOVER)
            .clock(Arc::<PausedClock>::clone(&self.clock))
            .seed(1)
    }

    /// Puts texts under one partition key, in order.
    pub(crate) async fn put(&self, key: &str, texts: &[String]) {
        for batch in texts.chunks(500) {
            let entry = |text: &String| {
                let entry = PutRecordsRequestEntry::builder().partition_key(key);
                entry.data(Blob::new(text.as_bytes())).build().unwrap()
            };
            let put = self.kinesis.put_records().stream_name(STREAM);
            let reply = put.set_records(Some(batch.iter().map(entry).collect())).send().await.unwrap();
            assert_eq!(reply.failed_record_count, Some(0));
        }
    }

    /// The lease table's rows by key.
    pub(crate) async fn rows(&self) -> HashMap<String, HashMap<String, AttributeValue>> {
        let reply = self.dynamo.client().scan().table_name(APP).consistent_read(true).send().await.unwrap();
        let key = |row: &HashMap<String, AttributeValue>| row["leaseKey"].as_s().unwrap().clone();
        reply.items.unwrap().into_iter().map(|row| (key(&row), row)).collect()
    }

    /// One text attribute of each row that has it, by key.
    pub(crate) async fn texts(&self, attribute: &str) -> HashMap<String, String> {
        let rows = self.rows().await.into_iter();
        rows.filter_map(|(key, row)| Some((key, row.get(attribute)?.as_s().unwrap().clone()))).collect()
    }
}

fn credentials() -> Credentials {
    Credentials::new("test", "test", None, None, "test")
}

/// Runs the consumer until it is told otherwise.
pub(crate) fn run<H: ShardHandler>(consumer: ConsumerBuilder, handler: &Arc<H>) -> Running {
    run_counted(consumer, handler, &mut Registry::default())
}

/// As [`run`], with its metrics.
pub(crate) fn run_counted<H: ShardHandler>(
    consumer: ConsumerBuilder,
    handler: &Arc<H>,
    registry: &mut Registry,
) -> Running {
    let handler = Arc::<H>::clone(handler);
    let consumer = consumer.build(registry).unwrap();
    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let mut task = JoinSet::new();
    let (draining, aborting) = (drain.clone(), abort.clone());
    task.spawn(async move { consumer.run(handler, draining, aborting).await });
    Running { drain, abort, task }
}

impl Running {
    /// How it ended.
    pub(crate) async fn ended(mut self) -> Result<(), Error> {
        timeout(NEVER, self.task.join_next()).await.expect("the consumer did not end").unwrap().unwrap()
    }

    pub(crate) async fn drained(self) {
        self.drain.cancel();
        self.ended().await.unwrap();
    }

    /// As a kill: nothing is released, nothing finished.
    pub(crate) async fn killed(mut self) {
        self.task.shutdown().await;
    }
}

/// Waits, in virtual time, until `met` holds.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut met: F) {
    let wait = async {
        while !met().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(NEVER, wait).await.unwrap_or_else(|_| panic!("it never came true that {what}"));
}

/// The value of a metric, by its name and labels as they are served.
pub(crate) fn metric(registry: &Registry, name: &str) -> u64 {
    let text = exposed(registry);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// All metrics, as they are served.
pub(crate) fn exposed(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}
