//! The pipeline as the consumer's handler.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use kinesink_consumer::{Finished as ShardFinished, Shard, ShardHandler};
use kinesink_core::{Budget, Failure, ShardId, Transformer};
use kinesink_pipeline::{Finished, Health, Metrics, Pipeline, Recipe, ShardInput, announced_recipe};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::until::Until;

/// What a connector asks of its pipeline.
#[async_trait]
pub(crate) trait AnyPipeline: Send + Sync {
    /// Runs one shard to its end. No async function: it would keep its arguments twice for as long as the shard runs.
    fn run(&self, input: ShardInput) -> BoxFuture<'_, Result<Finished, Failure>>;
    async fn check(&self) -> Result<(), Failure>;
    async fn close(&self) -> Result<(), Failure>;
    /// Finishes the announced window, and nothing else.
    async fn finish_plan(&self, input: ShardInput) -> Result<ControlFlow<Finished, ShardInput>, Failure>;
}

/// A pipeline whose types are forgotten.
pub(crate) fn any<T: Transformer>(pipeline: Pipeline<T>, earlier: Option<Earlier>) -> Arc<dyn AnyPipeline> {
    Arc::new(Handler { pipeline, earlier })
}

/// Makes the pipeline of a window that was announced with other settings.
pub(crate) type Earlier = Arc<dyn Fn(&Recipe) -> Result<Arc<dyn AnyPipeline>, Error> + Send + Sync>;

struct Handler<T: Transformer> {
    pipeline: Pipeline<T>,
    earlier: Option<Earlier>,
}

impl<T: Transformer> Handler<T> {
    /// The pipeline that the last owner announced a window with, if it is another one.
    fn announcer(&self, input: &ShardInput) -> Option<Arc<dyn AnyPipeline>> {
        let recipe = announced_recipe(input.prepared.as_ref()?, input.start)?;
        if recipe == *self.pipeline.recipe() {
            return None;
        }
        let made = self.earlier.as_ref()?(&recipe);
        made.map_err(|error| {
            // This one's own comparison then halts the shard and names what differs.
            tracing::warn!(%error, "cannot make the pipeline that a window was announced with");
        })
        .ok()
    }
}

#[async_trait]
impl<T: Transformer> AnyPipeline for Handler<T> {
    fn run(&self, input: ShardInput) -> BoxFuture<'_, Result<Finished, Failure>> {
        let Some(announcer) = self.announcer(&input) else { return Box::pin(self.pipeline.run_shard(input)) };
        tracing::info!("a window was announced with other settings; finishing it with those");
        Box::pin(async move {
            match announcer.finish_plan(input).await? {
                ControlFlow::Continue(input) => self.pipeline.run_shard(input).await,
                ControlFlow::Break(finished) => Ok(finished),
            }
        })
    }

    async fn check(&self) -> Result<(), Failure> {
        self.pipeline.check().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pipeline.close().await
    }

    async fn finish_plan(&self, input: ShardInput) -> Result<ControlFlow<Finished, ShardInput>, Failure> {
        self.pipeline.finish_plan(input).await
    }
}

/// What the shards of one connector share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) budget: Budget,
}

/// One run of a pipeline: hands it its shards, and remembers how they ended when the process drained. A shard that was
/// drained before, to be handed to another worker, says nothing of that.
pub(crate) struct Run {
    pipeline: Arc<dyn AnyPipeline>,
    shared: Shared,
    drain: CancellationToken,
    until: Option<Arc<Until>>,
    drained: AtomicBool,
    halted: AtomicBool,
}

impl Run {
    /// `drain` is the process's. With `until`, the run drains by itself once its shards are read so far.
    pub(crate) fn new(
        pipeline: Arc<dyn AnyPipeline>,
        shared: Shared,
        drain: CancellationToken,
        until: Option<Arc<Until>>,
    ) -> Self {
        Self { pipeline, shared, drain, until, drained: AtomicBool::new(false), halted: AtomicBool::new(false) }
    }

    /// Notes that a shard has nothing more to read; drains the process after the last one.
    fn note_read(&self, shard: &ShardId) {
        if self.until.as_ref().is_some_and(|until| until.note_read(shard)) {
            self.drain.cancel();
        }
    }

    /// Whether every shard that the process drained was halted, and there was one.
    pub(crate) fn all_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed) && !self.drained.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ShardHandler for Run {
    async fn run(&self, shard: Shard) -> Result<ShardFinished, Failure> {
        let Shard { stream, id, start, prepared, reader, checkpointer, drain } = shard;
        let Shared { metrics, health, budget } = self.shared.clone();
        let (shard, reached) = (id.clone(), drain.child_token());
        let reader = match &self.until {
            Some(until) => until.bounded(&id, reader, reached.clone()),
            None => reader,
        };
        let input = ShardInput {
            stream,
            shard,
            start,
            prepared,
            reader,
            checkpointer,
            drain: reached.clone(),
            budget,
            metrics,
            health,
        };
        let (ended, finished) = match self.pipeline.run(input).await? {
            Finished::ShardEnd => {
                self.note_read(&id);
                return Ok(ShardFinished::ShardEnd);
            }
            Finished::LeaseLost => return Ok(ShardFinished::LeaseLost),
            // What it could not commit is read again.
            Finished::Halted if reached.is_cancelled() && !drain.is_cancelled() => {
                return Err(Failure::transient(format!("shard {id} is halted at the end of what is to be read")));
            }
            Finished::Drained => (&self.drained, ShardFinished::Drained),
            Finished::Halted => (&self.halted, ShardFinished::Drained),
        };
        if reached.is_cancelled() && !drain.is_cancelled() {
            self.note_read(&id);
            // Held until the others are read so far: another worker would find nothing more in it.
            drain.cancelled().await;
        }
        if self.drain.is_cancelled() {
            ended.store(true, Ordering::Relaxed);
        }
        Ok(finished)
    }
}

