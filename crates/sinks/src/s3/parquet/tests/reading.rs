//! A file back to values, by the crate's row reader.

use bytes::Bytes;
use parquet::data_type::AsBytes as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;

use super::EncodedFile;

/// What a row reader says of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float32(f32),
    Float64(f64),
    /// Units of the last digit.
    Decimal(i128),
    Text(String),
    Binary(Vec<u8>),
    Days(i32),
    Micros(i64),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

pub(super) fn reader(encoded: &EncodedFile) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(Bytes::from(super::bytes(encoded))).unwrap()
}

pub(super) fn row_count(encoded: &EncodedFile) -> usize {
    usize::try_from(reader(encoded).metadata().file_metadata().num_rows()).unwrap()
}

/// The rows, and in each of them the columns.
pub(super) fn rows(encoded: &EncodedFile) -> Vec<Vec<(String, Value)>> {
    let reader = reader(encoded);
    reader.get_row_iter(None).unwrap().map(|row| fields(&row.unwrap())).collect()
}

/// The values of each row, without the rest column.
pub(super) fn values(encoded: &EncodedFile) -> Vec<Vec<Value>> {
    let rows = rows(encoded).into_iter();
    rows.map(|mut row| {
        row.pop();
        row.into_iter().map(|(_, value)| value).collect()
    })
    .collect()
}

/// The rest column.
pub(super) fn rests(encoded: &EncodedFile) -> Vec<Option<String>> {
    let rest = |mut row: Vec<(String, Value)>| match row.pop() {
        Some((_, Value::Text(text))) => Some(text),
        Some((_, Value::Null)) => None,
        other => panic!("{other:?} in the rest column"),
    };
    rows(encoded).into_iter().map(rest).collect()
}

fn fields(row: &parquet::record::Row) -> Vec<(String, Value)> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Boolean(*value),
        Field::Int(value) => Value::Integer((*value).into()),
        Field::Long(value) => Value::Integer(*value),
        Field::Float(value) => Value::Float32(*value),
        Field::Double(value) => Value::Float64(*value),
        Field::Str(value) => Value::Text(value.clone()),
        Field::Bytes(value) => Value::Binary(value.as_bytes().to_vec()),
        Field::Date(days) => Value::Days(*days),
        Field::TimestampMicros(micros) => Value::Micros(*micros),
        Field::Decimal(decimal) => {
            let negative = decimal.data().first().is_some_and(|first| *first >= 0x80);
            let start = if negative { -1 } else { 0 };
            Value::Decimal(decimal.data().iter().fold(start, |units, byte| units << 8 | i128::from(*byte)))
        }
        Field::ListInternal(list) => Value::List(list.elements().iter().map(value).collect()),
        Field::Group(row) => Value::Struct(fields(row)),
        other => panic!("no column is written as {other:?}"),
    }
}
