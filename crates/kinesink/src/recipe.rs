//! The settings of a pipeline file that decide keys and contents of its objects, by name, and back.

use kinesink_pipeline::Recipe;
use serde_json::Value;

use crate::Error;
use crate::config::{Compression, Config, Format};

const PATTERN: &str = "filter.pattern";
const JQ: &str = "transform.jq";

/// The recipe of a file.
pub(crate) fn of(config: &Config) -> Recipe {
    let mut recipe = Recipe::new();
    if !config.patterns.is_empty() {
        recipe.insert(PATTERN.into(), Value::from(config.patterns.clone()).to_string());
    }
    if let Some(program) = &config.jq {
        recipe.insert(JQ.into(), program.clone());
    }
    for (index, sink) in config.sinks.iter().enumerate() {
        let format = match sink.format {
            Format::Ndjson => "ndjson",
            Format::Raw => "raw",
        };
        let compression = match sink.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
        };
        let url = sink.url.to_string();
        for (key, value) in [("name", &*sink.name), ("url", &*url), ("format", format), ("compression", compression)] {
            recipe.insert(format!("sink.{index}.{key}"), value.into());
        }
    }
    recipe
}

/// The file as it was when a window was announced with `recipe`. What decides neither keys nor contents stays as it is
/// now: regions and endpoints by the sink's name, credentials, limits, dead letters.
///
/// # Errors
/// [`Error::Configuration`] names the setting that this program does not know.
pub(crate) fn applied(config: &Config, recipe: &Recipe) -> Result<Config, Error> {
    let unknown = |name: &str| Error::Configuration(format!("a window was announced with another {name}"));
    let mut then = config.clone();
    then.patterns = match recipe.get(PATTERN) {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).map_err(|_| unknown(PATTERN))?,
    };
    then.jq = recipe.get(JQ).cloned();
    then.sinks.clear();
    for index in 0.. {
        let text = |key: &str| recipe.get(&format!("sink.{index}.{key}"));
        let Some(name) = text("name") else { break };
        let now = config.sinks.iter().find(|sink| sink.name == *name).or(config.sinks.first());
        let Some(mut sink) = now.cloned() else { break };
        sink.name.clone_from(name);
        sink.url = text("url").and_then(|url| url.parse().ok()).ok_or_else(|| unknown("sink.url"))?;
        sink.format = match text("format").map(String::as_str) {
            Some("ndjson") => Format::Ndjson,
            Some("raw") => Format::Raw,
            _ => return Err(unknown("sink.format")),
        };
        sink.compression = match text("compression").map(String::as_str) {
            Some("none") => Compression::None,
            Some("gzip") => Compression::Gzip,
            _ => return Err(unknown("sink.compression")),
        };
        then.sinks.push(sink);
    }
    if of(&then) == *recipe { Ok(then) } else { Err(unknown("setting, which this program does not know")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: &str = r#"
        version = 1
        app = "orders"
        [source]
        stream = "orders"
        region = "eu-west-1"
        [filter]
        pattern = { data = { type = ["click"] } }
        [transform]
        jq = '. + {day: 1}'
        [[sink]]
        name = "a"
        type = "s3"
        url = "s3://bucket-a/orders"
        compression = "gzip"
        [[sink]]
        name = "b"
        type = "s3"
        url = "file:///var/orders"
        format = "raw"
    "#;

    const NOW: &str = r#"
        version = 1
        app = "orders"
        [source]
        stream = "orders"
        region = "us-east-1"
        [[sink]]
        name = "a"
        type = "s3"
        url = "s3://bucket-c/orders"
        region = "eu-central-1"
    "#;

    #[test]
    fn a_window_is_finished_with_the_settings_it_was_announced_with() {
        let (then, now) = (Config::parse(THEN, "then").unwrap(), Config::parse(NOW, "now").unwrap());
        let again = applied(&now, &of(&then)).unwrap();
        assert_eq!((&again.patterns, &again.jq), (&then.patterns, &then.jq));
        assert_eq!(of(&again), of(&then));
        assert_eq!(again.sinks[0].region.as_deref(), Some("eu-central-1"), "where it is reached is today's");
    }

    #[test]
    fn a_setting_of_a_newer_program_is_not_overlooked() {
        let now = Config::parse(NOW, "now").unwrap();
        let mut recipe = of(&now);
        recipe.insert("sink.0.partition".into(), "day={day}".into());
        assert!(applied(&now, &recipe).is_err());
        let mut recipe = of(&now);
        recipe.insert("sink.0.format".into(), "parquet".into());
        assert!(applied(&now, &recipe).is_err());
    }
}
