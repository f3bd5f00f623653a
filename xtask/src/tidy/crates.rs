//! Rules about whole crates: lints, docs, who may depend on what.

use std::path::Path;

use anyhow::Context as _;

use super::rules::{Only, Rules};
use super::{Finding, line_of};
use crate::metadata::Metadata;

/// A crate of the workspace, read.
#[derive(Debug)]
pub(super) struct Crate {
    /// The folder's name: `core` for `kinesink-core` in `crates/core`.
    pub(super) name: String,
    /// Whether it lives under `crates/`, where the arrows hold.
    pub(super) is_product: bool,
    /// The manifest, relative to the workspace.
    pub(super) manifest: String,
    pub(super) manifest_text: String,
    pub(super) dependencies: Vec<Dependency>,
    /// Library and binaries: file, relative to the workspace, and text.
    pub(super) roots: Vec<(String, String)>,
    /// Lines of all sources that are neither blank, comment nor attribute.
    pub(super) code_lines: usize,
}

#[derive(Debug)]
pub(super) struct Dependency {
    /// The folder's name for a crate of ours, else the package's name.
    pub(super) name: String,
    pub(super) package: String,
    pub(super) is_ours: bool,
    pub(super) is_dev: bool,
}

pub(super) fn read(root: &Path, metadata: &Metadata) -> anyhow::Result<Vec<Crate>> {
    metadata.packages.iter().map(|package| read_one(root, package)).collect()
}

