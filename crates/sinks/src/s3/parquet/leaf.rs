//! The buffer of one column of a file: its values, and the levels that say where nulls and lists stand.

use std::borrow::Cow;
use std::mem::size_of;

use bytes::Bytes;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type,
};
use parquet::errors::Result;
use parquet::file::writer::SerializedColumnWriter;

use super::layout::{INT32_DIGITS, INT64_DIGITS, LeafType, decimal_bytes};
use super::schema::{ColumnType, TimeForm};
use super::value::{self, Found, Read};

/// Where an entry stands: how much of its path is there, and at which level it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) definition: i16,
    pub(super) repetition: i16,
}

impl Level {
    /// So many parts further down its path.
    pub(super) fn deeper(self, parts: i16) -> Self {
        Self { definition: self.definition + parts, ..self }
    }
}

#[derive(Debug)]
pub(super) struct Leaf {
    values: Values,
    definitions: Vec<i16>,
    /// Empty for what stands in no list.
    repetitions: Vec<i16>,
    is_repeated: bool,
}

#[derive(Debug)]
enum Values {
    Boolean(Vec<bool>),
    Int32(Int32, Vec<i32>),
    Int64(Int64, Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Bytes(Text, Vec<ByteArray>),
    Decimal { precision: u8, scale: u8, values: Vec<FixedLenByteArray> },
}

#[derive(Debug, Clone, Copy)]
enum Int32 {
    Integer,
    Date,
    Decimal { precision: u8, scale: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Int64 {
    Integer,
    Timestamp(TimeForm),
    Decimal { precision: u8, scale: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Text {
    String,
    Binary,
    Json,
}

impl Leaf {
    pub(super) fn of(leaf: &LeafType) -> Self {
        let values = match leaf.column_type {
            ColumnType::Boolean => Values::Boolean(Vec::new()),
            ColumnType::Int32 => Values::Int32(Int32::Integer, Vec::new()),
            ColumnType::Date => Values::Int32(Int32::Date, Vec::new()),
            ColumnType::Int64 => Values::Int64(Int64::Integer, Vec::new()),
            ColumnType::Timestamp(form) => Values::Int64(Int64::Timestamp(form), Vec::new()),
            ColumnType::Float32 => Values::Float32(Vec::new()),
            ColumnType::Float64 => Values::Float64(Vec::new()),
            ColumnType::Decimal { precision, scale } => match precision {
                digits if digits <= INT32_DIGITS => Values::Int32(Int32::Decimal { precision, scale }, Vec::new()),
                digits if digits <= INT64_DIGITS => Values::Int64(Int64::Decimal { precision, scale }, Vec::new()),
                _ => Values::Decimal { precision, scale, values: Vec::new() },
            },
            ColumnType::Binary => Values::Bytes(Text::Binary, Vec::new()),
            ColumnType::String => Values::Bytes(Text::String, Vec::new()),
            // Structs and lists have leaves and are none.
            ColumnType::Json | ColumnType::List(_) | ColumnType::Struct(_) => Values::Bytes(Text::Json, Vec::new()),
        };
        let is_repeated = leaf.is_repeated;
        Self { values, definitions: Vec::new(), repetitions: Vec::new(), is_repeated }
    }

    /// How many entries and how many values it has.
    pub(super) fn len(&self) -> (usize, usize) {
        let values = match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Int32(_, values) => values.len(),
            Values::Int64(_, values) => values.len(),
            Values::Float32(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Bytes(_, values) => values.len(),
            Values::Decimal { values, .. } => values.len(),
        };
        (self.definitions.len(), values)
    }

    /// Takes back what came after it had this length.
    pub(super) fn truncate(&mut self, (entries, values): (usize, usize)) {
        self.definitions.truncate(entries);
        self.repetitions.truncate(entries);
        match &mut self.values {
            Values::Boolean(all) => all.truncate(values),
            Values::Int32(_, all) => all.truncate(values),
            Values::Int64(_, all) => all.truncate(values),
            Values::Float32(all) => all.truncate(values),
            Values::Float64(all) => all.truncate(values),
            Values::Bytes(_, all) => all.truncate(values),
            Values::Decimal { values: all, .. } => all.truncate(values),
        }
    }

    /// An entry without a value. Returns the memory that it takes, in bytes.
    pub(super) fn push_null(&mut self, level: Level) -> usize {
        self.definitions.push(level.definition);
        if self.is_repeated {
            self.repetitions.push(level.repetition);
        }
        2 * size_of::<i16>()
    }

    /// A value of JSON, which is a slice of `record`. Returns the memory that it takes, in bytes, and what it was where it
    /// had to be made to fit.
    ///
    /// # Errors
    /// What it is that does not fit; nothing is taken of it.
    pub(super) fn push(
        &mut self,
        json: &str,
        record: &Bytes,
        coerce: bool,
        level: Level,
    ) -> std::result::Result<(usize, Option<Found>), Found> {
        let mut text_bytes = 0;
        let coerced = match &mut self.values {
            Values::Boolean(values) => put(values, value::boolean(json, coerce)?),
            Values::Int32(form, values) => put(values, form.read(json, coerce)?),
            Values::Int64(form, values) => put(values, form.read(json, coerce)?),
            Values::Float32(values) => put(values, value::float32(json, coerce)?),
            Values::Float64(values) => put(values, value::float64(json, coerce)?),
            Values::Bytes(form, values) => {
                let (text, coerced) = form.read(json, record, coerce)?;
                text_bytes = text.len();
                put(values, (text, coerced))
            }
            Values::Decimal { precision, scale, values } => {
                let (units, coerced) = value::decimal::<i128>(json, *precision, *scale, coerce)?;
                let bytes = units.to_be_bytes();
                let kept = bytes.get(bytes.len() - decimal_bytes(*precision)..).unwrap_or_default();
                put(values, (ByteArray::from(kept).into(), coerced))
            }
        };
        Ok((text_bytes + self.value_bytes() + self.push_null(level), coerced))
    }

    fn value_bytes(&self) -> usize {
        match &self.values {
            Values::Boolean(_) => size_of::<bool>(),
            Values::Int32(..) | Values::Float32(_) => size_of::<i32>(),
            Values::Int64(..) | Values::Float64(_) => size_of::<i64>(),
            Values::Bytes(..) => size_of::<ByteArray>(),
            Values::Decimal { .. } => size_of::<FixedLenByteArray>() + size_of::<i128>(),
        }
    }

    /// The rest column's value: JSON text that was made for it.
    pub(super) fn push_text(&mut self, text: String, level: Level) -> usize {
        let bytes = text.len() + self.value_bytes() + self.push_null(level);
        if let Values::Bytes(_, values) = &mut self.values {
            values.push(text.into_bytes().into());
        }
        bytes
    }

    /// Writes the column chunk.
    pub(super) fn write(&self, column: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let definitions = Some(self.definitions.as_slice());
        let repetitions = self.is_repeated.then_some(self.repetitions.as_slice());
        match &self.values {
            Values::Boolean(values) => column.typed::<BoolType>().write_batch(values, definitions, repetitions)?,
            Values::Int32(_, values) => column.typed::<Int32Type>().write_batch(values, definitions, repetitions)?,
            Values::Int64(_, values) => column.typed::<Int64Type>().write_batch(values, definitions, repetitions)?,
            Values::Float32(values) => column.typed::<FloatType>().write_batch(values, definitions, repetitions)?,
            Values::Float64(values) => column.typed::<DoubleType>().write_batch(values, definitions, repetitions)?,
            Values::Bytes(_, values) => {
                column.typed::<ByteArrayType>().write_batch(values, definitions, repetitions)?
            }
            Values::Decimal { values, .. } => {
                column.typed::<FixedLenByteArrayType>().write_batch(values, definitions, repetitions)?
            }
        };
        Ok(())
    }
}

fn put<T>(values: &mut Vec<T>, (value, coerced): (T, Option<Found>)) -> Option<Found> {
    values.push(value);
    coerced
}

impl Int32 {
    fn read(self, json: &str, coerce: bool) -> Read<i32> {
        match self {
            Self::Integer => value::integer(json, coerce),
            Self::Date => value::date(json, coerce),
            Self::Decimal { precision, scale } => value::decimal(json, precision, scale, coerce),
        }
    }
}

impl Int64 {
    fn read(self, json: &str, coerce: bool) -> Read<i64> {
        match self {
            Self::Integer => value::integer(json, coerce),
            Self::Timestamp(form) => value::timestamp(json, form, coerce),
            Self::Decimal { precision, scale } => value::decimal(json, precision, scale, coerce),
        }
    }
}

impl Text {
    fn read(self, json: &str, record: &Bytes, coerce: bool) -> Read<ByteArray> {
        let (text, coerced) = match self {
            Self::Binary => {
                let (bytes, coerced) = value::binary(json, coerce)?;
                return Ok((bytes.into(), coerced));
            }
            Self::String => value::string(json, coerce)?,
            Self::Json => (Cow::Borrowed(json), None),
        };
        let bytes = match text {
            // What is borrowed is a slice of the record: it is shared, not copied.
            Cow::Borrowed(text) => record.slice_ref(text.as_bytes()).into(),
            Cow::Owned(text) => text.into_bytes().into(),
        };
        Ok((bytes, coerced))
    }
}
