//! What a DynamoDB sink needs to know.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_core::{Clock, SystemClock};

use super::aggregate::Aggregate;
use super::attributes::FieldType;
use super::metrics::TableMetrics;
use super::traffic::TableTraffic;
use crate::FieldPath;

/// The attribute that holds a write's rank in the order.
pub(super) const POSITION: &str = "_position";
/// The attribute by which the mark of a deleted item is known.
pub(super) const DELETED: &str = "_deleted";
/// The attribute with the positions of the changes that were refused: whoever sends them again is told so, though later ones of the
/// item are made.
pub(super) const REFUSED: &str = "_refused";
/// The attribute with the last of those positions behind which no change is made yet: a change before it is
/// made only by who has read the notes up to there.
pub(super) const REFUSED_TO: &str = "_refused_to";
/// Attributes that sinks write beside those of the record: no key, and nothing that records change, has the name of one.
pub const OWN_ATTRIBUTES: [&str; 4] = [POSITION, DELETED, REFUSED, REFUSED_TO];
const REQUESTS_MAX: usize = 64;
const ENCODED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the value of a key attribute comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySource {
    /// A field of the record: text, a number, or bytes by their [`FieldType`].
    Field(FieldPath),
    /// The record's partition key.
    PartitionKey,
    /// The shard that the record was read from.
    Shard,
    /// The place of the output in its stream, padded with zeros: no two outputs have the same.
    Position,
    /// The start of the record's time window, where records are counted: text such as `2026-01-31T12:00:00Z`, or seconds since 1970
    /// where the table has a number.
    Window,
}

/// Those that are no field, in braces.
const SOURCES: [(&str, KeySource); 4] = [
    ("{partition_key}", KeySource::PartitionKey),
    ("{shard}", KeySource::Shard),
    ("{position}", KeySource::Position),
    ("{window}", KeySource::Window),
];

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, SOURCES.iter().find(|(_, source)| source == self)) {
            (Self::Field(path), _) => path.fmt(f),
            (_, known) => f.write_str(known.map_or("", |(text, _)| text)),
        }
    }
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = SOURCES.into_iter().find(|(known, _)| *known == text);
        let in_braces = || SOURCES.map(|(known, _)| known).join(", ");
        match known {
            Some((_, source)) => Ok(source),
            None => text.parse().map(Self::Field).map_err(|why| format!("{why}; or {} in braces", in_braces())),
        }
    }
}

/// One attribute of the table's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute {
    /// Its name in the table.
    pub name: String,
    /// Where its value comes from.
    pub source: KeySource,
    /// Its type, where it is known: a new table is made with it, or with text. An existing table's has to be the same.
    pub key_type: Option<ScalarAttributeType>,
}

/// What the writes of one item are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Order {
    /// The stream's own order, which all records of one partition key have. Each record's partition key has to be one part of
    /// its item's key, the same of all, so that no item has writes of two: see [`DynamoDbConfig::partition_key`].
    #[default]
    PartitionKey,
    /// The number in this field, a version that the producer gives: the highest stays.
    Version(String),
}

/// When a write is conditional on coming after what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Guard {
    /// Always: a write that comes late, or again, changes nothing.
    #[default]
    Always,
    /// While a worker takes a shard over: what arrived before it had the shard, and for a minute after. The rest goes 25 in a request.
    /// What a slow worker sends after its shard is another's can still replace a later write.
    Takeover,
    /// Never, and 25 items go in a request: whatever comes last stays, also what a slow worker sends after its shard is
    /// another's.
    Never,
}

/// Which records delete their item: those that have one of these texts, numbers or truths in the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The field.
    pub field: FieldPath,
    /// As text.
    pub values: Vec<String>,
    /// How long after a record's arrival, or after now where that is later, its mark expires, where writes are guarded: longer than
    /// the stream keeps records.
    pub keep: Duration,
}

/// Attributes that a record changes, and no others. Each is a field at the top of the record, of the same name; a record that lacks it
/// leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The record's value replaces the item's.
    pub set: Vec<String>,
    /// The record's number is added to the item's, which begins at 0.
    pub add: Vec<String>,
    /// The record's list, or what it has in place of one, is appended to the item's list.
    pub append: Vec<String>,
}

/// Units that a table has in a second, bought ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provisioned {
    /// What readers may take, 4 KB each.
    pub read_units: u32,
    /// What writers may take, 1 KB each.
    pub write_units: u32,
}

