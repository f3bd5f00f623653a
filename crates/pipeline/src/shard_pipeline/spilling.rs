//! An open window that memory is wanted of: on disk, if there is one for it, else closed.

use std::future::ready;
use std::pin::pin;

use kinesink_core::{CloseReason, Transformer};
use tokio::time::Instant;

use super::finishing::MEMORY_PATIENCE;
use super::{ShardPipeline, settled};
use crate::commit::encode;
use crate::spill::Spilled;

impl<T: Transformer> ShardPipeline<'_, T> {
    /// The open window has reached a limit.
    pub(super) fn full(&mut self, reason: CloseReason) {
        if reason == CloseReason::Memory { self.give_memory() } else { self.close(reason) }
    }

    /// Memory is wanted of the open window.
    pub(super) fn give_memory(&mut self) {
        if self.pipeline.spill.is_some() { self.to_spill = true } else { self.give_window() }
    }

    /// Closes the open window for its memory. An announced one cannot be cut, and it may be our own next reply that wants
    /// it: it is given up only if no more of it comes for a while.
    fn give_window(&mut self) {
        if self.standing.plan.is_none() {
            self.close(CloseReason::Memory);
        } else {
            self.give_up_at.get_or_insert(Instant::now() + MEMORY_PATIENCE);
        }
    }

    /// As [`spill`](Self::spill), and the commit in flight goes on meanwhile.
    pub(super) async fn spill_beside_commit(&mut self) {
        let mut committing = self.committing.take();
        let outcome = {
            let mut spill = pin!(self.spill());
            tokio::select! {
                biased;
                () = &mut spill => None,
                outcome = settled(&mut committing) => {
                    spill.await;
                    Some(outcome)
                }
            }
        };
        self.committing = match outcome {
            Some(outcome) => Some(Box::pin(ready(outcome))),
            None => committing,
        };
    }

    /// Puts what memory holds of the open window on disk; where that cannot be, the window closes. Dropped, the window is
    /// lost with what was to be done with it.
    async fn spill(&mut self) {
        let Some(spill) = &self.pipeline.spill else { return };
        let models = self.window.give();
        if models.is_empty() {
            // Not what it holds, but what was refused of it, takes memory; or it was asked for a window that is closed.
            if self.window.holds_memory() {
                self.give_window();
            }
            return;
        }
        let mut refused = Vec::new();
        let outputs = encode(&*self.pipeline.transformer, models, &mut refused);
        self.window.refuse_given(refused);
        let spilled = self.window.spilled();
        let mut spilled =
            spilled.unwrap_or_else(|| Box::new(Spilled::new(spill, &self.shard.id, &self.pipeline.sinks)));
        let before = spilled.disk_bytes();
        let appended = spilled.append(outputs).await;
        self.shard.metrics.spilled(spilled.disk_bytes() - before);
        match appended {
            Ok(()) => self.window.gave(spilled),
            Err(why) => {
                tracing::warn!(why, "the window cannot be spilled and closes early: its objects are smaller");
                self.window.kept(spilled);
                self.give_window();
            }
        }
    }
}
