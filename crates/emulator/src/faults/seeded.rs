//! Faults by chance: the same seed and the same calls in the same order give the same faults.

use super::FaultKind;

const DELAY_MS_MAX: u64 = 250;
const STALE_MS_MAX: u64 = 2000;
/// Faults that a call of any operation can have: error before and after the effect, throttle, cut, truncate, delay.
const KINDS: u32 = 6;

/// A random number generator and how often it makes a fault.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    random: fastrand::Rng,
    /// Share of the calls that get a fault, from 0 to 1.
    rate: f64,
}

impl Plan {
    pub(super) fn new(seed: u64, rate: f64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), rate }
    }

    fn hits(&mut self) -> bool {
        self.random.f64() < self.rate
    }

    /// The fault of a call, if it gets one.
    pub(super) fn call(&mut self, operation: &str) -> Option<FaultKind> {
        if !self.hits() {
            return None;
        }
        let error = |code: &str| (code.to_owned(), "a fault by chance".to_owned());
        let kind = match self.random.u32(0..KINDS) {
            0 => {
                let (code, message) = error("InternalFailure");
                FaultKind::Error { code, message }
            }
            1 => {
                let (code, message) = error(throttle(operation));
                FaultKind::Error { code, message }
            }
            // A subscription has no reply that could be lost as a whole.
            _ if operation == "SubscribeToShard" => FaultKind::DelayMs(self.random.u64(1..=DELAY_MS_MAX)),
            2 => {
                let (code, message) = error("InternalFailure");
                FaultKind::ErrorAfter { code, message }
            }
            3 => FaultKind::Cut,
            4 => FaultKind::Truncate,
            _ => FaultKind::DelayMs(self.random.u64(1..=DELAY_MS_MAX)),
        };
        Some(kind)
    }

    /// Whether an iterator or a token is expired before its time.
    pub(super) fn expires(&mut self) -> bool {
        self.hits()
    }

    /// How old a list of shards is, if it is not new.
    pub(super) fn stale_ms(&mut self) -> Option<u64> {
        self.hits().then(|| self.random.u64(1..=STALE_MS_MAX))
    }
}

/// How the service throttles the operation.
fn throttle(operation: &str) -> &'static str {
    match operation {
        "GetRecords" | "GetShardIterator" | "PutRecord" | "PutRecords" => "ProvisionedThroughputExceededException",
        _ => "LimitExceededException",
    }
}
