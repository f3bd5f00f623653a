//! Columns that a sample of records would fit, to be read by a person and put into the pipeline file.

use std::collections::HashMap;
use std::fmt;

use serde_json::value::RawValue;

use super::number::{digits, is_float64};
use super::rows::Refusal;
use super::schema::{Column, ColumnType, DEPTH_MAX, OnMismatch, REST, Schema, TimeForm};
use super::value::{FINER, date, integer, timestamp};
use crate::json::{each_element, each_field};

/// An object of more fields is taken for a map, whose keys are data.
const FIELDS_MAX: usize = 100;
const DIGITS_MAX: i64 = 38;

/// What records had in their fields.
#[derive(Debug, Default)]
pub struct Sample {
    record: Object,
    records: u64,
    refused: u64,
}

/// Columns, and what a person should know of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The columns, if there is one.
    pub columns: Vec<Column>,
    /// Fields that no column is proposed for, with the reason.
    pub left_out: Vec<(String, String)>,
    /// How many records had each column, null not counted.
    pub seen: Vec<u64>,
    /// How many records were looked at.
    pub records: u64,
    /// How many of them are no JSON objects: each would be refused.
    pub refused: u64,
}

/// The fields of objects, in the order in which they were met.
#[derive(Debug, Default)]
struct Object {
    fields: Vec<(String, Values)>,
    by_name: HashMap<String, usize>,
    /// It had more fields than are kept.
    is_map: bool,
}

/// What was met in one place. Nulls leave no trace.
#[derive(Debug, Default)]
struct Values {
    seen: u64,
    booleans: bool,
    numbers: Option<Numbers>,
    strings: Option<Strings>,
    elements: Option<Box<Values>>,
    object: Option<Object>,
    too_deep: bool,
}

#[derive(Debug)]
struct Numbers {
    all_int64: bool,
    all_whole: bool,
    all_float64: bool,
    digits_before: i64,
    digits_after: i64,
}

#[derive(Debug)]
struct Strings {
    all_dates: bool,
    all_times: bool,
    /// A time was finer than a column of times is.
    finer: bool,
}

impl Sample {
    /// Looks at the next record.
    pub fn add(&mut self, record: &[u8]) {
        self.records += 1;
        let object = std::str::from_utf8(record).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        match object.filter(|value| value.get().starts_with('{')) {
            Some(object) if self.record.add(object, 0).is_ok() => {}
            _ => self.refused += 1,
        }
    }

    /// The columns that all records of the sample would have fitted.
    #[must_use]
    pub fn propose(&self) -> Proposal {
        let (mut columns, mut seen, mut left_out) = (Vec::<Column>::new(), Vec::new(), Vec::new());
        for (name, values) in &self.record.fields {
            let Some((column_type, on_mismatch)) = values.propose() else {
                left_out.push((name.clone(), "null in all of the sample".into()));
                continue;
            };
            let column = Column { name: name.clone(), column_type, on_mismatch };
            columns.push(column);
            if let Err(error) = Schema::new(columns.clone(), REST) {
                columns.pop();
                left_out.push((name.clone(), error.to_string()));
                continue;
            }
            seen.push(values.seen);
        }
        if self.record.is_map {
            left_out.push(("…".into(), format!("more than {FIELDS_MAX} fields")));
        }
        Proposal { columns, left_out, seen, records: self.records, refused: self.refused }
    }
}

impl Object {
    fn add(&mut self, object: &RawValue, depth: usize) -> Result<(), Refusal> {
        each_field::<Refusal>(object, |name, value| {
            let place = match self.by_name.get(&*name) {
                Some(place) => *place,
                None if self.fields.len() == FIELDS_MAX => {
                    self.is_map = true;
                    return Ok(());
                }
                None => {
                    self.by_name.insert(name.to_string(), self.fields.len());
                    self.fields.push((name.into_owned(), Values::default()));
                    self.fields.len() - 1
                }
            };
            if let Some((_, values)) = self.fields.get_mut(place) {
                values.add(value, depth);
            }
            Ok(())
        })
    }
}

impl Values {
    fn add(&mut self, value: &RawValue, depth: usize) {
        let json = value.get();
        if json == "null" {
            return;
        }
        self.seen += 1;
        match json.as_bytes().first() {
            Some(b'{' | b'[') if depth >= DEPTH_MAX => self.too_deep = true,
            Some(b'{') => {
                let added = self.object.get_or_insert_default().add(value, depth + 1);
                // A key of half a surrogate pair can name no field.
                self.too_deep |= added.is_err();
            }
            Some(b'[') => {
                let elements = self.elements.get_or_insert_default();
                let added = each_element::<Refusal>(value, |element| {
                    elements.add(element, depth + 1);
                    Ok(())
                });
                self.too_deep |= added.is_err();
            }
            Some(b'"') => self.strings.get_or_insert_with(Strings::new).add(json),
            Some(b't' | b'f') => self.booleans = true,
            _ => self.numbers.get_or_insert_with(Numbers::new).add(json),
        }
    }

