//! The proof that moves a watermark.

use crate::{Checkpoint, Emitted, Error, Exception, Reject};

/// Proof that every record up to a checkpoint is delivered to every sink, filtered, or in the dead letters.
///
/// Only a finished [`Settlement`] makes one, and a [`Checkpointer`](crate::Checkpointer) takes nothing else. It proves
/// what the settlement was told is owed: who builds one by hand vouches for that. A copy lets a checkpoint whose write
/// failed be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Durable {
    through: Checkpoint,
}

impl Durable {
    /// Everything up to here is safe.
    #[must_use]
    pub fn through(&self) -> Checkpoint {
        self.through
    }
}

/// What is still owed for one closed window: items per sink, and dead letters not written yet.
#[derive(Debug)]
pub struct Settlement {
    through: Checkpoint,
    items: usize,
    /// For each sink, the indexes of the window's items that it has not settled, in order; none yet settled if absent.
    unsettled: Vec<Option<Vec<usize>>>,
    dead_letters: usize,
}

impl Settlement {
    /// A window of `items` items for `sinks` sinks, of which nothing is settled, and `dead_letters` records that
    /// were refused before they reached a sink.
    pub fn new(through: Checkpoint, sinks: usize, items: usize, dead_letters: usize) -> Self {
        Self { through, items, unsettled: vec![None; sinks], dead_letters }
    }

    /// The items that `sink` has not settled, by index into the window, in order.
    pub fn unsettled(&self, sink: usize) -> impl ExactSizeIterator<Item = usize> + '_ {
        let some = self.unsettled.get(sink).map(Option::as_deref);
        let count = match some {
            None => 0,
            Some(None) => self.items,
            Some(Some(some)) => some.len(),
        };
        (0..count).map(move |place| some.flatten().and_then(|some| some.get(place).copied()).unwrap_or(place))
    }

    /// The item that `sink` was sent at this place of its last batch.
    fn sent(&self, sink: usize, place: usize) -> Option<usize> {
        match self.unsettled.get(sink)? {
            None => (place < self.items).then_some(place),
            Some(some) => some.get(place).copied(),
        }
    }

    /// Notes the outcome of a batch that held exactly the unsettled items of `sink`, in order. Delivered items are
    /// settled, refused ones are returned (window index and reason, by index) and become owed dead letters, the rest
    /// stay.
    ///
    /// # Errors
    /// [`Error::BeyondBatch`] if the outcome names an item that was not in the batch. Nothing is settled then: which
    /// item was meant is unknown, and to count it as delivered could lose it.
    pub fn emitted(&mut self, sink: usize, emitted: &Emitted) -> Result<Vec<(usize, Reject)>, Error> {
        let mut rejected = Vec::new();
        let mut again = Vec::new();
        for (index, exception) in emitted.exceptions() {
            let Some(item) = self.sent(sink, *index) else {
                return Err(Error::BeyondBatch { index: *index, items: self.unsettled(sink).len() });
            };
            match exception {
                Exception::Retry(_) => again.push(item),
                Exception::Rejected(why) => rejected.push((item, why.clone())),
            }
        }
        again.sort_unstable();
        again.dedup();
        // An item that is both refused and to be retried is sent again: the safe reading of a confused answer.
        rejected.retain(|(item, _)| again.binary_search(item).is_err());
        // One that is refused twice is one dead letter, with the first reason: the sort is stable.
        rejected.sort_by_key(|(item, _)| *item);
        rejected.dedup_by_key(|(item, _)| *item);
        self.dead_letters += rejected.len();
        if let Some(unsettled) = self.unsettled.get_mut(sink) {
            *unsettled = Some(again);
        }
        Ok(rejected)
    }

    /// Notes that `sink` has settled all that it had not, and refused `refused` items of it, which become owed dead letters.
    pub fn settled(&mut self, sink: usize, refused: usize) {
        self.dead_letters += refused;
        if let Some(unsettled) = self.unsettled.get_mut(sink) {
            *unsettled = Some(Vec::new());
        }
    }

    /// Notes that `count` owed dead letters are durable.
    pub fn dead_lettered(&mut self, count: usize) {
        self.dead_letters = self.dead_letters.saturating_sub(count);
    }

    /// The proof, once nothing is owed.
    ///
    /// # Errors
    /// The settlement itself, while something is.
    pub fn finish(self) -> Result<Durable, Self> {
        let delivered = (0..self.unsettled.len()).all(|sink| self.unsettled(sink).len() == 0);
        if self.dead_letters == 0 && delivered { Ok(Durable { through: self.through }) } else { Err(self) }
    }
}
