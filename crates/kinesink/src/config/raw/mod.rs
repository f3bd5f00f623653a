//! The file as it is written. The comments here are the descriptions of `docs/config.md`.

mod sink;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use self::sink::{Compression, Format};
pub(super) use self::sink::{
    DICTIONARY, KEY, Mismatch, PAGE, REST, ROW_GROUP, RawColumn, RawEventTime, RawLate, RawSink, Statistics,
    TIME_FORMAT, TIME_ZONE, UNKNOWN,
};
pub(super) use self::table::{Guard, KEEP, ORDERED_BY, REQUESTS, RawAggregate, RawCapacity, RawDelete, RawTable};

/// The version of the format that this program reads.
pub(super) const VERSION: i64 = 1;

// Defaults stand here once, as they would be written: for reading a file and for the reference.
pub(super) const MEMORY: &str = "256MiB";
pub(super) const START: &str = "trim-horizon";
pub(super) const BEYOND_RETENTION: &str = "oldest";
pub(super) const FETCH: &str = "polling";
pub(super) const FAN_OUT: &str = "fan-out";
pub(super) const IDLE: &str = "1s";
pub(super) const MAX_RECORDS: u64 = 10_000;
pub(super) const FAILOVER: &str = "10s";
pub(super) const COORDINATION: &str = "auto";
pub(super) const KCL3: &str = "kcl-3";
pub(super) const MAX_STEALS: u64 = 1;
pub(super) const SHARD_SYNC: &str = "60s";
pub(super) const LIST_SHARDS_ATTEMPTS: u64 = 50;
pub(super) const LIST_SHARDS_PAUSE: &str = "1500ms";
pub(super) const CLEANUP_INTERVAL: &str = "5m";
pub(super) const CAPACITY: u64 = 10;
pub(super) const RECORDS: u64 = 10_000;
pub(super) const BYTES: &str = "64MiB";
pub(super) const AGE: &str = "60s";
pub(super) const SPILL: &str = "16GiB";
pub(super) const LISTEN: &str = "127.0.0.1:9464";
pub(super) const GRACE: &str = "30s";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// Version of the file's format. This program reads version 1.
    #[serde(rename = "version")]
    #[schemars(with = "u32", extend("x-type" = "`1`"))]
    _version: i64,
    /// Name of the application, and of its lease table in DynamoDB, as in the KCL: 3 to 255 of `a-z A-Z 0-9 _ . -`.
    #[schemars(with = "String")]
    pub(super) app: Spanned<String>,
    /// Bytes of records that may be in memory at once, over all shards; three eighths of it are for replies and encoded copies.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = MEMORY))]
    pub(super) memory: Option<Spanned<Size>>,
    /// The stream to read.
    pub(super) source: RawSource,
    /// What becomes of a record. Without it, its bytes go on as they are and nothing is parsed.
    #[serde(default)]
    #[schemars(with = "RawTransform")]
    pub(super) transform: Option<RawTransform>,
    /// Which records go on: it sees what `transform` made of them. Without it, all do.
    #[serde(default)]
    #[schemars(with = "RawFilter")]
    pub(super) filter: Option<RawFilter>,
    /// Who reads which shard, as rows that the KCL understands.
    #[serde(default)]
    pub(super) lease: RawLease,
    /// When a window is closed and sent: at the first of these limits.
    #[serde(default)]
    pub(super) buffer: RawBuffer,
    /// Where windows go that are larger than memory, until they are sent. Without it, a window closes when its memory is wanted.
    /// `docs/s3.md` says what it is for.
    #[serde(default)]
    #[schemars(with = "RawSpill")]
    pub(super) spill: Option<RawSpill>,
    /// A destination. At least one; a window's checkpoint moves when every sink has it.
    #[serde(default)]
    #[schemars(with = "Vec<RawDestination>")]
    pub(super) sink: Vec<Spanned<RawDestination>>,
    /// Where records go that cannot be transformed or delivered, as JSON with the reason. Without it, such a record
    /// halts its shard and the others go on.
    #[serde(default)]
    #[schemars(with = "RawDeadLetter")]
    pub(super) dead_letter: Option<RawDeadLetter>,
    /// Serves `/metrics`, `/healthz` and `/readyz`. Without it, nothing listens.
    #[serde(default)]
    #[schemars(with = "RawMetrics")]
    pub(super) metrics: Option<RawMetrics>,
    /// How a run ends.
    #[serde(default)]
    pub(super) drain: RawDrain,
}

