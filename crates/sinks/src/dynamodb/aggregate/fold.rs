//! Shares of records to totals, without I/O.

use std::collections::HashMap;

use jiff::Timestamp;
use kinesink_core::Reject;

use super::super::attributes::{Attributes, bytes};
use super::super::number::Decimal;
use super::super::table::ItemKey;

/// What the group of an item takes of memory beside its key, about: its places, the maps that it is in, a few numbers.
const GROUP_BYTES: usize = 1024;
/// Copies of a group's key: as it is sent, and what it is found by.
const KEY_COPIES: usize = 4;

/// What records make of the numbers of an item: none where no record had one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) count: u64,
    pub(super) sums: Vec<Option<Decimal>>,
    pub(super) lowest: Vec<Option<Decimal>>,
    pub(super) highest: Vec<Option<Decimal>>,
}

/// What one record adds to its item.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) id: ItemKey,
    pub(super) key: Attributes,
    pub(super) start: Timestamp,
    pub(super) place: String,
    pub(super) arrival: Timestamp,
    pub(super) totals: Totals,
}

/// The records of an item: of a shard, one behind the other.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: ItemKey,
    pub(super) key: Attributes,
    pub(super) start: Timestamp,
    /// Places of the first and the last of them.
    pub(super) first: String,
    pub(super) last: String,
    /// The place of the first record behind them that is refused, if one is.
    pub(super) refused_from: Option<String>,
    /// Of the latest.
    pub(super) arrival: Timestamp,
    pub(super) totals: Totals,
    /// In the batch.
    pub(super) indexes: Vec<usize>,
}

/// Records that are refused: of an item, this one and all behind it in the window. Its guard could not tell them apart.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) id: ItemKey,
    pub(super) from: String,
    pub(super) why: Reject,
}

/// Groups in the order of their first records.
#[derive(Debug)]
pub(super) struct Fold {
    groups: Vec<Group>,
    by_id: HashMap<ItemKey, usize>,
    memory_bytes: usize,
    /// Each record is a group.
    is_apart: bool,
}

impl Group {
    /// The most that so many records make of memory, but for long keys.
    pub(super) fn memory_bytes_of(records: usize) -> usize {
        records.saturating_mul(GROUP_BYTES)
    }

    /// What it takes of memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        GROUP_BYTES + KEY_COPIES * bytes(&self.key) + self.totals.memory_bytes() + size_of_val(self.indexes.as_slice())
    }
}

impl Totals {
    /// Adds those of later records. Changes nothing where a table does not keep a sum, and says so.
    pub(super) fn absorb(&mut self, later: &Self) -> bool {
        let both = |ours: &Option<Decimal>,
                    theirs: &Option<Decimal>,
                    choose: fn(Decimal, Decimal) -> Option<Decimal>| match (*ours, *theirs) {
            (Some(ours), Some(theirs)) => choose(ours, theirs).map(Some),
            (ours, theirs) => Some(ours.or(theirs)),
        };
        let all = |ours: &[Option<Decimal>], theirs: &[Option<Decimal>], choose| -> Option<Vec<Option<Decimal>>> {
            ours.iter().zip(theirs).map(|(ours, theirs)| both(ours, theirs, choose)).collect()
        };
        let Some(sums) = all(&self.sums, &later.sums, Decimal::checked_add) else { return false };
        let lowest = all(&self.lowest, &later.lowest, |ours, theirs| Some(ours.min(theirs)));
        let highest = all(&self.highest, &later.highest, |ours, theirs| Some(ours.max(theirs)));
        *self = Self {
            count: self.count.saturating_add(later.count),
            sums,
            lowest: lowest.unwrap_or_default(),
            highest: highest.unwrap_or_default(),
        };
        true
    }

    fn memory_bytes(&self) -> usize {
        [&self.sums, &self.lowest, &self.highest].into_iter().map(|numbers| size_of_val(numbers.as_slice())).sum()
    }

    /// Whether an item has the same numbers without it.
    pub(super) fn is_nothing(&self) -> bool {
        self.count == 0 && [&self.sums, &self.lowest, &self.highest].into_iter().flatten().all(Option::is_none)
    }
}

