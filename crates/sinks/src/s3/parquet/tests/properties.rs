//! What goes in comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp, civil};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::reading::{self, Value};
use super::schemas::any_type;
use crate::s3::blocks::Blocks;
use crate::s3::parquet::file::Encoder;
use crate::s3::parquet::{Codec, Column, ColumnType, FileSettings, OnMismatch, REST, Schema, TimeForm};

/// JSON of a value that fits the type, and the value.
fn cell(column_type: &ColumnType) -> BoxedStrategy<(String, Value)> {
    let fitting = match column_type.clone() {
        ColumnType::Boolean => any::<bool>().prop_map(|value| (value.to_string(), Value::Boolean(value))).boxed(),
        ColumnType::Int32 => {
            any::<i32>().prop_map(|value| (format!("{value}.0"), Value::Integer(value.into()))).boxed()
        }
        ColumnType::Int64 => any::<i64>().prop_map(|value| (value.to_string(), Value::Integer(value))).boxed(),
        ColumnType::Float32 => finite(any::<f32>().prop_map(|value| (format!("{value:?}"), Value::Float32(value)))),
        ColumnType::Float64 => finite(any::<f64>().prop_map(|value| (format!("{value:?}"), Value::Float64(value)))),
        ColumnType::Decimal { precision, scale } => {
            let end = 10_i128.pow(precision.into());
            let number = (1 - end..end, any::<bool>()).prop_map(move |(units, quoted)| {
                let quote = if quoted { "\"" } else { "" };
                (format!("{quote}{units}e-{scale}{quote}"), Value::Decimal(units))
            });
            number.boxed()
        }
        ColumnType::String => {
            any::<String>().prop_map(|text| (Json::from(&*text).to_string(), Value::Text(text))).boxed()
        }
        ColumnType::Binary => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| (format!("\"{}\"", base64(&bytes)), Value::Binary(bytes)))
            .boxed(),
        ColumnType::Date => (-719_162..2_932_897_i32)
            .prop_map(|days| {
                let day = civil::date(1970, 1, 1) + SignedDuration::from_hours(24 * i64::from(days));
                (format!("\"{day}\""), Value::Days(days))
            })
            .boxed(),
        ColumnType::Timestamp(form) => {
            (-62_135_596_800_i64..253_402_300_800, 0_i64..1_000_000).prop_map(move |moment| time(form, moment)).boxed()
        }
        ColumnType::Json => json(2).prop_map(|text| (text.clone(), Value::Text(text))).boxed(),
        ColumnType::List(element) => prop::collection::vec(cell(&element), 0..4)
            .prop_map(|cells| {
                let (texts, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
                (format!("[{}]", texts.join(" , ")), Value::List(values))
            })
            .boxed(),
        ColumnType::Struct(fields) => row(&fields).prop_map(|(text, values)| (text, Value::Struct(values))).boxed(),
    };
    prop_oneof![1 => Just(("null".to_owned(), Value::Null)), 6 => fitting].boxed()
}

fn finite(cells: impl Strategy<Value = (String, Value)> + 'static) -> BoxedStrategy<(String, Value)> {
    cells.prop_filter("JSON has no such number", |(text, _)| !text.contains(['N', 'i'])).boxed()
}

fn time(form: TimeForm, (seconds, micros): (i64, i64)) -> (String, Value) {
    let all = seconds * 1_000_000 + micros;
    let text = match form {
        TimeForm::Text => format!("\"{}\"", Timestamp::from_microsecond(all).unwrap()),
        TimeForm::Seconds => format!("{all}e-6"),
        TimeForm::Milliseconds => format!("{all}e-3"),
        TimeForm::Microseconds => all.to_string(),
        TimeForm::Nanoseconds => format!("{all}000"),
    };
    (text, Value::Micros(all))
}

