//! Which subscription of a consumer has which shard: one at a time, and the newest wins after a while.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use crate::limits::{Bucket, Limit, Limits};

const CALLS_PER_S: u32 = 1;
/// A subscription cannot be taken over before it is this old, even if its connection is gone.
const SAFE_MS: i64 = 5000;

/// The subscriptions of one consumer, by shard. Not part of what is stored.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<u32, Claim>);

#[derive(Debug, Default)]
struct Claim {
    calls: Bucket,
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    since_ms: i64,
    end: CancellationToken,
}

/// Why a shard cannot be subscribed to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    TooManyCalls,
    InUse,
}

impl Claims {
    /// Counts a call for the shard.
    pub(crate) fn try_call(&mut self, shard: u32, limits: Limits, now_ms: i64) -> Result<(), Refused> {
        let claim = self.0.entry(shard).or_default();
        let allowed = !limits.has(Limit::SubscribeCalls) || claim.calls.try_take(1, CALLS_PER_S, now_ms);
        if allowed { Ok(()) } else { Err(Refused::TooManyCalls) }
    }

    /// Whether the shard can be claimed now.
    pub(crate) fn check(&self, shard: u32, limits: Limits, now_ms: i64) -> Result<(), Refused> {
        let newest = self.0.get(&shard).and_then(|claim| claim.newest.as_ref());
        // One that lies in the future was made before the clock went back.
        let is_safe = newest.is_some_and(|newest| (0..SAFE_MS).contains(&now_ms.saturating_sub(newest.since_ms)));
        if is_safe && limits.has(Limit::SubscriptionTakeOver) { Err(Refused::InUse) } else { Ok(()) }
    }

    /// Claims the shard, and ends the subscription that had it. The answer is cancelled when that happens to this one.
    pub(crate) fn take(&mut self, shard: u32, limits: Limits, now_ms: i64) -> Result<CancellationToken, Refused> {
        self.check(shard, limits, now_ms)?;
        let end = CancellationToken::new();
        let newest = Newest { since_ms: now_ms, end: end.clone() };
        let before = self.0.entry(shard).or_default().newest.replace(newest);
        before.iter().for_each(|before| before.end.cancel());
        Ok(end)
    }

    /// Forgets the shards that are not to be kept, each at most one of its stream's.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.0.retain(|shard, _| is_kept(*shard));
    }

    /// Ends every subscription.
    pub(crate) fn end_all(&self) {
        self.0.values().filter_map(|claim| claim.newest.as_ref()).for_each(|newest| newest.end.cancel());
    }
}

impl Drop for Claims {
    /// With the consumer go its subscriptions.
    fn drop(&mut self) {
        self.end_all();
    }
}
