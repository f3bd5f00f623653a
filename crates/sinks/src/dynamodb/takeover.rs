//! Since when shards are this worker's, as far as their batches show.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kinesink_core::{Batch, Position, ShardId};

/// Clocks differ, and an owner goes on for a while that has lost its shard.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// One entry for each shard that was ever read here.
#[derive(Debug, Default)]
pub(super) struct Shards(Mutex<HashMap<ShardId, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Timestamp,
    first: Position,
    last: Position,
}

impl Shards {
    /// Records of the batch that arrived until then may have been written before, by another worker or by this one.
    pub(super) fn guarded_until<U>(&self, batch: &Batch<'_, U>, now: Timestamp) -> Timestamp {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = shards.get(batch.shard).copied();
        let goes_on = seen.filter(|seen| {
            let is_same = (seen.first, seen.last) == (batch.first, batch.last);
            is_same || batch.first > seen.last
        });
        let since = goes_on.map_or(now, |seen| seen.since);
        shards.insert(batch.shard.clone(), Seen { since, first: batch.first, last: batch.last });
        since.saturating_add(MARGIN).unwrap_or(Timestamp::MAX)
    }
}
