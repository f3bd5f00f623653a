//! The project's own tasks, as `cargo xtask TASK`.
//!
//! - `tidy`: the rules of `tidy.toml` and the crate arrows of `ARCHITECTURE.md`
//! - `features`: each feature of each crate alone, and none
#![expect(clippy::print_stdout, reason = "a tool for a terminal: its output is what it is for")]

mod features;
mod metadata;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Check the rules that clippy does not know
    Tidy,
    /// Lint each crate with each of its features alone, and with none
    Features,
}

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    let passed = match Task::parse() {
        Task::Tidy => tidy::run(root)?,
        Task::Features => features::run(root)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
