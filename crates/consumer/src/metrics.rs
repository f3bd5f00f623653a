//! What a consumer counts, registered into a registry that is handed in.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// | metric | unit | what |
/// |---|---|---|
/// | `fetched_records_total` | records | records that came, aggregates unpacked |
/// | `fetched_bytes_total` | bytes | memory that they took |
/// | `fetch_requests_total` | requests | GetRecords calls that were answered |
/// | `fetch_failures_total` | requests | calls that failed and were sent again |
/// | `leases_held` | leases | leases that this worker holds now |
/// | `leases_lost_total` | leases | leases that another worker took, or that were not renewed in time |
/// | `checkpoints_total` | writes | checkpoints written |
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    records: Counter,
    bytes: Counter,
    requests: Counter,
    failures: Counter,
    held: Gauge,
    lost: Counter,
    checkpoints: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("fetched_records", "Records that came, aggregates unpacked", metrics.records.clone());
        let bytes = metrics.bytes.clone();
        registry.register_with_unit("fetched", "Memory that fetched records took", Unit::Bytes, bytes);
        registry.register("fetch_requests", "GetRecords calls that were answered", metrics.requests.clone());
        registry.register("fetch_failures", "Calls that failed and were sent again", metrics.failures.clone());
        registry.register("leases_held", "Leases that this worker holds now", metrics.held.clone());
        registry.register("leases_lost", "Leases taken by another worker or not renewed in time", metrics.lost.clone());
        registry.register("checkpoints", "Checkpoints written", metrics.checkpoints.clone());
        metrics
    }

    pub(crate) fn fetched(&self, records: usize, bytes: usize) {
        self.requests.inc();
        self.records.inc_by(records as u64);
        self.bytes.inc_by(bytes as u64);
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

    pub(crate) fn checkpointed(&self) {
        self.checkpoints.inc();
    }
}
