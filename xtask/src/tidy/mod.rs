//! Style as a test: `tidy.toml` holds the rules, this checks them.
//!
//! Each finding names the file, the line, and what to do instead.

mod arrows;
mod crates;
mod files;
mod rules;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::metadata::Metadata;
use rules::Rules;

/// One broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Prints the findings; true when there are none.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let rules = Rules::ours()?;
    let metadata = Metadata::read(root)?;
    let crates = crates::read(root, &metadata)?;
    let architecture = read(root, "ARCHITECTURE.md")?;

    let mut findings = arrows::check(&architecture, &crates, &rules.alone);
    findings.extend(crates::check(&crates, &rules));
    findings.extend(crates::check_lint_table(&read(root, "clippy.toml")?, &read(root, "Cargo.toml")?, &rules));
    let files = tracked_files(root)?;
    for file in &files {
        findings.extend(files::check_name(file, &rules));
        // Data that is not text has no lines and no words.
        if let Ok(text) =
            String::from_utf8(std::fs::read(root.join(file)).with_context(|| format!("cannot read {file}"))?)
        {
            findings.extend(files::check(file, &text, &rules));
        }
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} files, {} crates, {} findings", files.len(), crates.len(), findings.len());
    Ok(findings.is_empty())
}

/// What is committed and what would be: files that git ignores are nobody's business.
fn tracked_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    // A file that is deleted but not yet committed is still listed.
    Ok(names.split_terminator('\0').filter(|name| root.join(name).is_file()).map(str::to_owned).collect())
}

fn read(root: &Path, file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))
}

/// The number of the first line that holds `needle`, or 1.
fn line_of(text: &str, needle: &str) -> usize {
    text.lines().position(|line| line.contains(needle)).map_or(1, |index| index + 1)
}
