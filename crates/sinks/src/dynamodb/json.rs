//! Objects and lists of JSON, a value at a time: all of it at once would be several times as large.

use std::borrow::Cow;
use std::fmt;

use kinesink_core::Reject;
use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What a value of JSON is.
pub(super) fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Names and values of an object, in order, as far as `each` goes.
pub(super) fn each_field<'a>(
    object: &'a RawValue,
    each: impl FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Reject>,
) -> Result<(), Reject> {
    #[derive(PartialEq, Eq, Hash, Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    struct Fields<F>(F);

    impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Reject>> Visitor<'a> for Fields<F> {
        type Value = Result<(), Reject>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(mut self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while let Some((Name(name), value)) = fields.next_entry()? {
                // The rest is read all the same: a map that is left in its midst is an error of its own.
                outcome = outcome.and_then(|()| (self.0)(name, value));
            }
            Ok(outcome)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(object.get());
    deserializer
        .deserialize_map(Fields(each))
        .map_err(|_| Reject::new("a field's name has half of a surrogate pair"))?
}

/// Elements of a list, in order, as far as `each` goes: all of them at once would be several times as large as the list.
pub(super) fn each_element<'a>(
    list: &'a RawValue,
    each: impl FnMut(&'a RawValue) -> Result<(), Reject>,
) -> Result<(), Reject> {
    struct Elements<F>(F);

    impl<'a, F: FnMut(&'a RawValue) -> Result<(), Reject>> Visitor<'a> for Elements<F> {
        type Value = Result<(), Reject>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
            let mut outcome = Ok(());
            while let Some(element) = elements.next_element()? {
                outcome = outcome.and_then(|()| (self.0)(element));
            }
            Ok(outcome)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(Elements(each)).map_err(|_| Reject::new("a list that cannot be read"))?
}
