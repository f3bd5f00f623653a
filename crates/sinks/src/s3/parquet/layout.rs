//! A schema as what rows and files are made by: a tree of fields, the leaves under it, the type of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::schema::types::{Type, TypePtr};

use super::schema::{ColumnType, OnMismatch, Schema};

/// Decimals of up to so many digits stand in 32 bits.
pub(super) const INT32_DIGITS: u8 = 9;
/// And these in 64.
pub(super) const INT64_DIGITS: u8 = 18;

#[derive(Debug)]
pub(super) struct Layout {
    /// What records have at the top.
    pub(super) columns: Fields,
    /// What becomes of values that do not fit, by column.
    pub(super) policies: Vec<OnMismatch>,
    /// The columns of the file, the rest column last.
    pub(super) leaves: Vec<LeafType>,
    /// Every field, for messages: its path, and its type as it was declared.
    pub(super) names: Vec<(String, String)>,
    pub(super) file_type: TypePtr,
}

#[derive(Debug)]
pub(super) struct LeafType {
    pub(super) column_type: ColumnType,
    /// Whether it stands in a list.
    pub(super) is_repeated: bool,
}

#[derive(Debug)]
pub(super) struct Fields {
    pub(super) nodes: Vec<Node>,
    pub(super) by_name: HashMap<String, usize>,
}

/// A field, or what the elements of a list are.
#[derive(Debug)]
pub(super) struct Node {
    /// Index into [`Layout::names`].
    pub(super) name: usize,
    /// The leaves under it, which a null goes to.
    pub(super) leaves: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Leaf(usize),
    Struct(Fields),
    /// Its elements, and the level at which one follows another.
    List(Box<Node>, i16),
}

impl Layout {
    pub(super) fn of(schema: &Schema) -> Result<Self, ParquetError> {
        let mut builder = Builder { leaves: Vec::new(), names: Vec::new() };
        let columns = schema.columns().iter().map(|column| (&column.name, &column.column_type));
        let columns = builder.fields(columns, "", 0);
        builder.leaves.push(LeafType { column_type: ColumnType::Json, is_repeated: false });

        let mut types = Vec::new();
        for column in schema.columns() {
            types.push(file_type(&column.name, &column.column_type)?);
        }
        types.push(file_type(schema.rest(), &ColumnType::Json)?);
        Ok(Self {
            columns,
            policies: schema.columns().iter().map(|column| column.on_mismatch).collect(),
            leaves: builder.leaves,
            names: builder.names,
            file_type: Arc::new(Type::group_type_builder("schema").with_fields(types).build()?),
        })
    }
}

struct Builder {
    leaves: Vec<LeafType>,
    names: Vec<(String, String)>,
}

impl Builder {
    fn fields<'a>(
        &mut self,
        fields: impl Iterator<Item = (&'a String, &'a ColumnType)>,
        path: &str,
        repetition: i16,
    ) -> Fields {
        let (mut nodes, mut by_name) = (Vec::new(), HashMap::new());
        for (name, field) in fields {
            let dot = if path.is_empty() { "" } else { "." };
            by_name.insert(name.clone(), nodes.len());
            nodes.push(self.node(&format!("{path}{dot}{name}"), field, repetition));
        }
        Fields { nodes, by_name }
    }

    fn node(&mut self, path: &str, column_type: &ColumnType, repetition: i16) -> Node {
        let (name, first) = (self.names.len(), self.leaves.len());
        self.names.push((path.to_owned(), column_type.to_string()));
        let kind = match column_type {
            ColumnType::List(element) => {
                let elements = self.node(&format!("{path}[]"), element, repetition + 1);
                Kind::List(Box::new(elements), repetition + 1)
            }
            ColumnType::Struct(fields) => {
                let fields = fields.iter().map(|(name, field)| (name, field));
                Kind::Struct(self.fields(fields, path, repetition))
            }
            leaf => {
                self.leaves.push(LeafType { column_type: leaf.clone(), is_repeated: repetition > 0 });
                Kind::Leaf(first)
            }
        };
        Node { name, leaves: first..self.leaves.len(), kind }
    }
}

/// The field as it stands in the file. Everything may be null.
fn file_type(name: &str, column_type: &ColumnType) -> Result<TypePtr, ParquetError> {
    let group = |fields| Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL).with_fields(fields);
    let field = match column_type {
        ColumnType::List(element) => {
            let elements = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
            let elements = elements.with_fields(vec![file_type("element", element)?]).build()?;
            group(vec![Arc::new(elements)]).with_logical_type(Some(LogicalType::List)).build()?
        }
        ColumnType::Struct(fields) => {
            let mut types = Vec::new();
            for (name, field) in fields {
                types.push(file_type(name, field)?);
            }
            group(types).build()?
        }
        leaf => {
            let (physical, logical) = leaf_type(leaf);
            let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
            let field = match leaf {
                ColumnType::Decimal { precision, scale } => {
                    let field = field.with_precision((*precision).into()).with_scale((*scale).into());
                    if physical == Physical::FIXED_LEN_BYTE_ARRAY {
                        field.with_length(i32::try_from(decimal_bytes(*precision)).unwrap_or(i32::MAX))
                    } else {
                        field
                    }
                }
                _ => field,
            };
            field.with_logical_type(logical).build()?
        }
    };
    Ok(Arc::new(field))
}

/// What is written for a value, and what it means. JSON is text to a reader: not all know more.
fn leaf_type(leaf: &ColumnType) -> (Physical, Option<LogicalType>) {
    match leaf {
        ColumnType::Boolean => (Physical::BOOLEAN, None),
        ColumnType::Int32 => (Physical::INT32, None),
        ColumnType::Int64 => (Physical::INT64, None),
        ColumnType::Float32 => (Physical::FLOAT, None),
        ColumnType::Float64 => (Physical::DOUBLE, None),
        ColumnType::Date => (Physical::INT32, Some(LogicalType::Date)),
        ColumnType::Timestamp(_) => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        ColumnType::Binary => (Physical::BYTE_ARRAY, None),
        ColumnType::Decimal { precision, scale } => {
            let physical = match *precision {
                digits if digits <= INT32_DIGITS => Physical::INT32,
                digits if digits <= INT64_DIGITS => Physical::INT64,
                _ => Physical::FIXED_LEN_BYTE_ARRAY,
            };
            (physical, Some(LogicalType::decimal((*scale).into(), (*precision).into())))
        }
        _ => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    }
}

/// The fewest bytes that hold every number of so many digits, and their sign.
pub(super) fn decimal_bytes(precision: u8) -> usize {
    let bits = 128 - 10_i128.saturating_pow(precision.into()).leading_zeros() + 1;
    bits.div_ceil(8) as usize
}
