//! Text to [`RawConfig`]: syntax, version, unknown and missing keys, types. The first mistake is the only one told,
//! because what follows from it would be noise.

use std::ops::Range;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Mistake;
use super::raw::{RawConfig, RawDestination, VERSION};
use super::values::nearest;

/// Reads the file's structure.
pub(super) fn read(text: &str) -> Result<RawConfig, Mistake> {
    let mut table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let hint = match error.message() {
            "duplicate key" => "a key stands once in its table: remove one of the two",
            _ => "a line is `key = value` or a `[heading]`; text stands in quotes",
        };
        Mistake::new(format!("not TOML: {}", error.message()), span, "here").hint(hint)
    })?;
    check_version(table.get_ref())?;
    let places = table.get_ref().clone();
    name_sinks_by_type(table.get_mut())?;
    RawConfig::deserialize(toml::Deserializer::from(table)).map_err(|error| explain(&error, &places))
}

/// Makes of each sink a table of one key, its type, as the types of the file are told apart.
fn name_sinks_by_type(table: &mut DeTable<'_>) -> Result<(), Mistake> {
    let Some(DeValue::Array(sinks)) = table.get_mut("sink").map(Spanned::get_mut) else { return Ok(()) };
    for sink in sinks.iter_mut() {
        let span = sink.span();
        let DeValue::Table(keys) = sink.get_mut() else { continue };
        let Some(given) = keys.get("type") else {
            let types = RawDestination::TYPES.map(|name| format!("`type = \"{name}\"`")).join(" or ");
            let mistake = Mistake::new("missing key `type` in `sink`", span, "missing in this table");
            return Err(mistake.hint(format!("add {types}")));
        };
        // What is no text is told by the first type's own reader.
        let name = given.get_ref().as_str().unwrap_or(RawDestination::TYPES[0]).to_owned();
        if !RawDestination::TYPES.contains(&name.as_str()) {
            return Err(not_one_of("sink.type", &name, &RawDestination::TYPES, given.span()));
        }
        let mut named = DeTable::new();
        named.insert(Spanned::new(given.span(), name.into()), Spanned::new(span, DeValue::Table(std::mem::take(keys))));
        *sink.get_mut() = DeValue::Table(named);
    }
    Ok(())
}

/// The key whose name or value is at `span`, with dots: `source.stream`.
pub(super) fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    for (key, value) in table {
        let below = match value.get_ref() {
            _ if key.span() == *span || value.span() == *span => {
                return Some(key.get_ref().to_string());
            }
            DeValue::Table(table) => key_at(table, span),
            DeValue::Array(items) if items.iter().any(|item| is_plain(item.get_ref()) && item.span() == *span) => {
                return Some(key.get_ref().to_string());
            }
            DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(table) => key_at(table, span),
                _ => None,
            }),
            _ => None,
        };
        if let Some(below) = below {
            return Some(format!("{}.{below}", key.get_ref()));
        }
    }
    None
}

fn is_plain(value: &DeValue<'_>) -> bool {
    !matches!(value, DeValue::Table(_) | DeValue::Array(_))
}

/// Where the value of `key` stands, such as `transform.jq`.
pub(super) fn span_of(text: &str, key: &str) -> Option<Range<usize>> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut span) = (root.get_ref(), None);
    for part in key.split('.') {
        let value = table.get(part)?;
        span = Some(value.span());
        if let DeValue::Table(below) = value.get_ref() {
            table = below;
        }
    }
    span
}

/// Before anything else is read: a newer file may hold keys that we do not know.
fn check_version(table: &DeTable<'_>) -> Result<(), Mistake> {
    let Some(version) = table.get("version") else {
        return Err(Mistake::new("missing key `version`", 0..0, "the file starts here")
            .hint(format!("make `version = {VERSION}` the first line")));
    };
    let number = match version.get_ref() {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
        _ => None,
    };
    match number {
        Some(VERSION) => Ok(()),
        Some(number) if number > VERSION => Err(Mistake::new(
            format!("`version` is {number}, but this program reads only version {VERSION}"),
            version.span(),
            "newer than this program",
        )
        .hint("this file was written for a newer kinesink: upgrade to it, or write the file in the older format")),
        _ => Err(Mistake::new("`version` is not a version of this file's format", version.span(), "not a version")
            .hint(format!("write `version = {VERSION}`"))),
    }
}

