//! Fields of a record that is JSON, as they are written there.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::FieldPath;

/// What stands at each path; nothing where the record is no object, or no JSON up to where it was read. Of a name that
/// stands twice, the last.
pub(super) fn find<'a>(json: &'a [u8], paths: &[FieldPath]) -> Vec<Option<&'a RawValue>> {
    let paths: Vec<&[String]> = paths.iter().map(FieldPath::names).collect();
    let mut found = vec![None; paths.len()];
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    if Object(&paths, &mut found).deserialize(&mut deserializer).and_then(|()| deserializer.end()).is_err() {
        return vec![None; paths.len()];
    }
    found
}

/// The value as text, where it is a text, a number or a truth.
pub(super) fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok().map(|Text(text)| text),
        b'{' | b'[' | b'n' => None,
        _ => Some(json.into()),
    }
}

/// Looks for the paths in an object.
struct Object<'p, 'f, 'a>(&'p [&'p [String]], &'f mut [Option<&'a RawValue>]);

impl<'a> DeserializeSeed<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let Self(paths, found) = self;
        while let Some(Name(name)) = map.next_key()? {
            if !paths.iter().any(|path| path.first().is_some_and(|first| *first == name)) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: &RawValue = map.next_value()?;
            for (path, found) in paths.iter().zip(found.iter_mut()) {
                if let Some((first, inner)) = path.split_first()
                    && *first == name
                {
                    *found = within(value, inner);
                }
            }
        }
        Ok(())
    }
}

fn within<'a>(value: &'a RawValue, path: &[String]) -> Option<&'a RawValue> {
    if path.is_empty() {
        return Some(value);
    }
    let mut found = [None];
    Object(&[path], &mut found).deserialize(&mut serde_json::Deserializer::from_str(value.get())).ok()?;
    found.first().copied().flatten()
}
