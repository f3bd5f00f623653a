//! The members of JSON objects and lists, as slices of their text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::layout::Fields;
use super::rows::Refusal;

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
        each_field(object, |name, value| {
            match declared.by_name.get(&*name).and_then(|field| fields.get_mut(*field)) {
                Some(field @ Field::Missing) => *field = Field::Once(value),
                Some(field) => *field = Field::Twice(value),
                None => has_others = true,
            }
        })?;
        Ok(Self { fields, has_others })
    }
}

/// Names and values of an object, in order.
pub(super) fn each_field<'a>(
    object: &'a RawValue,
    each: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), Refusal> {
    #[derive(PartialEq, Eq, Hash, Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    struct Members<F>(F);

    impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue)> Visitor<'a> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(mut self, mut members: A) -> Result<(), A::Error> {
            while let Some((Name(name), value)) = members.next_entry()? {
                (self.0)(name, value);
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(object.get());
    deserializer.deserialize_map(Members(each)).map_err(|_| Refusal::NotJson)
}

/// The values of a list, in order, as far as `each` goes. They are not gathered: a list may have millions.
pub(super) fn each_element<'a>(
    list: &'a RawValue,
    each: impl FnMut(&'a RawValue) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    struct Elements<F>(F);

    impl<'a, F: FnMut(&'a RawValue) -> Result<(), Refusal>> Visitor<'a> for Elements<F> {
        type Value = Result<(), Refusal>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while let Some(element) = elements.next_element()? {
                outcome = (self.0)(element);
                if outcome.is_err() {
                    break;
                }
            }
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            Ok(outcome)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(Elements(each)).map_err(|_| Refusal::NotJson)?
}
