//! Columns that a sample proposes.

use bytes::Bytes;
use proptest::prelude::*;

use super::schema;
use crate::s3::blocks::Blocks;
use crate::s3::parquet::OnMismatch::DeadLetter;
use crate::s3::parquet::file::Encoder;
use crate::s3::parquet::{Codec, FileSettings, Proposal, REST, Sample, Schema};

fn propose(records: &[&str]) -> Proposal {
    let mut sample = Sample::default();
    records.iter().for_each(|record| sample.add(record.as_bytes()));
    sample.propose()
}

/// The proposed type of a field that had these values.
fn proposed(values: &[&str]) -> String {
    let records: Vec<String> = values.iter().map(|value| format!("{{\"a\":{value}}}")).collect();
    let proposal = propose(&records.iter().map(String::as_str).collect::<Vec<_>>());
    match &proposal.columns[..] {
        [column] if column.on_mismatch == DeadLetter => column.column_type.to_string(),
        [column] => format!("{} {:?}", column.column_type, column.on_mismatch),
        _ => format!("{:?}", proposal.left_out),
    }
}

#[test]
fn types_widen_until_they_lose_nothing() {
    let cases: [(&[&str], &str); 30] = [
        (&["true", "null"], "boolean"),
        (&["1", "-9223372036854775808"], "int64"),
        (&["1", "1.0"], "int64"),
        (&["1", "9223372036854775808"], "decimal(38,0)"),
        (&["1", "0.1"], "float64"),
        (&["0.30000000000000004", "1e300"], "float64"),
        (&["1e300"], "float64"),
        (&["1e20"], "decimal(38,0)"),
        (&["0.1", "9007199254740993"], "decimal(38,1)"),
        (&["1.00000000000000000001"], "decimal(38,20)"),
        (&["1e400", "1"], "string Coerce"),
        (&["\"a\"", "\"\""], "string"),
        (&["\"2026-01-31\""], "date"),
        (&["\"2026-01-31\"", "\"2026-02-30\""], "string"),
        (&["\"2026-01-31T08:00:00Z\"", "\"2026-01-31T08:00:00.000001+01:00\""], "timestamp"),
        (&["\"2026-01-31T08:00:00.0000001Z\""], "timestamp Coerce"),
        (&["\"2026-01-31T08:00:00\""], "string"),
        (&["\"2026-01-31\"", "\"2026-01-31T08:00:00Z\""], "string"),
        (&["1", "\"a\""], "string Coerce"),
        (&["1", "true"], "string Coerce"),
        (&["1", "[1]"], "json"),
        (&["{\"b\":1}", "[1]"], "json"),
        (&["{}"], "json"),
        (&["[]"], "json"),
        (&["[1, null]", "[]", "[0.5]"], "list<float64>"),
        (&["[1]", "[\"a\"]"], "list<string> Coerce"),
        (&["{\"b\":1}", "{\"c\":\"x\",\"b\":null}"], "struct<b: int64, c: string>"),
        (&["{\"b\":null}"], "json"),
        (&["{\"b\":1,\"B\":1}"], "json"),
        (&["[{\"b\":[{\"c d\":1}]}]"], "list<struct<b: list<struct<`c d`: int64>>>>"),
    ];
    for (values, expected) in cases {
        assert_eq!(proposed(values), expected, "{values:?}");
    }
    let deep = format!("{}1{}", "[".repeat(20), "]".repeat(20));
    assert_eq!(proposed(&[&deep]), format!("{}json{}", "list<".repeat(16), ">".repeat(16)));
}

#[test]
fn a_field_that_can_be_no_column_is_left_to_the_rest_column() {
    let proposal = propose(&[r#"{"id":1,"ID":2,"_rest":3,"x":null,"":4}"#]);
    let names: Vec<&str> = proposal.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id"]);
    let left_out: Vec<&str> = proposal.left_out.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left_out, ["ID", "_rest", "x", ""]);
}

#[test]
fn an_object_of_too_many_fields_is_a_map() {
    let members: Vec<String> = (0..200).map(|key| format!("\"k{key}\":1")).collect();
    assert_eq!(proposed(&[&format!("{{{}}}", members.join(","))]), "json");
}

#[test]
fn a_proposal_reads_as_the_table_of_a_pipeline_file() {
    let proposal = propose(&[
        r#"{"id":1,"at":"2026-01-31T08:00:00.123456789Z","a b":{"c":"x"}}"#,
        r#"{"id":"2","x":null,"":3,"two\nlines":4}"#,
        "not JSON",
        "[1]",
    ]);
    let expected = r#"# proposed from 4 records: read it, and write it as you know the data
# 2 of them are no JSON objects and would be refused
[sink.columns]
id = { type = "string", on_mismatch = "coerce" }
at = { type = "timestamp", on_mismatch = "coerce" } # in 1 of 2
"a b" = "struct<c: string>" # in 1 of 2
# "x" goes to the rest column: null in all of the sample
# "" goes to the rest column: "" cannot name a column or field: a name has 1 to 255 bytes and no control characters
# "two\nlines" goes to the rest column: "two\nlines" cannot name a column or field: a name has 1 to 255 bytes and no control characters
"#;
    assert_eq!(proposal.to_string(), expected);
}

fn any_record() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("JSON", |number| number.is_finite()).prop_map(|number| format!("{number:?}")),
        "[0-9]{1,30}\\.[0-9]{1,30}".prop_map(|number| number.trim_start_matches('0').replacen('.', "1.", 1)),
        Just("\"2026-01-31\"".to_owned()),
        Just("\"2026-01-31T08:00:00Z\"".to_owned()),
        "[a-z]{0,3}".prop_map(|text| format!("\"{text}\"")),
    ];
    let value = value.prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(",")));
        let object = prop::collection::btree_map("[a-cA]", inner, 0..3).prop_map(|all| {
            let members: Vec<String> = all.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![list, object]
    });
    prop::collection::btree_map("[a-d]", value, 1..4).prop_map(|all| {
        let members: Vec<String> = all.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_a_sample_proposes_takes_every_record_of_the_sample(records in prop::collection::vec(any_record(), 1..8)) {
        let proposal = propose(&records.iter().map(String::as_str).collect::<Vec<_>>());
        let proposed = match Schema::new(proposal.columns.clone(), REST) {
            Ok(proposed) => proposed,
            Err(_) => {
                prop_assert_eq!(&proposal.columns, &[], "only a sample of nulls proposes nothing");
                schema(&[("other", "int64", DeadLetter)])
            }
        };
        let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
        let encoded = Encoder::new(&proposed, Codec::None, FileSettings::default()).unwrap().encode(&records, Vec::new(), Blocks::default(), usize::MAX).unwrap();
        prop_assert_eq!(&encoded.refused, &[], "{}", proposal);
    }
}
