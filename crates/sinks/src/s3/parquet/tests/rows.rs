//! Records to rows: what stands where, and what becomes of what does not fit.

use bytes::Bytes;

use super::reading::Value::{
    self, Boolean, Days, Decimal, Float32, Float64, Integer, List, Micros, Null, Struct, Text,
};
use super::reading::{rests, row_count, values};
use super::{encode, schema};
use crate::s3::blocks::Blocks;
use crate::s3::parquet::OnMismatch::{self, Coerce, DeadLetter};
use crate::s3::parquet::file::Encoder;
use crate::s3::parquet::rows::{Outcome, Refusal};
use crate::s3::parquet::{Codec, FileSettings};

/// What one value becomes in a column of its own: the value, or what was found.
fn one(column_type: &str, policy: OnMismatch, json: &str) -> Result<Value, String> {
    let schema = schema(&[("a", column_type, policy)]);
    let encoded = encode(&schema, &[&format!("{{\"a\":{json}}}")]);
    if let [(0, Refusal::Mismatch(mismatch))] = encoded.refused[..] {
        return Err(Encoder::new(&schema, Codec::None, FileSettings::default()).unwrap().describe(mismatch));
    }
    assert_eq!((row_count(&encoded), encoded.refused.len()), (1, 0), "{json}");
    Ok(values(&encoded).remove(0).remove(0))
}

fn text(text: &str) -> Value {
    Text(text.into())
}

