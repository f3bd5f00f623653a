//! What an object says of itself: as metadata in a bucket, as a hidden file in a directory.

use std::collections::HashMap;

use bytes::Bytes;
use kinesink_core::{Batch, Failure, Fingerprint, Partition, Position, Reject, ShardId, StreamName};
use serde::{Deserialize, Serialize};

use crate::rows::Rows;

/// Items that an object cannot hold, by index, in order.
pub(super) type Rejects = Vec<(usize, Reject)>;

/// The window that an object is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) stream: &'a StreamName,
    pub(super) shard: &'a ShardId,
    pub(super) first: Position,
    pub(super) last: Position,
}

impl<'a> Origin<'a> {
    pub(super) fn of_batch(batch: &Batch<'a, Bytes>) -> Self {
        let Batch { stream, shard, first, last, .. } = *batch;
        Self { stream, shard, first, last }
    }

    pub(super) fn of_partition(partition: &Partition<'a, Bytes>) -> Self {
        let Partition { stream, shard, first, last, .. } = *partition;
        Self { stream, shard, first, last }
    }
}

/// Where the content of an object comes from, and a digest of it before it is encoded: positions and outputs, so that an
/// object by another encoder is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) stream: String,
    pub(super) shard: String,
    /// Of the window, of which the object holds a part where there are partitions.
    pub(super) first: String,
    pub(super) last: String,
    /// Items in the object.
    pub(super) count: usize,
    pub(super) digest: String,
}

const STREAM: &str = "kinesink-stream";
const SHARD: &str = "kinesink-shard";
const FIRST: &str = "kinesink-first";
const LAST: &str = "kinesink-last";
const COUNT: &str = "kinesink-count";
const DIGEST: &str = "kinesink-digest";

impl Contents {
    /// What an object holds of these rows that are not refused.
    pub(super) async fn of(origin: Origin<'_>, rows: &Rows<'_>, rejects: &Rejects) -> Result<Self, Failure> {
        let (mut digest, mut count) = (Fingerprint::new(), 0);
        let mut number = 0;
        while let Some(piece) = rows.piece(number).await? {
            let kept = |index: &usize| rejects.binary_search_by_key(index, |(rejected, _)| *rejected).is_err();
            for (_, item) in piece.iter().filter(|(index, _)| kept(index)) {
                digest.place(item);
                digest.part(&item.value);
                count += 1;
            }
            number += 1;
        }
        Ok(Self {
            stream: origin.stream.to_string(),
            shard: origin.shard.to_string(),
            first: origin.first.to_string(),
            last: origin.last.to_string(),
            count,
            digest: format!("{:032x}", digest.finish()),
        })
    }

    pub(super) fn to_metadata(&self) -> HashMap<String, String> {
        let Self { stream, shard, first, last, count, digest } = self;
        let count = count.to_string();
        [(STREAM, stream), (SHARD, shard), (FIRST, first), (LAST, last), (COUNT, &count), (DIGEST, digest)]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into()
    }

    /// None if the object is not one of kinesink's.
    pub(super) fn from_metadata(metadata: &HashMap<String, String>) -> Option<Self> {
        let text = |key| metadata.get(key).cloned();
        Some(Self {
            stream: text(STREAM)?,
            shard: text(SHARD)?,
            first: text(FIRST)?,
            last: text(LAST)?,
            count: text(COUNT)?.parse().ok()?,
            digest: text(DIGEST)?,
        })
    }
}
