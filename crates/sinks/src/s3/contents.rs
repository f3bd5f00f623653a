//! What an object says of itself: as metadata in a bucket, as a hidden file in a directory.

use std::collections::HashMap;

use bytes::Bytes;
use kinesink_core::{Batch, Fingerprint, Item};
use serde::{Deserialize, Serialize};

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
    pub(super) fn of<'a>(batch: &Batch<'_, Bytes>, items: impl Iterator<Item = &'a Item<Bytes>>) -> Self {
        let (mut digest, mut count) = (Fingerprint::new(), 0);
        for item in items {
            digest.place(item);
            digest.part(&item.value);
            count += 1;
        }
        Self {
            stream: batch.stream.to_string(),
            shard: batch.shard.to_string(),
            first: batch.first.to_string(),
            last: batch.last.to_string(),
            count,
            digest: format!("{:032x}", digest.finish()),
        }
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
