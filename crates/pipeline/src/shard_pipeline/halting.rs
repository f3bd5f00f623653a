//! A record that has nowhere to go: what came before it is committed, then the shard waits and tries it alone.

use kinesink_core::{Backoff, Checkpoint, Class, Position, Transformer};
use tokio::time::Instant;

use super::ShardPipeline;
use super::intake::Reply;
use crate::Finished;
use crate::commit::Halt;
use crate::pause::{Reports, backoff, wait_until};

/// What the operator can do about a halted shard.
const REMEDY: &str =
    "set a dead-letter destination ([dead_letter] in a file), or mend what refuses the record; the shard then goes on";

/// A halt that lasts.
#[derive(Debug)]
pub(super) struct Halting {
    position: Position,
    stage: String,
    backoff: Backoff,
    reports: Reports,
}

impl<T: Transformer> ShardPipeline<'_, T> {
    /// A commit met a record that has nowhere to go. The first time, the shard goes back and commits what came before
    /// it; if the record is then refused alone, the shard halts.
    pub(super) fn refused(&mut self, halt: Halt) {
        let was_alone = self.blocked.replace(halt.position) == Some(halt.position);
        if was_alone || self.ending == Some(Finished::Drained) {
            self.discard();
            self.halt = Some(halt);
            return;
        }
        tracing::warn!(position = %halt.position, stage = halt.stage.text(), reason = halt.reason,
            "a record is refused and there are no dead letters; committing what came before it");
        self.go_back();
    }

    /// Gives the shard's memory back and waits before the blocked record is tried again. Ends at once on a drain.
    pub(super) async fn wait_halted(&mut self, halt: Halt) -> Option<Finished> {
        let stage = halt.stage.text();
        self.blocked = Some(halt.position);
        self.go_back();
        if self.halting.as_ref().is_some_and(|old| old.position != halt.position || old.stage != stage) {
            self.end_halt();
        }
        let shard = &self.shard;
        let name = format!("{}/halt", shard.id);
        let halting = self.halting.get_or_insert_with(|| Halting {
            position: halt.position,
            stage: stage.clone(),
            backoff: backoff(&shard.retry, Class::Configuration, &name),
            reports: Reports::default(),
        });
        shard.metrics.halted(&shard.id, &stage);
        shard.health.halted(&format!("record {} is refused by {stage}: {}; {REMEDY}", halt.position, halt.reason));
        let until = Instant::now() + halting.backoff.next_wait(None);
        let report = || {
            tracing::error!(position = %halt.position, stage, reason = halt.reason, remedy = REMEDY,
                "the shard is halted; nothing is lost, the other shards go on");
        };
        tokio::select! {
            biased;
            () = wait_until(until, &mut halting.reports, report) => None,
            () = shard.drain.cancelled() => {
                shard.health.leave();
                Some(Finished::Drained)
            }
        }
    }

    /// Notes how far the checkpoint has moved: past the blocked record, the shard runs again.
    pub(super) fn passed(&mut self, through: Checkpoint) {
        if self.blocked.is_some_and(|blocked| !through.is_before(blocked)) {
            self.blocked = None;
            self.end_halt();
        }
    }

    fn end_halt(&mut self) {
        if let Some(halting) = self.halting.take() {
            tracing::info!(position = %halting.position, stage = halting.stage, "the shard goes on");
            self.shard.metrics.resumed(&self.shard.id, &halting.stage);
            self.shard.health.running(true);
        }
    }

    /// Drops what is not committed: a window behind the refused one must not be, nor a halt that was met in it.
    fn discard(&mut self) {
        self.closed = None;
        drop(self.window.close(self.committed));
        self.reply = Reply::default();
        self.halt = None;
    }

    /// Drops what is not committed and goes back to the checkpoint. Nothing is read until the next turn.
    fn go_back(&mut self) {
        self.discard();
        if self.ending == Some(Finished::ShardEnd) {
            self.ending = None;
        }
        self.read_at = None;
        self.reader.rewind(self.committed);
    }
}
