//! Consumer and pipeline, started and drained as one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kinesink_aws::Clients;
use kinesink_consumer::{Consumer, ConsumerBuilder, Error as ConsumerError, Start};
use kinesink_core::{Budget, StreamName, Transformer};
use kinesink_pipeline::{Health, Metrics, Pipeline};
use prometheus_client::registry::Registry;

use crate::handler::{AnyPipeline, Earlier, Run, Shared, any};
use crate::until::Until;
use crate::{Error, Stop};

const MEMORY_BYTES: usize = 256 * 1024 * 1024;
const GRACE: Duration = Duration::from_secs(30);
/// What every metric's name begins with.
pub(crate) const METRICS_PREFIX: &str = "kinesink";

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything read is delivered and checkpointed, and the leases are released.
    Drained,
    /// Drained, while every held shard was halted: by a record that has nowhere to go, a sink, the reader, or a window
    /// that cannot be published as it was announced.
    Halted,
    /// The grace period or a second signal ended it; what is not checkpointed is read again.
    Aborted,
}

/// A consumer and a pipeline, ready to run.
pub struct Connector {
    consumer: Consumer,
    pipeline: Arc<dyn AnyPipeline>,
    shared: Shared,
    grace: Duration,
    until: Option<Arc<Until>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("consumer", &self.consumer)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector for the application `app`, whose name is also the lease table's, from `stream` through `pipeline`.
    #[must_use]
    pub fn builder<T: Transformer>(
        app: impl Into<String>,
        stream: StreamName,
        clients: Clients,
        pipeline: Pipeline<T>,
    ) -> ConnectorBuilder<T> {
        ConnectorBuilder {
            consumer: Consumer::builder(app, stream, clients),
            pipeline,
            earlier: None,
            memory_bytes: MEMORY_BYTES,
            grace: GRACE,
            until: None,
        }
    }

    /// What each shard is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health.clone()
    }

    /// What the pipeline counts.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }

    /// Proves that the sinks can be written, then runs until `stop` says otherwise: its drain signal flushes,
    /// checkpoints and releases the leases; its abort signal, or the grace period after the drain began, leaves at once.
    ///
    /// Dropping the future is an abort.
    ///
    /// # Errors
    /// [`Error::Start`] before the first record, [`Error::Running`] later.
    pub async fn run(&self, stop: &Stop) -> Result<Outcome, Error> {
        let aborted = stop.aborted(self.grace);
        tokio::pin!(aborted);
        tokio::select! {
            () = &mut aborted => return Ok(Outcome::Aborted),
            checked = self.pipeline.check() => checked.map_err(|failure| Error::Start(failure.message))?,
        }
        let announce = async {
            stop.drain.cancelled().await;
            tracing::info!("draining: no more fetching; flushing, checkpointing, releasing the leases");
            std::future::pending::<()>().await;
        };
        let run =
            Arc::new(Run::new(Arc::clone(&self.pipeline), self.shared.clone(), stop.drain.clone(), self.until.clone()));
        // Boxed: it is the whole consumer, and every caller's future would hold it.
        let ran = Box::pin(self.consumer.run(Arc::clone(&run) as _, stop.drain.clone(), stop.abort.clone()));
        tokio::select! {
            biased;
            () = &mut aborted => return Ok(Outcome::Aborted),
            () = announce => {}
            ran = ran => ran.map_err(|error| match error {
                ConsumerError::Setting(_) => Error::Configuration(error.to_string()),
                ConsumerError::Start(_) | ConsumerError::NoTable(_) | ConsumerError::Row { .. } => Error::Start(error.to_string()),
                _ => Error::Running(error.to_string()),
            })?,
        }
        if let Err(failure) = self.pipeline.close().await {
            tracing::warn!(%failure, "a sink was not closed");
        }
        Ok(if run.all_halted() { Outcome::Halted } else { Outcome::Drained })
    }
}

/// Settings of a [`Connector`]; everything is checked in [`build`](Self::build).
pub struct ConnectorBuilder<T: Transformer> {
    consumer: ConsumerBuilder,
    pipeline: Pipeline<T>,
    earlier: Option<Earlier>,
    memory_bytes: usize,
    grace: Duration,
    until: Option<Arc<Until>>,
}

impl<T: Transformer> fmt::Debug for ConnectorBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorBuilder")
            .field("consumer", &self.consumer)
            .field("pipeline", &self.pipeline)
            .finish_non_exhaustive()
    }
}

impl<T: Transformer> ConnectorBuilder<T> {
    /// Where shards start that have no lease yet. KCL's default: `LATEST`.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.consumer = self.consumer.start(start);
        self
    }

    /// How to make the pipeline of a window that was announced with other settings.
    #[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
    #[must_use]
    pub(crate) fn earlier(mut self, earlier: Earlier) -> Self {
        self.earlier = Some(earlier);
        self
    }

    /// Reads every shard up to a time only, and drains after the last of them.
    #[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
    #[must_use]
    pub(crate) fn until(mut self, until: Option<Arc<Until>>) -> Self {
        self.until = until;
        self
    }

    /// Changes the settings of the consumer: worker id, lease table, failover, idle time.
    #[must_use]
    pub fn consumer(mut self, change: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Self {
        self.consumer = change(self.consumer);
        self
    }

    /// Memory that records may hold, over all shards. Default 256 MiB.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How long a drain may take. Default 30 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Checks the settings and registers the metrics, all of which begin with `kinesink_`.
    ///
    /// # Errors
    /// [`Error::Configuration`] names the setting.
    pub fn build(self, registry: &mut Registry) -> Result<Connector, Error> {
        let registry = registry.sub_registry_with_prefix(METRICS_PREFIX);
        let budget = Budget::new(self.memory_bytes);
        let shared = Shared { metrics: Metrics::register(registry), health: Health::default(), budget: budget.clone() };
        let consumer = self.consumer.budget(budget).build(registry);
        let consumer = consumer.map_err(|error| Error::Configuration(error.to_string()))?;
        Ok(Connector {
            consumer,
            pipeline: any(self.pipeline, self.earlier),
            shared,
            grace: self.grace,
            until: self.until,
        })
    }
}
