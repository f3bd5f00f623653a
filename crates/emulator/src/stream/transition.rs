//! Changes that take time: begun by one event, done by another at a deadline that the first one names.

use serde::{Deserialize, Serialize};

use super::StreamMode;

/// What a stream is in the middle of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    Create,
    Delete,
    SplitShard { shard: u32, new_start: u128 },
    MergeShards { shard: u32, adjacent: u32 },
    UpdateShardCount { splits: Vec<u128>, merges: Vec<u128> },
    SetMode { mode: StreamMode },
}

/// A change and when it is done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Transition {
    pub(crate) change: Change,
    pub(crate) done_at_ms: i64,
}

/// Whose change is done at a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    Stream(String),
}

impl Change {
    /// The stream's status meanwhile.
    pub(crate) fn status(&self) -> &'static str {
        match self {
            Self::Create => "CREATING",
            Self::Delete => "DELETING",
            Self::SplitShard { .. }
            | Self::MergeShards { .. }
            | Self::UpdateShardCount { .. }
            | Self::SetMode { .. } => "UPDATING",
        }
    }
}
