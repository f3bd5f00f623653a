//! A local Kinesis: in process, or on a loopback port for any AWS SDK.
//!
//! It exists so that a consumer of Kinesis can be tested honestly, without an account, a container or a network: what a
//! consumer gets wrong shows itself at shard ends, at expired iterators, at trimmed records and at throttles, so these
//! are what the emulator is exact about. It shares no code with the rest of kinesink, and can be used without it.
//!
//! # How it works
//!
//! ```text
//! on a request:                                     (wire)
//!     name = the operation in X-Amz-Target
//!     a fault waiting for name?  answer with the fault
//!     request = parse and validate the body         (operations/NAME)
//!     lock the streams, do what is due, forget what retention no longer keeps
//!     reading:   collect the stored records, unlock, join their bytes
//!     subscribing:  push records as they come       (subscription)
//!     changing:  event = what will be true          (stream::event)
//!                append the event to the log        (log, only with a directory)
//!                apply the event to the streams     (stream)
//! on a start:
//!     apply every event of the log
//! ```
//!
//! A record is encoded once, when it is put; `GetRecords` joins slices. Shards keep their true lineage: a split or a
//! merge closes the parents with an ending sequence number, children name their parents, every child's sequence numbers
//! are above its parents', and the last records of a closed shard come with `ChildShards` and no further iterator.
//!
//! # Example
//!
//! A split as a reader sees it, on a clock that stands still and without a socket (feature `connector`):
//!
//! ```
//! # #[cfg(feature = "connector")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
//! use aws_sdk_kinesis::types::ShardIteratorType;
//! use aws_sdk_kinesis::{Client, primitives::Blob};
//! use kinesink_emulator::{Emulator, ManualClock};
//!
//! let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse()?));
//! let emulator = Emulator::builder().clock(clock).build()?;
//! let config = Config::builder()
//!     .behavior_version(BehaviorVersion::latest())
//!     .region(Region::new("us-east-1"))
//!     .credentials_provider(Credentials::new("any", "any", None, None, "example"))
//!     .endpoint_url("http://in-process")
//!     .http_client(emulator.http_client());
//! let client = Client::from_conf(config.build());
//!
//! client.create_stream().stream_name("orders").shard_count(1).send().await?;
//! let put = client.put_record().stream_name("orders").partition_key("a");
//! let parent = put.data(Blob::new("before the split")).send().await?.shard_id;
//!
//! let middle = (1_u128 << 127).to_string();
//! let split = client.split_shard().stream_name("orders").shard_to_split(&parent);
//! split.new_starting_hash_key(middle).send().await?;
//!
//! let iterator = client.get_shard_iterator().stream_name("orders").shard_id(&parent);
//! let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
//! let reply = client.get_records().set_shard_iterator(iterator).send().await?;
//! assert_eq!(reply.records.len(), 1);
//! assert_eq!(reply.next_shard_iterator, None);
//! let children: Vec<_> = reply.child_shards().iter().map(|child| child.shard_id.as_str()).collect();
//! assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "connector"))]
//! # fn main() {}
//! ```
//!
//! # Limits
//!
//! - AWS JSON 1.1 and AWS CBOR 1.1, event streams in both, over HTTP/1.1 and HTTP/2 with prior knowledge, or
//!   in TLS (feature `tls`). A request must be signed by form, and no signature is verified, so it serves on loopback
//!   only.
//! - A consumer is `CREATING` and `DELETING` for as long as a stream would be. On-demand Advantage, with its 50 consumers
//!   a stream and its warm throughput, is not emulated. A subscription to a shard that nothing happens to gets an event without
//!   records every 5 seconds; the service does not say how often it sends one.
//! - Operations: CreateStream, DeleteStream, DescribeLimits, DescribeStream, DescribeStreamSummary, ListStreams,
//!   ListShards, PutRecord, PutRecords, GetShardIterator, GetRecords, SplitShard, MergeShards,
//!   RegisterStreamConsumer, DescribeStreamConsumer, ListStreamConsumers, DeregisterStreamConsumer, SubscribeToShard,
//!   IncreaseStreamRetentionPeriod, DecreaseStreamRetentionPeriod, UpdateShardCount, UpdateStreamMode,
//!   UpdateMaxRecordSize, UpdateStreamRecordDistributionStrategy, AddTagsToStream, RemoveTagsFromStream,
//!   ListTagsForStream, TagResource, UntagResource, ListTagsForResource. Any other answers that kinesink local does not
//!   emulate it. For the Kinesis Producer Library, GetCallerIdentity of STS is answered at the same address.
//! - The service's rates, sizes and counts hold, and each is switched off by itself: see [`Limit`] and
//!   [`Builder::limits`]. Not limited is how often a stream is scaled or changes its mode in a day. Whatever limits are
//!   off, there are at most 100,000 open shards, 500 records a put, 10,000 records and 10 MiB a read, 16 MiB the body of a
//!   request.
//! - A stream is `CREATING`, `UPDATING` or `DELETING` for the time of [`Builder::transitions`], none if not given. What
//!   is due is done at the first request after its time. An on-demand stream keeps the shards that it has: it does not
//!   scale by itself.
//! - Rates start anew with a restart; all else is kept.
//! - All records within the retention are in memory, in base64. With a directory they are also in one file, which a start
//!   reads as a whole. What retention removed leaves the memory within a minute of the clock, at the next call; the file
//!   is written anew, while calls wait, when more than half of it and 16 MiB are of what is gone.
//! - A change is in the file before it is acknowledged, which survives a killed process. The file is not synced per
//!   change, so a machine that loses power may lose the last moments. An entry that was not finished is cut off at the
//!   next start; one that was changed is an error that says where, and nothing is cut off. A change that fails half-way is in
//!   no file, and none follows it until a restart.
//! - With a directory a call has a thread of its own, of tokio's for blocking work, as it may wait for the file.

mod clock;
#[cfg(feature = "connector")]
mod connector;
mod emulator;
mod error;
mod faults;
mod limits;
mod log;
mod operations;
#[cfg(feature = "s3")]
mod s3;
mod serving;
mod stream;
mod subscription;
mod wire;

pub use clock::{Clock, ManualClock, SystemClock, Wait};
pub use emulator::{Builder, Emulator};
pub use error::Error;
pub use faults::{Fault, FaultKind, Faults};
pub use limits::{Limit, Limits, UnknownLimit};
#[cfg(feature = "s3")]
pub use s3::S3;
#[cfg(feature = "tls")]
pub use serving::Certificate;

/// The Rust on the page about the local Kinesis.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/local.md")]
struct LocalPage;
