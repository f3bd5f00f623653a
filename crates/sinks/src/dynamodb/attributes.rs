//! JSON to attributes, exactly, or the reason why not.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinesink_aws::dynamodb::primitives::Blob;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::Reject;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::number::Decimal;
use crate::FieldPath;
use crate::json::{NotText, each_element, each_field};

/// An item, or a part of one.
pub type Attributes = HashMap<String, AttributeValue>;

/// What was read of an output.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) attributes: Attributes,
    /// Why a field is not among them, if one could not be read.
    pub(super) refused: Option<Reject>,
}

impl From<NotText> for Reject {
    fn from(_: NotText) -> Self {
        Self::new("a field's name has half of a surrogate pair")
    }
}

impl Fields {
    /// All of them, or why not.
    pub(super) fn whole(self) -> Result<Attributes, Reject> {
        self.refused.map_or(Ok(self.attributes), Err)
    }
}

/// Of values: that of an attribute is the first, an element of a list there the second.
const DEPTH_MAX: usize = 32;
/// An item's, names included.
pub(super) const ITEM_BYTES_MAX: usize = 400 * 1024;
/// What the service counts of a list or an object, and of each element or field of one, besides what is in them.
const NESTING_BYTES: usize = 3;
const ELEMENT_BYTES: usize = 1;

/// What a field becomes where its JSON leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FieldType {
    /// Bytes, from base64 text.
    Binary,
    /// A number, from text that is one.
    Number,
    /// A set of texts, from a list of them. Of an empty list, nothing.
    StringSet,
    /// A set of numbers, from a list of them. Of an empty list, nothing.
    NumberSet,
    /// A set of bytes, from a list of base64 texts. Of an empty list, nothing.
    BinarySet,
}

/// The fields that have a type.
pub(super) type Types = BTreeMap<FieldPath, FieldType>;

/// The fields of a record that is a JSON object, up to so many bytes as the service counts them. Of a name that stands twice, the
/// last.
pub(super) fn fields(json: &[u8], types: &Types, bytes_max: usize) -> Result<Fields, Reject> {
    let value: &RawValue = serde_json::from_slice(json)
        .map_err(|error| Reject::new(format!("not JSON: line {}, column {}", error.line(), error.column())))?;
    if !value.get().starts_with('{') {
        return Err(Reject::new(format!("{} in place of an object: an item is made of fields", kind(value.get()))));
    }
    let mut reading = Reading { types, path: Vec::new(), bytes: 0, bytes_max, refused: None };
    let attributes = reading.object(value, 0)?;
    Ok(Fields { attributes, refused: reading.refused })
}

/// What stands at the path.
pub(super) fn at<'a>(attributes: &'a Attributes, path: &FieldPath) -> Option<&'a AttributeValue> {
    let (first, inner) = path.names().split_first()?;
    inner.iter().try_fold(attributes.get(first)?, |value, name| match value {
        AttributeValue::M(map) => map.get(name),
        _ => None,
    })
}

/// What a value of JSON is, for people.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// What an attribute is, for people.
pub(super) fn type_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "text",
        AttributeValue::N(_) => "a number",
        AttributeValue::B(_) => "bytes",
        AttributeValue::Bool(_) => "a boolean",
        AttributeValue::Null(_) => "null",
        AttributeValue::L(_) => "a list",
        AttributeValue::M(_) => "an object",
        _ => "a set",
    }
}

/// One text for equal attributes.
pub(super) fn canonical(attributes: &Attributes) -> String {
    let mut fields: Vec<_> =
        attributes.iter().map(|(name, value)| format!("{name:?}: {}", canonical_value(value))).collect();
    fields.sort_unstable();
    format!("{{{}}}", fields.join(", "))
}

fn canonical_value(value: &AttributeValue) -> String {
    match value {
        AttributeValue::M(map) => canonical(map),
        AttributeValue::L(values) => {
            let values: Vec<_> = values.iter().map(canonical_value).collect();
            format!("[{}]", values.join(", "))
        }
        // None of the others has a part without an order of its own.
        other => format!("{other:?}"),
    }
}

/// As the service counts, or a little less: what this lets through, that may still refuse.
pub(super) fn bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

