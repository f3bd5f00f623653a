//! The file as the program uses it: checked, typed, with every default filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::{BucketOptions, ServiceOptions};
use kinesink_consumer::{BeyondRetention, Coordination, Retrieval, Start, TableOptions};
use kinesink_core::StreamName;
use kinesink_sinks::FieldPath;
use kinesink_sinks::Location;
use kinesink_sinks::dynamodb::{
    Aggregate, Changes, Deletion, FieldType, Guard, KeyAttribute, KeySource, Order, Provisioned, partition_key_part,
};
use kinesink_sinks::s3::parquet::{FileSettings, Schema};
use kinesink_sinks::s3::{BucketSettings, KeyTemplate};
use serde_json::Value;

use super::error::{ConfigError, Mistake};
use super::{Compression, Format, structure, validate};

/// The part of the memory that the sinks' encoded copies of records may take, and twice as much is left to what is on
/// its way in, the texts of replies and the buffers of connections, and to what the allocator keeps.
const ENCODED_SHARE: usize = 8;
/// One of so many parts of the memory is for what says where on disk the partitions of spilled windows are.
const CATALOG_SHARE: usize = 16;

const EFFECTIVELY_ONCE: &str = "effectively once";

/// A checked pipeline file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Name of the application.
    pub app: String,
    /// Bytes of records that may be in memory at once, encoded copies included.
    pub memory_bytes: usize,
    /// The stream to read.
    pub source: Source,
    /// Event patterns of which one must match; empty where everything goes on.
    pub patterns: Vec<Value>,
    /// The jq program that transforms records.
    pub jq: Option<String>,
    /// How leases are held.
    pub lease: Lease,
    /// When a window is closed.
    pub buffer: Buffer,
    /// Where windows go that are larger than memory.
    pub spill: Option<Spill>,
    /// The destinations of objects. There is one at least, or a table; each has a name of its own.
    pub sinks: Vec<Sink>,
    /// The destinations that are DynamoDB tables.
    pub tables: Vec<TableSink>,
    /// Where refused records go.
    pub dead_letter: Option<DeadLetter>,
    /// Where metrics and health are served.
    pub metrics_listen: Option<SocketAddr>,
    /// How long a drain may take before it is aborted.
    pub drain_grace: Duration,
    #[cfg(feature = "planted-faults")]
    pub(crate) fault: Option<kinesink_core::Fault>,
    /// Name and text of the file, for mistakes that show only when something is built from it.
    pub(super) file: (String, String),
}

/// The stream to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The stream's name.
    pub stream: StreamName,
    /// The stream's region; the environment's without it.
    pub region: Option<String>,
    /// Where to start in a shard without a checkpoint.
    pub start: Start,
    /// Where to go on when the stream has forgotten a checkpoint's record.
    pub beyond_retention: BeyondRetention,
    /// How records are fetched.
    pub fetch: Retrieval,
    /// Pause between two requests to a shard that had nothing new.
    pub idle: Duration,
    /// Kinesis records that one request asks for at most.
    pub max_records: usize,
}

/// How leases are held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// How long a lease lives without being renewed.
    pub failover: Duration,
    /// This worker's name; a new one at each start without it.
    pub worker_id: Option<String>,
    /// The lease table's name.
    pub table: String,
    /// How many leases this worker may hold; any number without it.
    pub max: Option<usize>,
    /// Who decides which worker holds which lease.
    pub coordination: Coordination,
    /// How many leases one round steals from a worker of another kind.
    pub max_steals: usize,
    /// How often the stream is looked over for shards without a lease.
    pub shard_sync: Duration,
    /// How often a start lists the shards while the service has no room for it.
    pub list_shards_attempts: u32,
    /// The pause between two of them.
    pub list_shards_pause: Duration,
    /// How often it is looked whether the lease of a finished shard may be deleted; none is without it.
    pub cleanup: Option<Duration>,
    /// What a new lease table is made with.
    pub table_options: TableOptions,
}

/// When a window is closed: at the first of these limits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Buffer {
    /// Records in a window.
    pub records: usize,
    /// Bytes in a window.
    pub bytes: usize,
    /// How long a window's first record waits.
    pub age: Duration,
}

/// Where windows go that are larger than memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spill {
    /// The directory.
    pub dir: PathBuf,
    /// What all windows may take there.
    pub bytes_max: usize,
}

