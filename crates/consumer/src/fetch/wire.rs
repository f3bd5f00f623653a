//! A GetRecords reply as it stands on the wire, in AWS JSON 1.1. Texts are slices of it, wherever nothing is escaped.

use std::borrow::Cow;

use serde::Deserialize;

/// The reply. Members that are not named here are passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetRecordsReply<'a> {
    #[serde(borrow)]
    pub(crate) records: Vec<StoredRecord<'a>>,
    pub(crate) next_shard_iterator: Option<String>,
    pub(crate) millis_behind_latest: Option<i64>,
    pub(crate) child_shards: Option<Vec<ChildShard>>,
}

/// One Kinesis record.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StoredRecord<'a> {
    #[serde(borrow)]
    pub(crate) sequence_number: Cow<'a, str>,
    /// Seconds since 1970.
    pub(crate) approximate_arrival_timestamp: Option<f64>,
    /// In base64.
    #[serde(borrow)]
    pub(crate) data: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) partition_key: Option<Cow<'a, str>>,
}

/// A shard that follows the one that ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ChildShard {
    pub(crate) shard_id: String,
    pub(crate) parent_shards: Vec<String>,
    pub(crate) hash_key_range: Option<HashKeyRange>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HashKeyRange {
    pub(crate) starting_hash_key: String,
    pub(crate) ending_hash_key: String,
}