pub(super) fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(text) => number_bytes(text),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(values) => NESTING_BYTES + elements_bytes(values),
        AttributeValue::M(map) => NESTING_BYTES + ELEMENT_BYTES * map.len() + bytes(map),
        AttributeValue::Ss(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::Ns(numbers) => numbers.iter().map(|text| number_bytes(text)).sum(),
        AttributeValue::Bs(all) => all.iter().map(|bytes| bytes.as_ref().len()).sum(),
        _ => 1,
    }
}

/// Of a list, or of what is appended to one.
pub(super) fn elements_bytes(values: &[AttributeValue]) -> usize {
    values.iter().map(|value| ELEMENT_BYTES + value_bytes(value)).sum()
}

/// One, and one for two digits from the first to the last that is not 0.
fn number_bytes(text: &str) -> usize {
    let (coefficient, _) = text.split_once(['e', 'E']).unwrap_or((text, ""));
    let significant = coefficient.trim_matches(|character: char| !matches!(character, '1'..='9'));
    1 + significant.bytes().filter(u8::is_ascii_digit).count() / 2
}

/// Of so many bytes, and perhaps more.
pub(super) fn too_large(item_bytes: usize) -> Reject {
    Reject::new(format!(
        "an item of {item_bytes} bytes and more, where a table takes {ITEM_BYTES_MAX}: keep the large part elsewhere"
    ))
}

struct Reading<'t> {
    types: &'t Types,
    /// Names of the fields around; a list adds none.
    path: Vec<String>,
    /// Of what was read so far.
    bytes: usize,
    bytes_max: usize,
    /// Why a field of the record is none of the item's, the first of them.
    refused: Option<Reject>,
}

