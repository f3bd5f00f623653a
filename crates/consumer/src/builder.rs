//! The settings of a consumer, with KCL's names and defaults.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::Clients;
use kinesink_core::{Budget, Checkpoint, Clock, StreamName, SystemClock};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::coordination::Coordinator;
use crate::fetch::{BeyondRetention, ReaderSettings, Registration, Texts};
use crate::lease::assignment::Appetite;
use crate::lease::{LeaseTable, TableOptions};
use crate::metrics::Metrics;
use crate::shard_list::Listing;
use crate::worker::Worker;
use crate::{Coordination, Error, ShardHandler};

/// KCL's `failoverTimeMillis`.
const FAILOVER: Duration = Duration::from_secs(10);
/// Below this, renewals three times per failover would come faster than the table answers.
const FAILOVER_MIN: Duration = Duration::from_millis(500);
/// KCL's `shardSyncIntervalMillis`.
const SHARD_SYNC: Duration = Duration::from_secs(60);
/// KCL's `idleTimeBetweenReadsInMillis`, version 1.x.
const IDLE: Duration = Duration::from_secs(1);
/// KCL's `maxRecords`, and the service's limit.
const RECORDS_MAX: usize = 10_000;
/// KCL's `completedLeaseCleanupIntervalMillis`.
const CLEANUP: Duration = Duration::from_secs(300);
/// KCL's `maxListShardsRetryAttempts` and `listShardsBackoffTimeInMillis`.
const LISTING: Listing = Listing { attempts_max: 50, pause: Duration::from_millis(1_500) };
/// KCL's `maxLeasesForWorker` and `maxLeasesToStealAtOneTime`.
const APPETITE: Appetite = Appetite { leases_max: usize::MAX, steals_max: 1 };
const MEMORY_BYTES: usize = 256 * 1024 * 1024;

/// Where an application that has no lease yet starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that the stream still has.
    TrimHorizon,
    /// After the newest record.
    Latest,
    /// At the first record that arrived at this time or later.
    AtTimestamp(Timestamp),
}

impl Start {
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        match self {
            Self::TrimHorizon => Checkpoint::TrimHorizon,
            Self::Latest => Checkpoint::Latest,
            Self::AtTimestamp(_) => Checkpoint::AtTimestamp,
        }
    }
}

/// How a shard's records are fetched. Either continues where the other stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Retrieval {
    /// By GetRecords. All pollers of a shard share 2 MB/s and five calls a second.
    #[default]
    Polling,
    /// By SubscribeToShard: 2 MB/s for this application alone, sent when they arrive, which AWS charges for.
    FanOut {
        /// Name of the registered consumer, or its ARN. A name that is not registered yet is registered, and stays so;
        /// with an ARN nothing is looked up. `None`: the application's name.
        consumer: Option<String>,
    },
}

/// Settings of a [`Consumer`]; all are checked in [`build`](Self::build).
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    app: String,
    stream: StreamName,
    clients: Clients,
    table: Option<String>,
    worker_id: Option<String>,
    start: Start,
    beyond_retention: BeyondRetention,
    failover: Duration,
    coordination: Coordination,
    appetite: Appetite,
    table_options: TableOptions,
    shard_sync: Duration,
    listing: Listing,
    cleanup: Option<Duration>,
    records_max: usize,
    idle: Duration,
    retrieval: Retrieval,
    budget: Budget,
    clock: Arc<dyn Clock>,
    seed: u64,
}

/// A consumer, ready to run.
#[derive(Debug)]
pub struct Consumer {
    worker: Worker,
}

impl Consumer {
    /// A consumer of `stream` for the application `app`, whose name is also the lease table's.
    #[must_use]
    pub fn builder(app: impl Into<String>, stream: StreamName, clients: Clients) -> ConsumerBuilder {
        ConsumerBuilder {
            app: app.into(),
            stream,
            clients,
            table: None,
            worker_id: None,
            start: Start::Latest,
            beyond_retention: BeyondRetention::default(),
            failover: FAILOVER,
            coordination: Coordination::default(),
            appetite: APPETITE,
            table_options: TableOptions::default(),
            shard_sync: SHARD_SYNC,
            listing: LISTING,
            cleanup: Some(CLEANUP),
            records_max: RECORDS_MAX,
            idle: IDLE,
            retrieval: Retrieval::default(),
            budget: Budget::new(MEMORY_BYTES),
            clock: Arc::new(SystemClock),
            seed: 0,
        }
    }

