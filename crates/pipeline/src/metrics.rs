//! What a pipeline counts, registered into a registry that is handed in.

use std::sync::atomic::AtomicU64;

use kinesink_core::{Class, CloseReason, Files, ShardId};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::FilesReport;

/// One row of the table of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricRow {
    /// The name as scraped, without the registry's prefix. Its suffix is its unit, `_total` that of a plain count.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// The labels, in order.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

/// Every metric of a pipeline. A test compares it with what the registry says.
pub const METRICS: &[MetricRow] = &[
    row("records_in_total", "counter", &[], "Records that the shards' readers gave"),
    row("in_bytes_total", "counter", &[], "Bytes of data of those records"),
    row("outputs_total", "counter", &[], "Models that the transformer made and the filter kept"),
    row("filtered_total", "counter", &[], "Models that the filter did not keep"),
    row("records_committed_total", "counter", &[], "Records that a checkpoint has passed"),
    row("dead_letters_total", "counter", &["stage"], "Dead letters that became durable, by who refused the record"),
    row("windows_closed_total", "counter", &["reason"], "Windows closed, by reason"),
    row("files_closed_total", "counter", &["reason"], "Files made, by what closed their window"),
    row("files_closed_bytes_total", "counter", &["reason"], "Bytes of those files"),
    row("spilled_bytes_total", "counter", &[], "Bytes of open windows that went to disk to free memory"),
    row("plans_total", "counter", &["outcome"], "Windows announced in the lease row, and what became of found ones"),
    row("emit_attempts_total", "counter", &["sink"], "Batches sent to a sink, repetitions included"),
    row("emit_failures_total", "counter", &["sink", "class"], "Batches that failed as a whole"),
    row("records_emitted_total", "counter", &["sink"], "Items that a sink made durable"),
    row("emitted_bytes_total", "counter", &["sink"], "Bytes of record data of those items, before encoding"),
    row(
        "shard_halted",
        "gauge",
        &["shard", "reason"],
        "How much of the shard waits for someone to mend something: the reader, a sink, all of it",
    ),
    row(
        "shard_behind_latest_seconds",
        "gauge",
        &["shard"],
        "How far the last reply was behind the shard's newest record",
    ),
    row(
        "shard_watermark_seconds",
        "gauge",
        &["shard"],
        "Arrival, in Unix time, of the last record that is checkpointed",
    ),
];

const fn row(name: &'static str, kind: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricRow {
    MetricRow { name, kind, labels, help }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    sink: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HaltLabels {
    shard: String,
    reason: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The metrics of every shard of one connector. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) records_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) outputs: Counter,
    pub(crate) filtered: Counter,
    pub(crate) records_committed: Counter,
    dead_letters: Family<StageLabel, Counter>,
    dead_letters_of_all_stages: Counter,
    windows_closed: Family<ReasonLabel, Counter>,
    files_closed: Family<ReasonLabel, Counter>,
    file_bytes: Family<ReasonLabel, Counter>,
    spilled_bytes: Counter,
    plans: Family<OutcomeLabel, Counter>,
    emit_attempts: Family<SinkLabel, Counter>,
    emit_failures: Family<FailureLabels, Counter>,
    records_emitted: Family<SinkLabel, Counter>,
    bytes_emitted: Family<SinkLabel, Counter>,
    shard_halted: Family<HaltLabels, Gauge>,
    behind_latest: Family<ShardLabel, Seconds>,
    watermark: Family<ShardLabel, Seconds>,
}

/// How far a connector is, over all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records that were read, each as often as it was.
    pub records: u64,
    /// Outputs that were made of them.
    pub outputs: u64,
    /// Models that the filter did not keep.
    pub filtered: u64,
    /// Records that a checkpoint has passed: each once, however often it was read.
    pub committed: u64,
    /// Records that were refused, once for each sink that did, and again where their window was sent again.
    pub dead_letters: u64,
}

