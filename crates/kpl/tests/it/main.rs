//! What this crate reads and writes, held against other implementations and against arbitrary bytes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

/// What must hold for any bytes: the fuzz target's property.
mod any_bytes;
/// The fuzz target's corpus, run as a plain test.
mod corpus;
/// Aggregates made by another implementation, both ways.
mod golden;
/// Aggregates with a right digest and wrong contents.
mod malformed;
/// Random records packed here and by another protobuf implementation.
mod properties;

use bytes::Bytes;
use kinesink_kpl::UserRecord;
use md5::{Digest, Md5};

/// An aggregate with this message, whatever that is.
fn sealed(message: &[u8]) -> Bytes {
    [b"\xF3\x89\x9A\xC2", message, &Md5::digest(message)].concat().into()
}

fn user_record(partition_key: &str, explicit_hash_key: Option<&str>, data: impl Into<Bytes>) -> UserRecord {
    UserRecord {
        partition_key: partition_key.into(),
        explicit_hash_key: explicit_hash_key.map(Into::into),
        data: data.into(),
    }
}
