//! Objects and lists of JSON, a value at a time: all of it at once would be several times as large as its text.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A field's name has half of a surrogate pair, which no text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotText;

/// Names and values of an object, in order, as far as `each` goes.
pub(crate) fn each_field<'a, E: From<NotText>>(
    object: &'a RawValue,
    each: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    #[derive(PartialEq, Eq, Hash, Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    struct Fields<F>(F);

    impl<'a, E, F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), E>> Visitor<'a> for Fields<F> {
        type Value = Result<(), E>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(mut self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && let Some((Name(name), value)) = fields.next_entry()?
            {
                outcome = (self.0)(name, value);
            }
            // One that is left in its midst is an error of its own.
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(outcome)
        }
    }

    serde_json::Deserializer::from_str(object.get()).deserialize_map(Fields(each)).map_err(|_| NotText)?
}

/// Elements of a list, in order, as far as `each` goes.
pub(crate) fn each_element<'a, E: From<NotText>>(
    list: &'a RawValue,
    each: impl FnMut(&'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    struct Elements<F>(F);

    impl<'a, E, F: FnMut(&'a RawValue) -> Result<(), E>> Visitor<'a> for Elements<F> {
        type Value = Result<(), E>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && let Some(element) = elements.next_element()?
            {
                outcome = (self.0)(element);
            }
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            Ok(outcome)
        }
    }

    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Elements(each)).map_err(|_| NotText)?
}
