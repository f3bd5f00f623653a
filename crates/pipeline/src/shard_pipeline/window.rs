//! The open window of one shard, and what it becomes when it closes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_core::{Buffer, Checkpoint, CloseReason, Holder, Item, Position, Reservation};
use tokio::time::Instant;

use crate::dead_letter::Refused;
use crate::spill::Spilled;

/// What the shard has taken in since the last close: items in the buffer, refused records, and how far it has read.
///
/// A window holds the reservation of every reply that it has a record of. A reply that is cut by the end of a window
/// is held by both, and goes back when the later one is settled: its records are slices of one piece of memory.
pub(super) struct Window<M, U> {
    buffer: Box<dyn Buffer<M>>,
    items: usize,
    records: u64,
    refused: Vec<Refused>,
    first: Option<Position>,
    last: Option<Seen>,
    opened: Option<Instant>,
    idle_age: Duration,
    reservations: Vec<Arc<Reservation>>,
    held_bytes: usize,
    holder: Arc<Holder>,
    /// What is on disk.
    spilled: Option<Box<Spilled<U>>>,
    /// Of replies of which something stays in memory: refused records, and what no disk takes.
    to_keep: Vec<Arc<Reservation>>,
}

/// A record that was taken in, as far as the watermark is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) position: Position,
    pub(crate) arrival: Timestamp,
}

/// A window that takes nothing more.
pub(crate) struct Closed<M, U> {
    pub(crate) items: Vec<Item<M>>,
    /// What is in front of them on disk.
    pub(crate) spilled: Option<Box<Spilled<U>>>,
    /// Records that were taken in, whatever became of them.
    pub(crate) records: u64,
    pub(crate) refused: Vec<Refused>,
    pub(crate) reason: CloseReason,
    pub(crate) first: Option<Position>,
    pub(crate) through: Checkpoint,
    pub(crate) last: Option<Seen>,
    pub(crate) reservations: Vec<Arc<Reservation>>,
}

impl<M: 'static, U> Window<M, U> {
    pub(super) fn new(buffer: Box<dyn Buffer<M>>, idle_age: Duration, holder: Arc<Holder>) -> Self {
        Self {
            buffer,
            items: 0,
            records: 0,
            refused: Vec::new(),
            first: None,
            last: None,
            opened: None,
            idle_age,
            reservations: Vec::new(),
            held_bytes: 0,
            holder,
            spilled: None,
            to_keep: Vec::new(),
        }
    }

    /// The last record seen, if any was.
    pub(super) fn last(&self) -> Option<Position> {
        self.last.map(|seen| seen.position)
    }

    pub(super) fn is_open(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn push(&mut self, item: Item<M>, reply: &Arc<Reservation>, now: Instant) {
        self.hold(reply);
        self.items += 1;
        self.buffer.push(item, now);
    }

    pub(super) fn refuse(&mut self, refused: Refused, reply: &Arc<Reservation>) {
        self.hold(reply);
        if !self.to_keep.last().is_some_and(|last| Arc::ptr_eq(last, reply)) {
            self.to_keep.push(Arc::clone(reply));
        }
        self.refused.push(refused);
    }

    /// What memory holds of it, to be spilled. Its memory stays reserved until [`gave`](Self::gave).
    pub(super) fn give(&mut self) -> Vec<Item<M>> {
        self.buffer.give()
    }

    /// Whether memory is reserved for it.
    pub(super) fn holds_memory(&self) -> bool {
        self.held_bytes > 0
    }

    /// What it gave is on disk, but for what was refused of it.
    pub(super) fn gave(&mut self, spilled: Box<Spilled<U>>) {
        self.spilled = Some(spilled);
        self.reservations.clone_from(&self.to_keep);
        self.held_bytes = self.reservations.iter().map(|reservation| reservation.bytes()).sum();
        self.holder.set_bytes(self.held_bytes);
    }

    /// What it gave stays in memory.
    pub(super) fn kept(&mut self, spilled: Box<Spilled<U>>) {
        self.spilled = Some(spilled);
        self.to_keep.clone_from(&self.reservations);
    }

    /// What is on disk so far, to be added to.
    pub(super) fn spilled(&mut self) -> Option<Box<Spilled<U>>> {
        self.spilled.take()
    }

    /// An output that could not be made of what it gave.
    pub(super) fn refuse_given(&mut self, refused: Vec<Refused>) {
        if !refused.is_empty() {
            // Nobody knows of which replies they are.
            self.to_keep.clone_from(&self.reservations);
            self.refused.extend(refused);
        }
    }

    /// Notes that every output of this record is in. Says whether the window should close now.
    pub(super) fn seen(&mut self, record: Seen, pushed: bool, now: Instant) -> Option<CloseReason> {
        self.records += 1;
        self.first.get_or_insert(record.position);
        self.last = Some(record);
        self.opened.get_or_insert(now);
        if pushed { self.buffer.should_flush(now) } else { None }
    }

    /// When the window closes by its age, if nothing else closes it before.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        if self.items == 0 {
            self.opened.and_then(|opened| opened.checked_add(self.idle_age))
        } else {
            self.buffer.flush_at()
        }
    }

    /// Why the window closes at [`flush_at`](Self::flush_at).
    pub(super) fn timed_reason(&self) -> CloseReason {
        self.buffer.should_flush(Instant::now()).unwrap_or(CloseReason::Age)
    }

    /// Resolves when the memory budget asks for this window. Cancel safe.
    pub(super) fn asked(&self) -> impl Future<Output = ()> + Send + use<M, U> {
        // Owns its share: a buffer need not be `Sync`, and a borrow of the window would ask that of it.
        let holder = Arc::clone(&self.holder);
        async move { holder.asked().await }
    }

    /// Takes everything and starts afresh.
    pub(super) fn close(&mut self, reason: CloseReason, through: Checkpoint) -> Closed<M, U> {
        (self.items, self.opened, self.held_bytes) = (0, None, 0);
        self.holder.set_bytes(0);
        self.to_keep.clear();
        Closed {
            items: self.buffer.take(),
            spilled: self.spilled.take(),
            records: std::mem::take(&mut self.records),
            refused: std::mem::take(&mut self.refused),
            reason,
            first: self.first.take(),
            through,
            last: self.last.take(),
            reservations: std::mem::take(&mut self.reservations),
        }
    }

    fn hold(&mut self, reply: &Arc<Reservation>) {
        if !self.reservations.last().is_some_and(|last| Arc::ptr_eq(last, reply)) {
            self.held_bytes += reply.bytes();
            self.holder.set_bytes(self.held_bytes);
            self.reservations.push(Arc::clone(reply));
        }
    }
}
