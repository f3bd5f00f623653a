//! The shape of `tidy.toml`.

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) file_lines_max: usize,
    pub(super) function_lines_max: usize,
    pub(super) crate_code_lines_min: usize,
    pub(super) exempt: Vec<String>,
    pub(super) alone: Vec<String>,
    pub(super) names: Names,
    pub(super) text: Vec<Text>,
    pub(super) only: Vec<Only>,
}

/// Words that no file, folder or module may be named after.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    pub(super) banned: Vec<String>,
    pub(super) instead: String,
}

/// Words that no file may hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) words: Vec<String>,
    #[serde(default)]
    pub(super) any_case: bool,
    /// Only in files that end so; empty means every file.
    #[serde(default)]
    pub(super) extensions: Vec<String>,
    pub(super) instead: String,
}

/// Dependencies that only some crates may have; dev-dependencies are free.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Only {
    pub(super) dependencies: Vec<String>,
    pub(super) crates: Vec<String>,
    pub(super) reason: String,
}

impl Rules {
    pub(super) fn ours() -> anyhow::Result<Self> {
        toml::from_str(include_str!("../../tidy.toml")).context("xtask/tidy.toml")
    }
}
