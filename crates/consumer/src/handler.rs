//! What a consumer drives for each shard that it holds.

use std::fmt;

use async_trait::async_trait;
use kinesink_core::{Checkpoint, Checkpointer, Failure, Prepared, ShardId, ShardReader, StreamName};
use tokio_util::sync::CancellationToken;

/// Processes shards. One value serves all of them.
#[async_trait]
pub trait ShardHandler: Send + Sync + 'static {
    /// Processes one shard until it ends, or `shard.drain` is cancelled. The future is dropped when the lease is lost,
    /// which cancels whatever it has in flight.
    ///
    /// # Errors
    /// A [`Failure`] of class `Fatal` drains the other shards and ends the consumer. Any other ends this shard's run,
    /// which starts again from the stored checkpoint after a pause.
    async fn run(&self, shard: Shard) -> Result<Finished, Failure>;
}

/// Why a handler came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The shard is closed and `SHARD_END` is committed.
    ShardEnd,
    /// It was asked to drain; what it wants to keep is committed.
    Drained,
    /// The checkpointer said that the lease is lost.
    LeaseLost,
}

/// One held shard.
pub struct Shard {
    /// The stream.
    pub stream: StreamName,
    /// The shard.
    pub id: ShardId,
    /// Where the lease stands.
    pub start: Checkpoint,
    /// What the last owner prepared and did not commit.
    pub prepared: Option<Prepared>,
    /// Gives the records after `start`.
    pub reader: Box<dyn ShardReader>,
    /// Stores progress, while the lease is held.
    pub checkpointer: Box<dyn Checkpointer>,
    /// Cancelled: stop reading, finish, return.
    pub drain: CancellationToken,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("stream", &self.stream)
            .field("id", &self.id)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
