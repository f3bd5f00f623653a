use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Broken, require};
use crate::Filter;

/// Checks a [`Filter`] with models of its own kind, the more varied the better. Rules:
/// - no model makes it panic;
/// - the same model gets the same verdict again;
/// - a verdict does not depend on what ran before.
///
/// # Errors
/// The first rule that is broken.
pub fn filter_contract<T, F: Filter<T>>(make: impl Fn() -> F, models: &[T]) -> Result<(), Broken> {
    let filter = make();
    let first = verdicts(&filter, models.iter().enumerate())?;
    // Twice in a row, so that no rhythm of a counter hides.
    let again = verdicts(&filter, models.iter().enumerate().flat_map(|model| [model; 2]))?;
    let doubled: Vec<bool> = first.iter().flat_map(|verdict| [*verdict; 2]).collect();
    compare("the same model gets the same verdict again", &doubled, &again)?;
    let mut reversed = verdicts(&make(), models.iter().enumerate().rev())?;
    reversed.reverse();
    compare("a verdict does not depend on what ran before", &first, &reversed)
}

fn verdicts<'a, T: 'a>(
    filter: &impl Filter<T>,
    models: impl Iterator<Item = (usize, &'a T)>,
) -> Result<Vec<bool>, Broken> {
    let verdict = |(index, model)| {
        catch_unwind(AssertUnwindSafe(|| filter.keep(model)))
            .map_err(|_| Broken { rule: "no model makes it panic", detail: format!("model {index} did") })
    };
    models.map(verdict).collect()
}

fn compare(rule: &'static str, first: &[bool], second: &[bool]) -> Result<(), Broken> {
    let differing = first.iter().zip(second).position(|(first, second)| first != second);
    require(differing.is_none(), rule, || format!("one of {} verdicts differs", first.len()))
}
