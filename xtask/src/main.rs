//! The project's own tasks, as `cargo xtask TASK`.
//!
//! - `test`: every suite, in the order of `suites.toml`; `.ci/run` starts here
//! - `soak`: one suite, for as long as it is let
//! - `tidy`: the rules of `tidy.toml` and the crate arrows of `ARCHITECTURE.md`
//! - `features`: each feature of each crate alone, and none
#![expect(clippy::print_stdout, reason = "a tool for a terminal: its output is what it is for")]

mod features;
mod metadata;
mod suites;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run the hermetic suite, then those that need other programs; ends with the totals
    Test {
        /// Only these suites of xtask/suites.toml
        suites: Vec<String>,
    },
    /// Run a suite that can go on for as long as it is let; it begins where it ended the last time
    Soak {
        /// A suite of xtask/suites.toml that soaks
        suite: String,
        /// Minutes
        #[arg(long = "for", default_value_t = 60)]
        minutes: u64,
        /// Arguments for the suite itself
        #[arg(last = true)]
        more: Vec<String>,
    },
    /// Check the rules that clippy does not know
    Tidy,
    /// Lint each crate with each of its features alone, and with none
    Features,
}

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    let passed = match Task::parse() {
        Task::Test { suites } => suites::run(root, &suites, is_ci())?,
        Task::Soak { suite, minutes, more } => suites::soak(root, &suite, minutes, more)?,
        Task::Tidy => tidy::run(root)?,
        Task::Features => features::run(root)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::disallowed_methods, reason = "this is the command line")]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}
