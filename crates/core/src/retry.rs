//! How long to wait before trying again.

use std::time::Duration;

use fastrand::Rng;

/// The longest wait that the other side is granted.
const HINT_MAX: Duration = Duration::from_secs(3600);

/// Back-off with half of it jitter: the n-th wait is uniform in `[base/2, base] × 2^n`, capped, and never shorter than
/// what the other side asked for, up to an hour. One value per retried thing; jitter comes from the seed that is handed
/// in.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    attempts: u32,
    rng: Rng,
}

impl Backoff {
    /// Starts at `base`, doubles up to `max`; the same `seed` gives the same waits.
    #[must_use]
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max, attempts: 0, rng: Rng::with_seed(seed) }
    }

    /// How often [`next_wait`](Self::next_wait) was asked since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait, at least `hint`, of which an hour counts.
    pub fn next_wait(&mut self, hint: Option<Duration>) -> Duration {
        let ceiling = self.base.saturating_mul(1 << self.attempts.min(16)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let jittered = ceiling.mul_f64(0.5 + self.rng.f64() / 2.0);
        jittered.max(hint.unwrap_or_default().min(HINT_MAX))
    }

    /// Starts afresh after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_honour_the_hint() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 1);
        for ceiling_ms in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.next_wait(None);
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} outside half to whole of {ceiling:?}");
        }
        assert!(backoff.next_wait(Some(Duration::from_secs(9))) >= Duration::from_secs(9));
        let endless = backoff.next_wait(Some(Duration::MAX));
        assert_eq!(endless, Duration::from_secs(3600), "an answer must not stop a shard for good");
        backoff.reset();
        assert!(backoff.next_wait(None) <= Duration::from_millis(100));
    }
}
