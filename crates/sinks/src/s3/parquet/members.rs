//! The fields of a JSON object that columns hold, as slices of its text.

use serde_json::value::RawValue;

use super::layout::Fields;
use super::rows::Refusal;
use crate::json::each_field;

/// What an object has of the fields that are declared.
pub(super) struct Object<'a> {
    /// One for each that is declared.
    pub(super) fields: Vec<Field<'a>>,
    pub(super) has_others: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Missing,
    Once(&'a RawValue),
    /// More than once; this is the last.
    Twice(&'a RawValue),
}

impl<'a> Object<'a> {
    pub(super) fn of(object: &'a RawValue, declared: &Fields) -> Result<Self, Refusal> {
        let mut fields = vec![Field::Missing; declared.nodes.len()];
        let mut has_others = false;
        each_field::<Refusal>(object, |name, value| {
            match declared.by_name.get(&*name).and_then(|field| fields.get_mut(*field)) {
                Some(field @ Field::Missing) => *field = Field::Once(value),
                Some(field) => *field = Field::Twice(value),
                None => has_others = true,
            }
            Ok(())
        })?;
        Ok(Self { fields, has_others })
    }
}
