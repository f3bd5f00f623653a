//! A token bucket on the injected clock.

/// Fills by its rate each second and holds one second's worth. What a taker gets beyond that is a debt, which must be
/// paid before the next. In integers, so that a still clock gives exact answers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    at_ms: i64,
    /// What is missing until it is full, in thousandths of a token.
    missing_milli: i64,
}

impl Bucket {
    /// Whether so many tokens are there; more than it can hold count as all of it.
    pub(crate) fn has(&mut self, tokens: u64, rate_per_s: u32, now_ms: i64) -> bool {
        // A clock that went back has filled nothing, and fills again from where it is.
        self.at_ms = self.at_ms.min(now_ms);
        let full_milli = i64::from(rate_per_s) * 1000;
        let asked_milli = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(1000).min(full_milli);
        self.missing_at(rate_per_s, now_ms) <= full_milli - asked_milli
    }

    /// When so many tokens will be there, if none are taken before.
    pub(crate) fn ready_at_ms(&self, tokens: u64, rate_per_s: u32, now_ms: i64) -> i64 {
        let rate = i64::from(rate_per_s);
        let asked_milli = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(1000).min(rate * 1000);
        let missing_milli = self.missing_at(rate_per_s, now_ms).saturating_add(asked_milli) - rate * 1000;
        now_ms.saturating_add((missing_milli.max(0) + rate - 1) / rate.max(1))
    }

    /// Takes so many tokens, whether they are there or not.
    pub(crate) fn take(&mut self, tokens: u64, rate_per_s: u32, now_ms: i64) {
        let taken_milli = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(1000);
        self.missing_milli = self.missing_at(rate_per_s, now_ms).saturating_add(taken_milli);
        self.at_ms = now_ms;
    }

    /// Takes so many tokens if they are there.
    pub(crate) fn try_take(&mut self, tokens: u64, rate_per_s: u32, now_ms: i64) -> bool {
        let has = self.has(tokens, rate_per_s, now_ms);
        if has {
            self.take(tokens, rate_per_s, now_ms);
        }
        has
    }

    fn missing_at(&self, rate_per_s: u32, now_ms: i64) -> i64 {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        self.missing_milli.saturating_sub(elapsed_ms.saturating_mul(i64::from(rate_per_s))).max(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_of_a_second_then_the_rate() {
        let mut bucket = Bucket::default();
        let mut taken = |now_ms: i64, tries: usize| (0..tries).filter(|_| bucket.try_take(1, 5, now_ms)).count();
        assert_eq!([taken(1000, 9), taken(1199, 1), taken(1200, 2), taken(9000, 9)], [5, 0, 1, 5]);
    }

    #[test]
    fn more_than_it_holds_is_paid_before_the_next() {
        let mut bucket = Bucket::default();
        assert!(bucket.try_take(30, 10, 0));
        assert!(!bucket.has(1, 10, 2099));
        assert_eq!((bucket.ready_at_ms(1, 10, 0), bucket.ready_at_ms(1, 10, 2099)), (2100, 2100));
        assert_eq!(bucket.ready_at_ms(1, 10, 5000), 5000);
        assert!(bucket.has(1, 10, 2100));
    }

    proptest! {
        /// Over any time, what is taken is at most a second's worth beyond the rate.
        #[test]
        fn never_more_than_the_rate(steps in prop::collection::vec((0..400_i64, 0..8_u64), 1..200)) {
            let (mut bucket, mut now_ms, mut taken) = (Bucket::default(), 0, 0);
            for (wait_ms, tokens) in steps {
                now_ms += wait_ms;
                if bucket.try_take(tokens, 10, now_ms) {
                    taken += tokens;
                }
                prop_assert!(taken * 1000 <= 10 * (1000 + u64::try_from(now_ms).unwrap()));
            }
        }
    }

    #[test]
    fn a_clock_that_went_back_does_not_stop_it() {
        let mut bucket = Bucket::default();
        bucket.take(5, 5, 3_600_000);
        assert!(!bucket.try_take(1, 5, 0));
        assert!(!bucket.try_take(1, 5, 199));
        assert!(bucket.try_take(1, 5, 200));
        assert!(bucket.has(4, 5, 1000));
    }
}
