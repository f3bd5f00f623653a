//! What GetRecords and SubscribeToShard have in common: from a place in a shard, the next records and what is behind
//! them.

use serde::Serialize;

use super::Stream;
use super::hash_key::HashKeyRangeText;
use super::sequence_number::SequenceNumber;
use super::shard::{Record, Shard, shard_id};

/// How much one read takes at most. It always takes one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimit {
    pub(crate) records: usize,
    pub(crate) bytes: u64,
}

/// Records that follow each other, and where they leave the reader.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Bytes of data and partition keys.
    pub(crate) bytes: u64,
    /// The next record was left out because of its bytes.
    pub(crate) is_full: bool,
    pub(crate) next_index: u64,
    /// The number of the last of the records.
    pub(crate) last: Option<SequenceNumber>,
    pub(crate) millis_behind_latest: i64,
    /// The shard is closed and the records reach its end.
    pub(crate) is_end: bool,
}

/// A child of a shard, as its readers are told at its end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChildShard {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: HashKeyRangeText,
}

/// The records from the index on, none of them copied.
pub(crate) fn read(shard: &Shard, index: u64, limit: ReadLimit, now_ms: i64) -> Read {
    let mut stored = shard.records_from(index).peekable();
    let mut read = Read {
        records: Vec::new(),
        bytes: 0,
        is_full: false,
        next_index: index,
        last: None,
        millis_behind_latest: 0,
        is_end: false,
    };
    while let Some(record) = stored.peek() {
        let size_bytes = u64::from(record.size_bytes);
        read.is_full = read.bytes + size_bytes > limit.bytes && !read.records.is_empty();
        if read.is_full || read.records.len() == limit.records {
            read.millis_behind_latest =
                read.records.last().map_or(0, |last| now_ms.saturating_sub(last.arrival_ms).max(0));
            return read;
        }
        read.bytes += size_bytes;
        read.next_index = record.index + 1;
        read.last = Some(shard.sequence_number(record.index, record.arrival_ms));
        read.records.push((*record).clone());
        stored.next();
    }
    read.is_end = shard.closed.is_some();
    read
}

pub(crate) fn child_shards(stream: &Stream, shard: &Shard) -> Vec<ChildShard> {
    let children = shard.closed.iter().flat_map(|closed| &closed.children);
    let describe = |child: &Shard| ChildShard {
        shard_id: child.id(),
        parent_shards: child.parent.into_iter().chain(child.adjacent_parent).map(shard_id).collect(),
        hash_key_range: child.range.text(),
    };
    children.filter_map(|number| stream.shard(*number)).map(describe).collect()
}
