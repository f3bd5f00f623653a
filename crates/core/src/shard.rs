//! What a pipeline needs of the consumer that leads it: records in, checkpoints out.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Checkpoint, Durable, Failure, Position, Record, Reservation};

/// The records of one reply, in order, and the memory they hold.
#[derive(Debug)]
pub struct Records {
    /// In stream order, each after the last checkpoint. May be empty.
    pub records: Vec<Record>,
    /// How far the end of this reply is behind the newest record of the shard, in milliseconds.
    pub behind_latest_ms: u64,
    /// The share of the memory budget that these records occupy; dropping it gives it back.
    pub reservation: Reservation,
}

/// What reading a shard gives.
#[derive(Debug)]
pub enum Read {
    /// Records, in order.
    Records(Records),
    /// The shard is closed and its last record has been given.
    ShardEnd,
}

/// Reads one shard in order.
#[async_trait]
pub trait ShardReader: Send {
    /// The next records. Waits while there are none, or while the memory budget is used up. Recovers by itself from
    /// expired iterators, throttles and cut connections.
    ///
    /// Cancel safe: a dropped call loses no record; the next call continues.
    ///
    /// # Errors
    /// A [`Failure`] that the reader cannot recover from by itself; calling again tries again.
    async fn next(&mut self) -> Result<Read, Failure>;

    /// Continues after `checkpoint`, giving up what was read ahead. Used by a shard that halted and gave its buffers
    /// back.
    fn rewind(&mut self, checkpoint: Checkpoint);

    /// Continues with the record at `first`, which comes again, or the oldest after it where the stream has dropped
    /// that; gives up what was read ahead. Used to read an announced window again.
    fn seek(&mut self, first: Position);
}

/// A checkpoint that was announced and not committed, as the last owner left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What the checkpoint would have become.
    pub checkpoint: Checkpoint,
    /// The opaque bytes that came with it.
    pub plan: Option<Bytes>,
}

/// Why a checkpoint was not written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another worker holds the lease now: stop, send nothing more.
    #[error("the lease is lost: another worker holds it")]
    LeaseLost,
    /// The store did not take it; see the class.
    #[error(transparent)]
    Store(#[from] Failure),
}

/// Stores how far a shard is processed. Exists only while the lease is held: to hold a `Checkpointer` is to hold the
/// lease, as far as this worker knows.
#[async_trait]
pub trait Checkpointer: Send {
    /// Announces a window before its sinks make it durable: the position of its last record and an opaque plan,
    /// handed to the next owner if this one dies. Does not move the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`]. Not cancel safe: the write may or may not have happened.
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError>;

    /// Moves the checkpoint to what is proven durable, and clears what was prepared. Never moves backwards.
    ///
    /// # Errors
    /// [`CheckpointError`]. Not cancel safe: the write may or may not have happened.
    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError>;
}
