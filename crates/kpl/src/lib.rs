//! KPL aggregated records: bytes in, user records out, and back.
//!
//! The Kinesis Producer Library packs many user records into the data of one Kinesis record, the *envelope*:
//!
//! ```text
//! F3 89 9A C2 | protobuf AggregatedRecord | MD5 of the protobuf, 16 bytes
//!
//! AggregatedRecord { 1: repeated string partition_key_table, 2: repeated string explicit_hash_key_table,
//!                    3: repeated Record records }
//! Record           { 1: required uint64 partition_key_index, 2: optional uint64 explicit_hash_key_index,
//!                    3: required bytes data, 4: repeated Tag tags }
//! ```
//!
//! What a reader does with it:
//!
//! ```text
//! for envelope in reply:
//!     match unpack(envelope.data):
//!         Plain             -> one user record, sub-sequence 0
//!         Malformed(reason) -> the same, and say so
//!         Aggregated(users) -> users[i] is at (envelope's sequence number, sub-sequence i)
//! ```
//!
//! and a writer:
//!
//! ```
//! use bytes::Bytes;
//! use kinesink_kpl::{Aggregator, Unpacked, unpack};
//!
//! let mut aggregator = Aggregator::default();
//! let full = aggregator.push("sensor-1", None, b"21.5")?;
//! assert!(full.is_none(), "one small record does not fill an envelope");
//! let envelope = aggregator.finish().expect("one record is held");
//! assert_eq!(envelope.partition_key, "sensor-1");
//!
//! let Unpacked::Aggregated(records) = unpack(&envelope.data) else { panic!("not an aggregate") };
//! assert_eq!(records[0].data, "21.5");
//! assert_eq!(unpack(&Bytes::from("21.5")), Unpacked::Plain);
//! # Ok::<(), kinesink_kpl::Error>(())
//! ```
//!
//! # Limits and decisions
//! - **Nothing is lost.** An envelope is unpacked as a whole or not at all. Java's library keeps the records before a
//!   broken one and drops the rest; here such an envelope is [`Unpacked::Malformed`] and its bytes go on as one record.
//! - **No record is filtered by hash range.** Java's library drops an envelope if one of its records hashes outside the
//!   shard. Whoever packs for such readers puts only records of one shard into an envelope.
//! - **Memory is bounded.** User records are slices of the envelope, and keys are shared: unpacking takes a small
//!   multiple of the envelope's size (the shortest record is 6 bytes on the wire and [`UserRecord`] is 64), however
//!   often a long key is used. Plain data costs a comparison of 4 bytes.
//! - Tags and unknown fields are skipped, as Java's library does. Protobuf groups, which proto2 deprecates and no
//!   producer writes here, make an envelope malformed.

mod aggregator;
mod error;
mod hash_key;
mod unpack;
mod wire;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use aggregator::{AGGREGATE_BYTES_DEFAULT, AGGREGATE_BYTES_MAX, Aggregate, Aggregator};
pub use error::Error;
pub use hash_key::hash_key;
pub use unpack::{Unpacked, has_magic, unpack};

/// What every aggregate starts with.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Length of the MD5 at the end of an aggregate.
const DIGEST_BYTES: usize = 16;

/// One user record of an aggregate. `Debug` never shows the data.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The producer's partition key. Records with the same key of one envelope share it.
    pub partition_key: Arc<str>,
    /// The producer's explicit hash key, in decimal, if it gave one. Shared likewise.
    pub explicit_hash_key: Option<Arc<str>>,
    /// The producer's bytes: a slice of the envelope.
    pub data: Bytes,
}

impl fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRecord")
            .field("partition_key", &self.partition_key)
            .field("explicit_hash_key", &self.explicit_hash_key)
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}
