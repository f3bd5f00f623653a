//! The pipeline as the consumer's handler.

use std::sync::Arc;

use async_trait::async_trait;
use kinesink_consumer::{Finished as ShardFinished, Shard, ShardHandler};
use kinesink_core::{Budget, Failure, Transformer};
use kinesink_pipeline::{Finished, Pipeline, ShardInput};

/// A pipeline whose types are forgotten.
#[async_trait]
pub(crate) trait AnyPipeline: ShardHandler {
    async fn check(&self) -> Result<(), Failure>;
    async fn close(&self) -> Result<(), Failure>;
    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler>;
}

pub(crate) struct Handler<T: Transformer> {
    pub(crate) pipeline: Pipeline<T>,
    pub(crate) budget: Budget,
}

#[async_trait]
impl<T: Transformer> ShardHandler for Handler<T> {
    async fn run(&self, shard: Shard) -> Result<ShardFinished, Failure> {
        let Shard { stream, id, start, prepared, reader, checkpointer, drain } = shard;
        if prepared.is_some() {
            // Nothing here prepares yet: it is another program's, and our next checkpoint removes it.
            tracing::info!(shard = %id, "a prepared checkpoint of another program is left aside");
        }
        let budget = self.budget.clone();
        let input = ShardInput { stream, shard: id, start, reader, checkpointer, drain, budget };
        Ok(match self.pipeline.run_shard(input).await? {
            Finished::ShardEnd => ShardFinished::ShardEnd,
            Finished::Drained => ShardFinished::Drained,
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

    fn as_handler(self: Arc<Self>) -> Arc<dyn ShardHandler> {
        self
    }
}