    /// Takes leases and runs `handler` for each held shard until `drain` is cancelled and every handler has finished,
    /// or `abort` is cancelled. Leases are released after a drain and left to expire after an abort.
    ///
    /// Dropping the future is an abort.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::NoTable`], [`Error::Row`] and [`Error::EarlierStream`] before the first record,
    /// [`Error::Running`] later.
    pub async fn run(
        &self,
        handler: Arc<dyn ShardHandler>,
        drain: CancellationToken,
        abort: CancellationToken,
    ) -> Result<(), Error> {
        self.worker.run(handler, drain, abort).await
    }

    /// This worker's id, as it stands in the leases that it holds.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.worker.id
    }
}

impl ConsumerBuilder {
    /// The lease table, if it is not named as the application.
    #[must_use]
    pub fn lease_table(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }

    /// A stable id is found again at once after a restart. Two live processes must not share one; without this call
    /// the id is random, and a restart after a kill waits one failover.
    #[must_use]
    pub fn worker_id(mut self, id: impl Into<String>) -> Self {
        self.worker_id = Some(id.into());
        self
    }

    /// Where shards start that have no lease yet. KCL's default: `LATEST`.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where reading goes on when the stream has forgotten what a checkpoint stands at. Default: at its oldest record.
    #[must_use]
    pub fn beyond_retention(mut self, choice: BeyondRetention) -> Self {
        self.beyond_retention = choice;
        self
    }

    /// How long a lease lives without renewal. Must equal that of the application's other workers. Default 10 s.
    #[must_use]
    pub fn failover(mut self, failover: Duration) -> Self {
        self.failover = failover;
        self
    }

    /// KCL's `maxLeasesForWorker`: how many leases this worker may hold. Default: any number.
    #[must_use]
    pub fn max_leases(mut self, leases: usize) -> Self {
        self.appetite.leases_max = leases;
        self
    }

    /// KCL's `maxLeasesToStealAtOneTime`: how many leases a round takes from a live worker of another kind. Workers of
    /// ours hand over among themselves, any number at once. Default 1.
    #[must_use]
    pub fn max_steals(mut self, leases: usize) -> Self {
        self.appetite.steals_max = leases;
        self
    }

    /// What the lease table is made with if this worker is the one that makes it.
    #[must_use]
    pub fn table_options(mut self, options: TableOptions) -> Self {
        self.table_options = options;
        self
    }

    /// Who decides which worker holds which lease. Default: as the application's rows say.
    #[must_use]
    pub fn coordination(mut self, coordination: Coordination) -> Self {
        self.coordination = coordination;
        self
    }

    /// How often the stream's shards are listed for ones without a lease. Default 60 s.
    #[must_use]
    pub fn shard_sync(mut self, interval: Duration) -> Self {
        self.shard_sync = interval;
        self
    }

    /// KCL's `maxListShardsRetryAttempts` and `listShardsBackoffTimeInMillis`: how often a start lists the shards while
    /// the service has no room for it, and the pause between. Default 50 and 1.5 s.
    #[must_use]
    pub fn list_shards(mut self, attempts_max: u32, pause: Duration) -> Self {
        self.listing = Listing { attempts_max, pause };
        self
    }

    /// KCL's `completedLeaseCleanupIntervalMillis`: how often it is looked whether the lease of a finished shard may be
    /// deleted. `None`, KCL's `cleanupLeasesUponShardCompletion = false`: such leases stay. Default 5 minutes.
    #[must_use]
    pub fn cleanup(mut self, interval: Option<Duration>) -> Self {
        self.cleanup = interval;
        self
    }

    /// KCL's `maxRecords`: what one GetRecords asks for at most, 1 to 10,000, aggregates counted as one. Fewer are asked
    /// for where they are large. Default 10,000.
    #[must_use]
    pub fn max_records(mut self, records: usize) -> Self {
        self.records_max = records;
        self
    }

