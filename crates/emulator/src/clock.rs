//! Time as the emulator sees it. All that depends on time (arrival, retention, expiry, lag) reads one injected clock.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// Longest sleep before the wall clock is read again: the machine's clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// A wait for a moment of a [`Clock`].
pub type Wait<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A source of wall-clock time.
pub trait Clock: Debug + Send + Sync {
    /// The current time. May go backwards; within a shard arrival times never do.
    fn now(&self) -> Timestamp;

    /// Is ready once [`now`](Self::now) is at or after the moment. Without an implementation of its own it sleeps for
    /// what is missing, on tokio's time, and looks again.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    fn wait_until(&self, moment: Timestamp) -> Wait<'_> {
        Box::pin(async move {
            while let Ok(missing) = Duration::try_from(moment.duration_since(self.now()))
                && !missing.is_zero()
            {
                tokio::time::sleep(missing.min(SLEEP_MAX)).await;
            }
        })
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the emulator reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Timestamp>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Moves the clock forward. It stops at the last time that can be represented.
    pub fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now = now.saturating_add(by).unwrap_or(Timestamp::MAX));
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn wait_until(&self, moment: Timestamp) -> Wait<'_> {
        let mut times = self.0.subscribe();
        Box::pin(async move {
            // The sender lives as long as this borrow of it, so the wait cannot fail.
            let _reached = times.wait_for(|now| *now >= moment).await;
        })
    }
}

/// A clock that can be made to jump: what it shows is a number of milliseconds away from another clock.
#[derive(Debug)]
pub(crate) struct JumpingClock {
    base: Arc<dyn Clock>,
    ahead_ms: watch::Sender<i64>,
}

impl JumpingClock {
    /// Follows `base`, so many milliseconds ahead of it.
    pub(crate) fn new(base: Arc<dyn Clock>, ahead_ms: watch::Sender<i64>) -> Self {
        Self { base, ahead_ms }
    }
}

/// The moment so many milliseconds later, or the last or first one that there is.
fn moved(moment: Timestamp, by_ms: i64) -> Timestamp {
    let end = if by_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    moment.checked_add(jiff::SignedDuration::from_millis(by_ms)).unwrap_or(end)
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        moved(self.base.now(), *self.ahead_ms.borrow())
    }

    fn wait_until(&self, moment: Timestamp) -> Wait<'_> {
        let mut jumps = self.ahead_ms.subscribe();
        Box::pin(async move {
            while self.now() < moment {
                let ahead_ms = *jumps.borrow_and_update();
                tokio::select! {
                    biased;
                    () = self.base.wait_until(moved(moment, ahead_ms.saturating_neg())) => {}
                    _ = jumps.changed() => {}
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn start() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_clock_is_advanced_to_its_moment() {
        let clock = ManualClock::new(start());
        let mut wait = clock.wait_until(moved(start(), 1000));
        assert_eq!(wait.as_mut().now_or_never(), None);
        clock.advance(Duration::from_millis(999));
        assert_eq!(wait.as_mut().now_or_never(), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!(wait.now_or_never(), Some(()));
        assert_eq!(clock.wait_until(start()).now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn a_jump_moves_the_time_and_wakes_what_it_passed() {
        let (base, ahead_ms) = (Arc::new(ManualClock::new(start())), watch::Sender::new(0));
        let clock = JumpingClock::new(Arc::<ManualClock>::clone(&base), ahead_ms.clone());
        let mut wait = clock.wait_until(moved(start(), 1000));
        assert_eq!(wait.as_mut().now_or_never(), None);
        ahead_ms.send_replace(-500);
        assert_eq!(clock.now(), moved(start(), -500));
        base.advance(Duration::from_millis(1000));
        assert_eq!(wait.as_mut().now_or_never(), None);
        ahead_ms.send_replace(0);
        assert_eq!(wait.now_or_never(), Some(()));
    }

    #[derive(Debug)]
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            moved(start(), i64::try_from(self.0.elapsed().as_millis()).unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_without_a_wait_of_its_own_sleeps() {
        let clock = Paused(tokio::time::Instant::now());
        clock.wait_until(moved(start(), 12_345)).await;
        assert_eq!(clock.now(), moved(start(), 12_345));
    }
}
