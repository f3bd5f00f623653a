//! The shape of `suites.toml` and `suites-allowed-to-miss.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

#[derive(Debug)]
pub(super) struct Table {
    suites: Vec<Suite>,
    /// Name of the suite and the reason.
    pub(super) allowed_to_miss: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    suite: Vec<Suite>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    pub(super) name: String,
    /// Its share of the time that all tests may take.
    minutes: u64,
    #[serde(default)]
    pub(super) programs: Vec<Program>,
    /// A requirements file for a Python environment of the suite's own.
    pub(super) python: Option<String>,
    /// The folder of a Maven project that is compiled for the suite.
    pub(super) maven: Option<String>,
    command: Vec<String>,
    /// What goes on for `{minutes}`, from where it ended the last time.
    soak: Option<Vec<String>>,
}

/// The folders that a suite's command may name.
#[derive(Debug)]
pub(super) struct Folders {
    /// Cargo's.
    pub(super) target: PathBuf,
    /// The suite's Python environment.
    pub(super) venv: PathBuf,
    /// Where the suite's Maven project is built; suites of one project share it.
    pub(super) maven: PathBuf,
}

impl Folders {
    fn fill(&self, word: &str) -> String {
        word.replace("{target}", &self.target.display().to_string())
            .replace("{venv}", &self.venv.display().to_string())
            .replace("{maven}", &self.maven.display().to_string())
    }
}

/// A program that is not ours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// A command that succeeds where the program is usable.
    pub(super) check: Vec<String>,
    /// The Debian packages that bring it.
    pub(super) apt: Vec<String>,
}

impl Table {
    pub(super) fn ours() -> anyhow::Result<Self> {
        Self::parse(include_str!("../../suites.toml"), include_str!("../../suites-allowed-to-miss.toml"))
    }

    fn parse(suites: &str, allowed_to_miss: &str) -> anyhow::Result<Self> {
        let suites = toml::from_str::<File>(suites).context("xtask/suites.toml")?.suite;
        let allowed_to_miss: BTreeMap<String, String> =
            toml::from_str(allowed_to_miss).context("xtask/suites-allowed-to-miss.toml")?;
        for (name, reason) in &allowed_to_miss {
            let known = suites.iter().any(|suite| suite.name == *name);
            ensure!(known, "xtask/suites-allowed-to-miss.toml: there is no suite \"{name}\"; remove the line");
            ensure!(!reason.trim().is_empty(), "xtask/suites-allowed-to-miss.toml: \"{name}\" needs a reason");
        }
        Ok(Self { suites, allowed_to_miss })
    }

    /// The suites of these names, or all, in the table's order.
    pub(super) fn chosen(&self, names: &[String]) -> anyhow::Result<Vec<&Suite>> {
        for name in names {
            let known: Vec<&str> = self.suites.iter().map(|suite| suite.name.as_str()).collect();
            ensure!(known.contains(&name.as_str()), "there is no suite \"{name}\"; there are {}", known.join(", "));
        }
        Ok(self.suites.iter().filter(|suite| names.is_empty() || names.contains(&suite.name)).collect())
    }
}

impl Suite {
    pub(super) fn folders(&self, target: &Path) -> Folders {
        let peers = target.join("peers");
        let project = self.maven.as_deref().and_then(|project| Path::new(project).file_name()).unwrap_or_default();
        Folders { target: target.to_owned(), venv: peers.join(&self.name), maven: peers.join("maven").join(project) }
    }

    pub(super) fn share(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }

    pub(super) fn command(&self, folders: &Folders) -> Vec<String> {
        self.command.iter().map(|word| folders.fill(word)).collect()
    }

    /// None if it does not soak.
    pub(super) fn soak(&self, folders: &Folders, minutes: u64) -> Option<Vec<String>> {
        let word = |word: &String| folders.fill(word).replace("{minutes}", &minutes.to_string());
        Some(self.soak.as_ref()?.iter().map(word).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: &str = "
        [[suite]]
        name = 'first'
        minutes = 2
        maven = 'tests/peers/java'
        command = ['{target}/a', '{venv}/b', '{maven}/c', 'd']
        [[suite]]
        name = 'second'
        minutes = 1
        command = ['e']
        soak = ['{target}/f', '--minutes', '{minutes}']
    ";

    #[test]
    fn the_hermetic_suite_is_first_and_needs_nothing() {
        let table = Table::ours().unwrap();
        let first = &table.suites[0];
        assert_eq!(first.name, "hermetic");
        assert!(first.programs.is_empty() && first.python.is_none());
    }

    #[test]
    fn suites_are_chosen_by_name_in_the_order_of_the_table() {
        let table = Table::parse(SUITES, "").unwrap();
        let names = |chosen: &[&str]| -> Vec<String> {
            let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
            table.chosen(&chosen).unwrap().iter().map(|suite| suite.name.clone()).collect()
        };
        assert_eq!(names(&[]), ["first", "second"]);
        assert_eq!(names(&["second", "first"]), ["first", "second"]);
        assert_eq!(names(&["second"]), ["second"]);
        assert!(table.chosen(&["third".to_owned()]).unwrap_err().to_string().contains("first, second"));
    }

    #[test]
    fn a_command_names_its_folders() {
        let table = Table::parse(SUITES, "").unwrap();
        let first = &table.suites[0];
        let folders = first.folders(Path::new("/t"));
        assert_eq!(first.command(&folders), ["/t/a", "/t/peers/first/b", "/t/peers/maven/java/c", "d"]);
        assert_eq!(first.share(), Duration::from_secs(120));
        assert_eq!(first.soak(&folders, 7), None);
        assert_eq!(table.suites[1].soak(&folders, 7).unwrap(), ["/t/f", "--minutes", "7"]);
    }

    #[test]
    fn a_suite_may_only_miss_if_it_exists_and_with_a_reason() {
        assert!(Table::parse(SUITES, "first = 'no such package here'").is_ok());
        assert!(Table::parse(SUITES, "third = 'gone'").unwrap_err().to_string().contains("third"));
        assert!(Table::parse(SUITES, "first = ' '").unwrap_err().to_string().contains("reason"));
    }
}
