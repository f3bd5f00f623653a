//! How much of a table's capacity a sink takes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::config::DynamoDbConfig;

/// What was not taken for so long may be taken at once.
const BURST: Duration = Duration::from_secs(1);
/// A smaller part is no part: a large item would wait for hours.
const UNITS_MIN: f64 = 1.0;
/// Of a write unit.
const UNIT_BYTES: usize = 1024;

/// Write units a second, over all shards of this worker.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Without it, any number.
    units_a_second: Option<f64>,
    /// When all that was taken so far is used up.
    paid_until: Option<Instant>,
}

impl Pace {
    /// How many there are from now on.
    pub(super) fn set(&self, units_a_second: Option<f64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).units_a_second = units_a_second;
    }

    /// Takes the units of a request, and waits until it may be sent. Dropped, they are taken all the same.
    pub(super) async fn take(&self, units: f64) {
        let Some(start) = self.charge(units) else { return };
        sleep_until(start).await;
    }

    /// Takes what the service counted beyond what was foreseen: of what an item was before, and of indexes, nobody else knows it.
    pub(super) fn settle(&self, foreseen: f64, counted: f64) {
        if counted > foreseen {
            let _later = self.charge(counted - foreseen);
        }
    }

    /// When what is taken may be used.
    fn charge(&self, units: f64) -> Option<Instant> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let units_a_second = state.units_a_second?;
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = state.paid_until.map_or(earliest, |until| until.max(earliest));
        state.paid_until = Some(start + Duration::from_secs_f64(units / units_a_second));
        Some(start)
    }
}

/// Units a second that the settings leave to this worker, of a table that has so many.
pub(super) fn share(config: &DynamoDbConfig, table_units: Option<u64>) -> Option<f64> {
    let fixed = config.write_units.map(|units| f64::from(units.max(1)));
    let part = config.max_write_fraction.zip(table_units).map(|(fraction, units)| {
        let units = f64::from(u32::try_from(units).unwrap_or(u32::MAX));
        (fraction * units).max(UNITS_MIN)
    });
    match (fixed, part) {
        (Some(fixed), Some(part)) => Some(fixed.min(part)),
        (fixed, part) => fixed.or(part),
    }
}

/// Of an item that is written.
pub(super) fn units(item_bytes: usize) -> f64 {
    let units = u32::try_from(item_bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
    f64::from(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_units_are_taken_than_a_second_has_but_for_a_burst() {
        let pace = Pace::default();
        pace.take(1e9).await;
        pace.set(Some(10.0));
        let start = Instant::now();
        for _ in 0..30 {
            pace.take(1.0).await;
        }
        // Ten of the second before, twenty of these two, the last of which is used after they are over.
        assert_eq!(start.elapsed().as_millis(), 1_900);
        pace.settle(1.0, 21.0);
        pace.take(1.0).await;
        assert_eq!(start.elapsed().as_millis(), 4_000, "what was not foreseen is taken too");
        pace.settle(5.0, 1.0);
        pace.take(1.0).await;
        assert_eq!(start.elapsed().as_millis(), 4_100);

        pace.set(None);
        pace.take(1e9).await;
        assert_eq!(start.elapsed().as_millis(), 4_100);
    }

    #[test]
    fn a_unit_is_a_kilobyte_and_an_item_takes_one_at_least() {
        assert_eq!([0, 1, 1024, 1025, 409_600].map(units), [1.0, 1.0, 1.0, 2.0, 400.0]);
    }
}
