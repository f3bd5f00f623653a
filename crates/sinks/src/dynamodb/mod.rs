//! Items in a DynamoDB table.
//!
//! ```text
//! emit(batch):
//!     for each output: attributes, key, rank in the order      // what no table takes is rejected
//!     for each key, side by side: its writes, in their order   // one request for each key at a time: none overtakes another
//!         puts: the last of them; updates: their sum           // a condition: nothing is there, or something before them
//!         or 25 items in a request, without one
//!     a write that is there already, or a later one: delivered // unless the item says that it was refused
//! ```
//!
//! Each guarded item says at which rank it was last written: the stream's position as text of a fixed width, which orders as
//! positions do, also across a shard and its children; or a version that the producer gives. So a window that is sent again, by
//! this worker or the next, and a request of a worker that has lost its shard, change nothing. A guarded delete leaves a mark
//! with its rank, which the table expires.
//!
//! Or records count up to an item for each key and time window: see [`Aggregate`].
//!
//! Limits: the stream orders records of one partition key alone, so that each record's has to be the part of its item's key that
//! the settings say, and a producer that chooses shards by explicit hash keys breaks that order. What is read from the table
//! between two writes may be older than the stream by the window that is open.

mod aggregate;
mod attributes;
mod chain;
mod changing;
mod config;
mod emitter;
mod error;
mod full;
mod handle;
mod lanes;
mod metrics;
mod notes;
mod number;
mod pace;
mod probes;
mod proof;
mod putting;
mod requests;
mod sending;
mod settling;
mod table;
mod takeover;
#[cfg(test)]
mod tests;
mod traffic;
mod update;
mod write;

pub use aggregate::Aggregate;
pub use attributes::{Attributes, FieldType};
pub use config::{
    Changes, Deletion, DynamoDbConfig, Guard, KeyAttribute, KeySource, OWN_ATTRIBUTES, Order, Provisioned,
    partition_key_part,
};
pub use emitter::DynamoDbEmitter;
pub use metrics::TableMetrics;
pub use proof::TableReport;
pub use traffic::TableTraffic;
