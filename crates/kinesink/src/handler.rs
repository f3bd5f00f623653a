//! The pipeline as the consumer's handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kinesink_consumer::{Finished as ShardFinished, Shard, ShardHandler};
use kinesink_core::{Budget, Failure, ShardId, Transformer};
use kinesink_pipeline::{Finished, Health, Metrics, Pipeline, Recipe, ShardInput, ShardStatus, announced_recipe};
use tokio::time::Instant;

use crate::Error;

/// A pipeline whose types are forgotten.
#[async_trait]
pub(crate) trait AnyPipeline: ShardHandler {
    async fn check(&self) -> Result<(), Failure>;
    async fn close(&self) -> Result<(), Failure>;
    /// Finishes the announced window, and nothing else.
    async fn finish_plan(&self, input: ShardInput) -> Result<Result<ShardInput, Finished>, Failure>;
    /// Whether a shard was drained that was not halted.
    fn drained_well(&self) -> bool;
    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler>;
}

/// What all pipelines of one connector share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) budget: Budget,
}

#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
impl Shared {
    /// A pipeline beside the one that the connector runs.
    pub(crate) fn handler<T: Transformer>(&self, pipeline: Pipeline<T>) -> Arc<dyn AnyPipeline> {
        Arc::new(Handler::new(pipeline, self.clone(), None))
    }
}

/// Makes the pipeline of a window that was announced with other settings.
pub(crate) type Earlier = Arc<dyn Fn(&Recipe, &Shared) -> Result<Arc<dyn AnyPipeline>, Error> + Send + Sync>;

pub(crate) struct Handler<T: Transformer> {
    pipeline: Pipeline<T>,
    shared: Shared,
    earlier: Option<Earlier>,
    drained_well: AtomicBool,
}

impl<T: Transformer> Handler<T> {
    pub(crate) fn new(pipeline: Pipeline<T>, shared: Shared, earlier: Option<Earlier>) -> Self {
        let pipeline = pipeline.metrics(shared.metrics.clone()).health(shared.health.clone());
        Self { pipeline, shared, earlier, drained_well: AtomicBool::new(false) }
    }

    /// The pipeline that the last owner announced a window with, if it is another one.
    fn announcer(&self, input: &ShardInput) -> Option<Arc<dyn AnyPipeline>> {
        let recipe = announced_recipe(input.prepared.as_ref()?, input.start)?;
        if recipe == *self.pipeline.recipe() {
            return None;
        }
        let made = self.earlier.as_ref()?(&recipe, &self.shared);
        made.map_err(|error| {
            // This one's own comparison then halts the shard and names what differs.
            tracing::warn!(shard = %input.shard, %error, "cannot make the pipeline that a window was announced with");
        })
        .ok()
    }

    async fn run_shard(&self, mut input: ShardInput) -> Result<Finished, Failure> {
        if let Some(announcer) = self.announcer(&input) {
            tracing::info!(shard = %input.shard, "a window was announced with other settings; finishing it with those");
            input = match announcer.finish_plan(input).await? {
                Ok(input) => input,
                Err(finished) => return Ok(finished),
            };
        }
        self.pipeline.run_shard(input).await
    }

    fn is_halted(&self, shard: &ShardId) -> bool {
        matches!(self.shared.health.report(Instant::now()).shards.get(shard), Some(ShardStatus::Halted { .. }))
    }
}

#[async_trait]
impl<T: Transformer> ShardHandler for Handler<T> {
    async fn run(&self, shard: Shard) -> Result<ShardFinished, Failure> {
        let Shard { stream, id, start, prepared, reader, checkpointer, drain } = shard;
        let budget = self.shared.budget.clone();
        let input = ShardInput { stream, shard: id.clone(), start, prepared, reader, checkpointer, drain, budget };
        Ok(match self.run_shard(input).await? {
            Finished::ShardEnd => ShardFinished::ShardEnd,
            Finished::Drained => {
                if !self.is_halted(&id) {
                    self.drained_well.store(true, Ordering::Relaxed);
                }
                ShardFinished::Drained
            }
            Finished::LeaseLost => ShardFinished::LeaseLost,
        })
    }
}

#[async_trait]
impl<T: Transformer> AnyPipeline for Handler<T> {
    async fn check(&self) -> Result<(), Failure> {
        self.pipeline.check().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pipeline.close().await
    }

    async fn finish_plan(&self, input: ShardInput) -> Result<Result<ShardInput, Finished>, Failure> {
        self.pipeline.finish_plan(input).await
    }

    fn drained_well(&self) -> bool {
        self.drained_well.load(Ordering::Relaxed)
    }

    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler> {
        self
    }
}
