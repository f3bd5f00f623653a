//! Records of a reply through transformer and filter into the open window.

use std::sync::Arc;

use kinesink_core::{CloseReason, Item, Record, Records, Reservation, Transformer};
use tokio::time::Instant;

use super::ShardPipeline;
use super::window::Seen;
use crate::commit::Halt;
use crate::dead_letter::{Refused, Stage};

/// Records taken in before the commit in flight gets its turn.
const RECORDS_PER_TURN_MAX: usize = 512;

/// What is left of one reply of the reader.
pub(super) struct Reply {
    records: std::vec::IntoIter<Record>,
    reservation: Arc<Reservation>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { records: Vec::new().into_iter(), reservation: Arc::new(Reservation::none()) }
    }
}

impl Reply {
    pub(super) fn is_empty(&self) -> bool {
        self.records.as_slice().is_empty()
    }
}

/// Counted once a turn, so that no counter is touched per record.
#[derive(Default)]
struct Tally {
    outputs: u64,
    filtered: u64,
}

impl<T: Transformer> ShardPipeline<'_, T> {
    pub(super) fn take_reply(&mut self, reply: Records) {
        let metrics = &self.shard.metrics;
        metrics.records_in.inc_by(reply.records.len() as u64);
        metrics.bytes_in.inc_by(reply.records.iter().map(|record| record.data.len() as u64).sum());
        metrics.behind_latest(&self.shard.id, std::time::Duration::from_millis(reply.behind_latest_ms).as_secs_f64());
        self.note_progress(!reply.records.is_empty());
        if !reply.records.is_empty() {
            self.plan_progressed();
        } else if reply.behind_latest_ms == 0 && self.standing.plan.is_some() {
            if let Some(reason) = self.plan_falls_short() {
                self.close(reason);
            }
            return;
        }
        // An empty reply is dropped here: nothing would take its last record and give its memory back.
        if !reply.records.is_empty() {
            self.reply = Reply { records: reply.records.into_iter(), reservation: Arc::new(reply.reservation) };
        }
    }

    /// Moves records of the reply into the window, until it closes, a turn's share is done, or none is left.
    pub(super) fn fill(&mut self) {
        if !self.may_fill() || self.reply.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut tally = Tally::default();
        for _ in 0..RECORDS_PER_TURN_MAX {
            if let Some(reason) = self.take_record(now, &mut tally) {
                self.full(reason);
                break;
            }
            if self.halt.is_some() {
                break;
            }
        }
        self.shard.metrics.outputs.inc_by(tally.outputs);
        self.shard.metrics.filtered.inc_by(tally.filtered);
        if self.reply.is_empty() {
            self.reply = Reply::default();
        }
        self.note_progress(!self.reply.is_empty());
    }

    /// One record, whole. Says whether the window closes after it, or before it where it is blocked.
    fn take_record(&mut self, now: Instant, tally: &mut Tally) -> Option<CloseReason> {
        let next = self.reply.records.as_slice().first()?;
        let seen = Seen { position: next.position, arrival: next.arrival };
        if self.standing.plan.as_ref().is_some_and(|plan| seen.position > plan.last) {
            return self.plan_falls_short();
        }
        let blocked = self.blocked.is_some_and(|blocked| seen.position >= blocked);
        if blocked && self.window.is_open() {
            return Some(CloseReason::Halt);
        }
        let record = self.reply.records.next()?;
        self.models.clear();
        let pushed = match self.pipeline.transformer.to_model(&record, &mut self.models) {
            Ok(()) => self.push_models(record, now, tally),
            Err(reason) => {
                let refused = Refused { record, ordinal: 0, outputs: None, stage: Stage::Transform, reason };
                if self.pipeline.dead_letters.is_none() {
                    self.halt = Some(Halt::of(&refused));
                    // An announced window is not cut: it halts as a whole.
                    let may_close = self.window.is_open() && self.standing.plan.is_none();
                    return may_close.then_some(CloseReason::Halt);
                }
                self.window.refuse(refused, &self.reply.reservation);
                false
            }
        };
        let reason = self.window.seen(seen, pushed, now);
        match &self.standing.plan {
            Some(plan) if seen.position == plan.last => Some(CloseReason::Plan),
            // It is not cut, but it can be spilled.
            Some(_) => reason.filter(|reason| *reason == CloseReason::Memory && self.pipeline.spill.is_some()),
            None if blocked => Some(CloseReason::Halt),
            None => reason,
        }
    }

    /// Pushes what the filter keeps of the record's models. The last one takes the record, the others a clone.
    fn push_models(&mut self, record: Record, now: Instant, tally: &mut Tally) -> bool {
        let filter = self.pipeline.filter.as_deref();
        let of_record = u32::try_from(self.models.len()).unwrap_or(u32::MAX);
        let mut kept = (0_u32..)
            .zip(self.models.drain(..))
            .filter(|(_, model)| filter.is_none_or(|filter| filter.keep(model)))
            .peekable();
        let mut outputs = 0;
        let mut record = Some(record);
        while let Some((ordinal, value)) = kept.next() {
            let owned = if kept.peek().is_some() { record.clone() } else { record.take() };
            let Some(record) = owned else { break };
            self.window.push(Item { record, ordinal, outputs: of_record, value }, &self.reply.reservation, now);
            outputs += 1;
        }
        tally.outputs += outputs;
        tally.filtered += u64::from(of_record) - outputs;
        outputs > 0
    }
}
