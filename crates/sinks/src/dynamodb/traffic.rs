//! What is on its way to tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::aggregate::Turns;
use super::lanes::Lanes;
use super::pace::Pace;

/// What is on its way to the tables of one place. Sinks that share it, such as those of a window's earlier settings and of today's, take
/// together no more of a table than each may alone. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct TableTraffic(Arc<Mutex<BTreeMap<String, Arc<Traffic>>>>);

/// What is on its way to one table.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) pace: Pace,
    pub(super) lanes: Lanes,
    /// Of items that are counted.
    pub(super) turns: Turns,
}

impl TableTraffic {
    /// That of the table. How many requests may be on their way, the first who asks says.
    pub(super) fn to(&self, table: &str, requests_max: usize) -> Arc<Traffic> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let traffic = tables.entry(table.to_owned()).or_insert_with(|| {
            let lanes = Lanes::new(requests_max);
            Arc::new(Traffic { pace: Pace::default(), lanes, turns: Turns::default() })
        });
        Arc::clone(traffic)
    }
}
