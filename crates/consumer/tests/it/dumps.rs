//! Dumps of lease tables, as `tests/golden/rows` has them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinesink_aws::dynamodb::primitives::Blob;
use kinesink_aws::dynamodb::types::AttributeValue;
use serde_json::Value;

pub(crate) type Row = HashMap<String, AttributeValue>;

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rows")
}

/// The tables that a Java KCL wrote; without those that it took from us, which have our attributes. By name.
pub(crate) fn of_java_alone() -> Vec<PathBuf> {
    let paths = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let is_java = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("kcl-") && !name.ends_with("-took-ours.json")
    };
    let mut paths: Vec<_> = paths.filter(is_java).collect();
    paths.sort();
    paths
}

/// The rows of the dump's lease table: the one keyed by `leaseKey`.
pub(crate) fn lease_table(file: &Path) -> Vec<Row> {
    let dump: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let tables = dump.as_object().unwrap().values();
    let mut rows = tables.map(|table| table["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>());
    rows.find(|rows| rows.iter().all(|row| row.contains_key("leaseKey"))).unwrap()
}

fn row(value: &Value) -> Row {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

/// A value as DynamoDB has it on the wire.
fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(string(value)),
        "N" => AttributeValue::N(string(value)),
        "B" => AttributeValue::B(Blob::new(STANDARD.decode(string(value)).unwrap())),
        "SS" => AttributeValue::Ss(value.as_array().unwrap().iter().map(string).collect()),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "L" => AttributeValue::L(value.as_array().unwrap().iter().map(attribute).collect()),
        "M" => AttributeValue::M(row(value)),
        other => panic!("the dumps have no {other}"),
    }
}
