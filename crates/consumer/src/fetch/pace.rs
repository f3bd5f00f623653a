//! How often a shard is polled while the service throttles: additive increase, multiplicative decrease. Pollers that
//! all do so, which do not know of each other, come to equal shares.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What a shard takes of all its pollers together.
const SHARD_CALLS_PER_S: f64 = 5.0;
/// Even beside many others.
const CALLS_PER_S_MIN: f64 = 0.2;
/// Half the shard's rate is given up at once and regained in ten seconds.
const RISE_CALLS_PER_S2: f64 = 0.25;
/// What comes so often without a throttle is not limited.
const CALLS_PER_S_FREE: f64 = SHARD_CALLS_PER_S * 2.0;

/// When the next call may be sent.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// None: as often as answers come.
    calls_per_s: Option<f64>,
    called_at: Option<Instant>,
}

impl Pace {
    /// Waits until a call may be sent. Cancel safe.
    pub(super) async fn wait(&self) {
        if let (Some(calls_per_s), Some(called_at)) = (self.calls_per_s, self.called_at) {
            sleep_until(called_at + Duration::from_secs_f64(calls_per_s.recip())).await;
        }
    }

    /// A call is sent now.
    pub(super) fn called(&mut self) {
        self.called_at = Some(Instant::now());
    }

    /// It was answered.
    pub(super) fn answered(&mut self) {
        let risen = self.calls_per_s.map(|calls_per_s| calls_per_s + RISE_CALLS_PER_S2 / calls_per_s);
        self.calls_per_s = risen.filter(|calls_per_s| *calls_per_s < CALLS_PER_S_FREE);
    }

    /// The shard had no room for it: others read it too, or this one was too fast.
    pub(super) fn throttled(&mut self) {
        let halved = self.calls_per_s.unwrap_or(SHARD_CALLS_PER_S) / 2.0;
        self.calls_per_s = Some(halved.max(CALLS_PER_S_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that so many calls take, each answered.
    async fn elapsed_s(pace: &mut Pace, calls: u32) -> f64 {
        let began = Instant::now();
        for _ in 0..calls {
            pace.wait().await;
            pace.called();
            pace.answered();
        }
        began.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_back_until_something_was_throttled() {
        assert!(elapsed_s(&mut Pace::default(), 1_000).await < 0.001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_halves_and_ten_seconds_restore() {
        let mut pace = Pace::default();
        pace.called();
        pace.throttled();
        let first = elapsed_s(&mut pace, 1).await;
        assert!((0.39..0.41).contains(&first), "{first}");
        // From 2.5 to 5 a second in ten seconds are 37 calls.
        let restored = elapsed_s(&mut pace, 36).await;
        assert!((9.0..11.0).contains(&restored), "{restored}");
        let next = elapsed_s(&mut pace, 5).await;
        assert!((0.9..1.1).contains(&next), "{next}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_poller_among_many_still_calls_and_is_free_once_it_is_alone() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.called();
            pace.throttled();
        }
        let first = elapsed_s(&mut pace, 1).await;
        assert!((4.9..5.1).contains(&first), "{first}");
        elapsed_s(&mut pace, 300).await;
        assert!(elapsed_s(&mut pace, 1_000).await < 0.001);
    }
}
