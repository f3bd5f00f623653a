#![expect(clippy::expect_used, reason = "names and numbers made here are well formed")]

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{Position, Record, SequenceNumber, ShardId, StreamName};

/// Samples from here on have one digit more.
const LONGER_FROM: u64 = 100;

/// The stream that samples are from.
#[must_use]
pub fn sample_stream() -> StreamName {
    "testkit".parse().expect("a stream name")
}

/// The `n`-th shard that samples are from.
#[must_use]
pub fn sample_shard(n: u32) -> ShardId {
    format!("shardId-{n:012}").parse().expect("a shard id")
}

/// The `n`-th record of a shard; records are in the order of `n` and arrive a millisecond apart. Sequence numbers have
/// 55 digits below the hundredth and 56 from there on, so that ordering them as text goes wrong.
#[must_use]
pub fn sample_record(shard: &ShardId, n: u64, data: impl Into<Bytes>) -> Record {
    let digits = match n.checked_sub(LONGER_FROM) {
        None => format!("{}{n:02}", "9".repeat(53)),
        Some(rest) => format!("1{rest:055}"),
    };
    let sequence: SequenceNumber = digits.parse().expect("a sequence number");
    let start = Timestamp::constant(1_767_225_600, 0);
    Record {
        shard: shard.clone(),
        position: Position { sequence, sub_sequence: 0 },
        arrival: start.saturating_add(Duration::from_millis(n)).unwrap_or(start),
        partition_key: Some(format!("key-{}", n % 10).as_str().into()),
        data: data.into(),
    }
}
