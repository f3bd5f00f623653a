//! How long what waits is sent again by itself, without I/O.

use std::time::Duration;

use kinesink_core::Backoff;

const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Rounds one behind the other after which no fewer groups wait: about half a minute. One alone says little where few are left.
const IDLE_ROUNDS_MAX: usize = 10;

/// Sends what waits again as long as it becomes less.
#[derive(Debug)]
pub(super) struct Patience {
    backoff: Backoff,
    /// So few groups waited, at the least.
    fewest: usize,
    idle_rounds: usize,
}

impl Patience {
    /// For so many groups.
    pub(super) fn new(groups: usize, seed: u64) -> Self {
        Self { backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX, seed), fewest: groups, idle_rounds: 0 }
    }

    /// How long so many groups wait before they are sent again, at least as long as the service asks for; none where that is given up.
    pub(super) fn wait(&mut self, groups: usize, asked: Option<Duration>) -> Option<Duration> {
        if groups < self.fewest {
            self.fewest = groups;
            self.idle_rounds = 0;
            self.backoff.reset();
        } else {
            self.idle_rounds += 1;
        }
        (self.idle_rounds < IDLE_ROUNDS_MAX).then(|| self.backoff.next_wait(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_less_is_sent_again_and_what_does_not_is_given_up() {
        let mut patience = Patience::new(100, 7);
        for groups in (1..100).rev() {
            assert!(patience.wait(groups, None).unwrap() <= BACKOFF_BASE, "{groups} wait");
        }
        let idle: Vec<Duration> = (1..IDLE_ROUNDS_MAX).map(|_| patience.wait(1, None).unwrap()).collect();
        assert!(idle.last().unwrap() >= &(BACKOFF_MAX / 2) && idle.iter().sum::<Duration>() > BACKOFF_MAX, "{idle:?}");
        assert_eq!(patience.wait(1, None), None);
        // What the service asks for counts.
        let asked = Duration::from_secs(60);
        assert_eq!(Patience::new(2, 7).wait(1, Some(asked)), Some(asked));
    }
}