/// An object of fields in any order, of which some may be missing.
fn row(fields: &[(String, ColumnType)]) -> BoxedStrategy<Row> {
    let cells: Vec<_> = fields.iter().map(|(_, field)| prop::option::weighted(0.9, cell(field))).collect();
    let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
    let row = (cells, any::<u64>()).prop_map(move |(cells, order)| {
        let present = names.iter().zip(&cells).filter_map(|(name, cell)| Some((name, &cell.as_ref()?.0)));
        let mut texts: Vec<String> =
            present.map(|(name, text)| format!(" {}:{text}", Json::from(name.as_str()))).collect();
        let turns = usize::try_from(order).unwrap() % texts.len().max(1);
        texts.rotate_left(turns);
        let values =
            names.iter().cloned().zip(cells.into_iter().map(|cell| cell.map_or(Value::Null, |(_, value)| value)));
        (format!("{{{}}}", texts.join(",")), values.collect())
    });
    row.boxed()
}

/// JSON text of any kind, but null.
fn json(depth: u32) -> BoxedStrategy<String> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (any::<i32>(), -20..7).prop_map(|(digits, exponent)| format!("{digits}e{exponent}")),
        ".{0,4}".prop_map(|text| Json::from(text).to_string()),
    ];
    let value = scalar.prop_recursive(depth, 8, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(",")));
        let object = prop::collection::btree_map("[a-d]", inner, 0..3).prop_map(|all: BTreeMap<String, String>| {
            let members: Vec<String> = all.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![list, object]
    });
    value.boxed()
}

