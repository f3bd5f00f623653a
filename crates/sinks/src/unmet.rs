//! Whether records have what a setting of their sink names: what none has is told, once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// So many records without it, and none with it, are enough to tell.
const WITHOUT_MAX: u64 = 1_000;

/// How many records of a sink had not what a setting names, until one has.
#[derive(Debug, Default)]
pub(crate) struct Unmet {
    is_met: AtomicBool,
    without: AtomicU64,
    is_told: AtomicBool,
}

impl Unmet {
    /// A record that has it, or not. Gives how many had not, where that is to be told now.
    #[must_use]
    pub(crate) fn note(&self, is_met: bool) -> Option<u64> {
        // No order among shards is needed: what is told is of all of them.
        if self.is_met.load(Ordering::Relaxed) {
            return None;
        }
        if is_met {
            self.is_met.store(true, Ordering::Relaxed);
            return None;
        }
        let without = self.without.fetch_add(1, Ordering::Relaxed) + 1;
        (without == WITHOUT_MAX && self.is_due()).then_some(without)
    }

    /// No more records come: of fewer it is told now.
    #[must_use]
    pub(crate) fn end(&self) -> Option<u64> {
        let without = self.without.load(Ordering::Relaxed);
        (without > 0 && self.is_due()).then_some(without)
    }

    fn is_due(&self) -> bool {
        !self.is_met.load(Ordering::Relaxed) && !self.is_told.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of records that have it or not, in this order, and at their end.
    fn told(records: impl IntoIterator<Item = bool>) -> Vec<u64> {
        let unmet = Unmet::default();
        let amid: Vec<u64> = records.into_iter().filter_map(|is_met| unmet.note(is_met)).collect();
        amid.into_iter().chain(unmet.end()).chain(unmet.end()).collect()
    }

    #[test]
    fn what_no_record_has_is_told_once_amid_many_or_at_the_end_of_few() {
        assert_eq!(told([false; 3]), [3]);
        assert_eq!(told([false; 2_500]), [1_000]);
        assert_eq!(told([]), [0; 0]);
    }

    #[test]
    fn one_record_that_has_it_is_enough() {
        assert_eq!(told([true, false, false]), [0; 0]);
        assert_eq!(told([false, false, true]), [0; 0]);
        assert_eq!(told([vec![true], vec![false; 1_500]].concat()), [0; 0]);
    }
}
