//! Batches to a destination.

use std::fmt;
use std::ops::ControlFlow;

use async_trait::async_trait;

use crate::{Failure, Fingerprint, Item, Position, Reject, Reservation, ShardId, StreamName};

/// What an emitter is asked to deliver: the items of one shard's window that are not settled yet, in order.
///
/// `first` and `last` are those of the whole window at every attempt, so that a name made from them does not change
/// when only some items are sent again.
#[derive(Debug)]
pub struct Batch<'a, U> {
    /// The stream the records came from.
    pub stream: &'a StreamName,
    /// The shard the records came from.
    pub shard: &'a ShardId,
    /// Position of the window's first item.
    pub first: Position,
    /// Position of the window's last item.
    pub last: Position,
    /// What to deliver. Indexes in [`Emitted`] point into this.
    pub items: Vec<&'a Item<U>>,
    /// What [`Emitter::partition`] said of each of them; empty if it said nothing, or was not asked.
    pub partitions: Vec<&'a str>,
    /// An operator has asked that what exists under the window's names be kept, whatever it holds: it is then no failure
    /// that it is different.
    pub keep_existing: bool,
}

impl<U> Batch<'_, U> {
    /// Bytes of the records in `items`, before encoding.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.record.data.len()).sum()
    }
}

/// One partition of a window that memory does not hold: its items can be read in order, as often as wanted, a piece at a
/// time.
pub struct Partition<'a, U> {
    /// The stream the records came from.
    pub stream: &'a StreamName,
    /// The shard the records came from.
    pub shard: &'a ShardId,
    /// Position of the window's first item.
    pub first: Position,
    /// Position of the window's last item.
    pub last: Position,
    /// What [`Emitter::partition`] said of its items, if anything.
    pub name: Option<&'a str>,
    /// Bytes of its outputs.
    pub bytes: usize,
    /// Its items.
    pub pieces: &'a dyn Pieces<U>,
    /// As of a [`Batch`].
    pub keep_existing: bool,
}

impl<U> fmt::Debug for Partition<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("shard", &self.shard)
            .field("first", &self.first)
            .field("last", &self.last)
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Items in memory, each with its index in the window, and the memory that they take.
#[derive(Debug)]
pub struct Piece<U> {
    /// In order.
    pub items: Vec<(usize, Item<U>)>,
    /// Goes back with the piece: drop it before the next is asked for.
    pub memory: Reservation,
}

/// Items that are not in memory.
#[async_trait]
pub trait Pieces<U>: Send + Sync {
    /// The piece with that number, from 0: none behind the last. Cancel safe.
    ///
    /// # Errors
    /// A [`Failure`], if it cannot be read as it was written. Whoever owns the items reads the window again then.
    async fn piece(&self, number: usize) -> Result<Option<Piece<U>>, Failure>;

    /// Takes all items of the piece with that number that are refused for good, once all others are durable: for a sink that is
    /// refused more than it may keep in mind. It hands them back piece by piece, in order, and names them nowhere else. Whatever it
    /// answers after a `Break` counts for nothing.
    async fn refused(&self, number: usize, rejects: Vec<(usize, Reject)>) -> ControlFlow<()>;

    /// Says that more of them are durable than before. A sink that takes long for a partition is told apart by that from one
    /// that hangs.
    fn progressed(&self) {}
}

/// What became of one item that was not simply delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exception {
    /// Not delivered; send it again.
    Retry(Reject),
    /// The destination refuses it for good.
    Rejected(Reject),
}

/// The outcome of one batch, item by item. Whatever is not an exception is durable in the destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Emitted {
    exceptions: Vec<(usize, Exception)>,
    files: Files,
}