/// Turns serde's message into one about keys.
fn explain(error: &toml::de::Error, table: &DeTable<'_>) -> Mistake {
    let message = error.message();
    let span = error.span().unwrap_or_default();
    let key = key_at(table, &span).unwrap_or_else(|| "the file".into());
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let words: Vec<&str> = quoted(expected).collect();
    if let Some(unknown) = found.strip_prefix("unknown field ").and_then(|name| quoted(name).next()) {
        let mistake = Mistake::new(format!("unknown key `{key}`"), span, "not known here");
        return match nearest(unknown, words.iter().copied()) {
            Some(near) => mistake.hint(format!("did you mean `{near}`?")),
            // Its value may be a secret.
            None => mistake.hint(format!("known keys here: {}", list(&words))).hiding_values(),
        };
    }
    if let Some(missing) = found.strip_prefix("missing field ").and_then(|name| quoted(name).next()) {
        let inside = key_at(table, &span).map(|table| format!(" in `{table}`")).unwrap_or_default();
        let hint = match missing {
            "source" => "add `[source]` and below it `stream = \"...\"`".into(),
            _ => format!("add `{missing} = ...`"),
        };
        return Mistake::new(format!("missing key `{missing}`{inside}"), span, "missing in this table").hint(hint);
    }
    if let Some(unknown) = found.strip_prefix("unknown variant ").and_then(|name| quoted(name).next()) {
        return not_one_of(&key, unknown, &words, span);
    }
    if expected.is_empty() {
        let hint = "docs/config.md has the form of every key";
        return Mistake::new(format!("`{key}` cannot be read: {found}"), span, "here").hint(hint);
    }
    let name = key.rsplit('.').next().unwrap_or_default();
    let (wanted, mut hint) = in_words(expected, name);
    let found = match found.split_once(": ").map_or(found, |(_, found)| found) {
        // serde has no times.
        "map" if is_time(table, &span) => {
            hint = "put it in quotes".into();
            "a time".into()
        }
        other => found_in_words(other),
    };
    Mistake::new(format!("`{key}` must be {wanted}, not {found}"), span, "wrong type").hint(hint)
}

fn is_time(table: &DeTable<'_>, span: &Range<usize>) -> bool {
    table.values().any(|value| match value.get_ref() {
        DeValue::Datetime(_) => value.span() == *span,
        DeValue::Table(below) => is_time(below, span),
        DeValue::Array(items) => items.iter().any(|item| match item.get_ref() {
            DeValue::Table(below) => is_time(below, span),
            _ => false,
        }),
        _ => false,
    })
}

/// A word that is not among those allowed.
pub(super) fn not_one_of(key: &str, found: &str, allowed: &[&str], span: Range<usize>) -> Mistake {
    let near = nearest(found, allowed.iter().copied()).map(|near| format!("did you mean \"{near}\"? "));
    let allowed: Vec<String> = allowed.iter().map(|word| format!("\"{word}\"")).collect();
    Mistake::new(format!("`{key}` cannot be {found:?}"), span, "not allowed").hint(format!(
        "{}allowed: {}",
        near.unwrap_or_default(),
        allowed.join(", ")
    ))
}

/// What serde expected, as someone who writes TOML says it, and how that is written.
fn in_words<'a>(expected: &'a str, key: &str) -> (&'a str, String) {
    let example = example(key).map(|example| format!("write `{key} = {example}`"));
    match expected {
        "u64" | "i64" => ("a whole number from 0", format!("write `{key} = 1000`")),
        "f64" => ("a number", format!("write `{key} = 0.5`")),
        "a boolean" => ("true or false", format!("write `{key} = true` or `{key} = false`, without quotes")),
        "a sequence" if example.is_none() => ("a list of tables", format!("begin each entry with `[[{key}]]`")),
        "a sequence" => ("a list", example.unwrap_or_default()),
        // Of a list that is one, an entry.
        "a string" if matches!(key, "set" | "add" | "append" | "is") => {
            ("a list of texts", example.unwrap_or_default())
        }
        "a string" => ("text", example.unwrap_or_else(|| format!("write `{key} = \"...\"`"))),
        size if size.starts_with("a size ") => (size, format!("write `{key} = \"64MiB\"`")),
        other if other == "a map" || other.starts_with("struct ") => {
            ("a table", example.unwrap_or_else(|| format!("write `[{key}]` and its keys below")))
        }
        other => (other, "docs/config.md has the form of every key".into()),
    }
}

/// What a key inside a section holds, where that is a list, a table or a duration.
pub(super) fn example(key: &str) -> Option<&'static str> {
    Some(match key {
        "set" | "add" | "append" => "[\".field\"]",
        "is" => "[\"delete\"]",
        "key" => "{ id = \".id\" }",
        "types" => "{ \".tags\" = \"string-set\" }",
        "columns" => "{ id = \"int64\" }",
        "event_time" => "{ field = \".time\" }",
        "late" => "{ after = \"1h\" }",
        "capacity" => "{ read = 10, write = 10 }",
        "delete" => "{ field = \".op\", is = [\"delete\"] }",
        "aggregate" => "{ window = \"1m\", count = \"records\" }",
        "sum" | "min" | "max" => "{ price = \".price\" }",
        "tags" => "{ team = \"orders\" }",
        "after" | "age" | "cleanup_interval" | "expire_after" | "failover" | "grace" | "idle" | "list_shards_pause"
        | "shard_sync" | "window" => "\"10s\"",
        "keep" => "\"192h\"",
        _ => return None,
    })
}

/// What serde found instead, as someone who writes TOML says it.
fn found_in_words(found: &str) -> String {
    let value = |kind: &str| found.strip_prefix(kind).map(|value| value.trim_end_matches(" as i128").replace('`', ""));
    match found {
        "map" => "a table".into(),
        "sequence" => "a list".into(),
        _ => match (value("string "), value("integer ").or_else(|| value("floating point ")), value("boolean ")) {
            (Some(text), ..) => format!("the text {text}"),
            (_, Some(number), _) => format!("the number {number}"),
            (.., Some(boolean)) => boolean,
            _ => found.into(),
        },
    }
}

fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
