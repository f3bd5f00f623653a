//! Faults that tests plant between the steps of a commit. A commit meets them where it meets real ones: behind the emitters
//! of its sinks and its checkpointer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{
    Batch, CheckpointError, Checkpointer, Durable, Emitted, Emitter, Failure, Fault, Fingerprint, Item, Partition,
    Planted, Position, Step, Transformer,
};

use crate::pipeline::{Pipeline, ShardInput};

impl<T: Transformer> Pipeline<T> {
    /// Plants a fault, or none, in what this pipeline commits.
    #[must_use]
    pub fn planted(mut self, fault: Option<Fault>) -> Self {
        self.planted = Planted::new(fault);
        for sink in &mut self.sinks {
            let (emitter, planted) = (Arc::clone(&sink.emitter), self.planted.clone());
            sink.emitter = Arc::new(PlantedEmitter { emitter, planted });
        }
        self
    }

    pub(crate) fn plant_in(&self, mut input: ShardInput) -> ShardInput {
        let planted = self.planted.clone();
        input.checkpointer = Box::new(PlantedCheckpointer { checkpointer: input.checkpointer, planted });
        input
    }
}

struct PlantedEmitter<U> {
    emitter: Arc<dyn Emitter<U>>,
    planted: Planted,
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would pass this by")]
#[async_trait]
impl<U: Send + Sync + 'static> Emitter<U> for PlantedEmitter<U> {
    async fn emit(&self, batch: &Batch<'_, U>) -> Result<Emitted, Failure> {
        let emitted = self.emitter.emit(batch).await?;
        self.planted.pass(Step::Delivered).await?;
        Ok(emitted)
    }

    fn plan(&self, content: &mut Fingerprint) -> bool {
        self.emitter.plan(content)
    }

    fn plan_item(&self, item: &Item<U>, partition: Option<&str>, content: &mut Fingerprint) {
        self.emitter.plan_item(item, partition, content);
    }

    fn partition(&self, item: &Item<U>) -> Option<String> {
        self.emitter.partition(item)
    }

    async fn emit_partition(&self, partition: &Partition<'_, U>) -> Result<Emitted, Failure> {
        let emitted = self.emitter.emit_partition(partition).await?;
        self.planted.pass(Step::Delivered).await?;
        Ok(emitted)
    }

    async fn check(&self) -> Result<(), Failure> {
        self.emitter.check().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.emitter.close().await
    }
}

struct PlantedCheckpointer {
    checkpointer: Box<dyn Checkpointer>,
    planted: Planted,
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would pass this by")]
#[async_trait]
impl Checkpointer for PlantedCheckpointer {
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError> {
        self.checkpointer.prepare(last, plan).await?;
        self.planted.pass(Step::Announced).await.map_err(CheckpointError::Store)
    }

    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError> {
        self.planted.pass(Step::Checkpointing).await.map_err(CheckpointError::Store)?;
        self.checkpointer.commit(durable).await?;
        self.planted.pass(Step::Checkpointed).await.map_err(CheckpointError::Store)
    }
}
