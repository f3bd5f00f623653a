//! Batches to a destination.

use async_trait::async_trait;

use crate::{Failure, Fingerprint, Item, Position, Reject, ShardId, StreamName};

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
    /// How often this window was sent to this sink before.
    pub attempt: u32,
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
/// - nothing is retried here: the pipeline is the one retry layer.
///
/// Not cancel safe in the sense that a dropped `emit` may or may not have delivered; the window is then sent again.
#[async_trait]
pub trait Emitter<U: Send + Sync>: Send + Sync + 'static {
    /// Delivers the batch.
    ///
    /// # Errors
    /// A [`Failure`] concerns the batch as a whole: nothing is known to be durable.
    async fn emit(&self, batch: &Batch<'_, U>) -> Result<Emitted, Failure>;

    /// Whether this batch may only be sent again as a whole, with the same first and last item, since what it leaves in
    /// the destination depends on them; such as an object that is named by its window. `content` is then fed with what
    /// decides that, beside the places of the items: names, and outputs before they are encoded, so that a new encoder
    /// changes nothing. The pipeline announces such a window in the lease row before it sends it, and whoever takes
    /// over after a crash sends exactly the same.
    ///
    /// The default is `false`: items are told apart one by one.
    fn plan(&self, batch: &Batch<'_, U>, content: &mut Fingerprint) -> bool {
        let _ = (batch, content);
        false
    }

    /// Proves, before the first record, that the destination exists and may be written.
    ///
    /// # Errors
    /// A [`Failure`] that names the destination and what to do.
    async fn check(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Releases what the emitter holds. Called once, after the last batch.
    ///
    /// # Errors
    /// A [`Failure`] if something could not be released; nothing delivered is undone by it.
    async fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
