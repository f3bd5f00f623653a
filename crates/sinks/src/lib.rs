//! The destinations: each implements [`Emitter`](kinesink_core::Emitter) for one service, in a folder and a feature of
//! its own.
//!
//! ```text
//! sink.check()                      // before the first record: the destination exists and may be written
//! loop { sink.emit(batch) }         // called by the pipeline, which also retries
//! ```
//!
//! | feature | gives | tier |
//! |---|---|---|
//! | `s3` | objects in S3, or files in a directory | effectively once: an announced window is sent again as it was |
//! | `parquet` | the same, in columns | the same |
//! | `dynamodb` | items in a DynamoDB table | effectively once with `Guard::Always`: each write is conditional on its place in the order, each number on how far its shard is counted; else at least once |
//!
#![cfg_attr(feature = "s3", doc = "```")]
#![cfg_attr(not(feature = "s3"), doc = "```ignore")]
//! use kinesink_sinks::s3::{Compression, S3Config, S3Emitter};
//!
//! let mut config = S3Config::new("file:///var/orders".parse()?);
//! config.compression = Compression::Gzip;
//! let sink = S3Emitter::open(config)?;
//! # Ok::<(), kinesink_sinks::Error>(())
//! ```
//!
//! Limits: nothing is retried here; the pipeline is the one retry layer.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
mod error;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod event_time;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod event_times;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod failures;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod field_path;
#[cfg(any(feature = "dynamodb", feature = "parquet"))]
mod json;
mod location;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod position_text;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod rows;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod unmet;

pub use error::Error;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
pub use event_time::{EventTime, TimeFormat};
#[cfg(any(feature = "dynamodb", feature = "s3"))]
pub use field_path::FieldPath;
pub use location::Location;
