//! Records to the buffers of columns, one row each.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::layout::{Fields, Kind, Layout, Node};
use super::leaf::{Leaf, Level};
use super::members::{Field, Object};
use super::schema::OnMismatch;
use super::value::{Found, kind};
use crate::json::{NotText, each_element, each_field};

/// A record of 10 MiB may be a list of millions of nothings, each of which takes room in every leaf of its type.
const ROW_BYTES_MAX: usize = 64 * 1024 * 1024;

const TOP: Level = Level { definition: 0, repetition: 0 };
const TWICE: Found = "a field that stands twice";

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its bytes are no text.
    NotUtf8 {
        /// How many of them are.
        valid_bytes: usize,
    },
    /// Its text is no JSON.
    NotJson,
    /// It is something else than an object.
    NotAnObject(Found),
    /// Its columns would take more memory than a row may.
    TooLarge,
    /// A value does not fit its column.
    Mismatch(Mismatch),
}

impl From<NotText> for Refusal {
    fn from(_: NotText) -> Self {
        Self::NotJson
    }
}

/// A value that does not fit its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mismatch {
    /// The field, as the layout numbers them.
    pub(super) field: usize,
    pub(super) found: Found,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { valid_bytes } => write!(f, "not UTF-8 after {valid_bytes} bytes, so no JSON"),
            Self::NotJson => f.write_str("not JSON, of which a row of columns is made"),
            Self::NotAnObject(found) => write!(f, "{found} of JSON, where a row is an object"),
            Self::TooLarge => write!(f, "its columns take more than {} MiB", ROW_BYTES_MAX >> 20),
            Self::Mismatch(Mismatch { found, .. }) => write!(f, "{found} does not fit its column"),
        }
    }
}

/// What became of values that did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The record was refused.
    Refused,
    /// Null stands for it, and the field in the rest column.
    Null,
    /// It was made to fit.
    Coerced,
}

/// Values of one kind that did not fit one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// What did not fit.
    pub(super) mismatch: Mismatch,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// The first record that had one, by its place among those that were pushed.
    pub(super) first: usize,
    /// How many there were.
    pub(super) values: u64,
}

/// Rows on their way into a row group.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    layout: &'a Layout,
    leaves: Vec<Leaf>,
    rows: usize,
    bytes: usize,
    pushed: usize,
    changes: BTreeMap<(Mismatch, Outcome), Change>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let leaves = layout.leaves.iter().map(Leaf::of).collect();
        Self { layout, leaves, rows: 0, bytes: 0, pushed: 0, changes: BTreeMap::new() }
    }

    /// Adds the record's row, or nothing.
    pub(super) fn push(&mut self, record: &Bytes) -> Result<(), Refusal> {
        let marks: Vec<_> = self.leaves.iter().map(Leaf::len).collect();
        let index = self.pushed;
        self.pushed += 1;
        let mut row = Row { leaves: &mut self.leaves, record, bytes: 0, mismatches: BTreeMap::new() };
        let refused = row.fill(self.layout).err();
        let (bytes, mut mismatches) = (row.bytes, row.mismatches);
        if let Some(refusal) = refused {
            self.leaves.iter_mut().zip(marks).for_each(|(leaf, mark)| leaf.truncate(mark));
            // What would have become of its other values is nobody's concern.
            mismatches.clear();
            if let Refusal::Mismatch(mismatch) = refusal {
                mismatches.insert((mismatch, Outcome::Refused), 1);
            }
        } else {
            self.rows += 1;
            self.bytes += bytes;
        }
        for ((mismatch, outcome), values) in mismatches {
            let change = Change { mismatch, outcome, first: index, values: 0 };
            self.changes.entry((mismatch, outcome)).or_insert(change).values += values;
        }
        refused.map_or(Ok(()), Err)
    }

    /// How many rows are buffered, and the memory that they take.
    pub(super) fn buffered(&self) -> (usize, usize) {
        (self.rows, self.bytes)
    }

    /// The columns' buffers, in the order of the file.
    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The buffers are empty again. Values that did not fit stay noted.
    pub(super) fn clear(&mut self) {
        self.leaves = self.layout.leaves.iter().map(Leaf::of).collect();
        (self.rows, self.bytes) = (0, 0);
    }

    /// What did not fit in all that was pushed.
    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes.into_values().collect()
    }
}

/// One record on its way into the buffers.
struct Row<'a> {
    leaves: &'a mut [Leaf],
    record: &'a Bytes,
    bytes: usize,
    /// How many values were so: a list of millions has an entry for each kind, not for each element.
    mismatches: BTreeMap<(Mismatch, Outcome), u64>,
}

impl<'a> Row<'a> {
    fn fill(&mut self, layout: &Layout) -> Result<(), Refusal> {
        let record: &'a Bytes = self.record;
        let text =
            std::str::from_utf8(record).map_err(|error| Refusal::NotUtf8 { valid_bytes: error.valid_up_to() })?;
        let value: &RawValue = serde_json::from_str(text).map_err(|_| Refusal::NotJson)?;
        if !value.get().starts_with('{') {
            return Err(Refusal::NotAnObject(kind(value.get())));
        }
        let object = Object::of(value, &layout.columns)?;
        let mut incomplete = vec![false; layout.columns.nodes.len()];
        let columns = layout.columns.nodes.iter().zip(&layout.policies).zip(&object.fields);
        for (((node, policy), field), incomplete) in columns.zip(&mut incomplete) {
            Column { row: self, policy: *policy, incomplete }.field(node, field, TOP)?;
        }
        let rest = match object.has_others || incomplete.contains(&true) {
            true => Some(rest(value, &layout.columns, &incomplete)?),
            false => None,
        };
        if let Some(leaf) = self.leaves.last_mut() {
            self.bytes += match rest {
                Some(rest) => leaf.push_text(rest, TOP.deeper(1)),
                None => leaf.push_null(TOP),
            };
        }
        Ok(())
    }
}

