//! How long a lease lasts, on a machine that may sleep.
//!
//! The monotonic clock stands still while a machine sleeps, and the others' clocks do not. So the wall clock is read
//! beside it: by as much as it went ahead of the monotonic one between two looks, the machine is taken to have slept.
//! A wall clock that is set forward looks the same, and costs the leases held then; one that is set back changes
//! nothing.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kinesink_core::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::planted::{Fault, planted};

/// Clocks are corrected in steps smaller than this all the time.
const SLEEP_MIN: Duration = Duration::from_millis(250);

/// A time on a clock that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

/// How long each lease of a worker lasts. Clones share what is known of the machine's sleep.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    failover: Duration,
    clocks: Arc<Clocks>,
}

#[derive(Debug)]
struct Clocks {
    wall: Arc<dyn Clock>,
    origin: Instant,
    last: Mutex<(Instant, Timestamp)>,
    /// Since the origin.
    slept: Mutex<Duration>,
    /// Told when it was more.
    woken: Notify,
}

impl Clocks {
    fn slept(&self) -> MutexGuard<'_, Duration> {
        self.slept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Term {
    pub(crate) fn new(failover: Duration, wall: Arc<dyn Clock>) -> Self {
        let (origin, last) = (Instant::now(), wall.now());
        let clocks =
            Clocks { wall, origin, last: Mutex::new((origin, last)), slept: Mutex::default(), woken: Notify::new() };
        Self { failover, clocks: Arc::new(clocks) }
    }

    /// From one renewal to the end of the lease.
    pub(crate) fn failover(&self) -> Duration {
        self.failover
    }

    /// Looks at the clocks. Whoever holds leases does so once a second at least.
    pub(crate) fn now(&self) -> Moment {
        let clocks = &self.clocks;
        let (now, wall) = (Instant::now(), clocks.wall.now());
        let mut last = clocks.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, wall_since) = (now.duration_since(last.0), wall.duration_since(last.1));
        *last = (now, wall);
        let ahead = Duration::try_from(wall_since).unwrap_or_default().saturating_sub(since);
        if ahead >= SLEEP_MIN {
            warn!(?ahead, "the machine slept, or its clock was set forward: what was not renewed since has expired");
            let mut slept = clocks.slept();
            *slept = slept.saturating_add(ahead);
            clocks.woken.notify_waiters();
        }
        Moment((now - clocks.origin).saturating_add(*clocks.slept()))
    }

    /// How much is left of a lease that was renewed then.
    pub(crate) fn left(&self, renewed: Moment) -> Duration {
        let late = if planted(Fault::ExpiresLate) { self.failover / 3 } else { Duration::ZERO };
        (self.failover + late).saturating_sub(self.now().0.saturating_sub(renewed.0))
    }

    /// Until a lease ends that is renewed as `renewed` says. Cancel safe.
    pub(crate) async fn over(&self, renewed: &watch::Sender<Moment>) {
        loop {
            let mut woken = pin!(self.clocks.woken.notified());
            // Before the look, which may miss a sleep that is noticed meanwhile.
            woken.as_mut().enable();
            let left = self.left(*renewed.borrow());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                biased;
                () = sleep(left) => {}
                () = woken => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const FAILOVER: Duration = Duration::from_secs(10);

    /// A wall clock that is moved by hand.
    #[derive(Debug)]
    struct Wall(Mutex<Timestamp>);

    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    fn term() -> (Term, impl Fn(i64)) {
        let wall = Arc::new(Wall(Mutex::new(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1_000))));
        let moved = Arc::clone(&wall);
        let turn = move |ms| *moved.0.lock().unwrap() += SignedDuration::from_millis(ms);
        (Term::new(FAILOVER, wall), turn)
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_wall_clock_is_ahead_was_slept_and_small_steps_add_up_to_nothing() {
        let (term, turn) = term();
        let renewed = term.now();
        for _ in 0..100 {
            turn(249);
            assert_eq!(term.left(renewed), FAILOVER);
        }
        turn(4_000);
        assert_eq!(term.left(renewed), Duration::from_secs(6));
        tokio::time::advance(Duration::from_secs(5)).await;
        turn(5_000);
        assert_eq!(term.left(renewed), Duration::from_secs(1), "both clocks went on");
        assert_eq!(term.left(term.now()), FAILOVER, "what is renewed after the sleep lasts as ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_back_or_to_the_end_of_time_does_no_harm() {
        let (term, turn) = term();
        let renewed = term.now();
        turn(-3_600_000);
        assert_eq!(term.left(renewed), FAILOVER);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(term.left(renewed), Duration::from_secs(6), "the monotonic clock counts alone");
        turn(200_000_000_000_000);
        assert_eq!(term.left(renewed), Duration::ZERO);
        turn(-200_000_000_000_000);
        turn(200_000_000_000_000);
        assert_eq!(term.left(term.now()), FAILOVER);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_of_a_lease_is_told_of_the_sleep() {
        let (term, turn) = term();
        let renewed = watch::Sender::new(term.now());
        let began = Instant::now();
        let look = async {
            sleep(Duration::from_secs(1)).await;
            turn(60_000);
            term.now();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = term.over(&renewed) => {}
            () = look => {}
        }
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}
