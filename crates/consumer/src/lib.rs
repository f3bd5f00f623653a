//! A consumer of one Kinesis stream whose leases are real KCL rows in DynamoDB.
//!
//! ```text
//! sync: a lease row for every shard that has to be read
//! loop:
//!     scan the leases; take what is this worker's share, ask for it, give away what others lack
//!     renew every held lease, three times per failover
//!     for each held shard, once its parents are finished: handler.run(shard { reader, checkpointer })
//!         the handler reads, and commits what is durable; at the end of a shard its children get their leases
//!     a lost lease drops its handler; a drained one is released; one of a finished shard is deleted in the end
//! ```
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use kinesink_consumer::{Consumer, Finished, Shard, ShardHandler};
//! use kinesink_core::{Failure, Read};
//! use prometheus_client::registry::Registry;
//! use tokio_util::sync::CancellationToken;
//!
//! /// Counts, and never checkpoints.
//! struct Count;
//!
//! #[async_trait]
//! impl ShardHandler for Count {
//!     async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
//!         loop {
//!             tokio::select! {
//!                 () = shard.drain.cancelled() => return Ok(Finished::Drained),
//!                 read = shard.reader.next() => match read? {
//!                     Read::Records(records) => println!("{}: {}", shard.id, records.records.len()),
//!                     Read::ShardEnd => return Ok(Finished::Drained),
//!                 },
//!             }
//!         }
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = kinesink_aws::connect(&kinesink_aws::AwsOptions::default()).await?;
//! let consumer = Consumer::builder("count-orders", "orders".parse()?, clients).build(&mut Registry::default())?;
//! let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
//! consumer.run(Arc::new(Count), drain, abort).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Workers of one application divide the leases: as KCL 2.x does while others take part, and at once, by handing leases
//! over, while all of them are ours. In an application of KCL 3.x they take part as its rows say: a leader assigns, which
//! may be one of them.
//!
//! Limits: one stream; a leader of ours balances by the number of leases, not by their throughput.

mod builder;
mod checkpointer;
mod coordination;
mod error;
mod fetch;
mod handler;
mod lease;
mod leases;
mod metrics;
mod planted;
mod shard_list;
mod shard_sync;
mod worker;

pub use builder::{Consumer, ConsumerBuilder, Retrieval, Start};
pub use coordination::Coordination;
pub use error::Error;
pub use fetch::BeyondRetention;
pub use handler::{Finished, Shard, ShardHandler};
pub use lease::{Billing, TableOptions};
pub use leases::{Handoff, Lease, LeaseEdit, Leases, Look, Place, Plan, Seen, look};
#[cfg(feature = "planted-faults")]
pub use planted::{Fault, plant};
pub use shard_list::shards_open_at;
