//! One pattern: what it asks of the data, and of the partition key.

use std::fmt;
use std::hash::Hash;

use quamina::Quamina;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::{Error, Event};

const OR: &str = "$or";
/// `$or` multiplies.
const EXPANSIONS_MAX: usize = 1_000;

/// A pattern without `$or`. Its `data` object is kept by the filter, with all others.
pub(super) struct Rule {
    /// It asks for JSON data.
    pub(super) data: bool,
    /// And some of it must be there, which the filter's matcher of all rules says.
    pub(super) has_present: bool,
    pub(super) partition_key: Option<Quamina<()>>,
    data_text: Option<Quamina<()>>,
    /// Fields of the data that must not be there. Looked up here: the library misses some of them.
    absent: Vec<Vec<String>>,
}

impl Rule {
    /// Whether the fields that must not be there are not. Parses only where there are such fields.
    pub(super) fn matches_absence(&self, data: &[u8]) -> bool {
        if self.absent.is_empty() {
            return true;
        }
        let Ok(data) = serde_json::from_slice::<&RawValue>(data) else { return false };
        !self.absent.iter().any(|path| is_there(data, path))
    }

    /// Whether the parts that are texts match.
    pub(super) fn matches_text(&self, event: &Event) -> bool {
        let key = self.partition_key.as_ref().is_none_or(|wanted| is_match(wanted, event.partition_key.as_deref()));
        key && self.data_text.as_ref().is_none_or(|wanted| is_match(wanted, std::str::from_utf8(&event.data).ok()))
    }
}

fn is_match(wanted: &Quamina<()>, text: Option<&str>) -> bool {
    let Some(text) = text else { return false };
    wanted.has_matches(json!({ "text": text }).to_string().as_bytes()).unwrap_or(false)
}

/// The rules of a pattern, each with its `data` object if it has one.
pub(super) fn read(pattern: &Value) -> Result<Vec<(Rule, Option<Value>)>, Error> {
    let Value::Object(whole) = pattern else { return Err(refuse("a pattern is a table")) };
    if whole.is_empty() {
        return Err(refuse("it is empty; give it `data` or `partitionKey`"));
    }
    expand(whole)?.iter().map(rule).collect()
}

fn rule(fields: &Map<String, Value>) -> Result<(Rule, Option<Value>), Error> {
    let mut rule = Rule { data: false, has_present: false, partition_key: None, data_text: None, absent: Vec::new() };
    let mut data = None;
    for (name, wanted) in fields {
        check_filled(name, wanted)?;
        match (name.as_str(), wanted) {
            ("data", Value::Object(fields)) => {
                rule.data = true;
                let present = take_absent(fields, &mut Vec::new(), &mut rule.absent);
                rule.has_present = !present.is_empty();
                data = rule.has_present.then_some(Value::Object(present));
            }
            ("data", Value::Array(_)) => rule.data_text = Some(text_matcher(wanted)?),
            ("partitionKey", Value::Array(_)) => rule.partition_key = Some(text_matcher(wanted)?),
            ("data" | "partitionKey", _) => return Err(refuse(&format!("`{name}` must be a list of matchers"))),
            _ => return Err(refuse(&format!("`{name}` is not known; there are `data` and `partitionKey`"))),
        }
    }
    Ok((rule, data))
}

/// A list without a matcher keeps nothing, ever, and a table without a field says nothing; EventBridge refuses both.
fn check_filled(name: &str, wanted: &Value) -> Result<(), Error> {
    match wanted {
        Value::Array(matchers) if matchers.is_empty() => {
            Err(refuse(&format!("the list of `{name}` is empty, so that nothing can match; give it a matcher")))
        }
        Value::Object(fields) if fields.is_empty() => {
            Err(refuse(&format!("the table of `{name}` is empty; give it a field, or leave `{name}` out")))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, wanted)| check_filled(name, wanted)),
        _ => Ok(()),
    }
}

/// The pattern without the fields that must not be there, whose paths go to `absent`.
fn take_absent(
    fields: &Map<String, Value>,
    path: &mut Vec<String>,
    absent: &mut Vec<Vec<String>>,
) -> Map<String, Value> {
    let mut present = Map::new();
    for (name, wanted) in fields {
        path.push(name.clone());
        match wanted {
            Value::Object(nested) => {
                let nested = take_absent(nested, path, absent);
                if !nested.is_empty() {
                    present.insert(name.clone(), Value::Object(nested));
                }
            }
            Value::Array(matchers) if matches!(matchers.as_slice(), [one] if one.get("exists") == Some(&json!(false))) =>
            {
                absent.push(path.clone());
            }
            other => {
                present.insert(name.clone(), other.clone());
            }
        }
        path.pop();
    }
    present
}

