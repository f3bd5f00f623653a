//! The pipeline as the consumer's handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kinesink_consumer::{Finished as ShardFinished, Shard, ShardHandler};
use kinesink_core::{Budget, Failure, ShardId, Transformer};
use kinesink_pipeline::{Finished, Health, Pipeline, ShardInput, ShardStatus};
use tokio::time::Instant;

/// A pipeline whose types are forgotten.
#[async_trait]
pub(crate) trait AnyPipeline: ShardHandler {
    async fn check(&self) -> Result<(), Failure>;
    async fn close(&self) -> Result<(), Failure>;
    /// Whether a shard was drained that was not halted.
    fn drained_well(&self) -> bool;
    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler>;
}

pub(crate) struct Handler<T: Transformer> {
    pipeline: Pipeline<T>,
    health: Health,
    budget: Budget,
    drained_well: AtomicBool,
}

impl<T: Transformer> Handler<T> {
    pub(crate) fn new(pipeline: Pipeline<T>, health: Health, budget: Budget) -> Self {
        Self { pipeline, health, budget, drained_well: AtomicBool::new(false) }
    }

    fn is_halted(&self, shard: &ShardId) -> bool {
        matches!(self.health.report(Instant::now()).shards.get(shard), Some(ShardStatus::Halted { .. }))
    }
}

#[async_trait]
impl<T: Transformer> ShardHandler for Handler<T> {
    async fn run(&self, shard: Shard) -> Result<ShardFinished, Failure> {
        let Shard { stream, id, start, prepared, reader, checkpointer, drain } = shard;
        let budget = self.budget.clone();
        let input = ShardInput { stream, shard: id.clone(), start, prepared, reader, checkpointer, drain, budget };
        Ok(match self.pipeline.run_shard(input).await? {
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

    fn drained_well(&self) -> bool {
        self.drained_well.load(Ordering::Relaxed)
    }

    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler> {
        self
    }
}
