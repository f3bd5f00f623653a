//! The example, the reference, and what pages say of settings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{golden, rendered};
use crate::config::raw::RawConfig;
use crate::config::structure::example;
use crate::config::{Config, EXAMPLE, reference, values};

#[test]
fn the_example_and_the_reference_are_true() {
    let config = Config::parse(EXAMPLE, "example.toml").unwrap();
    assert_eq!(config.patterns.len(), 1);
    golden(&PathBuf::from("../../docs/config.md"), &reference());
}

#[test]
fn the_files_on_the_page_of_tables_can_be_run() {
    let page = include_str!("../../../../../docs/dynamodb.md");
    let files: Vec<_> = page.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let config = Config::parse(file, "page.toml").unwrap_or_else(|error| panic!("{}", rendered(&error)));
        assert_eq!((config.tables.len(), config.delivery()), (1, "effectively once"));
        #[cfg(all(feature = "jq", feature = "pattern"))]
        crate::Programs::compile(&config).unwrap_or_else(|error| panic!("{}", rendered(&error)));
    }
}

/// The keys of `docs/config.md`, which is made from the types, as `section.key`; of a sink as `sink.type.key`.
fn documented_keys() -> BTreeSet<String> {
    let (reference, mut keys) = (reference(), BTreeSet::new());
    let [mut section, mut kind, mut table] = [const { String::new() }; 3];
    let below = |heading: &str| format!("{}.", heading.trim_matches(['`', '[', ']']));
    for line in reference.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = if heading.starts_with('`') { below(heading) } else { String::new() };
            (kind, table) = Default::default();
        } else if let Some(named) = line.strip_prefix("### With `type = \"") {
            (kind, table) = (below(named.trim_end_matches("\"`")), String::new());
        } else if let Some(heading) = line.strip_prefix("#### ") {
            table = below(heading);
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            keys.insert(format!("{section}{kind}{table}{key}"));
        }
    }
    keys
}

/// The keys that the reader of files knows in the table at `path`, as it says where it meets one that it does not know; none where
/// that is no table of keys.
fn known_keys(path: &str) -> Option<Vec<String>> {
    const UNKNOWN: &str = "qqq";
    let line = format!("{path}{UNKNOWN} = 1\n");
    let text = match line.strip_prefix("sink.") {
        Some(line) => format!("[[sink]]\n{line}"),
        None => line,
    };
    let error = toml::from_str::<RawConfig>(&text).unwrap_err();
    let (_, known) = error.message().split_once(&format!("unknown field `{UNKNOWN}`, expected "))?;
    Some(known.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn the_page_has_every_key_that_is_read() {
    let documented = documented_keys();
    let (mut left, mut read) = (vec![String::new(), "sink.s3.".into(), "sink.dynamodb.".into()], BTreeSet::new());
    while let Some(path) = left.pop() {
        for key in known_keys(&path).unwrap_or_default() {
            let key = format!("{path}{key}");
            // Of what may be a table of tables, one has a name.
            left.extend([format!("{key}."), format!("{key}.NAME.")]);
            read.insert(key);
        }
    }
    for deep in ["sink.s3.late.after", "sink.dynamodb.aggregate.event_time.format", "sink.s3.columns.NAME.on_mismatch"]
    {
        assert!(read.contains(deep), "{deep} is not among {read:?}");
    }
    let sections =
        ["source", "transform", "filter", "lease", "buffer", "spill", "sink", "dead_letter", "metrics", "drain"];
    let left_out: Vec<_> = read.difference(&documented).filter(|key| !sections.contains(&key.as_str())).collect();
    assert_eq!(left_out, Vec::<&String>::new());
    assert_eq!(documented.difference(&read).collect::<Vec<_>>(), Vec::<&String>::new(), "on the page alone");
}

#[test]
fn what_the_page_for_java_users_calls_a_setting_is_one_and_no_setting_of_leases_is_left_out() {
    let page = include_str!("../../../../../docs/coming-from-the-java-kcl.md");
    let settings = page.split("\n## Settings").nth(1).unwrap().split("\n## ").next().unwrap();
    let table = settings.split("These have no counterpart").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| row.split(" | ").nth(1).unwrap().split('`').skip(1).step_by(2));
    let named: BTreeSet<_> = named.map(str::to_owned).collect();
    let documented = documented_keys();
    assert!(named.len() > 20 && documented.len() > 30, "{named:?} {documented:?}");
    let unknown: Vec<_> = named.difference(&documented).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let of_leases = documented.iter().filter(|key| key.starts_with("lease."));
    let left_out: Vec<_> = of_leases.filter(|key| !named.contains(*key)).collect();
    assert_eq!(left_out, Vec::<&String>::new());
}

#[test]
fn every_duration_that_is_written_as_a_number_is_told_with_an_example() {
    let page = reference();
    let durations: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | duration |")).collect();
    assert!(durations.len() > 10, "{durations:?}");
    for (key, _) in durations {
        let text = example(key).unwrap_or_else(|| panic!("{key} has none"));
        assert!(values::duration(text.trim_matches('"')).is_some(), "{key} = {text}");
    }
}