/// Whether a field is in valid JSON. Nothing is decoded but the names on its way: JSON may hold numbers and escapes that
/// no number and no text stands for, and they must not decide what is kept.
fn is_there(data: &RawValue, path: &[String]) -> bool {
    let Some((field, rest)) = path.split_first() else { return true };
    let json = data.get();
    match json.as_bytes().first() {
        Some(b'{') => serde_json::from_str(json).is_ok_and(|Fields(fields)| {
            fields.iter().any(|(name, value)| *name == field.as_bytes() && is_there(value, rest))
        }),
        Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json)
            .is_ok_and(|elements| elements.iter().any(|element| is_there(element, path))),
        _ => false,
    }
}

/// The fields of an object, their names as bytes: half of a surrogate pair is no text.
struct Fields<'a>(Vec<(Vec<u8>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

struct Name(Vec<u8>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;

        impl Visitor<'_> for AsBytes {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Name, E> {
                Ok(Name(name.to_vec()))
            }
        }

        deserializer.deserialize_bytes(AsBytes)
    }
}

fn text_matcher(wanted: &Value) -> Result<Quamina<()>, Error> {
    let mut matcher = Quamina::new();
    add(&mut matcher, (), &json!({ "text": wanted }))?;
    Ok(matcher)
}

/// Adds a pattern, or says in its words why it is none.
pub(super) fn add<X: Clone + Eq + Hash + Send + Sync>(
    matcher: &mut Quamina<X>,
    id: X,
    pattern: &Value,
) -> Result<(), Error> {
    matcher.add_pattern(id, &pattern.to_string()).map_err(|error| refuse(&error.to_string()))
}

/// A table without `$or`, once for each combination of its alternatives, nested ones included.
fn expand(table: &Map<String, Value>) -> Result<Vec<Map<String, Value>>, Error> {
    let mut expanded = vec![Map::new()];
    for (name, value) in table {
        let choices = match value {
            Value::Array(alternatives) if name == OR => {
                if alternatives.is_empty() {
                    return Err(refuse("the list of `$or` is empty, so that nothing can match; give it a table"));
                }
                let mut choices = Vec::new();
                for alternative in alternatives {
                    let Value::Object(fields) = alternative else { return Err(refuse("`$or` is a list of tables")) };
                    choices.extend(expand(fields)?);
                }
                choices
            }
            Value::Object(nested) => {
                let nested = expand(nested)?.into_iter();
                nested.map(|fields| Map::from_iter([(name.clone(), Value::Object(fields))])).collect()
            }
            Value::Array(matchers) => {
                let lists = presence_apart(matchers).into_iter();
                lists.map(|list| Map::from_iter([(name.clone(), Value::Array(list))])).collect()
            }
            other => vec![Map::from_iter([(name.clone(), other.clone())])],
        };
        if expanded.len() * choices.len() > EXPANSIONS_MAX {
            return Err(refuse(&format!(
                "`$or` expands to more than {EXPANSIONS_MAX} patterns; write fewer alternatives"
            )));
        }
        let combine = |fields: &Map<String, Value>| {
            let fields = fields.clone();
            choices.iter().map(move |choice| merged(fields.clone(), choice)).collect::<Vec<_>>()
        };
        expanded = expanded.iter().flat_map(combine).collect();
    }
    Ok(expanded)
}

/// A list of matchers as alternatives, in which each `exists` stands alone: the library takes no other beside it.
fn presence_apart(matchers: &[Value]) -> Vec<Vec<Value>> {
    let (presence, others): (Vec<Value>, Vec<Value>) =
        matchers.iter().cloned().partition(|matcher| matcher.get("exists").is_some());
    let mut lists: Vec<Vec<Value>> = presence.into_iter().map(|matcher| vec![matcher]).collect();
    if !others.is_empty() || lists.is_empty() {
        lists.push(others);
    }
    lists
}

/// Both tables as one; a table that both have is merged likewise.
fn merged(mut fields: Map<String, Value>, more: &Map<String, Value>) -> Map<String, Value> {
    for (name, value) in more {
        let both = match (fields.remove(name), value) {
            (Some(Value::Object(mine)), Value::Object(theirs)) => Value::Object(merged(mine, theirs)),
            _ => value.clone(),
        };
        fields.insert(name.clone(), both);
    }
    fields
}

fn refuse(why: &str) -> Error {
    Error::Pattern(why.to_owned())
}