#[test]
fn a_value_that_fits_stands_as_it_is() {
    let cases = [
        ("boolean", "true", Boolean(true)),
        ("int32", "-2147483648", Integer(i32::MIN.into())),
        ("int64", "9223372036854775807", Integer(i64::MAX)),
        ("int64", "9007199254740993", Integer(9_007_199_254_740_993)),
        ("int64", "1.0", Integer(1)),
        ("int64", "12e2", Integer(1200)),
        ("float64", "0.1", Float64(0.1)),
        ("float64", "1e-400", Float64(0.0)),
        ("float32", "0.1", Float32(0.1)),
        ("decimal(9,2)", "1234567.89", Decimal(123_456_789)),
        ("decimal(18,2)", "-1e2", Decimal(-10_000)),
        ("decimal(18,2)", "\"12.30\"", Decimal(1230)),
        ("decimal(18,2)", "12.300", Decimal(1230)),
        ("decimal(38,0)", "18446744073709551616", Decimal(18_446_744_073_709_551_616)),
        ("decimal(38,38)", "-0.00000000000000000000000000000000000001", Decimal(-1)),
        ("decimal(19,0)", "-9999999999999999999", Decimal(-9_999_999_999_999_999_999)),
        ("string", r#""""#, text("")),
        ("string", r#""plain äöü 🦀""#, text("plain äöü 🦀")),
        ("string", r#""a\n\"\u00e4\ud83e\udd80\u0000""#, text("a\n\"ä🦀\0")),
        ("binary", r#""AP+AfQ==""#, Value::Binary(vec![0, 255, 128, 125])),
        ("date", r#""1969-12-31""#, Days(-1)),
        ("date", r#""9999-12-31""#, Days(2_932_896)),
        ("timestamp", r#""1970-01-01T00:00:01Z""#, Micros(1_000_000)),
        ("timestamp", r#""1969-12-31T23:59:59.999999Z""#, Micros(-1)),
        ("timestamp", r#""2026-01-31T08:00:00.25+02:00""#, Micros(1_769_839_200_250_000)),
        ("timestamp", r#""2026-01-31 08:00:00.25+02:00""#, Micros(1_769_839_200_250_000)),
        ("timestamp", r#""2026-01-31t08:00:00z""#, Micros(1_769_846_400_000_000)),
        ("timestamp", r#""2026-01-31T08:00:00-23:59""#, Micros(1_769_932_740_000_000)),
        ("timestamp", r#""2026-01-31T08:00:00-00:00""#, Micros(1_769_846_400_000_000)),
        ("timestamp(s)", "1.5", Micros(1_500_000)),
        ("timestamp(s)", "-1", Micros(-1_000_000)),
        ("timestamp(ms)", "1769839200250", Micros(1_769_839_200_250_000)),
        ("timestamp(us)", "1", Micros(1)),
        ("timestamp(ns)", "1769839200250000000", Micros(1_769_839_200_250_000)),
        ("json", r#"{"b": [1, 1.0,1e400] }"#, text(r#"{"b": [1, 1.0,1e400] }"#)),
        ("json", "\"a\"", text("\"a\"")),
        ("string", "null", Null),
        ("json", "null", Null),
        ("list<int64>", "null", Null),
        ("list<int64>", "[]", List(vec![])),
        ("list<int64>", "[null]", List(vec![Null])),
        ("list<int64>", "[1, null ,3]", List(vec![Integer(1), Null, Integer(3)])),
        (
            "list<list<int64>>",
            "[[],null,[1],[null,2]]",
            List(vec![List(vec![]), Null, List(vec![Integer(1)]), List(vec![Null, Integer(2)])]),
        ),
        ("struct<b: int64, c: string>", r#"{"c":"x"}"#, Struct(vec![("b".into(), Null), ("c".into(), text("x"))])),
        ("struct<b: int64, c: string>", "{}", Struct(vec![("b".into(), Null), ("c".into(), Null)])),
        ("struct<b: int64, c: string>", "null", Null),
        (
            "list<struct<b: list<int64>>>",
            r#"[{"b":[1,2]},null,{},{"b":null},{"b":[]}]"#,
            List(vec![
                Struct(vec![("b".into(), List(vec![Integer(1), Integer(2)]))]),
                Null,
                Struct(vec![("b".into(), Null)]),
                Struct(vec![("b".into(), Null)]),
                Struct(vec![("b".into(), List(vec![]))]),
            ]),
        ),
    ];
    for (column_type, json, expected) in cases {
        assert_eq!(one(column_type, DeadLetter, json), Ok(expected.clone()), "{column_type}: {json}");
        // To make it fit is to leave it as it is.
        assert_eq!(one(column_type, Coerce, json), Ok(expected), "{column_type}: {json}");
    }
}

#[test]
fn zero_keeps_its_sign() {
    let Ok(Float64(zero)) = one("float64", DeadLetter, "-0.0") else { panic!("no number") };
    assert!(zero == 0.0 && zero.is_sign_negative());
}

#[test]
fn a_value_that_does_not_fit_is_named_with_its_field_its_type_and_what_it_is() {
    let cases = [
        ("boolean", "1", "boolean is declared, a number was found"),
        ("int32", "2147483648", "int32 is declared, a number out of range"),
        ("int64", "9223372036854775808", "a number out of range"),
        ("int64", "1.5", "a number with a fraction"),
        ("int64", "1e400", "a number out of range"),
        ("int64", "\"1\"", "a string was found"),
        ("float64", "1e400", "a number out of range"),
        ("float32", "1e40", "a number out of range"),
        ("float64", "\"NaN\"", "a string was found"),
        ("decimal(5,2)", "1000", "decimal(5,2) is declared, a number out of range was found"),
        ("decimal(5,2)", "999.999", "a number out of range"),
        ("decimal(5,2)", "1.005", "a number with more digits after the point"),
        ("decimal(38,0)", "1e38", "a number out of range"),
        ("decimal(5,2)", "\"1,5\"", "a string that is no number"),
        ("decimal(5,2)", "true", "a boolean"),
        ("string", "12", "a number"),
        ("string", r#""\ud800""#, "half of a surrogate pair"),
        ("binary", "\"AP+AfQ\"", "no base64"),
        ("date", "\"2026-02-29\"", "no date"),
        ("date", "\"0000-01-01\"", "no date"),
        ("date", "\"2026-01-31T08:00:00Z\"", "no date"),
        ("date", "20260131", "a number"),
        ("timestamp", "\"2026-01-31T08:00:00\"", "no RFC 3339 time with its offset"),
        ("timestamp", "\"2026-01-31T08:00:00+01:00[Europe/Paris]\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00+25:00\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00+24:00\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00+0100\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00+01\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00+01:60\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00Z\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00,5Z\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:00.Z\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T08:00:005Z\"", "no RFC 3339 time"),
        ("timestamp", "\"2026-01-31T24:00:00Z\"", "no RFC 3339 time"),
        ("timestamp", "\"20260131T080000Z\"", "no RFC 3339 time"),
        ("timestamp", "\"20260131T080000.000Z\"", "no RFC 3339 time"),
        ("timestamp", "\"2016-12-31T23:59:60Z\"", "a time with a second 60"),
        ("timestamp", "\"2026-01-31T12:00:60Z\"", "a time with a second 60"),
        ("timestamp", "\"2026-01-31T08:00:00.0000001Z\"", "finer than a microsecond"),
        ("timestamp", "\"0000-12-31T23:59:59Z\"", "outside of the years 1 to 9999"),
        ("timestamp", "1769839200", "a number"),
        ("timestamp(s)", "1769839200250", "outside of the years 1 to 9999"),
        ("timestamp(s)", "1e400", "outside of the years 1 to 9999"),
        ("timestamp(ns)", "1769839200250000001", "finer than a microsecond"),
        ("timestamp(ms)", "\"2026-01-31T08:00:00Z\"", "a string"),
        ("list<int64>", "{}", "field `a`: list<int64> is declared, an object was found"),
        ("list<int64>", "[1,\"2\"]", "field `a[]`: int64 is declared, a string was found"),
        ("struct<b: int64>", "[]", "field `a`: struct<b: int64> is declared, a list was found"),
        (
            "struct<b: list<struct<c: date>>>",
            r#"{"b":[{},{"c":1}]}"#,
            "field `a.b[].c`: date is declared, a number was found",
        ),
    ];
    for (column_type, json, expected) in cases {
        let error = one(column_type, DeadLetter, json).expect_err(json);
        assert!(error.contains(expected), "{column_type}: {json}: {error}");
        assert_eq!(
            one(column_type, OnMismatch::Null, &format!("{json} ")).map(|_| ()),
            Ok(()),
            "{column_type}: {json}"
        );
    }
}

#[test]
fn a_value_is_made_to_fit_where_its_column_says_so() {
    let cases = [
        ("boolean", "\" True \"", Boolean(true)),
        ("boolean", "0", Boolean(false)),
        ("int64", "\" 12 \"", Integer(12)),
        ("int64", "1.5", Integer(2)),
        ("int64", "-1.5", Integer(-2)),
        ("int64", "true", Integer(1)),
        ("float64", "\"0.1\"", Float64(0.1)),
        ("float32", "\"1e3\"", Float32(1000.0)),
        ("decimal(5,2)", "1.005", Decimal(101)),
        ("decimal(5,2)", "\" 1.004 \"", Decimal(100)),
        ("string", "12.30", text("12.30")),
        ("string", "true", text("true")),
        ("string", r#"{"a": 1}"#, text(r#"{"a": 1}"#)),
        ("binary", "\"_-8\"", Value::Binary(vec![255, 239])),
        ("date", "\"2026-01-31T23:30:00-08:00\"", Days(20_484)),
        ("date", "\"2026-01-31 23:30:00\"", Days(20_484)),
        ("timestamp", "\"2026-01-31T08:00:00.9999999Z\"", Micros(1_769_846_400_999_999)),
        ("timestamp", "\"1969-12-31T23:59:59.9999999Z\"", Micros(-1)),
        ("timestamp", "\"2026-01-31 08:00:00\"", Micros(1_769_846_400_000_000)),
        ("timestamp", "\"20260131T0800+0000\"", Micros(1_769_846_400_000_000)),
        ("timestamp", "\"2016-12-31T23:59:60Z\"", Micros(1_483_228_799_000_000)),
        ("timestamp", "\"2026-01-31\"", Micros(1_769_817_600_000_000)),
        ("timestamp(ms)", "\"1500\"", Micros(1_500_000)),
        ("timestamp(ms)", "0.0009", Micros(0)),
        ("timestamp(ms)", "\"2026-01-31T08:00:00Z\"", Micros(1_769_846_400_000_000)),
        ("list<int64>", "[\"1\",2]", List(vec![Integer(1), Integer(2)])),
    ];
    for (column_type, json, expected) in cases {
        assert!(one(column_type, DeadLetter, json).is_err(), "{column_type}: {json} fits as it is");
        assert_eq!(one(column_type, Coerce, json), Ok(expected), "{column_type}: {json}");
    }
    let hopeless = [
        ("boolean", "\"yes\""),
        ("int64", "\"a\""),
        ("int64", "1e400"),
        ("int64", "[]"),
        ("float64", "\"1e400\""),
        ("decimal(5,2)", "999.999"),
        ("string", r#""\ud800""#),
        ("binary", "\"*\""),
        ("date", "\"31.1.2026\""),
        ("timestamp", "12"),
        ("timestamp", "\"2026-01-31T08:00:00+01:00[Europe/Paris]\""),
        ("timestamp(s)", "1769839200250"),
        ("list<int64>", "1"),
        ("struct<b: int64>", "\"{}\""),
    ];
    for (column_type, json) in hopeless {
        assert!(one(column_type, Coerce, json).is_err(), "{column_type}: {json}");
    }
}

#[test]
fn what_the_columns_do_not_hold_in_full_is_in_the_rest_column_as_it_was() {
    let schema = schema(&[
        ("id", "int64", DeadLetter),
        ("at", "timestamp", OnMismatch::Null),
        ("who", "struct<name: string, tags: list<string>>", OnMismatch::Null),
    ]);
    let cases = [
        (r#"{"id":1}"#, None),
        (r#"{"id":1,"who":{"name":"a","tags":["x"]}}"#, None),
        (r#"{"new": {"b" : 1.10e400} ,"id":1,"other":null}"#, Some(r#"{"new":{"b" : 1.10e400},"other":null}"#)),
        (r#"{"at":"yesterday","id":1}"#, Some(r#"{"at":"yesterday"}"#)),
        (r#"{"who":{"name":"a","age":7}}"#, Some(r#"{"who":{"name":"a","age":7}}"#)),
        (r#"{"who":{"name":"a","tags":["x",1]}}"#, Some(r#"{"who":{"name":"a","tags":["x",1]}}"#)),
        (r#"{"who":"a","z":1}"#, Some(r#"{"who":"a","z":1}"#)),
        (r#"{"_rest":1,"\u00e4\"":2,"":3}"#, Some(r#"{"_rest":1,"ä\"":2,"":3}"#)),
        (r#"{"z":1,"z":2}"#, Some(r#"{"z":1,"z":2}"#)),
        (r#"{"at":null,"at":"2026-01-31T08:00:00Z"}"#, Some(r#"{"at":null,"at":"2026-01-31T08:00:00Z"}"#)),
    ];
    let records: Vec<&str> = cases.iter().map(|(record, _)| *record).collect();
    let encoded = encode(&schema, &records);
    assert_eq!(encoded.refused, []);
    let expected: Vec<_> = cases.iter().map(|(_, rest)| rest.map(str::to_owned)).collect();
    assert_eq!(rests(&encoded), expected);
    let who = &values(&encoded)[5][2];
    let kept = Struct(vec![("name".into(), text("a")), ("tags".into(), List(vec![text("x"), Null]))]);
    assert_eq!(who, &kept, "only what does not fit is null");
}

#[test]
fn what_is_no_object_of_json_is_refused_alone() {
    let schema = schema(&[("a", "int64", DeadLetter)]);
    let records: Vec<Bytes> = [
        &br#"{"a":1}"#[..],
        b"",
        b"\xff{}",
        b"{\"a\":\"\xc3(\"}",
        b"{\"a\":1",
        b"{\"a\":1}{\"a\":2}",
        b"{\"a\":01}",
        b"{\"a\":NaN}",
        b"[{\"a\":1}]",
        b"1",
        b"null",
        b"\xef\xbb\xbf{\"a\":1}",
        b"{\"\\ud800\":1}",
        b" \n{\"a\":2}\r\n",
    ]
    .into_iter()
    .map(Bytes::from_static)
    .collect();
    let encoded = Encoder::new(&schema, Codec::None, FileSettings::default())
        .unwrap()
        .encode(&records, Vec::new(), Blocks::default(), usize::MAX)
        .unwrap();
    assert_eq!(values(&encoded), [[Integer(1)], [Integer(2)]]);
    let expected = [
        (1, Refusal::NotJson),
        (2, Refusal::NotUtf8 { valid_bytes: 0 }),
        (3, Refusal::NotUtf8 { valid_bytes: 6 }),
        (4, Refusal::NotJson),
        (5, Refusal::NotJson),
        (6, Refusal::NotJson),
        (7, Refusal::NotJson),
        (8, Refusal::NotAnObject("a list")),
        (9, Refusal::NotAnObject("a number")),
        (10, Refusal::NotAnObject("null")),
        (11, Refusal::NotJson),
        (12, Refusal::NotJson),
    ];
    assert_eq!(encoded.refused, expected);
    assert_eq!(row_count(&encoded), 2);
}

#[test]
fn a_refused_record_leaves_nothing_in_any_column() {
    let schema =
        schema(&[("a", "list<string>", DeadLetter), ("b", "decimal(20,0)", DeadLetter), ("c", "boolean", DeadLetter)]);
    let encoded = encode(
        &schema,
        &[
            r#"{"a":["x"],"b":1,"c":true,"d":1}"#,
            r#"{"a":["y","z"],"b":2,"c":"no","d":2}"#,
            r#"{"a":["p",1],"b":3,"c":true}"#,
            r#"{"a":[],"b":4,"c":false}"#,
        ],
    );
    let refused: Vec<usize> = encoded.refused.iter().map(|(index, _)| *index).collect();
    assert_eq!(refused, [1, 2]);
    let expected = [[List(vec![text("x")]), Decimal(1), Boolean(true)], [List(vec![]), Decimal(4), Boolean(false)]];
    assert_eq!(values(&encoded), expected);
    assert_eq!(rests(&encoded), [Some(r#"{"d":1}"#.into()), None]);
}

#[test]
fn a_field_that_stands_twice_is_not_guessed_at() {
    let record = r#"{"a":1,"b":{"c":1,"c":2},"a":2}"#;
    let of = |policy| schema(&[("a", "int64", policy), ("b", "struct<c: int64>", policy)]);
    let refused = encode(&of(DeadLetter), &[record]);
    let [(0, Refusal::Mismatch(mismatch))] = refused.refused[..] else { panic!("{:?}", refused.refused) };
    let described = Encoder::new(&of(DeadLetter), Codec::None, FileSettings::default()).unwrap().describe(mismatch);
    assert_eq!(described, "field `a`: int64 is declared, a field that stands twice was found");

    let nulled = encode(&of(OnMismatch::Null), &[record]);
    assert_eq!(values(&nulled), [[Null, Struct(vec![("c".into(), Null)])]]);
    assert_eq!(rests(&nulled), [Some(r#"{"a":1,"b":{"c":1,"c":2},"a":2}"#.to_owned())]);

    let coerced = encode(&of(Coerce), &[record]);
    assert_eq!(values(&coerced), [[Integer(2), Struct(vec![("c".into(), Integer(2))])]]);
}

#[test]
fn a_change_of_type_is_told_with_its_first_record_and_how_often() {
    let schema = schema(&[("a", "int64", Coerce), ("b", "date", OnMismatch::Null), ("c", "boolean", DeadLetter)]);
    let records = [
        r#"{"a":1}"#,
        r#"{"a":"2","b":7,"c":1}"#,
        r#"{"a":"3","b":"x"}"#,
        r#"{"a":"4","b":"y"}"#,
        r#"{"a":4.5,"c":2}"#,
        r#"{"a":4.5}"#,
    ];
    let encoded = encode(&schema, &records);
    let encoder = Encoder::new(&schema, Codec::None, FileSettings::default()).unwrap();
    let changes: Vec<_> = encoded
        .changes
        .iter()
        .map(|change| (encoder.describe(change.mismatch), change.outcome, change.first, change.values))
        .collect();
    let expected = [
        ("field `a`: int64 is declared, a number with a fraction was found".into(), Outcome::Coerced, 5, 1),
        ("field `a`: int64 is declared, a string was found".into(), Outcome::Coerced, 2, 2),
        ("field `b`: date is declared, a string that is no date was found".into(), Outcome::Null, 2, 2),
        ("field `c`: boolean is declared, a number was found".into(), Outcome::Refused, 1, 2),
    ];
    assert_eq!(changes, expected, "what a refused record has beside its reason does not count");
}

#[test]
fn a_record_that_blows_up_in_columns_is_refused() {
    let fields: Vec<String> = (0..20).map(|field| format!("f{field}: int64")).collect();
    let schema = schema(&[("a", &format!("list<struct<{}>>", fields.join(", ")), DeadLetter)]);
    let elements = vec!["{}"; 1_000_000].join(",");
    let encoded = encode(&schema, &[r#"{"a":[{"f0":1}]}"#, &format!("{{\"a\":[{elements}]}}"), r#"{"a":[]}"#]);
    assert_eq!(encoded.refused, [(1, Refusal::TooLarge)]);
    assert_eq!(row_count(&encoded), 2);
}