/// A destination of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sink {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where objects go.
    pub url: Location,
    /// How records stand in an object.
    pub format: Format,
    /// How an object is compressed.
    pub compression: Compression,
    /// The columns of Parquet files; none where the file declares none.
    pub columns: Option<Schema>,
    /// How the values of Parquet files are grouped.
    pub file: FileSettings,
    /// How an object is named.
    pub key: KeyTemplate,
    /// How a bucket is reached; its region is its own, or the source's, or the environment's.
    pub reached: BucketOptions,
    /// How a bucket keeps objects.
    pub bucket: BucketSettings,
}

/// A destination that is a DynamoDB table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TableSink {
    /// Its name in logs and metrics.
    pub name: String,
    /// The table's name.
    pub table: String,
    /// The table's key, and where it comes from.
    pub key: Vec<KeyAttribute>,
    /// Fields whose JSON leaves their type open.
    pub types: BTreeMap<FieldPath, FieldType>,
    /// What the writes of an item are ordered by.
    pub order: Order,
    /// The attribute of the key that is the records' partition key, if it is named.
    pub partition_key: Option<String>,
    /// When a write is conditional.
    pub guard: Guard,
    /// What a record changes of its item; all of it without this.
    pub changes: Option<Changes>,
    /// What records count up to, if they do.
    pub aggregate: Option<Aggregate>,
    /// Which records delete.
    pub delete: Option<Deletion>,
    /// The attribute by which the table expires items.
    pub ttl: Option<String>,
    /// How long after a record's arrival its item expires.
    pub expire_after: Option<Duration>,
    /// Requests that are on their way at a time, at most.
    pub requests_max: usize,
    /// What the table is made with, and that of the guards; paid by the request without it.
    pub provisioned: Option<Provisioned>,
    /// Write units that may be taken in a second.
    pub write_units: Option<u32>,
    /// The part of the table's write units that may be taken in a second.
    pub max_write_fraction: Option<f64>,
    /// How the table is reached; its region is its own, or the stream's.
    pub reached: ServiceOptions,
}

impl TableSink {
    /// The attribute of its item's key that each record's partition key has to be, where the stream orders the writes of an item.
    #[must_use]
    pub fn put_by(&self) -> Option<&str> {
        let has_many_writes = !self.key.iter().any(|part| part.source == KeySource::Position);
        let is_ordered = self.order == Order::PartitionKey && self.aggregate.is_none() && has_many_writes;
        let part = partition_key_part(&self.key, self.partition_key.as_deref()).filter(|_| is_ordered);
        part.and_then(|part| self.key.get(part)).map(|part| part.name.as_str())
    }

    /// How often a record may take effect in the table, whatever crashes meanwhile.
    #[must_use]
    pub fn delivery(&self) -> &'static str {
        match self.guard {
            Guard::Always => EFFECTIVELY_ONCE,
            Guard::Takeover => "at least once: what a worker sends after it lost its shard can replace a later write",
            _ => "at least once: a write that comes late replaces a later one",
        }
    }
}

/// Where refused records go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Where objects go.
    pub url: Location,
    /// How a bucket is reached: its region is the source's, or the environment's.
    pub reached: BucketOptions,
}

