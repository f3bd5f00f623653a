//! How many tests passed, read from what a suite prints.

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

impl Counts {
    /// The results in one line: `test result: ok. 3 passed; 1 failed; 0 ignored; …` or `3 passed, 1 failed`.
    /// Zeros for any other line.
    pub(super) fn of_line(line: &str) -> Self {
        let results = match line.strip_prefix("test result: ") {
            Some(results) => results.split_once(". ").map_or(results, |(_, counts)| counts),
            None => line,
        };
        let mut counts = Self::default();
        let mut fields = 0;
        for field in results.split([';', ',']) {
            let mut words = field.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|word| word.parse().ok()), words.next()) else {
                break;
            };
            match what {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.ignored = number,
                _ => break,
            }
            fields += 1;
        }
        // One field alone may be prose.
        if fields < 2 { Self::default() } else { counts }
    }

    /// A command that fails by itself, or tests nothing, has failed once.
    pub(super) fn checked(mut self, success: bool) -> Self {
        if self.failed == 0 && (!success || self.passed == 0) {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_and_of_other_suites_are_read() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.05s";
        assert_eq!(Counts::of_line(line), Counts { passed: 12, failed: 2, ignored: 1 });
        assert_eq!(Counts::of_line("12 passed, 2 failed"), Counts { passed: 12, failed: 2, ignored: 0 });
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in
            ["", "running 3 tests", "3 passed the river", "passed, 2 failed", "test a ... ok", "3 records, 2 failed"]
        {
            assert_eq!(Counts::of_line(line), Counts::default(), "{line}");
        }
    }
}
