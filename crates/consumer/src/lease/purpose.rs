//! What the lease table is asked for: DynamoDB is paid by the request.

/// What a request to the table is for: a label of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Purpose {
    /// Table and leases are there before the first record.
    #[default]
    Start,
    /// Looks for leases, takes them, asks for them.
    Take,
    /// Keeps leases.
    Renew,
    /// Moves or prepares a checkpoint, and what a shard's end writes.
    Checkpoint,
    /// Gives a lease to another worker, or back.
    Give,
    /// Waits for the parents of a shard.
    Parents,
    /// Creates leases of shards that have none.
    Sync,
    /// Deletes leases of finished shards.
    Cleanup,
    /// Looks who assigns leases, and takes part in it.
    Coordinate,
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Take => "take",
            Self::Renew => "renew",
            Self::Checkpoint => "checkpoint",
            Self::Give => "give",
            Self::Parents => "parents",
            Self::Sync => "sync",
            Self::Cleanup => "cleanup",
            Self::Coordinate => "coordinate",
        }
    }
}
