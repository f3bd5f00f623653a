//! What a connector runs for every shard.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kinesink_core::{
    Budget, Buffer, Checkpoint, Checkpointer, Emitter, Failure, Filter, Fingerprint, Prepared, ShardId, ShardReader,
    StreamName, Transformer,
};
use tokio_util::sync::CancellationToken;

use crate::shard_pipeline::ShardPipeline;
use crate::{Health, Metrics, Recipe, Spill, WindowBuffer, WindowLimits};

/// One destination of a pipeline.
pub struct Sink<U> {
    /// Its name in logs, metrics and dead letters.
    pub name: String,
    /// Where batches go. One value serves every shard.
    pub emitter: Arc<dyn Emitter<U>>,
}

impl<U> Sink<U> {
    /// A sink of this name.
    pub fn new(name: impl Into<String>, emitter: Arc<dyn Emitter<U>>) -> Self {
        Self { name: name.into(), emitter }
    }
}

impl<U> fmt::Debug for Sink<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How what failed is tried again: without end, because giving a record up would lose it. A replay of dead letters, which loses
/// nothing by that, ends after some attempts.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The first wait after a failure that should pass by itself.
    pub base: Duration,
    /// The first wait after one that someone has to mend.
    pub slow_base: Duration,
    /// The longest wait of either, unless the other side asks for a longer one.
    pub max: Duration,
    /// Seed of the jitter; each shard mixes its name in.
    pub seed: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            slow_base: Duration::from_secs(1),
            max: Duration::from_secs(30),
            seed: 0,
        }
    }
}

type BufferFactory<M> = Arc<dyn Fn() -> Box<dyn Buffer<M>> + Send + Sync>;

/// The four interfaces, put together. One value serves every shard; [`run_shard`](Self::run_shard) runs one.
pub struct Pipeline<T: Transformer> {
    pub(crate) transformer: Arc<T>,
    pub(crate) filter: Option<Arc<dyn Filter<T::Model>>>,
    pub(crate) buffer: BufferFactory<T::Model>,
    pub(crate) idle_age: Duration,
    pub(crate) sinks: Vec<Sink<T::Output>>,
    pub(crate) dead_letters: Option<Arc<dyn Emitter<Bytes>>>,
    pub(crate) spill: Option<Spill<T::Output>>,
    pub(crate) recipe: Recipe,
    pub(crate) retry: Retry,
    #[cfg(feature = "planted-faults")]
    pub(crate) planted: kinesink_core::Planted,
}

impl<T: Transformer> Pipeline<T> {
    /// A pipeline into one sink, with windows of the default [`WindowLimits`], no filter and no dead letters.
    pub fn new(transformer: T, sink: Sink<T::Output>) -> Self {
        let limits = WindowLimits::default();
        Self {
            transformer: Arc::new(transformer),
            filter: None,
            buffer: window_buffers(limits),
            idle_age: limits.age,
            sinks: vec![sink],
            dead_letters: None,
            spill: None,
            recipe: Recipe::new(),
            retry: Retry::default(),
            #[cfg(feature = "planted-faults")]
            planted: kinesink_core::Planted::default(),
        }
    }

    /// Another sink. A checkpoint moves when every sink has finished the window.
    #[must_use]
    pub fn and_sink(mut self, sink: Sink<T::Output>) -> Self {
        self.sinks.push(sink);
        self
    }

    /// Lets only the models go on that `filter` keeps.
    #[must_use]
    pub fn filter(mut self, filter: Arc<dyn Filter<T::Model>>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Closes windows at these limits.
    #[must_use]
    pub fn limits(mut self, limits: WindowLimits) -> Self {
        self.buffer = window_buffers(limits);
        self.idle_age = limits.age;
        self
    }

    /// Makes each shard's buffer with `factory`, in place of a [`WindowBuffer`]. A window that holds no item (all was
    /// filtered or refused) is closed `idle_age` after its first record, whatever the buffer says.
    #[must_use]
    pub fn buffer<F>(mut self, factory: F, idle_age: Duration) -> Self
    where
        F: Fn() -> Box<dyn Buffer<T::Model>> + Send + Sync + 'static,
    {
        self.buffer = Arc::new(factory);
        self.idle_age = idle_age;
        self
    }

    /// Where records go that cannot be transformed or delivered, as [`DeadLetter`](crate::DeadLetter)s in JSON. Without
    /// one, such a record halts its shard. What is refused of a window comes in several batches: the emitter may not name
    /// them by the window.
    #[must_use]
    pub fn dead_letters(mut self, emitter: Arc<dyn Emitter<Bytes>>) -> Self {
        self.dead_letters = Some(emitter);
        self
    }

    /// Where windows go that are larger than memory. Without it, a window closes when its memory is wanted.
    #[must_use]
    pub fn spill(mut self, spill: Spill<T::Output>) -> Self {
        self.spill = Some(spill);
        self
    }

    /// The settings that decide keys and contents of what the sinks get. They go into the plan of a window, so that
    /// whoever finishes it can do so with the same, and a window that comes out differently can be explained.
    #[must_use]
    pub fn with_recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        self
    }