/// Files that were made, where a destination has files: to be counted by what closed their window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Emitted {
    /// Every item is durable.
    pub fn all() -> Self {
        Self::default()
    }

    /// The item at `index` is to be sent again.
    pub fn retry(&mut self, index: usize, why: Reject) {
        self.exceptions.push((index, Exception::Retry(why)));
    }

    /// The item at `index` is refused for good.
    pub fn reject(&mut self, index: usize, why: Reject) {
        self.exceptions.push((index, Exception::Rejected(why)));
    }

    /// A file of so many bytes was made. One that was there already is not.
    pub fn made_file(&mut self, bytes: u64) {
        self.files.count += 1;
        self.files.bytes += bytes;
    }

    /// The files that were made.
    #[must_use]
    pub fn files(&self) -> Files {
        self.files
    }

    /// The items that are not durable, by index into [`Batch::items`].
    #[must_use]
    pub fn exceptions(&self) -> &[(usize, Exception)] {
        &self.exceptions
    }
}

/// Sends batches to one destination. One value serves every shard at once.
///
/// The contract, which `testkit` checks:
/// - an item reported as delivered is durable: it survives a crash of this process and of the machine beside it;
/// - sending the same items again leaves the destination as after the first time, where the tier says so;
/// - order inside a batch is kept;
/// - nothing is retried here: the pipeline is the one retry layer; but for a part of what it would send again as a whole, such as
///   one of a large object's or of a [`Partition`]'s.
///
/// Not cancel safe in the sense that a dropped `emit` may or may not have delivered; the window is then sent again.
#[async_trait]
pub trait Emitter<U: Send + Sync>: Send + Sync + 'static {
    /// Delivers the batch.
    ///
    /// # Errors
    /// A [`Failure`] concerns the batch as a whole: nothing is known to be durable.
    async fn emit(&self, batch: &Batch<'_, U>) -> Result<Emitted, Failure>;

    /// Whether a window may only be sent again as a whole, with the same first and last item, since what it leaves in the
    /// destination depends on them; such as an object that is named by its window. `content` is then fed with what decides
    /// that for every window, such as names, and with each item by [`plan_item`](Self::plan_item). The pipeline announces
    /// such a window in the lease row before it sends it, and whoever takes over after a crash sends exactly the same.
    ///
    /// The default is `false`: items are told apart one by one.
    fn plan(&self, content: &mut Fingerprint) -> bool {
        let _ = content;
        false
    }

    /// Feeds `content` with an item of a window that is announced, beside its place: its partition, and its output before it
    /// is encoded, so that a new encoder changes nothing.
    fn plan_item(&self, item: &Item<U>, partition: Option<&str>, content: &mut Fingerprint) {
        let _ = (item, partition, content);
    }

    /// Which partition of its window the item belongs to, where an announced window is divided: the items of one are
    /// delivered together. Asked once for each item.
    ///
    /// The default is `None`: it is not divided.
    fn partition(&self, item: &Item<U>) -> Option<String> {
        let _ = item;
        None
    }

    /// Delivers a partition of an announced window that memory does not hold as a whole. Indexes of the outcome are those of
    /// the pieces.
    ///
    /// The default takes it into memory all the same, and emits it.
    ///
    /// # Errors
    /// As [`emit`](Self::emit): nothing of the partition is known to be durable.
    async fn emit_partition(&self, partition: &Partition<'_, U>) -> Result<Emitted, Failure> {
        let Partition { stream, shard, first, last, keep_existing, .. } = *partition;
        let (mut held, mut number) = (Vec::new(), 0);
        while let Some(piece) = partition.pieces.piece(number).await? {
            held.extend(piece.items);
            number += 1;
        }
        let items: Vec<_> = held.iter().map(|(_, item)| item).collect();
        let partitions = partition.name.map_or_else(Vec::new, |name| vec![name; items.len()]);
        let mut emitted = self.emit(&Batch { stream, shard, first, last, items, partitions, keep_existing }).await?;
        for (index, _) in &mut emitted.exceptions {
            // What names no item of the batch names none of the window either.
            *index = held.get(*index).map_or(usize::MAX, |(index, _)| *index);
        }
        Ok(emitted)
    }

    /// Proves, before the first record, that the destination exists and may be written.
    ///
    /// # Errors
    /// A [`Failure`] that names the destination and what to do.
    async fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Releases what the emitter holds. Called once, after the last batch of a run that ends in order; an aborted run and a killed
    /// process end without it, so that nothing that was delivered may wait for it.
    ///
    /// # Errors
    /// A [`Failure`] if something could not be released; nothing delivered is undone by it.
    async fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
