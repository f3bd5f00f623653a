//! A consumer of one Kinesis stream whose leases are real KCL rows in DynamoDB.
//!
//! ```text
//! sync: a lease row for every shard that has to be read
//! loop:
//!     scan the leases; take those that are free, parents before children
//!     renew every held lease, three times per failover
//!     for each held shard: handler.run(shard { reader, checkpointer })
//!         the handler reads, and commits what is durable; at the end of a shard its children get their leases
//!     a lost lease drops its handler; a drained one is released
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
//! Limits: one stream; one worker that takes every lease it may have. It never steals a lease that is being
//! renewed, and a finished lease stays in the table.

mod builder;
mod checkpointer;
mod error;
mod fetch;
mod handler;
mod lease;
mod metrics;
mod shard_sync;
mod worker;

pub use builder::{Consumer, ConsumerBuilder, Retrieval, Start};
pub use error::Error;
pub use handler::{Finished, Prepared, Shard, ShardHandler};
