//! Types of columns as text, such as `list<struct<name: string, price: decimal(18,2)>>`, and back; and all of a schema.

use std::fmt;
use std::str::FromStr;

use super::schema::{Column, ColumnType, DEPTH_MAX, OnMismatch, Schema, SchemaError, TimeForm};

const PLAIN: [(&str, ColumnType); 10] = [
    ("boolean", ColumnType::Boolean),
    ("int32", ColumnType::Int32),
    ("int64", ColumnType::Int64),
    ("float32", ColumnType::Float32),
    ("float64", ColumnType::Float64),
    ("string", ColumnType::String),
    ("binary", ColumnType::Binary),
    ("date", ColumnType::Date),
    ("timestamp", ColumnType::Timestamp(TimeForm::Text)),
    ("json", ColumnType::Json),
];
const UNITS: [(&str, TimeForm); 4] = [
    ("s", TimeForm::Seconds),
    ("ms", TimeForm::Milliseconds),
    ("us", TimeForm::Microseconds),
    ("ns", TimeForm::Nanoseconds),
];
const POLICIES: [(&str, OnMismatch); 3] =
    [("dead-letter", OnMismatch::DeadLetter), ("null", OnMismatch::Null), ("coerce", OnMismatch::Coerce)];
const FORMS: &str = "boolean, int32, int64, float32, float64, decimal(PRECISION,SCALE), string, binary, date, timestamp, \
                     timestamp(s), timestamp(ms), timestamp(us), timestamp(ns), json, list<TYPE>, struct<NAME: TYPE, ...>";

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::List(element) => write!(f, "list<{element}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {field}", Name(name))?;
                }
                f.write_str(">")
            }
            Self::Timestamp(form) if *form != TimeForm::Text => {
                let unit = UNITS.iter().find(|(_, of)| of == form).map(|(unit, _)| *unit);
                write!(f, "timestamp({})", unit.unwrap_or_default())
            }
            plain => {
                let name = PLAIN.iter().find(|(_, of)| of == plain).map(|(name, _)| *name);
                f.write_str(name.unwrap_or_default())
            }
        }
    }
}

/// The name of a field, in backquotes where it needs them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.chars().all(is_of_word) {
            true => f.write_str(self.0),
            false => write!(f, "`{}`", self.0.replace('`', "``")),
        }
    }
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

impl FromStr for ColumnType {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let mut reader = Reader { left: text };
        let column_type = reader.column_type(0)?;
        match reader.left.trim_start() {
            "" => Ok(column_type),
            left => Err(SchemaError(format!("`{left}` stands after the type `{column_type}`"))),
        }
    }
}

impl fmt::Display for OnMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = POLICIES.iter().find(|(_, of)| of == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// Its columns and what becomes of what does not fit them, then the rest column behind two dots:
/// `id: int64 dead-letter, at: timestamp null, .._rest`.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Column { name, column_type, on_mismatch } in self.columns() {
            write!(f, "{}: {column_type} {on_mismatch}, ", Name(name))?;
        }
        write!(f, "..{}", Name(self.rest()))
    }
}

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let (mut reader, mut columns) = (Reader { left: text }, Vec::new());
        while !reader.eat('.') {
            let name = reader.name()?;
            reader.expect(':')?;
            let column_type = reader.column_type(0)?;
            let word = reader.word();
            let on_mismatch = POLICIES.iter().find(|(name, _)| *name == word).map(|(_, policy)| *policy);
            let on_mismatch =
                on_mismatch.ok_or_else(|| SchemaError(format!("`{word}` is nothing to do on a mismatch")))?;
            columns.push(Column { name, column_type, on_mismatch });
            reader.expect(',')?;
        }
        reader.expect('.')?;
        Self::new(columns, &reader.name()?)
    }
}

struct Reader<'a> {
    left: &'a str,
}

impl<'a> Reader<'a> {
    fn column_type(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        if depth > DEPTH_MAX {
            let why = format!("more than {DEPTH_MAX} types inside one another");
            return Err(SchemaError(format!("{why}: declare the inner ones as json")));
        }
        match self.word() {
            "decimal" => {
                self.expect('(')?;
                let precision = self.digits()?;
                self.expect(',')?;
                let scale = self.digits()?;
                self.expect(')')?;
                Ok(ColumnType::Decimal { precision, scale })
            }
            "list" => {
                self.expect('<')?;
                let element = self.column_type(depth + 1)?;
                self.expect('>')?;
                Ok(ColumnType::List(Box::new(element)))
            }
            "struct" => self.fields(depth),
            "timestamp" if self.eat('(') => {
                let unit = self.word();
                let form = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, form)| *form);
                let form =
                    form.ok_or_else(|| SchemaError(format!("`{unit}` is no unit of a timestamp: s, ms, us or ns")))?;
                self.expect(')')?;
                Ok(ColumnType::Timestamp(form))
            }
            word => {
                let plain = PLAIN.iter().find(|(name, _)| *name == word).map(|(_, plain)| plain.clone());
                let what = if word.is_empty() { "a type is missing".into() } else { format!("`{word}` is no type") };
                plain.ok_or_else(|| SchemaError(format!("{what}; there are {FORMS}")))
            }
        }
    }

    fn fields(&mut self, depth: usize) -> Result<ColumnType, SchemaError> {
        self.expect('<')?;
        let mut fields = Vec::new();
        while !self.eat('>') {
            if !fields.is_empty() {
                self.expect(',')?;
            }
            let name = self.name()?;
            self.expect(':')?;
            fields.push((name, self.column_type(depth + 1)?));
        }
        Ok(ColumnType::Struct(fields))
    }

    fn name(&mut self) -> Result<String, SchemaError> {
        if !self.eat('`') {
            return match self.word() {
                "" => Err(SchemaError(format!("a field's name is missing before `{}`", self.left))),
                word => Ok(word.into()),
            };
        }
        let mut name = String::new();
        loop {
            let (part, left) =
                self.left.split_once('`').ok_or_else(|| SchemaError("a backquote is not closed".into()))?;
            name.push_str(part);
            self.left = left;
            match left.strip_prefix('`') {
                Some(left) => {
                    name.push('`');
                    self.left = left;
                }
                None => return Ok(name),
            }
        }
    }

    fn word(&mut self) -> &'a str {
        self.left = self.left.trim_start();
        let end = self.left.find(|letter| !is_of_word(letter)).unwrap_or(self.left.len());
        let (word, left) = self.left.split_at(end);
        self.left = left;
        word
    }

    fn digits(&mut self) -> Result<u8, SchemaError> {
        let word = self.word();
        word.parse().map_err(|_| SchemaError(format!("`{word}` is no number of digits, as in decimal(18,2)")))
    }

    fn eat(&mut self, letter: char) -> bool {
        self.left = self.left.trim_start();
        let left = self.left.strip_prefix(letter);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn expect(&mut self, letter: char) -> Result<(), SchemaError> {
        if self.eat(letter) {
            return Ok(());
        }
        let before = if self.left.is_empty() { "at the end".into() } else { format!("before `{}`", self.left) };
        Err(SchemaError(format!("`{letter}` is missing {before}")))
    }
}
