//! `docs/config.md`, made from the types that read the file.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawConfig;

/// A complete pipeline file, as the reference shows it.
pub const EXAMPLE: &str = include_str!("example.toml");

const HEAD: &str = "\
# The pipeline file

A pipeline is one TOML file: `kinesink run FILE` runs it, `kinesink check FILE` reads it and says what is wrong.
Unknown keys are refused. This page is generated from the types that read the file.

A **duration** is a whole number and a unit, `ms`, `s`, `m` or `h`, in quotes: `\"500ms\"`, `\"10s\"`.
A **size** is a whole number and a unit, `B`, `KB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB` or `GiB` (powers of
1024), in quotes: `\"64MiB\"`; or a number of bytes without quotes.
";

/// The reference of every key, in Markdown.
#[must_use]
pub fn reference() -> String {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema: Value = settings.into_generator().into_root_schema_for::<RawConfig>().into();
    let is_section = |(_, field): &(&String, &Value)| below(field).is_some() || field.get("items").is_some();
    let (sections, plain): (Vec<_>, Vec<_>) = properties(&schema).partition(is_section);
    let mut page = format!("{HEAD}\n## At the top\n\n{}", table(&schema, plain));
    for (key, section) in sections {
        let (heading, fields) = match section.get("items") {
            Some(items) => (format!("[[{key}]]"), items),
            None => (format!("[{key}]"), section),
        };
        page.push_str(&format!("\n## `{heading}`\n\n{}\n", description(section)));
        match fields.get("oneOf").and_then(Value::as_array) {
            None => page.push_str(&format!("\n{}", tables("", fields))),
            Some(kinds) => {
                for (kind, fields) in kinds.iter().flat_map(properties) {
                    page.push_str(&format!("\n### With `type = \"{kind}\"`\n\n{}", tables("", fields)));
                }
            }
        }
    }
    page.push_str(&format!("\n## Example\n\n```toml\n{EXAMPLE}```\n"));
    page
}

/// The keys of the table at `path`, and of the tables in it, however deep.
fn tables(path: &str, schema: &Value) -> String {
    let mut page = table(schema, properties(schema));
    for (key, field) in properties(schema) {
        if let Some((fields, name)) = below(field) {
            let path = format!("{path}{key}{name}");
            page.push_str(&format!("\n#### `{path}`\n\n{}", tables(&format!("{path}."), fields)));
        }
    }
    page
}

/// The keys of a field that is a table, or of each of its entries, which have names of the user's.
fn below(field: &Value) -> Option<(&Value, &'static str)> {
    let has_keys = |field: &Value| field.get("properties").is_some();
    let entries = field.get("additionalProperties").filter(|entries| has_keys(entries));
    entries.map(|entries| (entries, ".NAME")).or_else(|| has_keys(field).then_some((field, "")))
}

/// One row for each of these keys.
fn table<'a>(schema: &Value, keys: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let mut rows = String::from("| key | value | default | meaning |\n|---|---|---|---|\n");
    for (key, field) in keys {
        let default = match field.get("default") {
            Some(Value::Null) | None if is_required(schema, key) => "**required**".into(),
            Some(Value::Null) | None => String::new(),
            Some(default) => format!("`{default}`"),
        };
        let meaning = format!("{}{}", description(field), choices(field));
        rows.push_str(&format!("| `{key}` | {} | {default} | {meaning} |\n", kind(field)));
    }
    rows
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn is_required(schema: &Value, key: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|keys| keys.iter().any(|required| required == key))
}

fn kind(field: &Value) -> String {
    if let Some(kind) = text(field, "x-type") {
        return kind.into();
    }
    let words: Vec<String> = variants(field).map(|(word, _)| format!("`\"{word}\"`")).collect();
    if !words.is_empty() {
        return words.join(" or ");
    }
    match text(field, "type") {
        _ if below(field).is_some() => "table, below".into(),
        Some("string") => "text".into(),
        Some("integer") => "number".into(),
        other => other.unwrap_or_default().into(),
    }
}

/// What each allowed word means.
fn choices(field: &Value) -> String {
    variants(field).map(|(word, meaning)| format!(" `{word}`: {meaning}")).collect()
}

fn variants(field: &Value) -> impl Iterator<Item = (&str, String)> {
    let variants = field.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    variants.filter_map(|variant| Some((text(variant, "const")?, description(variant))))
}

/// A comment as one line of a table.
fn description(schema: &Value) -> String {
    text(schema, "description").unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}
