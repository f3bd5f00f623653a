//! How often the operations that manage streams may be called.

use std::collections::BTreeMap;

use super::{Bucket, Limit, Limits};

const DRY_RUNS_PER_S: u32 = 1;

/// Whose calls count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Account,
    Stream,
}

/// The rate of the operation in calls a second, and whose calls share it. The operations that read and write records
/// are limited by shard instead.
fn rate(operation: &str) -> Option<(&'static str, u32, Scope)> {
    use Scope::{Account, Stream};
    let rates = [
        ("AddTagsToStream", 5, Account),
        ("CreateStream", 5, Account),
        ("DecreaseStreamRetentionPeriod", 5, Account),
        ("DeleteStream", 5, Account),
        ("DeregisterStreamConsumer", 5, Stream),
        ("DescribeLimits", 1, Account),
        ("DescribeStream", 10, Account),
        ("DescribeStreamConsumer", 20, Stream),
        ("DescribeStreamSummary", 20, Account),
        ("IncreaseStreamRetentionPeriod", 5, Account),
        ("ListShards", 1000, Stream),
        ("ListStreamConsumers", 5, Stream),
        ("ListStreams", 5, Account),
        ("ListTagsForResource", 5, Account),
        ("ListTagsForStream", 5, Account),
        ("MergeShards", 5, Account),
        ("RegisterStreamConsumer", 5, Stream),
        ("RemoveTagsFromStream", 5, Account),
        ("SplitShard", 5, Account),
        ("TagResource", 5, Account),
        ("UntagResource", 5, Account),
        ("UpdateMaxRecordSize", 5, Account),
        ("UpdateShardCount", 10, Account),
        ("UpdateStreamMode", 5, Account),
        ("UpdateStreamRecordDistributionStrategy", 5, Account),
    ];
    rates.into_iter().find(|(name, ..)| *name == operation)
}

/// The calls of the last second, of the account or of one stream: by operation, and dry runs together.
#[derive(Debug, Default)]
pub(crate) struct Calls(BTreeMap<&'static str, Bucket>);

impl Calls {
    /// Whether the operation may be called now, as far as that scope is concerned. If so, the call counts.
    pub(crate) fn try_call(&mut self, operation: &str, scope: Scope, limits: Limits, now_ms: i64) -> bool {
        match rate(operation) {
            Some((name, per_s, limited)) if limited == scope && limits.has(Limit::ControlPlaneCalls) => {
                self.0.entry(name).or_default().try_take(1, per_s, now_ms)
            }
            _ => true,
        }
    }

    /// Whether a call that changes nothing may be made now, of whatever operation. If so, it counts.
    pub(crate) fn try_dry_run(&mut self, limits: Limits, now_ms: i64) -> bool {
        !limits.has(Limit::DryRunCalls) || self.0.entry("DryRun").or_default().try_take(1, DRY_RUNS_PER_S, now_ms)
    }
}
