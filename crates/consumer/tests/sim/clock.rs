//! The time of a process. Each lives in a runtime of its own, whose clock stands still while the process is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Time since the simulation began, as a runtime's clock counts it, and the wall clock of its machine.
#[derive(Debug, Clone)]
pub(crate) struct SimClock {
    /// When the runtime began.
    started: Duration,
    origin: Instant,
    /// How far the machine's wall clock is ahead.
    ahead_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// Of the runtime that is entered, which begins now.
    pub(crate) fn new(started: Duration) -> Self {
        Self { started, origin: Instant::now(), ahead_ms: Arc::default() }
    }

    /// Since the simulation began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started + self.origin.elapsed()
    }

    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.origin + at.saturating_sub(self.started)
    }

    pub(crate) async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.instant(at)).await;
    }

    pub(crate) fn set_ahead_ms(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    fn read(&self) -> Timestamp {
        wall(self.elapsed()) + SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// The true wall-clock time.
pub(crate) fn wall(elapsed: Duration) -> Timestamp {
    const START_S: i64 = 1_772_366_400;
    Timestamp::from_second(START_S).expect("a time") + elapsed
}

impl kinesink_core::Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.read()
    }
}

impl kinesink_emulator::Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.read()
    }
}

/// The SDK watches how fast its requests get on.
impl aws_types::sdk_config::TimeSource for SimClock {
    fn now(&self) -> SystemTime {
        self.read().into()
    }
}
