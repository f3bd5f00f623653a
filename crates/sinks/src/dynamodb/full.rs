//! Items of which a window has refused as many changes as they are told of, or one that they have no room to be told of.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kinesink_core::{Batch, Position, ShardId};

use super::table::ItemKey;
use super::write::Rank;

/// Of a shard and a window. Most have a hundred records and more there; an item at 400 KB has one.
pub(super) const FULL_ITEMS_MAX: usize = 10_000;

/// Those of each shard's last window that had some. A window that memory does not hold comes in parts: what one part has refused counts in
/// the next.
#[derive(Debug, Default)]
pub(super) struct FullItems(Mutex<HashMap<ShardId, OfWindow>>);

#[derive(Debug)]
struct OfWindow {
    first: Position,
    /// Behind which of its changes the others are refused.
    items: HashMap<ItemKey, Rank>,
}

impl FullItems {
    /// Behind which of the item's changes all of the batch's window are refused, if some are. The window before is forgotten.
    pub(super) fn behind<U>(&self, batch: &Batch<'_, U>, key: &ItemKey) -> Option<Rank> {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = shards.get(batch.shard)?;
        if window.first != batch.first {
            shards.remove(batch.shard);
            return None;
        }
        window.items.get(key).cloned()
    }

    /// Behind that change of the item, the others of the batch's window are refused. Says whether there is room to keep that in mind.
    pub(super) fn add<U>(&self, batch: &Batch<'_, U>, key: &ItemKey, last: &Rank) -> bool {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = || OfWindow { first: batch.first, items: HashMap::new() };
        let window = shards.entry(batch.shard.clone()).or_insert_with(of_this);
        if window.first != batch.first {
            *window = of_this();
        }
        if window.items.len() >= FULL_ITEMS_MAX && !window.items.contains_key(key) {
            return false;
        }
        window.items.entry(key.clone()).or_insert_with(|| last.clone());
        true
    }
}
