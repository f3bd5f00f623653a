//! A worker's report, `WORKER_METRIC_STATS` of KCL 3.x: that it is alive, and how loaded. A leader assigns leases only
//! to workers that report.

use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;

use super::tables::{ENTITY_TYPE, Home};
use crate::lease::{Item, number};

pub(super) const REPORT_TYPE: &str = "WORKER_METRIC_STATS";
/// KCL's `workerMetricsReporterFreqInMillis`.
pub(super) const REPORT_PERIOD: Duration = Duration::from_secs(30);
/// A report that is older is of a worker that is gone: twice KCL's period.
const ACTIVE_MAX_S: u64 = 60;
/// The leader deletes reports of workers that are gone for longer: KCL's `staleWorkerMetricsEntryCleanupDuration`.
const STALE_S: u64 = 24 * 3600;
const UPDATED_S: &str = "lut";
const AVERAGES: &str = "sts";
const RANGES: &str = "opr";

/// What a worker reported last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) worker: String,
    /// When, in epoch seconds by that worker's clock.
    pub(crate) updated_s: u64,
    /// Whether one of its measurements failed: it takes no part in an assignment then.
    failing: bool,
    /// Whether it is what KCL accepts.
    valid: bool,
}

impl Report {
    /// The report in a row of `home`; `None` for a row of another kind.
    pub(super) fn of(home: Home, row: &Item) -> Option<Self> {
        let is_report = row.get(ENTITY_TYPE).and_then(|kind| kind.as_s().ok()).is_some_and(|kind| kind == REPORT_TYPE);
        // Only in the lease table a row has to say what it is.
        if home == Home::Leases && !is_report {
            return None;
        }
        let worker = row.get(home.key())?.as_s().ok()?.clone();
        let updated_s = row.get(UPDATED_S).and_then(|time| time.as_n().ok()).and_then(|time| time.parse().ok());
        let (averages, ranges) = (measures(row, AVERAGES), measures(row, RANGES));
        let failing = averages.iter().any(|(_, values)| values.last() == Some(&-1.0));
        let in_range = |name: &str| {
            let range = ranges.iter().find(|(range, _)| *range == name).and_then(|(_, values)| values.first());
            range.is_some_and(|highest| *highest != 0.0)
        };
        let valid = updated_s.is_some()
            && averages.is_empty() == ranges.is_empty()
            && averages.iter().all(|(name, _)| in_range(name))
            && ranges.iter().all(|(name, _)| in_range(name));
        Some(Self { worker, updated_s: updated_s.unwrap_or(0), failing, valid })
    }

    /// Whether the worker may be given leases, and may be asked for its own.
    pub(crate) fn is_active(&self, now_s: u64) -> bool {
        self.valid && !self.failing && now_s.saturating_sub(self.updated_s) <= ACTIVE_MAX_S
    }

    /// Whether nothing has been heard of the worker for so long that its report is in the way.
    pub(crate) fn is_stale(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.updated_s) > STALE_S
    }

    /// What the row must say to be deleted.
    pub(super) fn as_seen(&self) -> [(&'static str, AttributeValue); 1] {
        [(UPDATED_S, number(self.updated_s))]
    }
}

/// The attributes that a worker without a platform's metrics reports. In the lease table it says too that it knows
/// where its rows belong.
pub(super) fn attributes(home: Home, now_s: u64) -> Vec<(String, AttributeValue)> {
    let nothing = || AttributeValue::M(Item::new());
    let mut attributes =
        vec![(UPDATED_S.to_owned(), number(now_s)), (AVERAGES.to_owned(), nothing()), (RANGES.to_owned(), nothing())];
    if home == Home::Leases {
        attributes.push((ENTITY_TYPE.to_owned(), AttributeValue::S(REPORT_TYPE.to_owned())));
        attributes.push(("sup".to_owned(), number(1)));
        attributes.push(("slu".to_owned(), number(now_s)));
    }
    attributes
}

/// Name and values of each measurement in a map; what is no number reads as nothing.
fn measures<'a>(row: &'a Item, attribute: &str) -> Vec<(&'a str, Vec<f64>)> {
    let Some(AttributeValue::M(measures)) = row.get(attribute) else { return Vec::new() };
    let values = |list: &AttributeValue| {
        let values = list.as_l().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(|value| value.as_n().ok()?.parse().ok()).collect()
    };
    measures.iter().map(|(name, list)| (name.as_str(), values(list))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lease::text;

    /// As a worker without measurements reports.
    pub(in super::super) fn reported(worker: &str, updated_s: u64) -> Report {
        Report { worker: worker.to_owned(), updated_s, failing: false, valid: true }
    }

    fn list(values: &[&str]) -> AttributeValue {
        AttributeValue::L(values.iter().map(|value| AttributeValue::N((*value).into())).collect())
    }

    fn report(averages: &[(&str, &[&str])], ranges: &[(&str, &[&str])], updated_s: Option<u64>) -> Report {
        let map = |entries: &[(&str, &[&str])]| {
            AttributeValue::M(entries.iter().map(|(name, values)| ((*name).into(), list(values))).collect())
        };
        let mut row = Item::from([("wid".into(), text("w"))]);
        row.extend([("sts".into(), map(averages)), ("opr".into(), map(ranges))]);
        row.extend(updated_s.map(|updated_s| ("lut".into(), number(updated_s))));
        Report::of(Home::WorkerMetrics, &row).unwrap()
    }

    #[test]
    fn a_worker_is_active_for_a_minute_after_a_report_without_fault() {
        let plain = report(&[], &[], Some(1_000));
        assert!(plain.is_active(900) && plain.is_active(1_060) && !plain.is_active(1_061));
        assert!(!plain.is_stale(1_000 + 86_400) && plain.is_stale(1_001 + 86_400));
        assert!(report(&[("C", &["50", "60"])], &[("C", &["100", "0"])], Some(1_000)).is_active(1_000));
    }

    #[test]
    fn what_kcl_does_not_accept_is_not_active() {
        let cases = [
            report(&[], &[], None),
            report(&[("C", &["50"])], &[], Some(1_000)),
            report(&[], &[("C", &["100"])], Some(1_000)),
            report(&[("C", &["50"]), ("M", &["5"])], &[("C", &["100"])], Some(1_000)),
            report(&[("C", &["50"])], &[("C", &[])], Some(1_000)),
            report(&[("C", &["50"])], &[("C", &["0"])], Some(1_000)),
            report(&[("C", &["50", "-1"])], &[("C", &["100"])], Some(1_000)),
        ];
        for case in cases {
            assert!(!case.is_active(1_000), "{case:?}");
        }
        assert!(report(&[("C", &["-1", "50"])], &[("C", &["100"])], Some(1_000)).is_active(1_000), "it recovered");
    }

    #[test]
    fn in_the_lease_table_only_a_row_that_says_so_is_a_report() {
        let mut row = Item::from([("leaseKey".into(), text("w")), ("lut".into(), number(5))]);
        assert_eq!(Report::of(Home::Leases, &row), None);
        row.extend(attributes(Home::Leases, 5));
        assert!(Report::of(Home::Leases, &row).unwrap().is_active(5));
    }
}
