//! Each feature alone: a feature that only compiles beside another one is found here.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::metadata::{Metadata, Package};

/// Lints every crate that has features with none of them, then with each one alone. True when all are clean.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let mut failed = Vec::new();
    for package in &Metadata::read(root)?.packages {
        for feature in alone(package) {
            let name = format!("{} with {}", package.name, feature.unwrap_or("no feature"));
            println!("{name}");
            let status = Command::new("cargo")
                .args(["clippy", "--quiet", "--package", &package.name, "--no-default-features"])
                .args(feature.map(|feature| format!("--features={feature}")))
                .args(["--", "-D", "warnings"])
                .current_dir(root)
                .status()
                .context("cannot run cargo clippy")?;
            if !status.success() {
                failed.push(name);
            }
        }
    }
    for name in &failed {
        println!("failed: {name}");
    }
    Ok(failed.is_empty())
}

/// No feature, then each one but `default`; nothing for a crate without features.
fn alone(package: &Package) -> Vec<Option<&str>> {
    let features: Vec<&str> = package.features.keys().map(String::as_str).filter(|name| *name != "default").collect();
    if features.is_empty() {
        return Vec::new();
    }
    std::iter::once(None).chain(features.into_iter().map(Some)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_built_alone_and_none_first() {
        let package = |features: &str| -> Package {
            let text = format!(
                r#"{{"name": "x", "manifest_path": "x", "dependencies": [], "targets": [], "features": {features}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let sinks = package(r#"{"default": ["s3"], "s3": [], "dynamodb": []}"#);
        assert_eq!(alone(&sinks), [None, Some("dynamodb"), Some("s3")]);
        assert_eq!(alone(&package("{}")), []);
    }
}