/// Each field of the record that its column does not hold in full, as it was.
fn rest(record: &RawValue, columns: &Fields, incomplete: &[bool]) -> Result<String, Refusal> {
    let mut rest = String::from("{");
    each_field::<Refusal>(record, |name, value| {
        let column = columns.by_name.get(&*name).and_then(|column| incomplete.get(*column));
        if column == Some(&false) {
            return Ok(());
        }
        if rest.len() > 1 {
            rest.push(',');
        }
        rest.push_str(&serde_json::Value::from(name).to_string());
        rest.push(':');
        rest.push_str(value.get());
        Ok(())
    })?;
    rest.push('}');
    Ok(rest)
}

/// The value of one column, whatever is inside it.
struct Column<'r, 'a> {
    row: &'r mut Row<'a>,
    policy: OnMismatch,
    /// Whether something of the field is not in the column.
    incomplete: &'r mut bool,
}

impl<'a> Column<'_, 'a> {
    fn field(&mut self, node: &Node, field: &Field<'a>, at: Level) -> Result<(), Refusal> {
        match *field {
            Field::Missing => {
                self.null(node, at);
                Ok(())
            }
            Field::Once(value) => self.value(node, value, at),
            Field::Twice(last) if self.policy == OnMismatch::Coerce => {
                self.note(node, TWICE, Outcome::Coerced);
                self.value(node, last, at)
            }
            Field::Twice(_) => self.misfit(node, TWICE, at),
        }
    }

    fn value(&mut self, node: &Node, value: &'a RawValue, at: Level) -> Result<(), Refusal> {
        if self.row.bytes > ROW_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let json = value.get();
        if json == "null" {
            self.null(node, at);
            return Ok(());
        }
        match &node.kind {
            Kind::Leaf(leaf) => self.leaf(node, *leaf, json, at),
            Kind::Struct(fields) if json.starts_with('{') => {
                let object = Object::of(value, fields)?;
                *self.incomplete |= object.has_others;
                for (node, field) in fields.nodes.iter().zip(&object.fields) {
                    self.field(node, field, at.deeper(1))?;
                }
                Ok(())
            }
            Kind::List(elements, repetition) if json.starts_with('[') => {
                let mut next = at.deeper(2);
                let mut is_empty = true;
                each_element::<Refusal>(value, |element| {
                    self.value(elements, element, next)?;
                    (next.repetition, is_empty) = (*repetition, false);
                    Ok(())
                })?;
                if is_empty {
                    self.null(elements, at.deeper(1));
                }
                Ok(())
            }
            Kind::Struct(_) | Kind::List(..) => self.misfit(node, kind(json), at),
        }
    }

    fn leaf(&mut self, node: &Node, leaf: usize, json: &str, at: Level) -> Result<(), Refusal> {
        let coerce = self.policy == OnMismatch::Coerce;
        let record = self.row.record;
        let Some(leaf) = self.row.leaves.get_mut(leaf) else { return Ok(()) };
        match leaf.push(json, record, coerce, at.deeper(1)) {
            Ok((bytes, coerced)) => {
                self.row.bytes += bytes;
                if let Some(found) = coerced {
                    self.note(node, found, Outcome::Coerced);
                }
                Ok(())
            }
            Err(found) => self.misfit(node, found, at),
        }
    }

    fn misfit(&mut self, node: &Node, found: Found, at: Level) -> Result<(), Refusal> {
        if self.policy != OnMismatch::Null {
            return Err(Refusal::Mismatch(Mismatch { field: node.name, found }));
        }
        *self.incomplete = true;
        self.note(node, found, Outcome::Null);
        self.null(node, at);
        Ok(())
    }

    /// Whatever is under the field is missing from here on.
    fn null(&mut self, node: &Node, at: Level) {
        for leaf in self.row.leaves.get_mut(node.leaves.clone()).unwrap_or_default() {
            self.row.bytes += leaf.push_null(at);
        }
    }

    fn note(&mut self, node: &Node, found: Found, outcome: Outcome) {
        *self.row.mismatches.entry((Mismatch { field: node.name, found }, outcome)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::parquet::{Column, REST, Schema};

    /// Each took 32 bytes, outside of all that a row may take.
    #[test]
    fn elements_of_a_list_that_are_made_to_fit_are_noted_by_kind() {
        const ELEMENTS: usize = 100_000;
        let column =
            Column { name: "a".into(), column_type: "list<int32>".parse().unwrap(), on_mismatch: OnMismatch::Coerce };
        let layout = Layout::of(&Schema::new(vec![column], REST).unwrap()).unwrap();
        let record = Bytes::from(format!("{{\"a\":[{}true]}}", "\"7\",".repeat(ELEMENTS)));
        let mut leaves: Vec<Leaf> = layout.leaves.iter().map(Leaf::of).collect();
        let mut row = Row { leaves: &mut leaves, record: &record, bytes: 0, mismatches: BTreeMap::new() };
        row.fill(&layout).unwrap();
        let values: Vec<u64> = row.mismatches.values().copied().collect();
        assert_eq!(values, [1, ELEMENTS as u64]);
    }
}
