//! How much of a table's capacity a sink takes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What was not taken for so long may be taken at once.
const BURST: Duration = Duration::from_secs(1);
/// Of a write unit.
const UNIT_BYTES: usize = 1024;

/// Write units a second, over all shards of this worker.
#[derive(Debug)]
pub(super) struct Pace {
    /// Without it, any number.
    units_a_second: Option<u32>,
    /// When all that was taken so far is used up.
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(units_a_second: Option<u32>) -> Self {
        Self { units_a_second, paid_until: Mutex::new(None) }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.units_a_second.is_some()
    }

    /// Takes the units of a request, and waits until it may be sent. Dropped, they are taken all the same.
    pub(super) async fn take(&self, units: f64) {
        let Some(start) = self.charge(units) else { return };
        sleep_until(start).await;
    }

    /// Takes what the service counted beyond what was foreseen: of an update nobody else knows it.
    pub(super) fn settle(&self, foreseen: f64, counted: Option<f64>) {
        let _later = counted.filter(|counted| *counted > foreseen).and_then(|counted| self.charge(counted - foreseen));
    }

    /// When what is taken may be used.
    fn charge(&self, units: f64) -> Option<Instant> {
        let units_a_second = self.units_a_second?;
        let now = Instant::now();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let start = paid_until.map_or(earliest, |until| until.max(earliest));
        *paid_until = Some(start + Duration::from_secs_f64(units / f64::from(units_a_second.max(1))));
        Some(start)
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
        let pace = Pace::new(Some(10));
        let start = Instant::now();
        for _ in 0..30 {
            pace.take(1.0).await;
        }
        // Ten of the second before, twenty of these two, the last of which is used after they are over.
        assert_eq!(start.elapsed().as_millis(), 1_900);
        pace.settle(1.0, Some(21.0));
        pace.take(1.0).await;
        assert_eq!(start.elapsed().as_millis(), 4_000, "what was not foreseen is taken too");
        pace.settle(5.0, Some(1.0));
        pace.settle(5.0, None);
        pace.take(1.0).await;
        assert_eq!(start.elapsed().as_millis(), 4_100);

        let free = Pace::new(None);
        free.take(1e9).await;
        assert_eq!(start.elapsed().as_millis(), 4_100);
    }

    #[test]
    fn a_unit_is_a_kilobyte_and_an_item_takes_one_at_least() {
        assert_eq!([0, 1, 1024, 1025, 409_600].map(units), [1.0, 1.0, 1.0, 2.0, 400.0]);
    }
}
