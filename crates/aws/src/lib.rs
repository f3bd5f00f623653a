//! The one place that builds AWS SDK clients and judges their errors.
//!
//! ```text
//! clients = connect(options)        // the usual chain for whatever the options leave open; SDK retries off
//! match clients.kinesis.get_records().send():
//!     Ok(reply)  -> use it
//!     Err(error) -> failure("get records of", "shard X", &error)   // what to do, and a message for people
//! ```
//!
//! ```no_run
//! use kinesink_aws::{AwsOptions, connect, failure};
//!
//! # async fn list() -> Result<(), Box<dyn std::error::Error>> {
//! let clients = connect(&AwsOptions { region: Some("eu-west-1".into()), ..AwsOptions::default() }).await?;
//! let shards = clients.kinesis.list_shards().stream_name("orders").send().await;
//! let shards = shards.map_err(|error| failure("list the shards of", "stream orders", &error))?;
//! println!("{} shards", shards.shards().len());
//! # Ok(())
//! # }
//! ```
//!
//! Limits: nothing is retried here; whoever calls owns the one retry layer. Requests end after 30 seconds.

#[cfg(feature = "s3")]
mod bucket;
mod classify;
mod clients;
mod error;
mod get_records;
mod http;
mod service;

pub use aws_credential_types as credential_types;
pub use aws_sdk_dynamodb as dynamodb;
pub use aws_sdk_kinesis as kinesis;
#[cfg(feature = "s3")]
pub use aws_sdk_s3 as s3;
pub use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
pub use aws_smithy_runtime_api::client::result::SdkError;
pub use aws_types::SdkConfig;

#[cfg(feature = "s3")]
pub use bucket::{BucketOptions, SLOWEST_BYTES_PER_S, bucket_timeouts};

pub use classify::{broken_stream, chain, code, failure, is_throttle};
pub use clients::{AwsOptions, Clients, StaticCredentials, check_endpoint, check_region, connect};
pub use error::Error;
pub use get_records::get_records;
pub use service::ServiceOptions;
