//! What a consumer counts, registered into a registry that is handed in.

use kinesink_core::{Record, ShardId};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

impl ShardLabel {
    fn new(shard: &ShardId) -> Self {
        Self { shard: shard.to_string() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    purpose: &'static str,
}

/// | metric | unit | what |
/// |---|---|---|
/// | `fetched_records_total` | records | records that came, aggregates unpacked |
/// | `fetched_bytes_total` | bytes | memory that they took |
/// | `shard_fetched_records_total` | records | the same, by `shard`, while the shard is read here |
/// | `shard_fetched_bytes_total` | bytes | data of these records |
/// | `fetch_requests_total` | requests | GetRecords calls that were answered, and events of subscriptions |
/// | `fetch_failures_total` | requests | calls and subscriptions that failed and were tried again |
/// | `leases_held` | leases | leases that this worker holds now |
/// | `leases_lost_total` | leases | leases that another worker took, or that were not renewed in time |
/// | `checkpoints_total` | writes | checkpoints written |
/// | `lease_table_requests_total` | requests | requests to DynamoDB, by `operation` and `purpose` |
/// | `checkpoints_beyond_retention_total` | checkpoints | checkpoints whose record has left the stream: records are lost |
/// | `lease_rows_unreadable` | rows | rows of the lease table that are left alone, because they cannot be read |
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    records: Counter,
    bytes: Counter,
    shard_records: Family<ShardLabel, Counter>,
    shard_bytes: Family<ShardLabel, Counter>,
    requests: Counter,
    failures: Counter,
    held: Gauge,
    lost: Counter,
    checkpoints: Counter,
    table_requests: Family<RequestLabels, Counter>,
    unreadable: Gauge,
    beyond_retention: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("fetched_records", "Records that came, aggregates unpacked", metrics.records.clone());
        let bytes = metrics.bytes.clone();
        registry.register_with_unit("fetched", "Memory that fetched records took", Unit::Bytes, bytes);
        let by_shard = metrics.shard_records.clone();
        registry.register("shard_fetched_records", "Records that came, by shard, while it is read here", by_shard);
        let by_shard = metrics.shard_bytes.clone();
        let help = "Data of the records that came, by shard, while it is read here";
        registry.register_with_unit("shard_fetched", help, Unit::Bytes, by_shard);
        let requests = metrics.requests.clone();
        registry.register("fetch_requests", "Calls that were answered, and events of subscriptions", requests);
        registry.register("fetch_failures", "Calls and subscriptions that were tried again", metrics.failures.clone());
        registry.register("leases_held", "Leases that this worker holds now", metrics.held.clone());
        registry.register("leases_lost", "Leases taken by another worker or not renewed in time", metrics.lost.clone());
        registry.register("checkpoints", "Checkpoints written", metrics.checkpoints.clone());
        let requests = metrics.table_requests.clone();
        registry.register("lease_table_requests", "Requests to the lease table, by operation and purpose", requests);
        let unreadable = metrics.unreadable.clone();
        let beyond = metrics.beyond_retention.clone();
        registry.register("checkpoints_beyond_retention", "Checkpoints whose record has left the stream", beyond);
        registry.register("lease_rows_unreadable", "Rows of the lease table that cannot be read", unreadable);
        metrics
    }

    /// Records came, which take so many bytes of memory.
    pub(crate) fn fetched(&self, shard: &ShardId, records: &[Record], bytes: usize) {
        self.requests.inc();
        let label = ShardLabel::new(shard);
        self.shard_records.get_or_create(&label).inc_by(records.len() as u64);
        let data: usize = records.iter().map(|record| record.data.len()).sum();
        self.shard_bytes.get_or_create(&label).inc_by(data as u64);
        self.records.inc_by(records.len() as u64);
        self.bytes.inc_by(bytes as u64);
    }

    /// How much data of the shard has come since its reader was made.
    pub(crate) fn shard_bytes(&self, shard: &ShardId) -> u64 {
        self.shard_bytes.get(&ShardLabel::new(shard)).map_or(0, |bytes| bytes.get())
    }

    /// The shard is not read here any more.
    pub(crate) fn left(&self, shard: &ShardId) {
        self.shard_records.remove(&ShardLabel::new(shard));
        self.shard_bytes.remove(&ShardLabel::new(shard));
    }

    pub(crate) fn fetch_failed(&self) {
        self.failures.inc();
    }

    pub(crate) fn holds(&self, leases: usize) {
        self.held.set(i64::try_from(leases).unwrap_or(i64::MAX));
    }

    pub(crate) fn lost(&self) {
        self.lost.inc();
    }

    pub(crate) fn asked_lease_table(&self, operation: &'static str, purpose: &'static str) {
        self.table_requests.get_or_create(&RequestLabels { operation, purpose }).inc();
    }

    pub(crate) fn cannot_read(&self, rows: usize) {
        self.unreadable.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    pub(crate) fn checkpoint_beyond_retention(&self) {
        self.beyond_retention.inc();
    }

    pub(crate) fn checkpointed(&self) {
        self.checkpoints.inc();
    }
}
