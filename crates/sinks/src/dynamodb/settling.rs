//! What became of a delivery, by what became of its items.

use kinesink_core::{Emitted, Failure, Reject};
use tracing::debug;

use super::chain::Outcome;
use super::emitter::DynamoDbEmitter;
use super::error::Verdict;
use super::table::ItemKey;
use crate::failures;

/// Reasons that are compared with a further one. They name settings and attributes, of which a sink has few.
const REASONS_MAX: usize = 64;

/// A delivery on its way. Of what is durable it has a number alone: a window may have more items than memory holds.
#[derive(Debug)]
pub(super) struct Settling<'a> {
    emitter: &'a DynamoDbEmitter,
    emitted: Emitted,
    items: usize,
    overtaken: usize,
    failed: Vec<Failed>,
    /// Reasons of refusals, each once: of a window that memory does not hold, all records may be refused.
    reasons: Vec<Reject>,
}

/// An item whose records are to be sent again.
#[derive(Debug)]
struct Failed {
    key: ItemKey,
    again: Vec<usize>,
    failure: Failure,
}

impl<'a> Settling<'a> {
    pub(super) fn new(emitter: &'a DynamoDbEmitter) -> Self {
        Self { emitter, emitted: Emitted::all(), items: 0, overtaken: 0, failed: Vec::new(), reasons: Vec::new() }
    }

    /// Whether dead letters are sent again.
    pub(super) fn is_replay(&self) -> bool {
        self.emitter.config.is_replay
    }

    /// The record at that index is refused for good.
    pub(super) fn reject(&mut self, index: usize, why: Reject) {
        let known = self.reasons.iter().find(|known| **known == why).cloned();
        if known.is_none() && self.reasons.len() < REASONS_MAX {
            self.reasons.push(why.clone());
        }
        // Clones share the text.
        self.emitted.reject(index, known.unwrap_or(why));
    }

    /// Notes what became of an item.
    pub(super) fn add(&mut self, key: ItemKey, outcome: Outcome) {
        let Outcome { refused, again, why, overtaken } = outcome;
        self.items += 1;
        self.overtaken += overtaken.len();
        if self.is_replay() {
            overtaken.into_iter().for_each(|index| self.reject(index, self.emitter.overtaken()));
        }
        refused.into_iter().for_each(|(index, why)| self.reject(index, why));
        let Some(why) = why else { return };
        if matches!(why, Verdict::Changed(_)) {
            self.emitter.forget_tables();
        }
        self.failed.push(Failed { key, again, failure: why.into_failure() });
    }

    /// Whether some of it is to be sent again.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// What the pipeline is told.
    pub(super) fn finish(self) -> Result<Emitted, Failure> {
        let Self { emitter, mut emitted, items, overtaken, mut failed, .. } = self;
        debug!(table = emitter.config.table, items, overtaken, failed = failed.len(), "items written");
        if let Some(index) = failures::of_sink(failed.iter().map(|failed| &failed.failure), items) {
            return Err(failed.swap_remove(index).failure);
        }
        let busiest = busiest(&failed);
        for Failed { again, failure, .. } in failed {
            let why = Reject::new(format!("{}{busiest}", failure.message));
            again.iter().for_each(|index| emitted.retry(*index, why.clone()));
        }
        Ok(emitted)
    }
}

/// The key that most of the records wait for, by its hash: a key is data.
fn busiest(failed: &[Failed]) -> String {
    let Some(Failed { key, again, .. }) = failed.iter().max_by_key(|failed| failed.again.len()) else {
        return String::new();
    };
    let (keys, hash, records) = (failed.len(), key.hashed(), again.len());
    format!("; {keys} keys wait, the busiest, of hash {hash}, with {records} records")
}
