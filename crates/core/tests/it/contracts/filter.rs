use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kinesink_core::Filter;
use kinesink_core::testkit::filter_contract;

use crate::assert_breaks;

const MODELS: [u64; 6] = [3, 1, 4, 1, 5, 9];

/// A filter of any function, so that it may have state.
struct By<F>(F);

impl<F: Fn(u64) -> bool + Send + Sync + 'static> Filter<u64> for By<F> {
    fn keep(&self, model: &u64) -> bool {
        (self.0)(*model)
    }
}

#[test]
fn a_pure_filter_passes() {
    filter_contract(|| |model: &u64| model % 2 == 1, &MODELS).unwrap();
}

#[test]
fn one_that_keeps_every_fourth_is_found() {
    let make = || {
        let asked = AtomicU64::new(0);
        By(move |_| asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(4))
    };
    assert_breaks(filter_contract(make, &MODELS), "the same model gets the same verdict again");
}

/// Running it again shows nothing, another order of the models does.
#[test]
fn one_that_keeps_only_what_equals_its_first_is_found() {
    let make = || {
        let first = OnceLock::new();
        By(move |model| *first.get_or_init(|| model) == model)
    };
    assert_breaks(filter_contract(make, &MODELS), "a verdict does not depend on what ran before");
}

#[test]
fn one_that_panics_is_found() {
    let make = || By(|model| 20 / (model - 4) > 1);
    assert_breaks(filter_contract(make, &[9, 4]), "no model makes it panic");
}
