//! The crate arrows: the table in `ARCHITECTURE.md` against what the manifests say.

use std::collections::BTreeSet;

use super::crates::Crate;
use super::{Finding, line_of};

const PAGE: &str = "ARCHITECTURE.md";

/// One row of the table `| layer | crate | charter | uses of ours |`.
#[derive(Debug)]
struct Row {
    line: usize,
    layer: u32,
    name: String,
    uses: Uses,
}

#[derive(Debug)]
enum Uses {
    /// "all below": any crate of a lower layer.
    AllBelow,
    /// Exactly these.
    Exactly(BTreeSet<String>),
}

/// Compares normal and build dependencies; dev-dependencies are free, except that the crates of `alone` have none of ours.
pub(super) fn check(architecture: &str, crates: &[Crate], alone: &[String]) -> Vec<Finding> {
    let rows = parse(architecture);
    let crates: Vec<&Crate> = crates.iter().filter(|one| one.is_product).collect();
    let mut findings = Vec::new();
    for row in &rows {
        if !crates.iter().any(|one| one.name == row.name) {
            findings.push(Finding::new(PAGE, row.line, format!("there is no crates/{}: remove the row", row.name)));
        }
    }
    for one in crates {
        match rows.iter().find(|row| row.name == one.name) {
            Some(row) => findings.extend(compare(row, one, &rows)),
            None => {
                let message = format!("crates/{} has no row in the table: add it", one.name);
                findings.push(Finding::new(PAGE, 1, message));
            }
        }
        if alone.contains(&one.name) {
            findings.extend(companions(one));
        }
    }
    findings
}

fn parse(architecture: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (index, line) in architecture.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [layer, name, _, uses] = cells.as_slice()
            && let Ok(layer) = layer.parse()
        {
            let uses = if uses.starts_with("all below") {
                Uses::AllBelow
            } else {
                Uses::Exactly(
                    uses.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                )
            };
            rows.push(Row { line: index + 1, layer, name: name.trim_matches('`').to_owned(), uses });
        }
    }
    rows
}

fn compare(row: &Row, one: &Crate, rows: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for dependency in one.dependencies.iter().filter(|dependency| dependency.is_ours && !dependency.is_dev) {
        used.insert(dependency.name.clone());
        let line = line_of(&one.manifest_text, &format!("{}.workspace", dependency.package));
        let listed = match &row.uses {
            Uses::AllBelow => true,
            Uses::Exactly(names) => names.contains(&dependency.name),
        };
        if !listed {
            let message = format!("{PAGE}:{} does not let {} use {}", row.line, one.name, dependency.name);
            findings.push(Finding::new(
                &one.manifest,
                line,
                format!("{message}: remove the dependency, or argue for the arrow there"),
            ));
        }
        let below = rows.iter().any(|other| other.name == dependency.name && other.layer < row.layer);
        if !below {
            let message = format!("{} is not in a layer below {}: arrows point down", dependency.name, one.name);
            findings.push(Finding::new(&one.manifest, line, message));
        }
    }
    if let Uses::Exactly(names) = &row.uses {
        for name in names.difference(&used) {
            findings.push(Finding::new(
                PAGE,
                row.line,
                format!("{} does not use {name}: remove it from the row", one.name),
            ));
        }
    }
    findings
}

fn companions(one: &Crate) -> Vec<Finding> {
    let others = one.dependencies.iter().filter(|dependency| dependency.is_ours && dependency.name != one.name);
    others
        .map(|dependency| {
            let message = format!("{} shares nothing, tests included: remove {}", one.name, dependency.name);
            Finding::new(&one.manifest, line_of(&one.manifest_text, &dependency.package), message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::crates::Dependency;
    use super::*;

    const TABLE: &str = "\
| layer | crate | charter | uses of ours |
|---|---|---|---|
| 2 | `facade` | all | all below (`witness` with a feature) |
| 1 | `aws` | clients | core |
| 0 | `core` | nouns | |
| 0 | `witness` | apart | |
";

    fn one(name: &str, normal: &[&str], dev: &[&str]) -> Crate {
        let ours = |name: &&str, is_dev| Dependency {
            name: (*name).to_owned(),
            package: format!("kinesink-{name}"),
            is_ours: true,
            is_dev,
        };
        let dependencies: Vec<Dependency> =
            normal.iter().map(|name| ours(name, false)).chain(dev.iter().map(|name| ours(name, true))).collect();
        Crate {
            name: name.to_owned(),
            is_product: true,
            manifest: format!("crates/{name}/Cargo.toml"),
            manifest_text: dependencies.iter().map(|it| format!("{}.workspace = true\n", it.package)).collect(),
            dependencies,
            roots: Vec::new(),
            code_lines: 0,
        }
    }

    fn findings(change: Crate) -> Vec<String> {
        let mut crates = vec![
            one("facade", &["aws", "core", "witness"], &[]),
            one("aws", &["core"], &["witness"]),
            one("core", &[], &["aws"]),
            one("witness", &[], &["witness"]),
        ];
        crates.retain(|one| one.name != change.name);
        crates.push(change);
        check(TABLE, &crates, &["witness".to_owned()]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn arrows_that_match_the_table_are_fine() {
        assert_eq!(findings(one("aws", &["core"], &[])), [""; 0]);
    }

    #[test]
    fn an_arrow_that_the_table_lacks_is_found() {
        let found = findings(one("aws", &["core", "witness"], &[]));
        assert!(
            found.len() == 1 && found[0].starts_with("crates/aws/Cargo.toml:2: ARCHITECTURE.md:4 does not let"),
            "{found:?}"
        );
    }

    #[test]
    fn an_arrow_up_is_found_even_from_all_below() {
        let found = findings(one("core", &["aws"], &[]));
        assert!(found.iter().any(|finding| finding.contains("arrows point down")), "{found:?}");
        let found = findings(one("facade", &["facade"], &[]));
        assert!(found.iter().any(|finding| finding.contains("arrows point down")), "{found:?}");
    }

    #[test]
    fn an_arrow_that_only_the_table_has_is_found() {
        assert_eq!(
            findings(one("aws", &[], &[])),
            ["ARCHITECTURE.md:4: aws does not use core: remove it from the row"]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let found = findings(one("extra", &[], &[]));
        assert_eq!(found, ["ARCHITECTURE.md:1: crates/extra has no row in the table: add it"]);
        let found = check(TABLE, &[], &[]);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].to_string(), "ARCHITECTURE.md:3: there is no crates/facade: remove the row");
    }

    #[test]
    fn a_witness_has_no_companion_not_even_in_its_tests() {
        let found = findings(one("witness", &[], &["core"]));
        assert_eq!(found, ["crates/witness/Cargo.toml:1: witness shares nothing, tests included: remove core"]);
    }
}
