//! The sink against a directory, a scripted service on loopback, and its own promises.

mod content;
mod directory;
#[cfg(feature = "parquet")]
mod parquet;
mod requests;
mod service;
mod spilled;
mod uploads;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_core::{Batch, Item, Position, Record, ShardId, StreamName};

/// Where a test's records come from.
struct Source {
    stream: StreamName,
    shard: ShardId,
}

fn source() -> Source {
    Source { stream: "orders".parse().unwrap(), shard: "shardId-000000000003".parse().unwrap() }
}

fn position(sequence: &str, sub_sequence: u64) -> Position {
    Position { sequence: sequence.parse().unwrap(), sub_sequence }
}

/// Items whose record and value are the same bytes, at sequence numbers from 1.
fn items(values: &[&[u8]]) -> Vec<Item<Bytes>> {
    let mut sequence = 0;
    let item = |value: &&[u8]| {
        sequence += 1;
        let data = Bytes::copy_from_slice(value);
        let position = position(&sequence.to_string(), 0);
        let shard = source().shard;
        let record =
            Record { shard, position, arrival: Timestamp::UNIX_EPOCH, partition_key: None, data: data.clone() };
        Item { record, ordinal: 0, outputs: 1, value: data }
    };
    values.iter().map(item).collect()
}

/// The window of all items.
fn batch<'a>(source: &'a Source, items: &'a [Item<Bytes>]) -> Batch<'a, Bytes> {
    Batch {
        stream: &source.stream,
        shard: &source.shard,
        first: items.first().unwrap().record.position,
        last: items.last().unwrap().record.position,
        items: items.iter().collect(),
        partitions: Vec::new(),
        keep_existing: false,
    }
}
