//! A record that has nowhere to go: what came before it is committed, then the shard waits and tries it alone. And a
//! sink that someone has to mend: the shard gives its memory back, waits and tries again.

use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{Backoff, Checkpoint, Class, CloseReason, Position, Transformer};
use tokio::time::Instant;

use super::intake::Reply;
use super::{Shard, ShardPipeline};
use crate::Finished;
use crate::commit::Halt;
use crate::pause::{CONFIGURATION, Reports, backoff, wait_until};

/// What the operator can do about a shard that a record halts.
const RECORD_REMEDY: &str =
    "set a dead-letter destination ([dead_letter] in a file), or mend what refuses the record; the shard then goes on";

/// What has the trouble of a halt, for the health page.
const SHARD: &str = "shard";

/// The label of a halt by an announced window.
const PLAN: &str = "plan";

/// The label of a halt by what was spilled.
const SPILL: &str = "spill";

/// What the operator can do about a shard that a sink halts.
const SINK_REMEDY: &str = "mend what the failure names; the shard then goes on";

impl Halt {
    /// Where the shard cannot pass, if it is a record.
    fn position(&self) -> Option<Position> {
        match self {
            Self::Record { position, .. } => Some(*position),
            Self::Sink { .. } | Self::Plan(_) | Self::Spill(_) => None,
        }
    }

    /// The label of the halt's metric.
    fn label(&self) -> String {
        match self {
            Self::Record { stage, .. } => stage.text(),
            Self::Sink { .. } => CONFIGURATION.into(),
            Self::Plan(_) => PLAN.into(),
            Self::Spill(_) => SPILL.into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Record { .. } | Self::Plan(_) | Self::Spill(_) => None,
            Self::Sink { failure, .. } => failure.retry_after,
        }
    }

    /// What happened and what to do.
    fn text(&self) -> String {
        match self {
            Self::Record { position, stage, reason } => {
                format!("record {position} is refused by {}: {reason}; {RECORD_REMEDY}", stage.text())
            }
            Self::Sink { name, failure } => format!("sink {name} cannot be used: {failure}; {SINK_REMEDY}"),
            Self::Plan(why) => why.clone(),
            Self::Spill(why) => format!("{why}; the window is read again from its stream; look after that disk"),
        }
    }
}

/// A halt that lasts. Its metric ends with it, also where the shard leaves this worker meanwhile.
#[derive(Debug)]
pub(super) struct Halting {
    shard: Arc<Shard>,
    /// The record that the shard cannot pass, if it is one.
    position: Option<Position>,
    label: String,
    backoff: Backoff,
    reports: Reports,
}

impl Drop for Halting {
    fn drop(&mut self) {
        self.shard.metrics.resumed(&self.shard.id, &self.label);
    }
}

impl<T: Transformer> ShardPipeline<'_, T> {
    /// A commit met what stops the shard. What was read beyond it goes at once, so that nothing of it is committed.
    ///
    /// A record that has nowhere to go: the first time, the shard goes back and commits what came before it; if the
    /// record is then refused alone, the shard halts.
    pub(super) fn stopped(&mut self, halt: Halt) {
        self.discard();
        if self.standing.plan.is_some() {
            // Announced: no part of it may be committed alone.
            self.halt = Some(halt);
            return;
        }
        let Halt::Record { position, stage, reason } = &halt else {
            self.halt = Some(halt);
            return;
        };
        let was_alone = self.blocked.replace(*position) == Some(*position);
        if was_alone || self.ending == Some(Finished::Drained) {
            self.halt = Some(halt);
            return;
        }
        tracing::warn!(%position, stage = stage.text(), reason,
            "a record is refused and there are no dead letters; committing what came before it");
        self.go_back();
    }

    /// Gives the shard's memory back and waits before what stopped it is tried again. Ends at once on a drain.
    pub(super) async fn wait_halted(&mut self, halt: Halt) -> Option<Finished> {
        let (position, label, mut why) = (halt.position(), halt.label(), halt.text());
        if let (Some(plan), Halt::Record { .. } | Halt::Sink { .. }) = (&self.standing.plan, &halt) {
            why = format!("{why}; {}", plan.still_owed());
        }
        if self.standing.plan.is_none() {
            self.blocked = position.or(self.blocked);
        }
        self.go_back();
        if self.halting.as_ref().is_some_and(|old| old.position != position || old.label != label) {
            self.end_halt();
        }
        let shard = &self.shard;
        let name = format!("{}/halt", shard.id);
        let halting = self.halting.get_or_insert_with(|| {
            shard.metrics.halted(&shard.id, &label);
            Halting {
                shard: Arc::clone(shard),
                position,
                label: label.clone(),
                backoff: backoff(&shard.retry, Class::Configuration, &name),
                reports: Reports::default(),
            }
        });
        shard.health.halted(SHARD, &why);
        let until = Instant::now() + halting.backoff.next_wait(halt.retry_after());
        let report = || tracing::error!(label, why, "the shard is halted; nothing is lost, the other shards go on");
        tokio::select! {
            biased;
            () = wait_until(until, &mut halting.reports, report) => None,
            () = shard.drain.cancelled() => Some(Finished::Halted),
        }
    }

    /// Notes how far the checkpoint has moved. Past the blocked record, or at all where a sink was at fault, the shard
    /// runs again.
    pub(super) fn passed(&mut self, through: Checkpoint) {
        let past = |position: Position| !through.is_before(position);
        if self.blocked.is_some_and(past) {
            self.blocked = None;
        }
        if self.halting.as_ref().is_some_and(|halting| halting.position.is_none_or(past)) {
            self.end_halt();
        }
    }

    fn end_halt(&mut self) {
        if let Some(halting) = self.halting.take() {
            tracing::info!(label = halting.label, "the shard goes on");
            self.shard.health.running(SHARD);
        }
    }

    /// Drops what is not committed: a window behind the refused one must not be, nor a halt that was met in it.
    pub(super) fn discard(&mut self) {
        self.closed = None;
        drop(self.window.close(CloseReason::Halt, self.standing.committed));
        self.reply = Reply::default();
        self.give_up_at = None;
        self.to_spill = false;
        self.halt = None;
    }

    /// Drops what is not committed and goes back to the checkpoint, or the beginning of what is announced. Nothing is
    /// read until the next turn.
    fn go_back(&mut self) {
        self.discard();
        if self.ending == Some(Finished::ShardEnd) {
            self.ending = None;
        }
        self.read_at = None;
        match &self.standing.plan {
            Some(plan) => self.reader.seek(plan.first),
            None => self.reader.rewind(self.standing.committed),
        }
    }
}