/// The settings of a [`DynamoDbEmitter`](super::DynamoDbEmitter).
#[derive(Debug, Clone)]
pub struct DynamoDbConfig {
    /// Who sends the requests. Its own retries have to be off.
    pub client: Client,
    /// The table.
    pub table: String,
    /// Its key: the hash key, then the range key if it has one.
    pub key: Vec<KeyAttribute>,
    /// Fields whose JSON leaves their type open.
    pub types: BTreeMap<FieldPath, FieldType>,
    /// What an item's writes are ordered by.
    pub order: Order,
    /// The key attribute that is the records' partition key, where that orders writes. Without it, the one that is made of the partition
    /// key; else the first that is a field, which is the hash key unless that is a shard.
    pub partition_key: Option<String>,
    /// When a write is conditional.
    pub guard: Guard,
    /// What a record changes of its item; all of it without this.
    pub changes: Option<Changes>,
    /// What records count up to, for each key and time window; each writes an item of its own without this.
    pub aggregate: Option<Aggregate>,
    /// Which records delete.
    pub delete: Option<Deletion>,
    /// The attribute by which the table expires items, in seconds since 1970.
    pub ttl: Option<String>,
    /// How long after a record's arrival, or after the end of its time window where records are counted, its item expires. Without it, the record's own field of that name says.
    pub expire_after: Option<Duration>,
    /// What the table is made with, and that of the guards, if it is missing. Without it, it is paid by the request.
    pub provisioned: Option<Provisioned>,
    /// Write units that may be taken in a second of the table, and of that of the guards as many, over all shards of this worker; any
    /// number without it.
    pub write_units: Option<u32>,
    /// The part of the table's write units, or of the maximum of a table that is paid by the request, which may be taken in a second,
    /// over all shards of this worker; of that of the guards, the part of its own. It is looked up every five minutes. Means nothing where there is no maximum.
    pub max_write_fraction: Option<f64>,
    /// What is counted.
    pub metrics: TableMetrics,
    /// What is on its way to the tables, with whom it is shared. By default, with no other sink.
    pub traffic: TableTraffic,
    /// By which it is known what arrived before a shard was this worker's.
    pub clock: Arc<dyn Clock>,
    /// Dead letters are sent again: what a later write has overtaken is refused, and not taken for delivered; what its item says was refused
    /// is made; with [`aggregate`](Self::aggregate), each has a guard of its own.
    pub is_replay: bool,
    /// Requests that are on their way at a time, over all shards, while the table has room for as many. Default 64.
    pub requests_max: usize,
    /// Records that are being made into items, over all shards, take at most so much memory at a time, and a larger one
    /// alone. Default 16 MiB.
    pub encoded_bytes_max: usize,
}

/// Which part of a key is the records' partition key: the one of that name, or the one that is made of it, or the first that is a field.
#[must_use]
pub fn partition_key_part(key: &[KeyAttribute], named: Option<&str>) -> Option<usize> {
    let is_field = |part: &KeyAttribute| matches!(part.source, KeySource::Field(_));
    match named {
        Some(name) => key.iter().position(|part| part.name == name),
        None => {
            key.iter().position(|part| part.source == KeySource::PartitionKey).or_else(|| key.iter().position(is_field))
        }
    }
}

impl DynamoDbConfig {
    /// Guarded puts, in the order of the stream.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, key: Vec<KeyAttribute>) -> Self {
        Self {
            client,
            table: table.into(),
            key,
            types: BTreeMap::new(),
            order: Order::default(),
            partition_key: None,
            guard: Guard::default(),
            changes: None,
            aggregate: None,
            delete: None,
            ttl: None,
            expire_after: None,
            provisioned: None,
            write_units: None,
            max_write_fraction: None,
            metrics: TableMetrics::default(),
            traffic: TableTraffic::default(),
            clock: Arc::new(SystemClock),
            is_replay: false,
            requests_max: REQUESTS_MAX,
            encoded_bytes_max: ENCODED_BYTES_MAX,
        }
    }

    /// Whether the stream alone says which of an item's writes is the last: it has several, and no version.
    pub(super) fn is_ordered_by_stream(&self) -> bool {
        let is_alone = self.key.iter().any(|part| part.source == KeySource::Position);
        self.order == Order::PartitionKey && !is_alone
    }

    /// Why the records' partition key is no part of the key, or not the one that is named.
    pub(super) fn contradiction_of_partition_key(&self) -> Option<String> {
        if !self.is_ordered_by_stream() {
            let why = "`partition_key` means nothing where a version orders writes, or a position tells all items apart: leave it out";
            return self.partition_key.is_some().then(|| why.into());
        }
        let made_of_it = self.key.iter().find(|part| part.source == KeySource::PartitionKey);
        let part = partition_key_part(&self.key, self.partition_key.as_deref()).and_then(|part| self.key.get(part));
        match (part, &self.partition_key, made_of_it) {
            (None, None, _) => {
                Some("no part of the key is of a record, so that the stream orders no writes: give it one".into())
            }
            (None, Some(name), _) => {
                Some(format!("`partition_key` is `{name}`, which is no part of the key: name one that is"))
            }
            (Some(part), _, _) if part.source == KeySource::Shard => {
                Some(format!("`partition_key` is `{}`, which is the shard: name another part of the key", part.name))
            }
            (Some(part), _, Some(other)) if part.source != KeySource::PartitionKey => Some(format!(
                "`partition_key` is `{}`, but `{}` is the partition key: leave `partition_key` out",
                part.name, other.name
            )),
            _ => None,
        }
    }

    /// Whether records count up in their items, each once.
    pub(super) fn counts(&self) -> bool {
        self.changes.as_ref().is_some_and(Changes::counts)
    }

    /// Whether items note which of their changes were refused: what one sets that is in neither, no later one need set. Of versions, the
    /// highest stays, whatever was refused.
    pub(super) fn notes_refused(&self) -> bool {
        self.changes.is_some() && self.order == Order::PartitionKey
    }

    /// The attribute that a guarded write compares.
    pub(super) fn guard_attribute(&self) -> &str {
        match &self.order {
            Order::PartitionKey => POSITION,
            Order::Version(field) => field,
        }
    }
}
