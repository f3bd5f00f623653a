//! The columns of a file, as they are declared.

use std::collections::HashMap;

/// The name of the rest column where none is given.
pub const REST: &str = "_rest";

/// Far more than any table has; each takes memory for every row.
const LEAVES_MAX: usize = 1_000;
/// Lists and structs inside one another.
pub(super) const DEPTH_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;
/// What 128 bits hold.
const PRECISION_MAX: u8 = 38;

/// What a value of a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// The nearest number of 32 bits.
    Float32,
    /// The nearest number of 64 bits.
    Float64,
    /// An exact number; in JSON also as text.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, no more than `precision`.
        scale: u8,
    },
    /// Text.
    String,
    /// Bytes; in JSON as text in base64.
    Binary,
    /// A day; in JSON as `"2026-01-31"`.
    Date,
    /// A moment to the microsecond, in UTC.
    Timestamp(TimeForm),
    /// Any value, as the JSON text that it was.
    Json,
    /// Values of one type.
    List(Box<Self>),
    /// Fields by name.
    Struct(Vec<(String, Self)>),
}

/// How a moment stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeForm {
    /// Text of RFC 3339.
    Text,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
}

/// What becomes of a value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnMismatch {
    /// Its record is refused.
    #[default]
    DeadLetter,
    /// It becomes null; its field goes to the rest column as it was.
    Null,
    /// It is made to fit where that can be done; if not, its record is refused.
    Coerce,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The record's field of this name, in the records and in the file.
    pub name: String,
    /// What its values are.
    pub column_type: ColumnType,
    /// What becomes of those that are not.
    pub on_mismatch: OnMismatch,
}

/// The columns of a file, in order, and the rest column after them. Each takes null, which is also what a missing field is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
    rest: String,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all.
    None,
    /// Snappy: larger, quicker.
    Snappy,
    /// Zstandard.
    Zstd,
}

/// What Parquet files are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetSettings {
    /// Their columns.
    pub schema: Schema,
    /// How their pages are compressed.
    pub codec: Codec,
    /// How values stand in them.
    pub file: FileSettings,
}

/// How the values of a file are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSettings {
    /// A row group closes when its values take so many bytes in memory, their texts included. Default 32 MiB.
    pub row_group_bytes: usize,
    /// A page closes at so many bytes, which is what readers decode at a time. Default 1 MiB.
    pub page_bytes: usize,
    /// A column whose different values take more than this is written without a dictionary from there on; 0: each is.
    /// Default 1 MiB.
    pub dictionary_bytes: usize,
    /// Of what lowest and highest values are told.
    pub statistics: Statistics,
}

/// Of what a file tells the lowest and highest value of each column, so that readers may skip it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Statistics {
    /// Of each page and each row group.
    #[default]
    Page,
    /// Of each row group.
    RowGroup,
    /// Of nothing.
    None,
}

impl Default for FileSettings {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self { row_group_bytes: 32 * MIB, page_bytes: MIB, dictionary_bytes: MIB, statistics: Statistics::default() }
    }
}

/// Columns that no file can have: what is wrong, and how it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub(super) String);

impl Schema {
    /// These columns, and one of the name `rest` for what they do not hold.
    ///
    /// # Errors
    /// [`SchemaError`] names the column: a name that is empty, too long, or like another but for case; a decimal of no or
    /// too many digits; too many columns, or too many types inside one another.
    pub fn new(columns: Vec<Column>, rest: &str) -> Result<Self, SchemaError> {
        if columns.is_empty() {
            return Err(SchemaError("there is no column: declare one at least".into()));
        }
        check_names(columns.iter().map(|column| column.name.as_str()).chain([rest]))?;
        let mut leaves = 1;
        for column in &columns {
            leaves += check(&column.column_type, 0)
                .map_err(|SchemaError(why)| SchemaError(format!("column `{}`: {why}", column.name)))?;
        }
        if leaves > LEAVES_MAX {
            let why = format!("{leaves} columns, fields of structs counted: {LEAVES_MAX} at most");
            return Err(SchemaError(format!("{why}; what is declared as json counts once")));
        }
        Ok(Self { columns, rest: rest.into() })
    }

    /// The columns that were declared.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The name of the column of fields that the others do not hold in full.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

/// How many leaves the type has.
fn check(column_type: &ColumnType, depth: usize) -> Result<usize, SchemaError> {
    if depth > DEPTH_MAX {
        return Err(SchemaError(format!(
            "more than {DEPTH_MAX} types inside one another: declare the inner ones as json"
        )));
    }
    match column_type {
        ColumnType::Decimal { precision, scale } => {
            if *precision == 0 || *precision > PRECISION_MAX || scale > precision {
                let why = format!("decimal({precision},{scale}) is none: 1 to {PRECISION_MAX} digits in all");
                return Err(SchemaError(format!("{why}, and no more than these after the point")));
            }
            Ok(1)
        }
        ColumnType::List(element) => check(element, depth + 1),
        ColumnType::Struct(fields) => {
            if fields.is_empty() {
                return Err(SchemaError("a struct without fields cannot stand in a file: declare it as json".into()));
            }
            check_names(fields.iter().map(|(name, _)| name.as_str()))?;
            fields.iter().map(|(_, field)| check(field, depth + 1)).sum()
        }
        _ => Ok(1),
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), SchemaError> {
    let mut seen = HashMap::new();
    for name in names {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let why = format!("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters");
            return Err(SchemaError(format!("{name:?} cannot name a column or field: {why}")));
        }
        let Some(other) = seen.insert(name.to_lowercase(), name) else { continue };
        let why = match other == name {
            true => format!("`{name}` is declared twice: a name stands once"),
            false => format!(
                "`{other}` and `{name}` differ in case alone, which readers do not tell apart: leave one of them to the \
                 rest column, or rename it in [transform]"
            ),
        };
        return Err(SchemaError(why));
    }
    Ok(())
}
