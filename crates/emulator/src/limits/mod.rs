//! The service's limits, each of which can be switched off.

mod bucket;
mod calls;
mod shard_rates;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use self::bucket::Bucket;
pub(crate) use self::calls::{Calls, Scope};
pub(crate) use self::shard_rates::ShardRates;

/// One limit of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Limit {
    /// 5 `GetRecords` calls a second and shard.
    GetRecordsCalls,
    /// 2 MiB a second and shard through `GetRecords`.
    ReadBytes,
    /// After a reply of the full 10 MiB, no `GetRecords` from the shard for 5 seconds.
    ReadPause,
    /// 5 `GetShardIterator` calls a second and shard.
    GetShardIteratorCalls,
    /// 1 MiB of data and partition keys a second and shard.
    WriteBytes,
    /// 1,000 records a second and shard.
    WriteRecords,
    /// 1 MiB a record, or what `UpdateMaxRecordSize` allows; 10 MiB a `PutRecords`.
    RequestSizes,
    /// Calls a second of the operations that manage streams, from 1 for `DescribeLimits` to 1,000 for `ListShards`.
    ControlPlaneCalls,
    /// 20,000 open shards in all streams together.
    Shards,
    /// 50 streams in on-demand mode.
    OnDemandStreams,
    /// 5 streams in the state `CREATING`.
    StreamsInCreation,
    /// `UpdateShardCount` to at most double and at least half of the open shards.
    ShardCountSteps,
    /// 20 registered consumers a stream.
    Consumers,
    /// One `SubscribeToShard` call a second, consumer and shard.
    SubscribeCalls,
    /// 2 MiB a second, consumer and shard.
    SubscriptionBytes,
    /// No second subscription of a consumer to a shard within 5 seconds of the first.
    SubscriptionTakeOver,
    /// One call with `DryRun` a second and stream, of all operations that have it together.
    DryRunCalls,
}

/// Which limits hold. All of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A bit for each limit that holds, by its place among all.
    on: u32,
}

/// The text names no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?} as a limit; limits are {}", Limit::ALL.map(Limit::name).join(", "))]
pub struct UnknownLimit {
    text: String,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 17] = [
        Self::GetRecordsCalls,
        Self::ReadBytes,
        Self::ReadPause,
        Self::GetShardIteratorCalls,
        Self::WriteBytes,
        Self::WriteRecords,
        Self::RequestSizes,
        Self::ControlPlaneCalls,
        Self::Shards,
        Self::OnDemandStreams,
        Self::StreamsInCreation,
        Self::ShardCountSteps,
        Self::Consumers,
        Self::SubscribeCalls,
        Self::SubscriptionBytes,
        Self::SubscriptionTakeOver,
        Self::DryRunCalls,
    ];

    /// The limit's name, as options and documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetRecordsCalls => "get-records-calls",
            Self::ReadBytes => "read-bytes",
            Self::ReadPause => "read-pause",
            Self::GetShardIteratorCalls => "get-shard-iterator-calls",
            Self::WriteBytes => "write-bytes",
            Self::WriteRecords => "write-records",
            Self::RequestSizes => "request-sizes",
            Self::ControlPlaneCalls => "control-plane-calls",
            Self::Shards => "shards",
            Self::OnDemandStreams => "on-demand-streams",
            Self::StreamsInCreation => "streams-in-creation",
            Self::ShardCountSteps => "shard-count-steps",
            Self::Consumers => "consumers",
            Self::SubscribeCalls => "subscribe-calls",
            Self::SubscriptionBytes => "subscription-bytes",
            Self::SubscriptionTakeOver => "subscription-take-over",
            Self::DryRunCalls => "dry-run-calls",
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Limit {
    type Err = UnknownLimit;

    fn from_str(text: &str) -> Result<Self, UnknownLimit> {
        let named = Self::ALL.into_iter().find(|limit| limit.name() == text);
        named.ok_or_else(|| UnknownLimit { text: text.to_owned() })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limit::ALL.into_iter().fold(Self::none(), Self::with)
    }
}

impl Limits {
    /// No limit but those of the machine: for measurements, and for tests that are about something else.
    #[must_use]
    pub const fn none() -> Self {
        Self { on: 0 }
    }

    /// These, and that one.
    #[must_use]
    pub fn with(self, limit: Limit) -> Self {
        Self { on: self.on | limit.bit() }
    }

    /// These without that one.
    #[must_use]
    pub fn without(self, limit: Limit) -> Self {
        Self { on: self.on & !limit.bit() }
    }

    /// Whether the limit holds.
    #[must_use]
    pub fn has(self, limit: Limit) -> bool {
        self.on & limit.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_switched_by_itself_and_has_its_name() {
        for limit in Limit::ALL {
            assert_eq!(limit.name().parse(), Ok(limit));
            assert_eq!(serde_json::to_value(limit).unwrap(), limit.name());
            assert!(Limits::default().has(limit) && !Limits::none().has(limit));
            let (one, others) = (Limits::none().with(limit), Limits::default().without(limit));
            for other in Limit::ALL {
                assert_eq!((one.has(other), others.has(other)), (other == limit, other != limit), "{limit} {other}");
            }
        }
        let error = "none".parse::<Limit>().unwrap_err().to_string();
        assert!(error.contains("\"none\"") && error.contains("read-bytes"), "{error}");
    }
}