impl Config {
    /// Plants a fault, or none, in what the pipeline commits, and makes parts of objects smaller: a fault between them should
    /// not take many megabytes.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub fn planted(mut self, fault: Option<kinesink_core::Fault>, part_bytes: Option<usize>) -> Self {
        self.fault = fault;
        for bucket in self.sinks.iter_mut().map(|sink| &mut sink.bucket) {
            bucket.part_bytes = part_bytes.unwrap_or(bucket.part_bytes);
            bucket.put_bytes_max = part_bytes.unwrap_or(bucket.put_bytes_max);
        }
        self
    }

    /// Reads a pipeline file. `file` is its name, for messages.
    ///
    /// # Errors
    /// Everything that is wrong with its values; or what is wrong with its structure, one mistake at a time.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let fail = |mistakes| ConfigError::new(file, text, mistakes);
        let raw = structure::read(text).map_err(|mistake| fail(vec![mistake]))?;
        let mut config = validate::validate(raw).map_err(fail)?;
        config.file = (file.into(), text.into());
        Ok(config)
    }

    /// How often a record may be in the destinations, whatever crashes meanwhile.
    #[must_use]
    pub fn delivery(&self) -> &'static str {
        // Windows of objects are announced.
        if self.tables.iter().all(|table| table.guard == Guard::Always) { EFFECTIVELY_ONCE } else { "at least once" }
    }

    /// Bytes of the memory that the records themselves may take.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        record_bytes(self.memory_bytes, self.spill.is_some())
    }

    /// Bytes of the memory that is left to what is read of spilled windows.
    #[must_use]
    pub fn spilled_bytes(&self) -> usize {
        self.memory_bytes / ENCODED_SHARE
    }

    /// Bytes of the memory that is left to what says where on disk the partitions of spilled windows are.
    #[must_use]
    pub fn catalog_bytes(&self) -> usize {
        self.memory_bytes / CATALOG_SHARE
    }

    /// Bytes of the memory that encoded copies of records may take, over all destinations.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.memory_bytes / ENCODED_SHARE
    }

    /// A mistake in the value of `key`, such as `transform.jq`, that showed when something was built from it.
    #[must_use]
    pub fn mistake(&self, key: &str, why: &str) -> ConfigError {
        let (file, text) = &self.file;
        let span = structure::span_of(text, key).unwrap_or_default();
        ConfigError::new(file, text, vec![Mistake::new(format!("`{key}` cannot be used: {why}"), span, "this value")])
    }

    /// The first sink of Parquet files that has no columns yet: it can be sampled for, and not be run.
    #[must_use]
    pub fn missing_columns(&self) -> Option<ConfigError> {
        let lacks_columns = |sink: &&Sink| sink.format == Format::Parquet && sink.columns.is_none();
        let sink = self.sinks.iter().find(lacks_columns)?;
        let (file, text) = &self.file;
        let span = structure::span_of(text, "sink").unwrap_or_default();
        let what = format!("sink `{}` writes Parquet files and has no columns", sink.name);
        let hint =
            format!("`kinesink check {file} --sample 1000` proposes them: read them, and put them below the sink");
        Some(ConfigError::new(file, text, vec![Mistake::new(what, span, "no `columns` here").hint(hint)]))
    }

    /// What the columns of a sample are for and where they go, unless they can be appended to the file as it is.
    #[must_use]
    pub fn place_of_columns(&self) -> Option<String> {
        let (file, text) = &self.file;
        let appended = format!("{text}\n[sink.columns]\nid = \"int64\"\n");
        if Self::parse(&appended, file).is_ok() {
            return None;
        }
        let parquet = || self.sinks.iter().filter(|sink| sink.format == Format::Parquet);
        let names = |lacks: bool| {
            let sinks = parquet().filter(|sink| sink.columns.is_none() == lacks);
            let names: Vec<_> = sinks.map(|sink| format!("`{}`", sink.name)).collect();
            names.join(", ")
        };
        let lacking = names(true);
        Some(match (parquet().count(), lacking.is_empty()) {
            (0, _) => {
                "for a sink with `format = \"parquet\"`, which this file has not: below that sink's keys, before the next \
                 `[[sink]]`"
                    .into()
            }
            (_, true) => format!("in place of the columns of sink {}", names(false)),
            (_, false) => format!("below the keys of sink {lacking}, before the next `[[sink]]`"),
        })
    }

    /// A region that neither this file nor the machine's settings give, which shows when clients are made.
    #[must_use]
    pub fn missing_region(&self) -> ConfigError {
        let (file, text) = &self.file;
        let span = structure::span_of(text, "source").unwrap_or_default();
        let mistake =
            Mistake::new("missing key `region` in `source`, and no region is set elsewhere", span, "missing here");
        let hint = "add `region = \"...\"`, or set AWS_REGION or a region in the AWS profile";
        ConfigError::new(file, text, vec![mistake.hint(hint)])
    }

    /// A time to start at that has not come, which the service refuses of each shard.
    #[must_use]
    pub fn start_to_come(&self, now: Timestamp) -> Option<ConfigError> {
        let Start::AtTimestamp(start) = self.source.start else { return None };
        if start <= now {
            return None;
        }
        let (file, text) = &self.file;
        let span = structure::span_of(text, "source.start").unwrap_or_default();
        let mistake = Mistake::new(format!("`source.start` is {start}"), span, "has not come yet");
        Some(ConfigError::new(file, text, vec![mistake.hint("write \"latest\", or an earlier time")]))
    }
}

/// What of the memory is left to records.
pub(super) fn record_bytes(memory_bytes: usize, is_spilled: bool) -> usize {
    let of_spilled = if is_spilled { memory_bytes / ENCODED_SHARE + memory_bytes / CATALOG_SHARE } else { 0 };
    memory_bytes - 3 * (memory_bytes / ENCODED_SHARE) - of_spilled
}