#[cfg(test)]
mod tests {
    use futures::future;
    use kinesink_core::{Checkpoint, CheckpointError, Checkpointer, Durable, Read, ShardReader};

    use super::*;

    /// Each shard ends as it is told, perhaps where what is to be read ends.
    struct Ends {
        as_told: Finished,
        at_the_end: bool,
    }

    #[async_trait]
    impl AnyPipeline for Ends {
        fn run(&self, input: ShardInput) -> BoxFuture<'_, Result<Finished, Failure>> {
            if self.at_the_end {
                input.drain.cancel();
            }
            Box::pin(future::ready(Ok(self.as_told)))
        }

        async fn check(&self) -> Result<(), Failure> {
            Ok(())
        }

        async fn close(&self) -> Result<(), Failure> {
            Ok(())
        }

        async fn finish_plan(&self, input: ShardInput) -> Result<ControlFlow<Finished, ShardInput>, Failure> {
            Ok(ControlFlow::Continue(input))
        }
    }

    struct Nothing;

    #[async_trait]
    impl ShardReader for Nothing {
        async fn next(&mut self) -> Result<Read, Failure> {
            Ok(Read::ShardEnd)
        }

        fn rewind(&mut self, _: Checkpoint) {}

        fn seek(&mut self, _: kinesink_core::Position) {}
    }

    #[async_trait]
    impl Checkpointer for Nothing {
        async fn prepare(&mut self, _: kinesink_core::Position, _: bytes::Bytes) -> Result<(), CheckpointError> {
            Ok(())
        }

        async fn commit(&mut self, _: Durable) -> Result<(), CheckpointError> {
            Ok(())
        }
    }

    fn shard(drain: CancellationToken) -> Shard {
        Shard {
            stream: "orders".parse().unwrap(),
            id: "shardId-000000000000".parse().unwrap(),
            start: Checkpoint::TrimHorizon,
            prepared: None,
            reader: Box::new(Nothing),
            checkpointer: Box::new(Nothing),
            drain,
        }
    }

    async fn runs(run: &mut Run, ended: Finished) {
        run.pipeline = Arc::new(Ends { as_told: ended, at_the_end: false });
        ShardHandler::run(run, shard(CancellationToken::new())).await.unwrap();
    }

    fn run() -> Run {
        let shared = Shared { metrics: Metrics::default(), health: Health::default(), budget: Budget::new(1) };
        Run::new(
            Arc::new(Ends { as_told: Finished::Drained, at_the_end: false }),
            shared,
            CancellationToken::new(),
            None,
        )
    }

    #[tokio::test]
    async fn a_shard_that_is_halted_at_the_end_of_what_is_to_be_read_is_not_read_so_far() {
        let time = jiff::Timestamp::UNIX_EPOCH;
        let until = Arc::new(Until::new(time..time, time, ["shardId-000000000000".parse().unwrap()]));
        let mut run = Run { until: Some(Arc::clone(&until)), ..run() };
        run.pipeline = Arc::new(Ends { as_told: Finished::Halted, at_the_end: true });
        let halted = ShardHandler::run(&run, shard(run.drain.child_token())).await;
        assert_eq!(halted.unwrap_err().class, kinesink_core::Class::Transient);
        assert!(!until.is_over() && !run.drain.is_cancelled(), "what it could not commit would be forgotten");
        run.pipeline = Arc::new(Ends { as_told: Finished::Drained, at_the_end: true });
        ShardHandler::run(&run, shard(run.drain.child_token())).await.unwrap();
        assert!(until.is_over() && run.drain.is_cancelled());
    }

    #[tokio::test]
    async fn a_handoff_before_the_drain_says_nothing_of_how_the_process_ended() {
        let mut handed_off = run();
        runs(&mut handed_off, Finished::Drained).await;
        handed_off.drain.cancel();
        runs(&mut handed_off, Finished::Halted).await;
        assert!(handed_off.all_halted(), "a shard that was handed over in good health counts as drained");

        let mut handed_off = run();
        runs(&mut handed_off, Finished::Halted).await;
        handed_off.drain.cancel();
        assert!(!handed_off.all_halted(), "a halted shard that was handed over is another worker's");
        runs(&mut handed_off, Finished::Drained).await;
        assert!(!handed_off.all_halted());
    }
}
