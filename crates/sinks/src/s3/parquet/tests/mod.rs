//! Each test reads files with the row reader of the crate `parquet`, which shares the format with its writer but no code
//! with what makes columns of records.

mod files;
mod infer;
mod numbers;
mod properties;
mod reading;
mod rows;
mod schemas;

use bytes::Bytes;

use super::file::{EncodedFile, Encoder};
use super::{Codec, Column, ColumnType, FileSettings, OnMismatch, REST, Schema};
use crate::s3::blocks::Blocks;

/// Columns as `name type`, or `name type null` or `coerce`.
fn schema(columns: &[(&str, &str, OnMismatch)]) -> Schema {
    let column = |(name, column_type, on_mismatch): &(&str, &str, OnMismatch)| Column {
        name: (*name).into(),
        column_type: column_type.parse().unwrap(),
        on_mismatch: *on_mismatch,
    };
    Schema::new(columns.iter().map(column).collect(), REST).unwrap()
}

fn encode(schema: &Schema, records: &[&str]) -> EncodedFile {
    let records: Vec<Bytes> = records.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect();
    Encoder::new(schema, Codec::Zstd, FileSettings::default())
        .unwrap()
        .encode(&records, Vec::new(), Blocks::default(), usize::MAX)
        .unwrap()
}

fn column_type(text: &str) -> ColumnType {
    text.parse().unwrap()
}

/// The file.
fn bytes(encoded: &EncodedFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoded.body.write_to(&mut bytes).unwrap();
    bytes
}
