//! The test command: hermetic first, then the suites that need other programs.
//!
//! ```text
//! for each suite of suites.toml
//!     get what it needs, or say how to get it
//!     run it, pass its output through, add up its tests
//! minutes of each beside its share
//! last line: totals, and what did not run
//! ```

mod counts;
mod needs;
mod table;
mod verdict;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::metadata::Metadata;
use counts::Counts;
use table::{Suite, Table};
use verdict::{Outcome, Report};

/// Runs the named suites, or all of them; true when everything that had to pass has passed.
pub(crate) fn run(root: &Path, only: &[String], is_ci: bool) -> anyhow::Result<bool> {
    let table = Table::ours()?;
    let places = Places { root: root.to_owned(), target: Metadata::read(root)?.target_directory };
    let mut reports = Vec::new();
    for suite in table.chosen(only)? {
        println!("== {}", suite.name);
        let started = now();
        let outcome = places.run(suite, &suite.command(&suite.folders(&places.target)))?;
        reports.push(Report { suite: suite.name.clone(), share: suite.share(), took: started.elapsed(), outcome });
    }
    for report in &reports {
        println!("{report}");
    }
    let verdict = verdict::judge(&reports, &table.allowed_to_miss, is_ci);
    println!("{}", verdict.last_line);
    Ok(verdict.passed)
}

/// Runs the suite for so many minutes, and says how it ended; true when nothing has failed.
pub(crate) fn soak(root: &Path, name: &str, minutes: u64, more: Vec<String>) -> anyhow::Result<bool> {
    let table = Table::ours()?;
    let suites = table.chosen(&[name.to_owned()])?;
    let suite = suites.first().context("no suite")?;
    let places = Places { root: root.to_owned(), target: Metadata::read(root)?.target_directory };
    let command = suite.soak(&suite.folders(&places.target), minutes);
    let command = command.with_context(|| format!("suite \"{name}\" does not soak"))?;
    let outcome = places.run(suite, &[command, more].concat())?;
    let report =
        Report { suite: name.to_owned(), share: Duration::from_secs(minutes * 60), took: Duration::ZERO, outcome };
    let verdict = verdict::judge(&[report], &table.allowed_to_miss, true);
    println!("{}", verdict.last_line);
    Ok(verdict.passed)
}

struct Places {
    root: PathBuf,
    target: PathBuf,
}

impl Places {
    fn run(&self, suite: &Suite, command: &[String]) -> anyhow::Result<Outcome> {
        for program in &suite.programs {
            if let Err(how) = needs::program(program) {
                return Ok(Outcome::Missing { how });
            }
        }
        let folders = suite.folders(&self.target);
        if let Some(requirements) = &suite.python
            && let Err(how) = needs::python(&folders.venv, &self.root.join(requirements))
        {
            return Ok(Outcome::Missing { how });
        }
        if let Some(project) = &suite.maven
            && let Err(how) = needs::maven(&folders.maven, &self.root.join(project))
        {
            return Ok(Outcome::Missing { how });
        }
        let (program, arguments) = command.split_first().context("a suite has no command")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root).env("CARGO_INCREMENTAL", "0");
        count(command).with_context(|| format!("cannot run {program}"))
    }
}

/// Passes the output through and adds up the results in it.
fn count(mut command: Command) -> anyhow::Result<Outcome> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            counts += Counts::of_line(&line);
        }
    }
    Ok(Outcome::Ran(counts.checked(child.wait()?.success())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "minutes of other programs; there is no runtime here whose clock could pause"
)]
fn now() -> Instant {
    Instant::now()
}

/// For people: minutes with one decimal.
fn minutes(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Outcome {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        count(command).unwrap()
    }

    #[test]
    fn results_are_added_up_over_the_whole_output() {
        let script = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; echo noise; echo '2 passed, 1 failed'";
        assert_eq!(shell(script), Outcome::Ran(Counts { passed: 5, failed: 1, ignored: 0 }));
    }

    #[test]
    fn a_command_that_fails_without_a_failed_test_is_a_failure() {
        assert_eq!(
            shell("echo '2 passed, 0 failed'; exit 3"),
            Outcome::Ran(Counts { passed: 2, failed: 1, ignored: 0 })
        );
    }

    #[test]
    fn a_command_that_runs_no_test_is_a_failure() {
        assert_eq!(shell("true"), Outcome::Ran(Counts { passed: 0, failed: 1, ignored: 0 }));
    }
}
