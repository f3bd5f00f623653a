//! Kinesis to sinks: records out of an Amazon Kinesis data stream into S3, directories and DynamoDB, each delivered, filtered or
//! in the dead letters.
//!
//! ```text
//! connector = Connector::builder(app, stream, clients, pipeline).build()
//! connector.run(stop):
//!     consumer: this worker takes its share of the shards' leases       (kinesink-consumer)
//!     for each shard: pipeline: transform, filter, buffer, emit, commit (kinesink-pipeline)
//!     until stop.drain, then flush, checkpoint, release; or stop.abort
//! ```
//!
//! A pipeline of your own types, with an emitter of your own:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use kinesink::{Batch, Connector, Emitted, Emitter, Failure, Pipeline, Raw, Sink, Stop};
//! use prometheus_client::registry::Registry;
//!
//! /// Prints how much it was given.
//! struct Counter;
//!
//! #[async_trait::async_trait]
//! impl Emitter<Bytes> for Counter {
//!     async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
//!         println!("{} records of {}", batch.items.len(), batch.shard);
//!         Ok(Emitted::all())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = kinesink::aws::connect(&kinesink::aws::AwsOptions::default()).await?;
//! let pipeline = Pipeline::new(Raw::default(), Sink::new("counter", Arc::new(Counter)));
//! let connector = Connector::builder("count-orders", "orders".parse()?, clients, pipeline).build(&mut Registry::default())?;
//! println!("{:?}", connector.run(&Stop::new()).await?);
//! # Ok(())
//! # }
//! ```
//!
//! The same from a file is [`config::Config`]; local services for any AWS SDK are in `local` (feature `local`).
//!
//! | feature | gives |
//! |---|---|
//! | `s3` (default) | the S3 and directory sink |
//! | `parquet` (default) | Parquet files in it |
//! | `dynamodb` (default) | the DynamoDB sink |
//! | `jq` (default) | jq programs as a transformer |
//! | `pattern` (default) | Lambda-style event patterns as a filter |
//! | `local` | the local Kinesis, DynamoDB and S3 |
//! | `testkit` | contract suites for your own implementations of the traits |
//!
//! Limits: one stream a connector.

pub mod config;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod connections;
mod connector;
mod create;
mod error;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod from_config;
mod handler;
#[cfg(feature = "local")]
pub mod local;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod programs;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod recipe;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod replay;
mod retry;
mod stop;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
mod stream;
#[cfg_attr(
    not(all(feature = "s3", feature = "jq", feature = "pattern")),
    expect(dead_code, reason = "only a replay by a pipeline file ends at a time")
)]
mod until;

#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
pub use connections::{Connection, connections};
pub use connector::{Connector, ConnectorBuilder, Outcome};
pub use create::create_stream;
pub use error::Error;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
pub use from_config::{connector_from, create_tables};
pub use kinesink_aws as aws;
pub use kinesink_consumer as consumer;
pub use kinesink_core::Error as CoreError;
#[cfg(feature = "planted-faults")]
pub use kinesink_core::Fault;
#[cfg(feature = "testkit")]
pub use kinesink_core::testkit;
pub use kinesink_core::{
    Backoff, Batch, Budget, Buffer, Checkpoint, CheckpointError, Checkpointer, Class, Clock, CloseReason, Durable,
    Emitted, Emitter, Exception, Failure, Filter, Fingerprint, Item, PartitionKey, Position, Prepared, Read, Record,
    Records, Reject, Reservation, SequenceNumber, Settlement, ShardId, ShardReader, StreamName, SystemClock,
    Transformer,
};
pub use kinesink_kpl as kpl;
#[cfg(feature = "pattern")]
pub use kinesink_pipeline::PatternFilter;
pub use kinesink_pipeline::{
    DeadLetter, Event, Health, HealthReport, METRICS, Metrics, Needs, Pipeline, Progress, Raw, Retry, ShardStatus,
    Sink, WindowBuffer, WindowLimits, finished_as_is,
};
#[cfg(feature = "jq")]
pub use kinesink_pipeline::{JQ_STACK_BYTES, Jq};
pub use kinesink_sinks as sinks;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
pub use programs::Programs;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
pub use replay::{FailedWindow, ReplayReport, TimeRange, Told, replay, replay_range};
pub use stop::Stop;
#[cfg(all(feature = "s3", feature = "jq", feature = "pattern"))]
pub use stream::{StreamFinding, stream_findings};

/// The Rust on the page for who comes from the Java KCL.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from-the-java-kcl.md")]
struct JavaKclPage;
