//! A GetRecords reply as it stands on the wire, in AWS JSON 1.1. Texts are slices of it, wherever nothing is escaped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What stands beside the records. Members that are not named here are passed over.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) next_shard_iterator: Option<String>,
    pub(crate) millis_behind_latest: Option<i64>,
    pub(crate) child_shards: Option<Vec<ChildShard>>,
}

/// Reads a reply and hands over each record as it comes, so that no second copy of them all is ever made.
pub(crate) fn read<'a, F>(text: &'a [u8], each: F) -> Result<Tail, serde_json::Error>
where
    F: FnMut(StoredRecord<'a>) -> Result<(), String>,
{
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let tail = deserializer.deserialize_map(ReplyVisitor(each))?;
    deserializer.end()?;
    Ok(tail)
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "PascalCase")]
enum Member {
    Records,
    NextShardIterator,
    MillisBehindLatest,
    ChildShards,
    #[serde(other)]
    Other,
}

struct ReplyVisitor<F>(F);

impl<'de, F: FnMut(StoredRecord<'de>) -> Result<(), String>> Visitor<'de> for ReplyVisitor<F> {
    type Value = Tail;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Tail, A::Error> {
        let (mut tail, mut has_records) = (Tail::default(), false);
        while let Some(member) = members.next_key()? {
            match member {
                Member::Records => {
                    has_records = true;
                    members.next_value_seed(EachRecord(&mut self.0))?;
                }
                Member::NextShardIterator => tail.next_shard_iterator = members.next_value()?,
                Member::MillisBehindLatest => tail.millis_behind_latest = members.next_value()?,
                Member::ChildShards => tail.child_shards = members.next_value()?,
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        if has_records { Ok(tail) } else { Err(A::Error::missing_field("Records")) }
    }
}

struct EachRecord<'f, F>(&'f mut F);

impl<'de, F: FnMut(StoredRecord<'de>) -> Result<(), String>> DeserializeSeed<'de> for EachRecord<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(StoredRecord<'de>) -> Result<(), String>> Visitor<'de> for EachRecord<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(record) = records.next_element()? {
            (self.0)(record).map_err(A::Error::custom)?;
        }
        Ok(())
    }
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
