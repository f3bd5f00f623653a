//! What became of a file's dead letters.

use std::collections::BTreeSet;

use kinesink_core::{Position, ShardId};
use kinesink_pipeline::Refusal;

/// Of what went wrong so much is told, and the rest is counted.
const TOLD_MAX: usize = 10;

/// What became of a file's dead letters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Objects that have letters of the stream.
    pub objects: usize,
    /// Windows of which something was sent, or refused again.
    pub windows: usize,
    /// Records of those letters.
    pub records: usize,
    /// Outputs that a sink has by this replay; counted for each sink.
    pub delivered: usize,
    /// Outputs that a sink had by earlier replays.
    pub delivered_before: usize,
    /// Outputs that the filter does not keep.
    pub filtered: usize,
    /// What is refused still.
    pub refused: Told<Refusal>,
    /// Names of sinks that letters are for and the file has not: these letters are as before.
    pub unknown_sinks: BTreeSet<String>,
    /// Windows that could not be replayed, and so are as before, or have a part of their letters still to be sent.
    pub failed: Told<FailedWindow>,
    /// Windows that were not tried, as the sinks did not come back.
    pub untried: usize,
}

/// A window that could not be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWindow {
    /// The shard the records came from.
    pub shard: ShardId,
    /// Position of the window's first record.
    pub first: Position,
    /// Position of the window's last record.
    pub last: Position,
    /// Why not, and what to do.
    pub why: String,
}

/// Many things, of which the first few are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<T> {
    /// How many there were.
    pub count: usize,
    /// Ten at most.
    pub first: Vec<T>,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { count: 0, first: Vec::new() }
    }
}

impl<T> Told<T> {
    pub(super) fn extend(&mut self, things: impl IntoIterator<Item = T>) {
        for thing in things {
            self.count += 1;
            if self.first.len() < TOLD_MAX {
                self.first.push(thing);
            }
        }
    }
}
