//! A GetRecords reply as it stands on the wire, in AWS JSON 1.1. Texts are slices of it, wherever nothing is escaped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

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
    #[serde(borrow)]
    pub(crate) data: Base64<'a>,
    #[serde(borrow)]
    pub(crate) partition_key: Option<Cow<'a, str>>,
}

/// Bytes in base64: most of a reply. Whether they are UTF-8 need not be asked, since decoding them tells more.
#[derive(Debug)]
pub(crate) struct Base64<'a>(pub(crate) Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Base64<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, [u8]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in base64")
            }

            fn visit_borrowed_bytes<E>(self, text: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_bytes<E>(self, text: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Text).map(Base64)
    }
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
