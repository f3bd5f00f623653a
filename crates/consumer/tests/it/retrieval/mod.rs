//! What a shard's reader promises to the handler that drives it, however it fetches.
//!
//! - `handlers`: handlers that try its promises
//! - `contract`: what both ways promise; each test runs with both
//! - `fan_out`: what is promised of subscriptions
//! - `polling`: what is promised of those who share a shard
//! - `switching`: from one way to the other, at the same checkpoints

mod contract;
mod fan_out;
mod handlers;
mod polling;
mod switching;

use kinesink_consumer::{ConsumerBuilder, Retrieval};
use kinesink_emulator::{Fault, FaultKind};

use crate::world::World;

/// A way to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Polling,
    FanOut,
}

impl Way {
    /// From the oldest record, this way.
    pub(crate) fn consumer(self, world: &World) -> ConsumerBuilder {
        self.set(world.consumer("one"))
    }

    pub(crate) fn set(self, consumer: ConsumerBuilder) -> ConsumerBuilder {
        consumer.retrieval(match self {
            Self::Polling => Retrieval::Polling,
            Self::FanOut => Retrieval::FanOut { consumer: None },
        })
    }

    /// What brings records, as faults name it.
    fn delivery(self) -> &'static str {
        match self {
            Self::Polling => "GetRecords",
            Self::FanOut => "SubscribeToShardEvent",
        }
    }

    /// What finds a position.
    fn positioning(self) -> &'static str {
        match self {
            Self::Polling => "GetShardIterator",
            Self::FanOut => "SubscribeToShard",
        }
    }

    /// The position held at the service is over before its time.
    fn expiry(self) -> Fault {
        let operation = match self {
            Self::Polling => "GetRecords",
            Self::FanOut => "SubscribeToShard",
        };
        Fault::on(operation, FaultKind::Expire)
    }
}

pub(crate) fn error(code: &str) -> FaultKind {
    FaultKind::Error { code: code.into(), message: "made up".into() }
}

pub(crate) fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:04}")).collect()
}