impl Fold {
    pub(super) fn new(is_apart: bool) -> Self {
        Self { groups: Vec::new(), by_id: HashMap::new(), memory_bytes: 0, is_apart }
    }

    /// Adds the share of the record at that index, unless a table keeps no such sum.
    pub(super) fn add(&mut self, index: usize, share: Share) -> Result<(), Refusal> {
        let Share { id, key, start, place, arrival, totals } = share;
        let known = self.by_id.get(&id).filter(|_| !self.is_apart).and_then(|at| self.groups.get_mut(*at));
        let Some(group) = known else {
            self.by_id.insert(id.clone(), self.groups.len());
            let (first, last, indexes) = (place.clone(), place, vec![index]);
            let group = Group { id, key, start, first, last, refused_from: None, arrival, totals, indexes };
            self.memory_bytes += group.memory_bytes();
            self.groups.push(group);
            return Ok(());
        };
        if !group.totals.absorb(&totals) {
            let why =
                Reject::new("a sum of its item has more than the 38 digits of a number, with it or one before it");
            group.refused_from = Some(place.clone());
            return Err(Refusal { id, from: place, why });
        }
        group.last = place;
        group.arrival = group.arrival.max(arrival);
        group.indexes.push(index);
        self.memory_bytes += size_of_val(&index);
        Ok(())
    }

    /// What all of them take of memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(super) fn into_groups(self) -> Vec<Group> {
        self.groups
    }
}

#[cfg(test)]
mod tests {
    use std::mem::replace;

    use proptest::prelude::*;

    use super::*;

    fn of(number: i64) -> Totals {
        let number = Some(Decimal::parse(&number.to_string()).unwrap());
        Totals { count: 1, sums: vec![number], lowest: vec![number], highest: vec![number] }
    }

    /// Each window by itself, then those one after the other.
    fn folded(windows: &[Vec<i64>]) -> Totals {
        let window = |numbers: &Vec<i64>| {
            numbers.iter().map(|number| of(*number)).reduce(|mut all, one| {
                assert!(all.absorb(&one));
                all
            })
        };
        let all = windows.iter().filter_map(window).reduce(|mut all, window| {
            assert!(all.absorb(&window));
            all
        });
        all.unwrap()
    }

    fn divided(numbers: &[i64], shards: usize, cuts: &[usize]) -> Vec<Vec<i64>> {
        let mut windows = Vec::new();
        for shard in 0..shards {
            let mut left: Vec<i64> = numbers.iter().copied().skip(shard).step_by(shards).collect();
            for cut in cuts {
                let rest = left.split_off(left.len().min(*cut));
                windows.push(replace(&mut left, rest));
            }
            windows.push(left);
        }
        windows
    }

    proptest! {
        /// Whole numbers of 64 bits are the other way to add and to compare.
        #[test]
        fn any_division_of_records_into_shards_and_windows_gives_the_same_totals(
            numbers in prop::collection::vec(-1_000_000_i64..1_000_000, 1..60),
            shards in 1_usize..7,
            cuts in prop::collection::vec(0_usize..9, 0..5),
        ) {
            let text = |number: Option<i64>| vec![Decimal::parse(&number.unwrap().to_string()).ok()];
            let expected = Totals {
                count: numbers.len() as u64,
                sums: text(Some(numbers.iter().sum())),
                lowest: text(numbers.iter().min().copied()),
                highest: text(numbers.iter().max().copied()),
            };
            prop_assert_eq!(folded(&divided(&numbers, shards, &cuts)), expected);
        }
    }

    #[test]
    fn a_sum_that_does_not_fit_changes_nothing() {
        let number = |text: &str| vec![Some(Decimal::parse(text).unwrap())];
        let mut totals = Totals { count: 1, sums: number("1"), lowest: number("1"), highest: number("1") };
        let before = totals.clone();
        assert!(!totals.absorb(&Totals { count: 1, sums: number("1e100"), lowest: number("0"), highest: number("2") }));
        assert_eq!(totals, before);
    }
}
