//! What sinks of tables count, registered into a registry that is handed in.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::error::Throttle;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThrottleLabels {
    table: String,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

/// | metric | unit | what |
/// |---|---|---|
/// | `table_throttles_total` | writes | requests that a limit was met by, and items that a batch had no room for, by `table` and `limit`: `table`, `key-range`, `account`, or `unknown` where the service does not say |
/// | `table_write_units_total` | write units | what the service counted for writes, by `table`; of conditions that do not hold it says nothing |
/// | `table_records_passed_over_total` | records | records that count by `table`, and of which its guards said that they are counted: they were sent again, or another application counts there |
/// | `table_requests_max` | requests | writes that may be on their way to the table at a time now |
///
/// Clones count together.
#[derive(Debug, Clone, Default)]
pub struct TableMetrics {
    throttles: Family<ThrottleLabels, Counter>,
    units: Family<TableLabel, Counter<f64, AtomicU64>>,
    passed_over: Family<TableLabel, Counter>,
    requests_max: Family<TableLabel, Gauge>,
}

impl TableMetrics {
    /// Has the registry show them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Writes that a limit was met by: of the table, of a range of its keys, or of the account";
        registry.register("table_throttles", help, self.throttles.clone());
        registry.register("table_write_units", "Write units that the service counted for writes", self.units.clone());
        let help = "Records that are counted already, as the guards of their items say";
        registry.register("table_records_passed_over", help, self.passed_over.clone());
        let help = "Writes that may be on their way to the table at a time now";
        registry.register("table_requests_max", help, self.requests_max.clone());
    }

    pub(super) fn throttled(&self, table: &str, limit: Throttle, writes: usize) {
        let labels = ThrottleLabels { table: table.into(), limit: limit.name() };
        self.throttles.get_or_create(&labels).inc_by(u64::try_from(writes).unwrap_or(u64::MAX));
    }

    pub(super) fn took(&self, table: &str, units: f64) {
        self.units.get_or_create(&TableLabel { table: table.into() }).inc_by(units);
    }

    pub(super) fn passed_over(&self, table: &str, records: usize) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        self.passed_over.get_or_create(&TableLabel { table: table.into() }).inc_by(records);
    }

    pub(super) fn may_send(&self, table: &str, requests: usize) {
        let requests = i64::try_from(requests).unwrap_or(i64::MAX);
        self.requests_max.get_or_create(&TableLabel { table: table.into() }).set(requests);
    }
}
