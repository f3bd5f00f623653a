//! The section `[[sink]]`.

use std::collections::BTreeMap;
use std::fmt;

use kinesink_sinks::s3::LateTo;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Size;

pub(in crate::config) const KEY: &str = "{stream}/{shard}/{first}-{last}";
pub(in crate::config) const TIME_ZONE: &str = "UTC";
pub(in crate::config) const UNKNOWN: &str = "__HIVE_DEFAULT_PARTITION__";
pub(in crate::config) const TIME_FORMAT: &str = "rfc3339";
pub(in crate::config) const REST: &str = "_rest";
pub(in crate::config) const ROW_GROUP: &str = "32MiB";
pub(in crate::config) const PAGE: &str = "1MiB";
pub(in crate::config) const DICTIONARY: &str = "1MiB";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSink {
    /// S3, a service that speaks like it, or a directory.
    #[serde(rename = "type")]
    #[schemars(with = "String", extend("x-type" = "`\"s3\"`"))]
    _type: String,
    /// The sink's name in logs and metrics. Without it, its type; a second of a type needs one.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) name: Option<Spanned<String>>,
    /// `s3://bucket/prefix` or `file:///absolute/directory`.
    #[schemars(with = "String")]
    pub(in crate::config) url: Spanned<String>,
    /// How records stand in an object.
    #[serde(default)]
    pub(in crate::config) format: Format,
    /// How an object is compressed; of `"parquet"`, its pages. Without it, `"none"`; of `"parquet"`, `"zstd"`.
    #[serde(default)]
    #[schemars(with = "Compression")]
    pub(in crate::config) compression: Option<Spanned<Compression>>,
    /// The columns of `"parquet"`, in order: the name of a field and its type, as in `id = "int64"`, or
    /// `{ type = "int64", on_mismatch = "null" }`. `docs/parquet.md` has the types. `kinesink check FILE --sample 1000` proposes
    /// them.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawColumnTable>", extend("x-type" = "table, below"))]
    pub(in crate::config) columns: Option<Spanned<BTreeMap<Spanned<String>, Spanned<RawColumn>>>>,
    /// The column of `"parquet"` that keeps, as JSON, each field that the others do not hold in full.
    #[serde(default)]
    #[schemars(with = "String", extend("default" = REST))]
    pub(in crate::config) rest: Option<Spanned<String>>,
    /// Of `"parquet"`: a row group closes when its values take so much, 1 MiB to 1 GiB. So much is in memory besides, for each
    /// file that is being made.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = ROW_GROUP))]
    pub(in crate::config) row_group: Option<Spanned<Size>>,
    /// Of `"parquet"`: a page closes at so much, 1 KiB to 64 MiB.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = PAGE))]
    pub(in crate::config) page: Option<Spanned<Size>>,
    /// Of `"parquet"`: a column whose different values take more, up to 64 MiB, goes on without a dictionary; with `"0B"`, each
    /// column does without.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = DICTIONARY))]
    pub(in crate::config) dictionary: Option<Spanned<Size>>,
    /// Of `"parquet"`: of what each column's lowest and highest values are told, so that readers may skip it. Without it,
    /// `"page"`.
    #[serde(default)]
    #[schemars(with = "Statistics")]
    pub(in crate::config) statistics: Option<Spanned<Statistics>>,
    /// The name of an object below `url`, without its extension. In braces: `stream`, `shard`, `first` and `last` (the window's
    /// positions; `first` has to be there), `count`; a field of the record, such as `.type` or `.user.id`; a time, as in
    /// `arrival:%Y-%m-%d` or `event:%H`. Records of one window that differ in a field or time go to different objects.
    #[serde(default)]
    #[schemars(with = "String", extend("default" = KEY))]
    pub(in crate::config) key: Option<Spanned<String>>,
    /// The time zone of times in `key`, by its IANA name.
    #[serde(default)]
    #[schemars(with = "String", extend("default" = TIME_ZONE))]
    pub(in crate::config) time_zone: Option<Spanned<String>>,
    /// Which field is the record's own time, for `{event:...}` in `key`. A record without one goes by its arrival.
    #[serde(default)]
    #[schemars(with = "RawEventTime")]
    pub(in crate::config) event_time: Option<Spanned<RawEventTime>>,
    /// What becomes of a record whose own time is far from its arrival, before or after it. Without it, nothing.
    #[serde(default)]
    #[schemars(with = "RawLate")]
    pub(in crate::config) late: Option<Spanned<RawLate>>,
    /// What stands in `key` for a field that is missing, null, empty, a list or table, or longer than 200 bytes. Of others, what
    /// a path or Hive gives a meaning is written as `%XX`.
    #[serde(default)]
    #[schemars(with = "String", extend("default" = UNKNOWN))]
    pub(in crate::config) unknown: Option<Spanned<String>>,
    /// Another service that speaks S3, such as `http://127.0.0.1:9000`.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) endpoint: Option<Spanned<String>>,
    /// The bucket's region, where it is not the stream's.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) region: Option<Spanned<String>>,
    /// Whether the bucket stands in the path of a URL instead of its host. Without it, with an endpoint only.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub(in crate::config) path_style: Option<Spanned<bool>>,
    /// ARN of a role that is assumed to write there.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) role: Option<Spanned<String>>,
    /// With `role`: what its owner wants to be told.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) external_id: Option<Spanned<String>>,
    /// Id, ARN or alias of the KMS key that encrypts objects, with the bucket's own key below it. Without it, as the bucket says.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) kms_key: Option<Spanned<String>>,
    /// Such as `STANDARD_IA`. Without it, the service's.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) storage_class: Option<Spanned<String>>,
    /// The account that the bucket has to belong to.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(in crate::config) owner: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawEventTime {
    /// The field, such as `.ts`.
    #[schemars(with = "String")]
    pub(in crate::config) field: Spanned<String>,
    /// How the time stands there: RFC 3339; seconds or milliseconds since 1970; or as in `%d/%b/%Y:%H:%M:%S %z`, which without an
    /// offset is a time of `time_zone`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"rfc3339\"`, `\"epoch-s\"`, `\"epoch-ms\"` or a format", "default" = TIME_FORMAT))]
    pub(in crate::config) format: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawLate {
    /// How far is far.
    #[schemars(with = "String", extend("x-type" = "duration"))]
    pub(in crate::config) after: Spanned<String>,
    /// To where its own time says, below `late/`; or to where its arrival says.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"late\"` or `\"arrival\"`", "default" = "late"))]
    pub(in crate::config) to: LateTo,
}

/// One of the columns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawColumnTable {
    /// Its type.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub(in crate::config) column_type: Spanned<String>,
    /// What becomes of a record whose value is of another type.
    #[serde(default)]
    pub(in crate::config) on_mismatch: Mismatch,
}