    /// The pause after a read that reached the newest record. Default 1 s.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// How records are fetched. Default: by polling.
    #[must_use]
    pub fn retrieval(mut self, retrieval: Retrieval) -> Self {
        self.retrieval = retrieval;
        self
    }

    /// The memory that records may hold, shared with whoever else has the budget. Default 256 MiB.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Who tells the time. Default: the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Seed of the jitter.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Checks the settings and registers the metrics.
    ///
    /// # Errors
    /// [`Error::Setting`] names the setting and its limit.
    pub fn build(self, registry: &mut Registry) -> Result<Consumer, Error> {
        self.check()?;
        let registration = self.registration()?;
        let id = self.worker_id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let dynamodb = self.clients.dynamodb;
        let metrics = Metrics::register(registry);
        let table = LeaseTable::new(dynamodb.clone(), self.table.unwrap_or_else(|| self.app.clone()));
        let table = table.counted_by(&metrics);
        let table = if self.coordination == Coordination::Kcl3 { table.of_kcl3() } else { table };
        let coordinator = Coordinator::new(
            (self.app, dynamodb),
            table.clone(),
            self.coordination,
            (id.clone(), self.failover),
            Arc::clone(&self.clock),
        );
        let reader = ReaderSettings {
            client: self.clients.kinesis.clone(),
            stream: self.stream,
            budget: self.budget,
            texts: Texts::default(),
            registration,
            records_max: self.records_max,
            idle: self.idle,
            beyond_retention: self.beyond_retention,
            start: self.start,
            clock: Arc::clone(&self.clock),
            metrics: metrics.clone(),
        };
        Ok(Consumer {
            worker: Worker {
                id,
                table,
                coordinator,
                reader: Arc::new(reader),
                seed: self.seed,
                start: self.start,
                failover: self.failover,
                appetite: self.appetite,
                table_options: self.table_options,
                shard_sync: self.shard_sync,
                listing: self.listing,
                cleanup: self.cleanup,
                clock: self.clock,
                metrics,
            },
        })
    }

    fn check(&self) -> Result<(), Error> {
        if self.app.is_empty() {
            return Err(Error::Setting("the application's name is empty".into()));
        }
        if self.failover < FAILOVER_MIN {
            return Err(Error::Setting(format!("failover {:?} is below {FAILOVER_MIN:?}", self.failover)));
        }
        if self.appetite.leases_max == 0 {
            return Err(Error::Setting("a worker that may hold no lease has nothing to do".into()));
        }
        if self.appetite.steals_max == 0 {
            return Err(Error::Setting("a worker that steals no lease never gets its share beside others".into()));
        }
        if self.shard_sync.is_zero() || self.cleanup.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::Setting("an interval of shard sync or of cleanup is zero".into()));
        }
        if self.listing.attempts_max == 0 {
            return Err(Error::Setting("shards that are never listed are never read".into()));
        }
        if !(1..=RECORDS_MAX).contains(&self.records_max) {
            return Err(Error::Setting(format!(
                "{} records are no reply: ask for 1 to {RECORDS_MAX}",
                self.records_max
            )));
        }
        if self.worker_id.as_deref() == Some("") {
            return Err(Error::Setting("the worker id is empty".into()));
        }
        Ok(())
    }

    /// Who subscribes, if anybody does.
    fn registration(&self) -> Result<Option<Arc<Registration>>, Error> {
        let Retrieval::FanOut { consumer } = &self.retrieval else { return Ok(None) };
        let consumer = consumer.as_deref().unwrap_or(&self.app);
        // Names of consumers are made as those of streams.
        if !consumer.starts_with("arn:") && consumer.parse::<StreamName>().is_err() {
            return Err(Error::Setting(format!(
                "{consumer:?} cannot name a consumer: it needs 1 to 128 of a-z A-Z 0-9 _ . -"
            )));
        }
        let client = self.clients.kinesis.clone();
        Ok(Some(Arc::new(Registration::new(client, self.stream.clone(), consumer, self.seed))))
    }
}