/// By the book, three bytes at a time.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |chunk: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, place| bits << 8 | usize::from(*chunk.get(place).unwrap_or(&0)));
        let letter = |place: usize| match place <= chunk.len() {
            true => char::from(LETTERS[bits >> (18 - 6 * place) & 63]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(letters).collect()
}

type Declared = Vec<(String, ColumnType)>;
/// The text of a record, and the values of its columns.
type Row = (String, Vec<(String, Value)>);

fn fields_and_rows() -> impl Strategy<Value = (Declared, Vec<Row>)> {
    let fields = prop::collection::vec(any_type(3), 1..5).prop_map(|types| {
        types
            .into_iter()
            .enumerate()
            .map(|(index, column_type)| (format!("c{index}"), column_type))
            .collect::<Declared>()
    });
    fields.prop_flat_map(|fields| {
        let rows = prop::collection::vec(row(&fields), 0..20);
        (Just(fields), rows)
    })
}

fn schema(fields: Vec<(String, ColumnType)>, on_mismatch: OnMismatch) -> Schema {
    let columns = fields.into_iter().map(|(name, column_type)| Column { name, column_type, on_mismatch });
    Schema::new(columns.collect(), REST).unwrap()
}

/// A value as JSON: how the record would have said it. Fields that are null are left out.
fn as_json(value: &Value, column_type: &ColumnType) -> Json {
    match (value, column_type) {
        (Value::Null, _) => Json::Null,
        (Value::Boolean(value), _) => (*value).into(),
        (Value::Integer(value), _) => (*value).into(),
        (Value::Text(text), ColumnType::Json) => without_nulls(serde_json::from_str(text).unwrap()),
        (Value::Text(text), _) => text.as_str().into(),
        (Value::List(values), ColumnType::List(element)) => {
            values.iter().map(|value| as_json(value, element)).collect()
        }
        (Value::Struct(values), ColumnType::Struct(fields)) => {
            let members =
                values.iter().zip(fields).map(|((name, value), (_, field))| (name.clone(), as_json(value, field)));
            members.filter(|(_, value)| !value.is_null()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn without_nulls(json: Json) -> Json {
    match json {
        Json::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            members.map(|(name, value)| (name, without_nulls(value))).collect()
        }
        Json::Array(elements) => elements.into_iter().map(without_nulls).collect(),
        // Whatever way a whole number is written: those of the strategy are below 2^53.
        Json::Number(number) => match number.as_f64() {
            Some(whole) if number.as_i64().is_none() && whole.fract() == 0.0 && whole.abs() < 9e15 =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole and small")]
                (whole as i64).into()
            }
            _ => Json::Number(number),
        },
        other => other,
    }
}

fn plain_type() -> BoxedStrategy<ColumnType> {
    let plain = prop_oneof![
        Just(ColumnType::Boolean),
        Just(ColumnType::Int64),
        Just(ColumnType::String),
        Just(ColumnType::Json)
    ];
    plain
        .prop_recursive(2, 6, 3, |inner| {
            let fields = prop::collection::btree_map("[a-d]", inner.clone(), 1..3)
                .prop_map(|fields| ColumnType::Struct(fields.into_iter().collect()));
            prop_oneof![inner.prop_map(|element| ColumnType::List(Box::new(element))), fields]
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_value_that_fits_comes_back((fields, rows) in fields_and_rows(), codec in 0..3) {
        let schema = schema(fields, OnMismatch::DeadLetter);
        let codec = [Codec::None, Codec::Snappy, Codec::Zstd][usize::try_from(codec).unwrap()];
        let records: Vec<Bytes> = rows.iter().map(|(text, _)| Bytes::from(text.clone())).collect();
        let encoded = Encoder::new(&schema, codec, FileSettings::default()).unwrap().encode(&records, Vec::new(), Blocks::default(), usize::MAX).unwrap();
        prop_assert_eq!(&encoded.refused, &[]);
        let mut expected: Vec<_> = rows.into_iter().map(|(_, values)| values).collect();
        expected.iter_mut().for_each(|row| row.push((REST.into(), Value::Null)));
        prop_assert_eq!(reading::rows(&encoded), expected);
    }

    #[test]
    fn nothing_of_a_record_is_dropped(
        types in prop::collection::vec(plain_type(), 1..4),
        records in prop::collection::vec(prop::collection::btree_map("[a-e]", json(3), 0..5), 1..10),
    ) {
        let fields: Vec<_> = ["a", "b", "c"].map(String::from).into_iter().zip(types).collect();
        let schema = schema(fields.clone(), OnMismatch::Null);
        let text = |record: &BTreeMap<String, String>| {
            let members: Vec<String> = record.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            Bytes::from(format!("{{{}}}", members.join(",")))
        };
        let texts: Vec<Bytes> = records.iter().map(text).collect();
        let encoded = Encoder::new(&schema, Codec::Zstd, FileSettings::default()).unwrap().encode(&texts, Vec::new(), Blocks::default(), usize::MAX).unwrap();
        prop_assert_eq!(&encoded.refused, &[]);
        let rows = reading::rows(&encoded);
        prop_assert_eq!(rows.len(), records.len());
        for ((record, row), rest) in records.iter().zip(&rows).zip(reading::rests(&encoded)) {
            let rest: Json = rest.map_or(Json::Null, |rest| serde_json::from_str(&rest).unwrap());
            for (name, original) in record {
                let original = without_nulls(serde_json::from_str(original).unwrap());
                if let Some(kept) = rest.get(name) {
                    prop_assert_eq!(without_nulls(kept.clone()), original);
                    continue;
                }
                let column = fields.iter().zip(row).find(|((column, _), _)| column == name);
                let Some(((_, column_type), (_, value))) = column else {
                    panic!("{name} is nowhere");
                };
                prop_assert_eq!(without_nulls(as_json(value, column_type)), original);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_row_or_refused(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..10)) {
        let schema = schema(vec![("a".into(), ColumnType::Int64)], OnMismatch::DeadLetter);
        let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
        let encoded = Encoder::new(&schema, Codec::Zstd, FileSettings::default()).unwrap().encode(&records, Vec::new(), Blocks::default(), usize::MAX).unwrap();
        prop_assert_eq!(reading::row_count(&encoded) + encoded.refused.len(), records.len());
    }
}