impl Metrics {
    /// The counters of every shard together.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            records: self.records_in.get(),
            outputs: self.outputs.get(),
            filtered: self.filtered.get(),
            committed: self.records_committed.get(),
            dead_letters: self.dead_letters_of_all_stages.get(),
        }
    }

    /// Metrics that `registry` shows, under the names of [`METRICS`].
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = |name: &str| METRICS.iter().find(|row| row.name == name).map_or("", |row| row.help);
        registry.register("records_in", help("records_in_total"), metrics.records_in.clone());
        registry.register_with_unit("in", help("in_bytes_total"), Unit::Bytes, metrics.bytes_in.clone());
        registry.register("outputs", help("outputs_total"), metrics.outputs.clone());
        registry.register("filtered", help("filtered_total"), metrics.filtered.clone());
        registry.register("records_committed", help("records_committed_total"), metrics.records_committed.clone());
        registry.register("dead_letters", help("dead_letters_total"), metrics.dead_letters.clone());
        registry.register("windows_closed", help("windows_closed_total"), metrics.windows_closed.clone());
        registry.register("files_closed", help("files_closed_total"), metrics.files_closed.clone());
        let file_bytes = metrics.file_bytes.clone();
        registry.register_with_unit("files_closed", help("files_closed_bytes_total"), Unit::Bytes, file_bytes);
        registry.register_with_unit("spilled", help("spilled_bytes_total"), Unit::Bytes, metrics.spilled_bytes.clone());
        registry.register("plans", help("plans_total"), metrics.plans.clone());
        registry.register("emit_attempts", help("emit_attempts_total"), metrics.emit_attempts.clone());
        registry.register("emit_failures", help("emit_failures_total"), metrics.emit_failures.clone());
        registry.register("records_emitted", help("records_emitted_total"), metrics.records_emitted.clone());
        registry.register_with_unit("emitted", help("emitted_bytes_total"), Unit::Bytes, metrics.bytes_emitted.clone());
        registry.register("shard_halted", help("shard_halted"), metrics.shard_halted.clone());
        let behind = metrics.behind_latest.clone();
        registry.register_with_unit("shard_behind_latest", help("shard_behind_latest_seconds"), Unit::Seconds, behind);
        let watermark = metrics.watermark.clone();
        registry.register_with_unit("shard_watermark", help("shard_watermark_seconds"), Unit::Seconds, watermark);
        for reason in CloseReason::ALL {
            // A reason that never occurred is 0, not absent: "why are my files small?" needs both.
            let label = ReasonLabel { reason: reason.as_str() };
            for by_reason in [&metrics.windows_closed, &metrics.files_closed, &metrics.file_bytes] {
                drop(by_reason.get_or_create(&label));
            }
        }
        metrics
    }

    pub(crate) fn window_closed(&self, reason: CloseReason) {
        self.windows_closed.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// Files were made of a window that was closed for that reason.
    pub(crate) fn files_closed(&self, reason: CloseReason, files: Files) {
        let label = ReasonLabel { reason: reason.as_str() };
        self.files_closed.get_or_create(&label).inc_by(files.count);
        self.file_bytes.get_or_create(&label).inc_by(files.bytes);
    }

    /// The files that were made so far, and the windows that were closed, by what closed them.
    #[must_use]
    pub fn files(&self) -> FilesReport {
        let by_reason = CloseReason::ALL.map(|reason| {
            let label = ReasonLabel { reason: reason.as_str() };
            let (count, bytes) =
                (self.files_closed.get_or_create(&label).get(), self.file_bytes.get_or_create(&label).get());
            (reason, Files { count, bytes }, self.windows_closed.get_or_create(&label).get())
        });
        FilesReport::of(&by_reason)
    }

    /// So many bytes of an open window went to disk.
    pub(crate) fn spilled(&self, bytes: u64) {
        self.spilled_bytes.inc_by(bytes);
    }

    /// A window was announced.
    pub(crate) fn plan_written(&self) {
        self.plan("written");
    }

    /// A window that had been announced before was made again, as it was, and is committed.
    pub(crate) fn plan_finished(&self) {
        self.plan("finished");
    }

    /// What the last owner prepared does not count.
    pub(crate) fn plan_dropped(&self) {
        self.plan("dropped");
    }

    fn plan(&self, outcome: &'static str) {
        self.plans.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(crate) fn dead_lettered(&self, stage: String) {
        self.dead_letters.get_or_create(&StageLabel { stage }).inc();
        self.dead_letters_of_all_stages.inc();
    }

    pub(crate) fn emit_attempt(&self, sink: &str) {
        self.emit_attempts.get_or_create(&SinkLabel { sink: sink.into() }).inc();
    }

    pub(crate) fn emit_failed(&self, sink: &str, class: Class) {
        let class = match class {
            Class::Transient => "transient",
            Class::Configuration => "configuration",
            Class::Fatal => "fatal",
        };
        self.emit_failures.get_or_create(&FailureLabels { sink: sink.into(), class }).inc();
    }

    pub(crate) fn emitted(&self, sink: &str, records: usize, bytes: usize) {
        let sink = SinkLabel { sink: sink.into() };
        self.records_emitted.get_or_create(&sink).inc_by(records as u64);
        self.bytes_emitted.get_or_create(&sink).inc_by(bytes as u64);
    }

    /// Something more of the shard waits for someone, until [`resumed`](Self::resumed) is called for it.
    pub(crate) fn halted(&self, shard: &ShardId, reason: &str) {
        self.shard_halted.get_or_create(&halt(shard, reason)).inc();
    }

    pub(crate) fn resumed(&self, shard: &ShardId, reason: &str) {
        let label = halt(shard, reason);
        let halted = self.shard_halted.get_or_create(&label).dec();
        if halted <= 1 {
            self.shard_halted.remove(&label);
        }
    }

    pub(crate) fn behind_latest(&self, shard: &ShardId, seconds: f64) {
        self.behind_latest.get_or_create(&ShardLabel { shard: shard.to_string() }).set(seconds);
    }

    pub(crate) fn watermark(&self, shard: &ShardId, arrival_seconds: f64) {
        self.watermark.get_or_create(&ShardLabel { shard: shard.to_string() }).set(arrival_seconds);
    }

    /// Forgets the gauges of a shard that no longer runs here.
    pub(crate) fn shard_gone(&self, shard: &ShardId) {
        let label = ShardLabel { shard: shard.to_string() };
        self.behind_latest.remove(&label);
        self.watermark.remove(&label);
    }
}

fn halt(shard: &ShardId, reason: &str) -> HaltLabels {
    HaltLabels { shard: shard.to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_table_is_what_the_registry_shows() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let shard: ShardId = "shardId-0".parse().unwrap();
        metrics.dead_lettered("transform".into());
        metrics.plan_written();
        metrics.emit_attempt("s");
        metrics.emit_failed("s", Class::Transient);
        metrics.emitted("s", 1, 2);
        metrics.halted(&shard, "transform");
        metrics.behind_latest(&shard, 1.5);
        metrics.watermark(&shard, 2.5);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();

        let mut shown = Vec::new();
        let mut kinds = std::collections::BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["#", "TYPE", name, kind] => {
                    kinds.insert(if *kind == "counter" { format!("{name}_total") } else { (*name).to_owned() }, *kind);
                }
                ["#", ..] => {}
                [sample, _value] => {
                    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                    let labels: Vec<&str> =
                        labels.split(',').filter_map(|label| label.split_once('=')).map(|(key, _)| key).collect();
                    shown.push((name.to_owned(), kinds[name], labels));
                }
                other => panic!("not a line of metrics: {other:?}"),
            }
        }
        shown.dedup();
        let table: Vec<_> = METRICS.iter().map(|row| (row.name.to_owned(), row.kind, row.labels.to_vec())).collect();
        assert_eq!(shown, table);
        for row in METRICS {
            assert!(text.contains(row.help), "{} has no help text in the registry", row.name);
        }
    }
}
