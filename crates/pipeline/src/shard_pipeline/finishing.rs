//! An announced window: read again from its first record to its last, whatever else would close a window.

use std::ops::ControlFlow;
use std::time::Duration;

use kinesink_core::{CloseReason, Failure, Prepared, Transformer};
use tokio::time::Instant;

use super::ShardPipeline;
use crate::commit::Halt;
use crate::pipeline::{Finished, ShardInput};
use crate::plan::{self, Found};

/// How long an announced window waits for its rest while others want memory.
pub(super) const MEMORY_PATIENCE: Duration = Duration::from_secs(10);

impl<T: Transformer> ShardPipeline<'_, T> {
    /// Begins with what the last owner announced, if that counts.
    pub(super) fn finishing(mut self, prepared: Option<&Prepared>) -> Self {
        let Some(prepared) = prepared else { return self };
        match plan::found(prepared, self.standing.committed) {
            Found::Plan(plan) => {
                tracing::info!(first = %plan.first, last = %plan.last, "finishing the window that was announced");
                self.reader.seek(plan.first);
                self.standing.plan = Some(*plan);
            }
            Found::Unreadable(why) => self.unreadable_plan = Some(why),
            Found::Nothing(why) => {
                tracing::warn!(prepared = %prepared.checkpoint, why,
                    "a prepared checkpoint does not count; the next checkpoint removes it");
                self.shard.metrics.plan_dropped();
            }
        }
        self
    }

    /// Finishes the announced window and nothing else: gives the shard back, to be read on after it, or as it was
    /// `prepared` where that could not be read. Or why the shard came to its end before.
    pub(crate) async fn finish(
        mut self: Box<Self>,
        prepared: Option<Prepared>,
    ) -> Result<ControlFlow<Finished, ShardInput>, Failure> {
        self.finishes_only = true;
        while self.standing.plan.is_some() || self.committing.is_some() {
            if let Some(finished) = self.step().await? {
                return Ok(ControlFlow::Break(finished));
            }
        }
        // What was read beyond it came out of this pipeline.
        self.discard();
        let (start, shard, drain) = (self.standing.committed, self.shard.id.clone(), self.shard.drain.clone());
        self.reader.rewind(start);
        let Some(checkpointer) = self.checkpointer else {
            return Err(Failure::fatal("a commit ended without giving its checkpointer back: a bug"));
        };
        let (metrics, health) = (self.shard.metrics.clone(), self.shard.health.of_all());
        let (stream, reader, budget) = (self.shard.stream.clone(), self.reader, self.budget);
        let prepared = prepared.filter(|_| self.unreadable_plan.is_some());
        let input = ShardInput { stream, shard, start, prepared, reader, checkpointer, drain, budget, metrics, health };
        Ok(ControlFlow::Continue(input))
    }

    /// The stream has nothing more for the announced window that is being read. It halts, or closes as it is where
    /// somebody has asked for that.
    pub(super) fn plan_falls_short(&mut self) -> Option<CloseReason> {
        let plan = self.standing.plan.as_ref()?;
        if plan.as_is {
            return Some(CloseReason::Plan);
        }
        self.halt = Some(Halt::Plan(plan.lost()));
        None
    }

    /// More of the announced window came.
    pub(super) fn plan_progressed(&mut self) {
        if let Some(give_up_at) = &mut self.give_up_at {
            *give_up_at = Instant::now() + MEMORY_PATIENCE;
        }
    }

    pub(super) fn give_plan_up(&mut self) {
        self.give_up_at = None;
        self.halt = self.standing.plan.as_ref().map(|plan| Halt::Plan(plan.too_large()));
    }
}