impl Reading<'_> {
    /// `depth` counts this object; the item itself is none.
    fn object(&mut self, json: &RawValue, depth: usize) -> Result<Attributes, Reject> {
        let mut attributes = Attributes::new();
        each_field::<Reject>(json, |name, value| {
            let (name, value) = self.field(name.into_owned(), value, depth);
            match value {
                Ok(Some(value)) => attributes.insert(name, value),
                Ok(None) => attributes.remove(&name),
                // What no table takes is not read to its end.
                Err(why) if self.bytes > self.bytes_max => return Err(why),
                Err(why) => {
                    // The others may say which item it is.
                    self.refused.get_or_insert(why);
                    attributes.remove(&name)
                }
            };
            Ok(())
        })?;
        Ok(attributes)
    }

    /// `depth` is that of the object.
    fn field(
        &mut self,
        name: String,
        json: &RawValue,
        depth: usize,
    ) -> (String, Result<Option<AttributeValue>, Reject>) {
        if name.is_empty() {
            return (name, Err(self.refuse("a field without a name: an attribute needs one")));
        }
        self.path.push(name);
        let value = self.value(json, depth + 1);
        (self.path.pop().unwrap_or_default(), value)
    }

    /// `depth` counts this value.
    fn value(&mut self, json: &RawValue, depth: usize) -> Result<Option<AttributeValue>, Reject> {
        if depth > DEPTH_MAX {
            return Err(self.refuse(&format!("nested deeper than the {DEPTH_MAX} levels of an item")));
        }
        if let Some(field_type) = self.field_type()
            && json.get() != "null"
        {
            return self.typed(json, field_type);
        }
        let text = json.get();
        let value = match text.as_bytes().first() {
            Some(b'{') => AttributeValue::M(self.object(json, depth)?),
            Some(b'[') => AttributeValue::L(self.list(json, depth)?),
            Some(b'"') => AttributeValue::S(self.text(text)?.into_owned()),
            Some(b't' | b'f') => AttributeValue::Bool(text == "true"),
            Some(b'n') => AttributeValue::Null(true),
            _ => AttributeValue::N(self.number(text)?),
        };
        self.count(match &value {
            AttributeValue::M(_) | AttributeValue::L(_) => NESTING_BYTES,
            other => value_bytes(other),
        })?;
        Ok(Some(value))
    }

    /// A record may be made into many times its bytes.
    fn count(&mut self, bytes: usize) -> Result<(), Reject> {
        self.bytes += bytes;
        if self.bytes <= self.bytes_max {
            return Ok(());
        }
        Err(too_large(self.bytes))
    }

    fn list(&mut self, json: &RawValue, depth: usize) -> Result<Vec<AttributeValue>, Reject> {
        let mut values = Vec::new();
        each_element::<Reject>(json, |element| {
            values.push(self.element(element, depth + 1)?);
            Ok(())
        })?;
        Ok(values)
    }

    /// An element has no path of its own, and so no type.
    fn element(&mut self, json: &RawValue, depth: usize) -> Result<AttributeValue, Reject> {
        let outer = std::mem::replace(&mut self.types, &NO_TYPES);
        let value = self.value(json, depth);
        self.types = outer;
        self.count(ELEMENT_BYTES)?;
        value.map(|value| value.unwrap_or(AttributeValue::Null(true)))
    }

    fn field_type(&self) -> Option<FieldType> {
        let is_it = |path: &&FieldPath| path.names() == self.path.as_slice();
        self.types.keys().find(is_it).and_then(|path| self.types.get(path)).copied()
    }

    fn typed(&self, json: &RawValue, field_type: FieldType) -> Result<Option<AttributeValue>, Reject> {
        let text = json.get();
        Ok(Some(match field_type {
            FieldType::Binary => AttributeValue::B(self.binary(text)?),
            FieldType::Number => AttributeValue::N(self.loose_number(text)?),
            FieldType::StringSet => {
                let texts = self.set(json, |text| self.text(text).map(Cow::into_owned))?;
                return Ok((!texts.is_empty()).then_some(AttributeValue::Ss(texts)));
            }
            FieldType::NumberSet => {
                let numbers = self.set(json, |text| self.loose_number(text))?;
                return Ok((!numbers.is_empty()).then_some(AttributeValue::Ns(numbers)));
            }
            FieldType::BinarySet => {
                let all = self.set(json, |text| self.binary(text).map(Blob::into_inner))?;
                let all: Vec<_> = all.into_iter().map(Blob::new).collect();
                return Ok((!all.is_empty()).then_some(AttributeValue::Bs(all)));
            }
        }))
    }

    /// Each element once, in the order of the list.
    fn set<T: Clone + Eq + std::hash::Hash>(
        &self,
        json: &RawValue,
        element: impl Fn(&str) -> Result<T, Reject>,
    ) -> Result<Vec<T>, Reject> {
        if !json.get().starts_with('[') {
            return Err(self.refuse(&format!("{} in place of a list", kind(json.get()))));
        }
        let (mut seen, mut set) = (HashSet::new(), Vec::new());
        each_element::<Reject>(json, |json| {
            let element = element(json.get())?;
            if seen.insert(element.clone()) {
                set.push(element);
            }
            Ok(())
        })?;
        Ok(set)
    }

    fn text<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, Reject> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        if !json.starts_with('"') {
            return Err(self.refuse(&format!("{} in place of text", kind(json))));
        }
        let text = serde_json::from_str::<Text<'_>>(json);
        text.map(|Text(text)| text).map_err(|_| self.refuse("text with half of a surrogate pair"))
    }

    fn number(&self, json: &str) -> Result<String, Reject> {
        if !json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(self.refuse(&format!("{} in place of a number", kind(json))));
        }
        let number = Decimal::parse(json);
        number.map(|number| number.to_string()).map_err(|why| self.refuse(&format!("{why}: send it as text")))
    }

    /// Text counts as a number: it is how JSON carries exact ones.
    fn loose_number(&self, json: &str) -> Result<String, Reject> {
        if json.starts_with('"') {
            let text = self.text(json)?;
            return Decimal::parse(&text).map(|number| number.to_string()).map_err(|why| self.refuse(&why.to_string()));
        }
        self.number(json)
    }

    fn binary(&self, json: &str) -> Result<Blob, Reject> {
        let text = self.text(json)?;
        STANDARD.decode(&*text).map(Blob::new).map_err(|_| self.refuse("text that is no base64"))
    }

    fn refuse(&self, what: &str) -> Reject {
        Reject::new(format!("field {} holds {what}", Path(&self.path)))
    }
}

static NO_TYPES: Types = Types::new();

struct Path<'a>(&'a [String]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str(".") } else { self.0.iter().try_for_each(|name| write!(f, ".{name}")) }
    }
}