/// A sink, by its `type`: each has keys of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDestination {
    S3(Box<RawSink>),
    DynamoDb(Box<RawTable>),
}

impl RawDestination {
    /// The types there are, as [`structure`](super::structure) tells them apart.
    pub(super) const TYPES: [&str; 2] = ["s3", "dynamodb"];
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    /// The stream's name.
    #[schemars(with = "String")]
    pub(super) stream: Spanned<String>,
    /// The stream's region. Without it, that of the environment or the AWS profile.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) region: Option<Spanned<String>>,
    /// Where to start in a shard that has no checkpoint yet: at its oldest record, after its newest, or at a time in
    /// RFC 3339.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"trim-horizon\"`, `\"latest\"` or a time", "default" = START))]
    pub(super) start: Option<Spanned<String>>,
    /// Where to go on when the record of a checkpoint has left the stream, and unread ones with it perhaps: at the oldest
    /// that is left, at `start`, or nowhere until somebody moves the checkpoint. It is logged with both times.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"oldest\"`, `\"start\"` or `\"fail\"`", "default" = BEYOND_RETENTION))]
    pub(super) beyond_retention: Option<Spanned<String>>,
    /// How records are fetched: by asking, or by enhanced fan-out, which sends them when they arrive and which AWS
    /// charges for. Either continues where the other stopped.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"polling\"` or `\"fan-out\"`", "default" = FETCH))]
    pub(super) fetch: Option<Spanned<String>>,
    /// With `"fan-out"`: name of the registered consumer, or its ARN. Without it, the application's name. A name that
    /// is not registered yet is registered at the start, and stays so.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) consumer: Option<Spanned<String>>,
    /// With `"polling"`: pause between two requests to a shard that had nothing new. At least `200ms`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = IDLE))]
    pub(super) idle: Option<Spanned<String>>,
    /// With `"polling"`: Kinesis records that one request asks for at most, 1 to 10,000. KCL's `maxRecords`.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = MAX_RECORDS))]
    pub(super) max_records: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFilter {
    /// A pattern in the syntax of Lambda's event filters, as a table; or a list of patterns of which one must match.
    #[schemars(with = "String", extend("x-type" = "table or list of tables"))]
    pub(super) pattern: Spanned<toml::Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTransform {
    /// A jq program. Each of its outputs becomes a record of its own; with none, the record is dropped. Beside the record it
    /// sees `$shard`, `$sequence`, `$sub_sequence`, `$arrival` (RFC 3339) and `$partition_key`; `now` is the record's arrival,
    /// so that a replay is the same. What looks elsewhere is refused: `env`, `input`, `inputs`, `localtime`, `mktime`,
    /// `strflocaltime`, `debug`, `stderr`, `halt`, modules; and a `def` that calls itself. A record has 1,000,000 turns of
    /// loops, 10,000 outputs and 64 MiB.
    #[schemars(with = "String")]
    pub(super) jq: Spanned<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLease {
    /// How long a lease lives without being renewed. Must equal that of other workers of the application, in Java too.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = FAILOVER))]
    pub(super) failover: Option<Spanned<String>>,
    /// This worker's name. Without it, a new one at each start.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) worker_id: Option<Spanned<String>>,
    /// The lease table's name, where it is not the application's.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(super) table: Option<Spanned<String>>,
    /// How many leases this worker may hold, at least 1. Without it, any number.
    #[serde(default)]
    #[schemars(with = "u64")]
    pub(super) max: Option<Spanned<u64>>,
    /// Who decides which worker holds which lease: as the application's rows say, or a leader as in KCL 3.x. The latter
    /// stops live workers of KCL 1.x and 2.x from taking leases; `docs/kcl3.md` has what is written when.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "`\"auto\"` or `\"kcl-3\"`", "default" = COORDINATION))]
    pub(super) coordination: Option<Spanned<String>>,
    /// How many leases one round steals from a worker of the Java KCL, at least 1: its `maxLeasesToStealAtOneTime`.
    /// kinesink's workers hand over among themselves, any number at once.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = MAX_STEALS))]
    pub(super) max_steals: Option<Spanned<u64>>,
    /// How often the stream is looked over for shards without a lease: KCL's `shardSyncIntervalMillis`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = SHARD_SYNC))]
    pub(super) shard_sync: Option<Spanned<String>>,
    /// How often a start lists the shards while the service has no room for it: KCL's `maxListShardsRetryAttempts`.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = LIST_SHARDS_ATTEMPTS))]
    pub(super) list_shards_attempts: Option<Spanned<u64>>,
    /// The pause between two of them: KCL's `listShardsBackoffTimeInMillis`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = LIST_SHARDS_PAUSE))]
    pub(super) list_shards_pause: Option<Spanned<String>>,
    /// Whether leases of finished shards are deleted: KCL's `cleanupLeasesUponShardCompletion`.
    #[serde(default)]
    #[schemars(with = "bool", extend("default" = true))]
    pub(super) cleanup: Option<bool>,
    /// How often it is looked whether such a lease may go: KCL's `completedLeaseCleanupIntervalMillis`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = CLEANUP_INTERVAL))]
    pub(super) cleanup_interval: Option<Spanned<String>>,
    /// How a new lease table is paid for; a table that is there stays as it is. KCL's `billingMode`.
    #[serde(default)]
    pub(super) billing: Billing,
    /// With `"provisioned"`: read capacity units. KCL's `initialLeaseTableReadCapacity`.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = CAPACITY))]
    pub(super) read_capacity: Option<Spanned<u64>>,
    /// With `"provisioned"`: write capacity units. KCL's `initialLeaseTableWriteCapacity`.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = CAPACITY))]
    pub(super) write_capacity: Option<Spanned<u64>>,
    /// Whether a new lease table cannot be deleted: KCL's `leaseTableDeletionProtectionEnabled`.
    #[serde(default)]
    pub(super) deletion_protection: bool,
    /// Whether DynamoDB keeps backups of a new lease table: KCL's `leaseTablePitrEnabled`.
    #[serde(default)]
    pub(super) point_in_time_recovery: bool,
    /// Tags of a new lease table, as in `tags = { team = "orders" }`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>", extend("x-type" = "table of text"))]
    pub(super) tags: Option<Spanned<BTreeMap<String, String>>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBuffer {
    /// Records in a window.
    #[serde(default)]
    #[schemars(with = "u64", extend("default" = RECORDS))]
    pub(super) records: Option<Spanned<u64>>,
    /// Bytes in a window. No more than five eighths of `memory`; with `[spill]`, than `spill.max`.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = BYTES))]
    pub(super) bytes: Option<Spanned<Size>>,
    /// How long a window's first record waits at most.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = AGE))]
    pub(super) age: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpill {
    /// An absolute directory, made if it is not there. Its files have no names and end with the process, however it ends.
    #[schemars(with = "String")]
    pub(super) dir: Spanned<String>,
    /// What all windows of this process may take there. A window that finds no room closes.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "size", "default" = SPILL))]
    pub(super) max: Option<Spanned<Size>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDeadLetter {
    /// `s3://bucket/prefix` or `file:///absolute/directory`; not that of a sink. A process that is killed may leave a hidden
    /// file `.NAME#1` in a directory: it was not finished, and may be removed.
    #[schemars(with = "String")]
    pub(super) url: Spanned<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    /// Address and port. A port of 0 takes a free one, which the log names.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "address:port", "default" = LISTEN))]
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDrain {
    /// After the first SIGINT or SIGTERM: how long sending and checkpointing what was read may take.
    #[serde(default)]
    #[schemars(with = "String", extend("x-type" = "duration", "default" = GRACE))]
    pub(super) grace: Option<Spanned<String>>,
}

/// How a new lease table is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Billing {
    /// By the request.
    #[default]
    PayPerRequest,
    /// By the capacity that is set aside.
    Provisioned,
}

/// A number of bytes, as a number or as text with a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", or a number of bytes")
            }

            fn visit_u64<E>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size::Bytes(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size::Bytes)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E>(self, text: &str) -> Result<Size, E> {
                Ok(Size::Text(text.into()))
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}
