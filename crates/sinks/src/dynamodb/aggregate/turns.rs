//! Transactions of one item, one after the other.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::{Mutex, MutexGuard};

use super::super::table::ItemKey;

/// Items of which no two wait for each other, if their hashes are others.
const ITEMS_APART: usize = 256;

/// DynamoDB cancels one of two transactions of an item: those of this process go one after the other.
#[derive(Debug)]
pub(in crate::dynamodb) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..ITEMS_APART).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits until no other transaction of the item is on its way. Cancel safe.
    pub(super) async fn of(&self, id: &ItemKey) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % ITEMS_APART as u64).unwrap_or_default();
        Some(self.0.get(place)?.lock().await)
    }
}
