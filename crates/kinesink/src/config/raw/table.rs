//! The section `[[sink]]` of type `dynamodb`.

use std::collections::BTreeMap;

use kinesink_sinks::dynamodb::FieldType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::RawEventTime;

pub(in crate::config) const ORDERED_BY: &str = "partition-key";
pub(in crate::config) const KEEP: &str = "192h";
pub(in crate::config) const REQUESTS: u64 = 64;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTable {
    /// A DynamoDB table: each record, a JSON object, puts or deletes an item. `docs/dynamodb.md` has examples and what they cost.
    #[serde(rename = "type")]
    #[schemars(with = "String", extend("x-type" = "`\"dynamodb\"`"))]
    _type: String,
    /// The sink's name in logs and metrics. Without it, its type; a second of a type needs one.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) name: Option<Spanned<String>>,
    /// The table's name.
    #[schemars(with = "String")]
    pub(in crate::config) table: Spanned<String>,
    /// The table's key, the hash key first: the name of the attribute and where its value comes from, as in
    /// `{ customer = ".customer.id", at = ".ts" }`. A field of the record; or `{partition_key}`, `{shard}`, `{position}` of its place
    /// in the stream, `{window}` of its time with `aggregate`. `run --create` makes such an attribute as text, or as what `types` says of the field.
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table"))]
    pub(in crate::config) key: Spanned<BTreeMap<Spanned<String>, Spanned<String>>>,
    /// What the writes of an item are ordered by. `"partition-key"`: the stream, which orders the records of a partition key; each
    /// record's has to be the part of its item's key that `partition_key` says, or it goes to the dead letters. A field such as
    /// `".version"`: the number there, the highest of which stays.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"partition-key\"` or a field", "default" = ORDERED_BY))]
    pub(in crate::config) ordered_by: Option<Spanned<String>>,
    /// The attribute of `key` that is the records' partition key, as in `"at"`. Without it, the one that is `{partition_key}`; else the
    /// first that is a field.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) partition_key: Option<Spanned<String>>,
    /// When a write is made only if nothing later is there.
    #[serde(default)]
    #[schemars(with = "Guard", extend("default" = Guard::default()))]
    pub(in crate::config) guard: Option<Spanned<Guard>>,
    /// What fields become where JSON leaves it open, as in `{ ".photo" = "binary", ".tags" = "string-set" }`: `"binary"` (of base64),
    /// `"number"` (of text that is one), `"string-set"`, `"number-set"`, `"binary-set"` (of lists).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table"))]
    pub(in crate::config) types: BTreeMap<Spanned<String>, FieldType>,
    /// With one of `set`, `add` and `append`, a record changes those attributes of its item and leaves the others: here those that its
    /// fields of the same name replace, as in `[".status"]`. Always guarded.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "list of fields"))]
    pub(in crate::config) set: Vec<Spanned<String>>,
    /// Those that numbers of the record are added to, each record's once.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "list of fields"))]
    pub(in crate::config) add: Vec<Spanned<String>>,
    /// Lists that the record's list, or another value, is appended to, each record's once.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "list of fields"))]
    pub(in crate::config) append: Vec<Spanned<String>>,
    /// With it, records count up to an item for each key and time window, each record once; with `{window}` in `key`.
    /// `docs/dynamodb.md` has an example.
    #[serde(default)]
    #[schemars(with = "RawAggregate")]
    pub(in crate::config) aggregate: Option<Spanned<RawAggregate>>,
    /// Which records delete their item, as in `{ field = ".op", is = ["delete"] }`. A guarded delete leaves a mark, an item with
    /// `_deleted`, which expires by `ttl`.
    #[serde(default)]
    #[schemars(with = "RawDelete")]
    pub(in crate::config) delete: Option<Spanned<RawDelete>>,
    /// The attribute by which the table expires items, in seconds since 1970: the record's own field of that name, or by
    /// `expire_after`. `run --create` turns the expiry of a new table on.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) ttl: Option<Spanned<String>>,
    /// How long after a record's arrival, with `aggregate` after the end of its time window, its item expires, in `ttl`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration"))]
    pub(in crate::config) expire_after: Option<Spanned<String>>,
    /// Units that `check --create` and `run --create` make the table with, as in `{ read = 10, write = 100 }`, and that of the guards.
    /// Without it, a new table is paid by the request. A table that is there stays as it is.
    #[serde(default)]
    #[schemars(with = "RawCapacity")]
    pub(in crate::config) capacity: Option<Spanned<RawCapacity>>,
    /// Requests that are on their way at a time, over all shards, 1 to 1,000. Fewer while the table has no room for as many.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = REQUESTS))]
    pub(in crate::config) requests: Option<Spanned<u64>>,
    /// Write units that this worker takes in a second at most, over all shards; others that write to the table have the rest. Without
    /// it, as many as the table gives. With `aggregate`, of the table of the guards as many.
    #[serde(default)]
    #[schemars(with = "u64")]
    pub(in crate::config) write_units: Option<Spanned<u64>>,
    /// The part of the table's write units that this worker takes in a second at most, over all shards, as in `0.5`: of those that are
    /// provisioned, or of the maximum of a table that is paid by the request. Without a maximum there is no end to be a part of, and
    /// this means nothing. The table is asked every five minutes. Beside `write_units` the lesser counts.
    #[serde(default)]
    #[schemars(with = "f64", extend("x-type" = "number"))]
    pub(in crate::config) max_write_fraction: Option<Spanned<f64>>,
    /// Another service that speaks DynamoDB, such as `http://127.0.0.1:8000`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) endpoint: Option<Spanned<String>>,
    /// The table's region, where it is not the stream's.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) region: Option<Spanned<String>>,
    /// ARN of a role that is assumed to write there.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) role: Option<Spanned<String>>,
    /// With `role`: what its owner wants to be told.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) external_id: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawDelete {
    /// The field, such as `.op`.
    #[schemars(with = "String")]
    pub(in crate::config) field: Spanned<String>,
    /// Texts, of which a record that deletes has one there; a number or a truth as JSON writes it.
    #[schemars(with = "String", extend("x-type" = "list of texts"))]
    pub(in crate::config) is: Spanned<Vec<String>>,
    /// How long a mark stays after it was written, or after its record's arrival if that is later: longer than the stream keeps
    /// records. At least `24h`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = KEEP))]
    pub(in crate::config) keep: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCapacity {
    /// Read units a second.
    #[schemars(with = "u64")]
    pub(in crate::config) read: Spanned<u64>,
    /// Write units a second.
    #[schemars(with = "u64")]
    pub(in crate::config) write: Spanned<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAggregate {
    /// How long a time window is, in whole seconds. They follow each other from 1970 on, in UTC.
    #[schemars(with = "String", extend("x-type" = "duration"))]
    pub(in crate::config) window: Spanned<String>,
    /// Which field is the record's own time. Without it, or where a record has none, its arrival counts.
    #[serde(default)]
    #[schemars(with = "RawEventTime")]
    pub(in crate::config) event_time: Option<Spanned<RawEventTime>>,
    /// The attribute that counts records. One of `count`, `sum`, `min` and `max` has to be there.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) count: Option<Spanned<String>>,
    /// Attributes and the fields that are added up in them, as in `{ revenue = ".price" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table of fields"))]
    pub(in crate::config) sum: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Attributes and the fields whose lowest number they have. `min` and `max` are 75 together at most.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table of fields"))]
    pub(in crate::config) min: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Attributes and the fields whose highest number they have.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table of fields"))]
    pub(in crate::config) max: BTreeMap<Spanned<String>, Spanned<String>>,
    /// The table that says how far each shard is counted. Without it, the name of the sink's and `-guards`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) guards: Option<Spanned<String>>,
    /// How long what it says stays there after it was written, or after its record's arrival if that is later: longer than the
    /// stream keeps records. At least `24h`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = KEEP))]
    pub(in crate::config) keep: Option<Spanned<String>>,
}

/// When a write is made only if nothing later is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Guard {
    /// Always, by the attribute `_position` or the version: effectively once, a request for each item.
    #[default]
    Always,
    /// What had arrived before a worker took its shard, and for a minute after; the rest goes 25 in a request. At least once: what a
    /// worker sends after it lost its shard can replace what came after it.
    Takeover,
    /// Never: at least once, 25 items in a request; what a worker sends late replaces what came after it.
    Never,
}
