//! Splits and merges: parents close, children open.

use std::collections::BTreeSet;

use super::hash_key::HashKeyRange;
use super::shard::{Shard, seconds};
use super::{Inconsistent, Stream};

impl Stream {
    pub(super) fn split(&mut self, number: u32, new_start: u128, at_ms: i64) -> Result<(), Inconsistent> {
        let left = self.next_number()?;
        let parent = self.open_mut(number)?;
        let HashKeyRange { start, end } = parent.range;
        if new_start <= start || new_start > end {
            return Err(Inconsistent("a split outside of the shard's range"));
        }
        let at_ms = parent.close(at_ms, vec![left, left + 1]);
        let epoch_s = seconds(at_ms).max(parent.epoch_s.saturating_add(1));
        self.open.remove(&start);
        for (number_of_child, range) in
            [(left, HashKeyRange { start, end: new_start - 1 }), (left + 1, HashKeyRange { start: new_start, end })]
        {
            let mut child = Shard::new(number_of_child, range, at_ms, epoch_s);
            child.parent = Some(number);
            self.open_shard(child);
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, number: u32, adjacent: u32, mut at_ms: i64) -> Result<(), Inconsistent> {
        let child = self.next_number()?;
        if number == adjacent {
            return Err(Inconsistent("a merge of a shard with itself"));
        }
        let (first, second) = (self.open_mut(number)?.range, self.open_mut(adjacent)?.range);
        let range = HashKeyRange { start: first.start.min(second.start), end: first.end.max(second.end) };
        if first.start.checked_sub(1) != Some(second.end) && second.start.checked_sub(1) != Some(first.end) {
            return Err(Inconsistent("a merge of shards that do not touch"));
        }
        let mut epoch_s = 0;
        for parent in [number, adjacent] {
            let parent = self.open_mut(parent)?;
            at_ms = parent.close(at_ms, vec![child]);
            epoch_s = epoch_s.max(parent.epoch_s.saturating_add(1)).max(seconds(at_ms));
        }
        self.open.remove(&first.start);
        self.open.remove(&second.start);
        let mut child = Shard::new(child, range, at_ms, epoch_s);
        (child.parent, child.adjacent_parent) = (Some(number), Some(adjacent));
        self.open_shard(child);
        Ok(())
    }

    /// Splits at the first hash keys, then merges at the others. What is split off and merged again lives for a moment.
    pub(super) fn update_shard_count(
        &mut self,
        splits: &[u128],
        merges: &[u128],
        at_ms: i64,
    ) -> Result<(), Inconsistent> {
        let nowhere = || Inconsistent("a hash key without a shard");
        for new_start in splits {
            let shard = self.shard_for(*new_start).ok_or_else(nowhere)?.number;
            self.split(shard, *new_start, at_ms)?;
        }
        for start in merges {
            let below = start.checked_sub(1).and_then(|end| self.shard_for(end)).ok_or_else(nowhere)?.number;
            let above = self.shard_for(*start).ok_or_else(nowhere)?.number;
            self.merge(below, above, at_ms)?;
        }
        Ok(())
    }

    /// Where an update to so many even shards must split, and where it must then merge.
    pub(crate) fn steps_to(&self, target_count: u32) -> (Vec<u128>, Vec<u128>) {
        let starts: BTreeSet<u128> = HashKeyRange::even(target_count).into_iter().map(|range| range.start).collect();
        let splits = starts.iter().filter(|start| !self.open.contains_key(start)).copied().collect();
        let merges = self.open.keys().filter(|start| !starts.contains(start)).copied().collect();
        (splits, merges)
    }
}
