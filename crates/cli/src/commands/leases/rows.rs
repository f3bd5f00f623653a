//! Leases as lines.

use std::time::Duration;

use kinesink::Checkpoint;
use kinesink::consumer::{Handoff, Lease, Place, Plan};
use serde_json::{Value, json};

const HEAD: [&str; 8] = ["", "SHARD", "OWNER", "CHECKPOINT", "LAG", "THROUGHPUT", "PLAN", "HANDOFF"];

/// How far a lease is behind the stream's newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    Behind(Duration),
    /// The shard is read to its end.
    Finished,
    /// Without the stream, or without an answer of it.
    Unknown,
}

/// One line.
pub(super) struct Row<'a> {
    pub(super) label: Option<&'static str>,
    pub(super) lease: &'a Lease,
    pub(super) lag: Lag,
}

fn state_bytes(plan: &Plan) -> usize {
    plan.state.as_ref().map_or(0, |state| state.len())
}

impl Row<'_> {
    pub(super) fn json(&self) -> Value {
        let lease = self.lease;
        let plan = lease.plan().map(|plan| {
            json!({
                "checkpoint": plan.checkpoint.sequence_text(),
                "sub_sequence": plan.checkpoint.sub_sequence(),
                "state_bytes": state_bytes(&plan),
                "valid": plan.is_valid,
            })
        });
        let handoff = lease.handoff().map(|handoff| match handoff {
            Handoff::Asked(to) => json!({"to": to, "by": "kinesink"}),
            Handoff::Assigned(to) => json!({"to": to, "by": "kcl-3"}),
        });
        let lag_ms = match self.lag {
            Lag::Behind(lag) => json!(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            Lag::Finished => json!(0),
            Lag::Unknown => Value::Null,
        };
        json!({
            "shard": lease.shard().as_str(),
            "owner": lease.owner(),
            "kinesink": lease.is_ours(),
            "checkpoint": lease.checkpoint().sequence_text(),
            "sub_sequence": lease.checkpoint().sub_sequence(),
            "start": lease.place().start.map(|start| start.to_string()),
            "lag_ms": lag_ms,
            "throughput_kb_per_s": lease.throughput_kb_per_s(),
            "plan": plan,
            "handoff": handoff,
            "counter": lease.counter(),
            "parents": lease.parents().iter().map(|parent| parent.as_str()).collect::<Vec<_>>(),
        })
    }

    fn cells(&self) -> [String; 8] {
        let lease = self.lease;
        let plan = lease.plan().map(|plan| {
            let stale = if plan.is_valid { "" } else { ", stale" };
            format!("to {}, {} B{stale}", Place::from(plan.checkpoint), state_bytes(&plan))
        });
        let handoff = lease.handoff().map(|handoff| match handoff {
            Handoff::Asked(to) => format!("to {to}, asked"),
            Handoff::Assigned(to) => format!("to {to}, by KCL 3"),
        });
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            self.label.unwrap_or_default().to_owned(),
            lease.shard().to_string(),
            or_dash(lease.owner().map(str::to_owned)),
            checkpoint(lease),
            match self.lag {
                Lag::Behind(lag) => short(lag),
                Lag::Finished => "-".to_owned(),
                Lag::Unknown => "unknown".to_owned(),
            },
            or_dash(lease.throughput_kb_per_s().map(|rate| format!("{rate:.1} KB/s"))),
            or_dash(plan),
            or_dash(handoff),
        ]
    }
}

/// As it can be written after `--move`, but for KCL's words, which are kept.
fn checkpoint(lease: &Lease) -> String {
    match (lease.checkpoint(), lease.place().start) {
        (Checkpoint::At(_), _) => lease.place().to_string(),
        (sentinel, None) => sentinel.sequence_text(),
        (sentinel, Some(start)) => format!("{} of {start}", sentinel.sequence_text()),
    }
}

/// Columns as wide as what is in them; the last one is open. Without labels, their column is left out.
pub(super) fn table(rows: &[Row<'_>]) -> Vec<String> {
    let first = usize::from(rows.iter().all(|row| row.label.is_none()));
    let lines: Vec<_> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let widths: [usize; 8] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0));
    let line = |line: &[String; 8]| {
        let cells = line.iter().zip(widths).skip(first).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

/// The two largest units that say something.
fn short(time: Duration) -> String {
    let (ms, s) = (time.as_millis(), time.as_secs());
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_at_most_two_units() {
        for (seconds, text) in [(0, "0ms"), (59, "59s"), (60, "1m 0s"), (7_384, "2h 3m"), (90_000, "1d 1h")] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