    /// The settings that decide keys and contents of what the sinks get.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How failures are tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Proves, before the first record, that every sink and the dead-letter destination can be written, and windows spilled.
    ///
    /// # Errors
    /// The first [`Failure`] of one that cannot.
    pub async fn check(&self) -> Result<(), Failure> {
        if let Some(spill) = &self.spill {
            spill.check().await?;
        }
        for sink in &self.sinks {
            sink.emitter.check().await?;
        }
        let Some(dead_letters) = &self.dead_letters else { return Ok(()) };
        if dead_letters.plan(&mut Fingerprint::new()) {
            return Err(Failure::configuration(
                "dead letters cannot go to an emitter that names objects by windows: what is refused of one comes in several \
                 batches; give it names of its own, as with Naming::Unique",
            ));
        }
        dead_letters.check().await
    }

    /// Releases what the sinks hold. Call it once, after the last shard.
    ///
    /// # Errors
    /// The last [`Failure`] of a sink that could not be closed; all are tried.
    pub async fn close(&self) -> Result<(), Failure> {
        let mut closed = Ok(());
        for sink in &self.sinks {
            closed = sink.emitter.close().await.and(closed);
        }
        match &self.dead_letters {
            Some(emitter) => emitter.close().await.and(closed),
            None => closed,
        }
    }

    /// Finishes the window that the last owner announced, and nothing else: for one that was announced with other
    /// settings than those of the pipeline that goes on. Gives the shard back, with a plan that this program cannot read
    /// still in it; or why it came to its end before.
    ///
    /// Dropping the future is an abort, as in [`run_shard`](Self::run_shard).
    ///
    /// # Errors
    /// As [`run_shard`](Self::run_shard).
    pub async fn finish_plan(&self, input: ShardInput) -> Result<ControlFlow<Finished, ShardInput>, Failure> {
        let prepared = input.prepared.clone();
        Box::pin(Box::new(ShardPipeline::new(self, input)).finish(prepared)).await
    }

    /// Moves one shard's records until it ends, is drained, or its lease is lost. What it logs has no shard: whoever calls says which
    /// one it is, in a span.
    ///
    /// Dropping the future is an abort: nothing more is sent or checkpointed, and a batch in flight may or may not
    /// have arrived; the next owner sends its window again.
    ///
    /// # Errors
    /// A [`Failure`] of class `Fatal` from the reader, a sink or the checkpoint store. Everything else is retried.
    pub fn run_shard(&self, input: ShardInput) -> impl Future<Output = Result<Finished, Failure>> + Send + use<'_, T> {
        // Not a part of an async function: what goes into one is kept twice, and a worker holds thousands of them.
        Box::pin(Box::new(ShardPipeline::new(self, input)).run())
    }
}

fn window_buffers<M: Send + 'static>(limits: WindowLimits) -> BufferFactory<M> {
    Arc::new(move || Box::new(WindowBuffer::new(limits)))
}

impl<T: Transformer> fmt::Debug for Pipeline<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("sinks", &self.sinks)
            .field("filtered", &self.filter.is_some())
            .field("dead_letters", &self.dead_letters.is_some())
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// One shard, as its consumer hands it over.
pub struct ShardInput {
    /// The stream's name, for batches and dead letters.
    pub stream: StreamName,
    /// The shard's id.
    pub shard: ShardId,
    /// Where the lease stands: what a halted shard goes back to before it has checkpointed anything.
    pub start: Checkpoint,
    /// What the last owner announced and did not commit: a window that is finished first, exactly as it was.
    pub prepared: Option<Prepared>,
    /// Gives the records after `start`.
    pub reader: Box<dyn ShardReader>,
    /// Stores how far the shard is safe.
    pub checkpointer: Box<dyn Checkpointer>,
    /// Cancelled: stop reading, flush, checkpoint, return.
    pub drain: CancellationToken,
    /// The memory that the reader reserves from, which may ask this shard's window to close.
    pub budget: Budget,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to report what the shard is doing.
    pub health: Health,
}

impl fmt::Debug for ShardInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardInput")
            .field("stream", &self.stream)
            .field("shard", &self.shard)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// Why a shard's pipeline came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The shard is closed and its checkpoint is at `SHARD_END`.
    ShardEnd,
    /// It was asked to drain, and all that was read is checkpointed.
    Drained,
    /// It was asked to drain while it was halted: what it waited for is not checkpointed.
    Halted,
    /// Another worker holds the lease. Nothing was sent since this was known.
    LeaseLost,
}