    /// A type that holds everything that was met, and whether it does so only by making it fit. None if nothing was.
    fn propose(&self) -> Option<(ColumnType, OnMismatch)> {
        let scalars = [self.booleans, self.numbers.is_some(), self.strings.is_some()];
        let scalars = scalars.iter().filter(|met| **met).count();
        match (&self.object, &self.elements) {
            _ if self.too_deep => Some((ColumnType::Json, OnMismatch::DeadLetter)),
            (None, None) if scalars == 0 => None,
            (None, None) if scalars > 1 => Some((ColumnType::String, OnMismatch::Coerce)),
            (None, None) => self.scalar(),
            (Some(object), None) if scalars == 0 => Some(object.propose()),
            (None, Some(elements)) if scalars == 0 => Some(match elements.propose() {
                Some((element, on_mismatch)) => (ColumnType::List(Box::new(element)), on_mismatch),
                None => (ColumnType::Json, OnMismatch::DeadLetter),
            }),
            _ => Some((ColumnType::Json, OnMismatch::DeadLetter)),
        }
    }

    fn scalar(&self) -> Option<(ColumnType, OnMismatch)> {
        if let Some(numbers) = &self.numbers {
            return Some(numbers.propose());
        }
        if let Some(strings) = &self.strings {
            return Some(strings.propose());
        }
        self.booleans.then_some((ColumnType::Boolean, OnMismatch::DeadLetter))
    }
}

impl Object {
    /// A struct of what its fields are; JSON where they are no names, or names of nothing.
    fn propose(&self) -> (ColumnType, OnMismatch) {
        let (mut fields, mut policy) = (Vec::new(), OnMismatch::DeadLetter);
        for (name, values) in &self.fields {
            let Some((field, on_mismatch)) = values.propose() else { continue };
            fields.push((name.clone(), field));
            if on_mismatch == OnMismatch::Coerce {
                policy = on_mismatch;
            }
        }
        let column_type = ColumnType::Struct(fields);
        let column = Column { name: "struct".into(), column_type: column_type.clone(), on_mismatch: policy };
        if self.is_map || Schema::new(vec![column], REST).is_err() {
            return (ColumnType::Json, OnMismatch::DeadLetter);
        }
        (column_type, policy)
    }
}

impl Numbers {
    fn new() -> Self {
        Self { all_int64: true, all_whole: true, all_float64: true, digits_before: 1, digits_after: 0 }
    }

    fn add(&mut self, number: &str) {
        let (before, after) = digits(number);
        self.all_whole &= after == 0;
        self.all_int64 &= integer::<i64>(number, false).is_ok();
        self.all_float64 &= is_float64(number);
        self.digits_before = self.digits_before.max(before);
        self.digits_after = self.digits_after.max(after);
    }

    /// The narrowest type that loses no digit.
    fn propose(&self) -> (ColumnType, OnMismatch) {
        let digits = self.digits_before.saturating_add(self.digits_after);
        let fits_decimal = digits <= DIGITS_MAX;
        let column_type = match u8::try_from(self.digits_after) {
            _ if self.all_int64 => ColumnType::Int64,
            _ if self.all_float64 && !(self.all_whole && fits_decimal) => ColumnType::Float64,
            // Room for what is larger than all of the sample.
            Ok(scale) if fits_decimal => ColumnType::Decimal { precision: 38, scale },
            _ => return (ColumnType::String, OnMismatch::Coerce),
        };
        (column_type, OnMismatch::DeadLetter)
    }
}

impl Strings {
    fn new() -> Self {
        Self { all_dates: true, all_times: true, finer: false }
    }

    fn add(&mut self, json: &str) {
        if !self.all_dates && !self.all_times {
            return;
        }
        self.all_dates &= date(json, false).is_ok();
        match timestamp(json, TimeForm::Text, true) {
            Ok((_, None)) => {}
            Ok((_, Some(FINER))) => self.finer = true,
            _ => self.all_times = false,
        }
    }

    fn propose(&self) -> (ColumnType, OnMismatch) {
        let on_mismatch = if self.finer { OnMismatch::Coerce } else { OnMismatch::DeadLetter };
        match self.all_times {
            _ if self.all_dates => (ColumnType::Date, OnMismatch::DeadLetter),
            true => (ColumnType::Timestamp(TimeForm::Text), on_mismatch),
            false => (ColumnType::String, OnMismatch::DeadLetter),
        }
    }
}

/// The table to put into the pipeline file, below its `[[sink]]`.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# proposed from {} records: read it, and write it as you know the data", self.records)?;
        if self.refused > 0 {
            writeln!(f, "# {} of them are no JSON objects and would be refused", self.refused)?;
        }
        writeln!(f, "[sink.columns]")?;
        for (column, seen) in self.columns.iter().zip(&self.seen) {
            let column_type = quoted(&column.column_type.to_string());
            let value = match column.on_mismatch {
                OnMismatch::DeadLetter => column_type,
                other => format!("{{ type = {column_type}, on_mismatch = \"{other}\" }}"),
            };
            let rows = self.records - self.refused;
            let missing = if *seen < rows { format!(" # in {seen} of {rows}") } else { String::new() };
            writeln!(f, "{} = {value}{missing}", key(&column.name))?;
        }
        for (name, why) in &self.left_out {
            writeln!(f, "# {} goes to the rest column: {}", quoted(name), why)?;
        }
        Ok(())
    }
}

fn key(name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_bare { name.into() } else { quoted(name) }
}

/// Text of TOML: its escapes are among those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