fn read_one(root: &Path, package: &crate::metadata::Package) -> anyhow::Result<Crate> {
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let folder = package.manifest_path.parent().context("a manifest has no folder")?;

    let mut roots = Vec::new();
    for target in &package.targets {
        if target.kind.iter().any(|kind| kind == "lib" || kind == "bin") {
            roots.push((relative(&target.src_path), read(&target.src_path)?));
        }
    }
    let dependencies = package.dependencies.iter().map(|dependency| Dependency {
        name: dependency.path.as_deref().map_or_else(|| dependency.name.clone(), folder_name),
        package: dependency.name.clone(),
        is_ours: dependency.path.is_some(),
        is_dev: dependency.kind.as_deref() == Some("dev"),
    });
    Ok(Crate {
        name: folder_name(folder),
        is_product: folder.parent().is_some_and(|parent| parent == root.join("crates")),
        manifest: relative(&package.manifest_path),
        manifest_text: read(&package.manifest_path)?,
        dependencies: dependencies.collect(),
        roots,
        code_lines: code_lines_below(&folder.join("src"))?,
    })
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn code_lines_below(folder: &Path) -> anyhow::Result<usize> {
    let mut lines = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            lines += code_lines_below(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            lines += code_lines(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(lines)
}

fn code_lines(text: &str) -> usize {
    let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#');
    text.lines().map(str::trim).filter(is_code).count()
}

pub(super) fn check(crates: &[Crate], rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in crates {
        findings.extend(lints_not_inherited(one));
        findings.extend(one.roots.iter().filter_map(|(file, text)| undocumented(file, text)));
        if one.code_lines < rules.crate_code_lines_min {
            let message = format!("{} lines of code: fill the crate or remove it", one.code_lines);
            findings.push(Finding::new(&one.manifest, 1, message));
        }
        findings.extend(rules.only.iter().flat_map(|only| reserved(one, only)));
    }
    findings
}

fn lints_not_inherited(one: &Crate) -> Option<Finding> {
    let mut lines = one.manifest_text.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    let inherited = lines.next() == Some("workspace = true");
    let message = "the workspace's lints do not hold here: add [lints] with workspace = true";
    (!inherited).then(|| Finding::new(&one.manifest, line_of(&one.manifest_text, "[lints]"), message))
}

fn undocumented(file: &str, text: &str) -> Option<Finding> {
    let documented = text.starts_with("//! ") || text.starts_with("#![doc = include_str!(");
    (!documented).then(|| Finding::new(file, 1, "open the file with //! and what the crate is for"))
}

fn reserved(one: &Crate, only: &Only) -> Vec<Finding> {
    let is_reserved = |name: &String| only.dependencies.contains(name) && !only.crates.contains(&one.name);
    let found = one.dependencies.iter().filter(|dependency| !dependency.is_dev && is_reserved(&dependency.name));
    found
        .map(|dependency| {
            let message = format!("only {} may depend on {}: {}", only.crates.join(", "), dependency.name, only.reason);
            Finding::new(&one.manifest, line_of(&one.manifest_text, &dependency.name), message)
        })
        .collect()
}

/// Clippy counts the lines of functions, as long as it is told to and told how many.
pub(super) fn check_lint_table(clippy: &str, manifest: &str, rules: &Rules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let threshold = format!("too-many-lines-threshold = {}", rules.function_lines_max);
    if !clippy.lines().any(|line| line == threshold) {
        let line = line_of(clippy, "too-many-lines-threshold");
        findings.push(Finding::new("clippy.toml", line, format!("functions have a limit: {threshold}")));
    }
    for (lint, why) in
        [(r#"too_many_lines = "warn""#, "functions have a limit"), (r#"unsafe_code = "forbid""#, "no unsafe")]
    {
        if !manifest.lines().any(|line| line == lint) {
            let line = line_of(manifest, "[workspace.lints");
            findings.push(Finding::new("Cargo.toml", line, format!("{why}: {lint} in the lint table")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Crate {
        Crate {
            name: "core".to_owned(),
            is_product: true,
            manifest: "crates/core/Cargo.toml".to_owned(),
            manifest_text: "[package]\n\n[lints]\nworkspace = true\n\n[dependencies]\n".to_owned(),
            dependencies: Vec::new(),
            roots: vec![("crates/core/src/lib.rs".to_owned(), "//! Nouns.\n".to_owned())],
            code_lines: 100,
        }
    }

    fn findings(one: Crate) -> Vec<String> {
        check(&[one], &Rules::ours().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_crate_has_no_findings() {
        assert!(findings(good()).is_empty());
    }

    #[test]
    fn lints_that_are_not_inherited_are_found() {
        for manifest_text in ["[package]\n", "[package]\n[lints]\nworkspace = false\n", "[lints.rust]\n", "[lints]\n"] {
            let found = findings(Crate { manifest_text: manifest_text.to_owned(), ..good() });
            assert!(found.len() == 1 && found[0].contains("workspace = true"), "{manifest_text}: {found:?}");
        }
    }

    #[test]
    fn a_crate_without_docs_is_found() {
        let roots = vec![("crates/core/src/lib.rs".to_owned(), "mod a;\n//! Late.\n".to_owned())];
        let found = findings(Crate { roots, ..good() });
        assert_eq!(found, ["crates/core/src/lib.rs:1: open the file with //! and what the crate is for"]);
    }

    #[test]
    fn an_empty_crate_is_found() {
        let code_lines = code_lines("//! Docs.\n\n#![expect(x)]\n  // why\nfn main() {}\n");
        assert_eq!(code_lines, 1);
        assert!(findings(Crate { code_lines, ..good() })[0].contains("1 lines of code"));
    }

    #[test]
    fn reserved_dependencies_are_found_outside_their_crates_and_dev() {
        for only in Rules::ours().unwrap().only {
            for package in &only.dependencies {
                let with = |name: &str, is_dev| Crate {
                    name: name.to_owned(),
                    dependencies: vec![Dependency {
                        name: package.clone(),
                        package: package.clone(),
                        is_ours: false,
                        is_dev,
                    }],
                    manifest_text: good().manifest_text + package + ".workspace = true\n",
                    ..good()
                };
                let found = findings(with("core", false));
                assert!(found.len() == 1 && found[0].starts_with("crates/core/Cargo.toml:7: only"), "{found:?}");
                assert!(findings(with("core", true)).is_empty());
                assert!(findings(with(&only.crates[0], false)).is_empty());
            }
        }
    }

    #[test]
    fn a_changed_lint_table_is_found() {
        let rules = Rules::ours().unwrap();
        let (clippy, manifest) =
            ("too-many-lines-threshold = 70\n", "unsafe_code = \"forbid\"\ntoo_many_lines = \"warn\"\n");
        assert!(check_lint_table(clippy, manifest, &rules).is_empty());
        assert_eq!(check_lint_table("a = 1\ntoo-many-lines-threshold = 700\n", manifest, &rules)[0].line, 2);
        assert_eq!(check_lint_table(clippy, "", &rules).len(), 2);
    }
}
