//! What the suites' outcomes add up to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::counts::Counts;
use super::minutes;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ran(Counts),
    /// A program could not be had; `how` says which, and how to get it.
    Missing {
        how: String,
    },
}

/// One suite, done.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) suite: String,
    pub(super) share: Duration,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

impl Report {
    fn is_over(&self) -> bool {
        self.took > self.share
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (took, share) = (minutes(self.took), minutes(self.share));
        write!(f, "-- {}: {took} of {share} minutes", self.suite)?;
        match &self.outcome {
            Outcome::Ran(counts) => write!(f, ", {} passed, {} failed", counts.passed, counts.failed)?,
            Outcome::Missing { .. } => write!(f, ", did not run")?,
        }
        if self.is_over() {
            write!(f, ", over its share")?;
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) passed: bool,
    pub(super) last_line: String,
}

/// Fails on a failed or ignored test, on a suite over its share, and in CI on one that is missing without a reason.
pub(super) fn judge(reports: &[Report], allowed_to_miss: &BTreeMap<String, String>, is_ci: bool) -> Verdict {
    let mut total = Counts::default();
    let mut notes = Vec::new();
    let mut passed = true;
    for report in reports {
        let name = &report.suite;
        match &report.outcome {
            Outcome::Ran(counts) => {
                total += *counts;
                if counts.ignored > 0 {
                    passed = false;
                    notes.push(format!("{name} ignores {} tests", counts.ignored));
                }
            }
            Outcome::Missing { how } => {
                let reason = allowed_to_miss.get(name);
                passed &= !is_ci || reason.is_some();
                let allowed = reason.map(|reason| format!("; allowed: {reason}")).unwrap_or_default();
                notes.push(format!("{name} did not run ({how}{allowed})"));
            }
        }
        if report.is_over() {
            passed = false;
            notes.push(format!("{name} took {} of {} minutes", minutes(report.took), minutes(report.share)));
        }
    }
    passed &= total.failed == 0;
    let mut last_line = format!("{} passed, {} failed", total.passed, total.failed);
    for note in notes {
        last_line.push_str("; ");
        last_line.push_str(&note);
    }
    Verdict { passed, last_line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(suite: &str, outcome: Outcome) -> Report {
        let (share, took) = (Duration::from_secs(120), Duration::from_secs(60));
        Report { suite: suite.to_owned(), share, took, outcome }
    }

    fn ran(passed: u64, failed: u64, ignored: u64) -> Outcome {
        Outcome::Ran(Counts { passed, failed, ignored })
    }

    fn missing() -> Outcome {
        Outcome::Missing { how: "java: apt-get install default-jdk".to_owned() }
    }

    fn nothing_allowed() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn totals_are_summed_over_suites() {
        let verdict = judge(&[report("a", ran(3, 0, 0)), report("b", ran(4, 0, 0))], &nothing_allowed(), true);
        assert_eq!(verdict, Verdict { passed: true, last_line: "7 passed, 0 failed".to_owned() });
        let verdict = judge(&[report("a", ran(3, 1, 0)), report("b", ran(4, 0, 0))], &nothing_allowed(), false);
        assert_eq!(verdict, Verdict { passed: false, last_line: "7 passed, 1 failed".to_owned() });
    }

    #[test]
    fn an_ignored_test_is_a_failure() {
        let verdict = judge(&[report("a", ran(3, 0, 1))], &nothing_allowed(), false);
        assert_eq!(verdict, Verdict { passed: false, last_line: "3 passed, 0 failed; a ignores 1 tests".to_owned() });
    }

    #[test]
    fn a_missing_suite_is_named_and_fails_in_ci_unless_allowed() {
        let reports = [report("a", ran(3, 0, 0)), report("b", missing())];
        let at_home = judge(&reports, &nothing_allowed(), false);
        assert!(at_home.passed);
        assert_eq!(at_home.last_line, "3 passed, 0 failed; b did not run (java: apt-get install default-jdk)");
        assert!(!judge(&reports, &nothing_allowed(), true).passed);
        let allowed = BTreeMap::from([("b".to_owned(), "no Java there".to_owned())]);
        let in_ci = judge(&reports, &allowed, true);
        assert!(in_ci.passed && in_ci.last_line.ends_with("; allowed: no Java there)"), "{}", in_ci.last_line);
    }

    #[test]
    fn a_suite_over_its_share_fails() {
        let slow = Report { took: Duration::from_secs(121), ..report("a", ran(3, 0, 0)) };
        assert_eq!(slow.to_string(), "-- a: 2.0 of 2.0 minutes, 3 passed, 0 failed, over its share");
        let verdict = judge(&[slow], &nothing_allowed(), false);
        assert_eq!(
            verdict,
            Verdict { passed: false, last_line: "3 passed, 0 failed; a took 2.0 of 2.0 minutes".to_owned() }
        );
        assert!(
            judge(&[Report { took: Duration::from_secs(120), ..report("a", ran(3, 0, 0)) }], &nothing_allowed(), false)
                .passed
        );
    }
}