/// What becomes of a value that is not of its column's type.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Mismatch {
    /// It is refused.
    #[default]
    DeadLetter,
    /// The column is null there, and the value stands in the rest column.
    Null,
    /// The value is made to fit; a record where it cannot be is refused.
    Coerce,
}

/// Its type alone, or a table.
#[derive(Debug)]
pub(in crate::config) enum RawColumn {
    Type(String),
    Table(RawColumnTable),
}

impl<'de> Deserialize<'de> for RawColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;

        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = RawColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type such as \"int64\", or a table with `type` and `on_mismatch`")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawColumn, E> {
                Ok(RawColumn::Type(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawColumn, A::Error> {
                RawColumnTable::deserialize(MapAccessDeserializer::new(table)).map(RawColumn::Table)
            }
        }

        deserializer.deserialize_any(ColumnVisitor)
    }
}

/// How records stand in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A line for each record.
    #[default]
    Ndjson,
    /// The records' bytes one after the other, nothing between.
    Raw,
    /// Each record's bytes behind their number, as 4 bytes, the highest first.
    LengthDelimited,
    /// The fields of each record, a JSON object, in the columns of a Parquet file.
    Parquet,
}

/// Of what lowest and highest values are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Statistics {
    /// Of each page and each row group.
    Page,
    /// Of each row group.
    RowGroup,
    /// Of nothing.
    None,
}

/// How an object is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy, for `"parquet"` alone.
    Snappy,
}
