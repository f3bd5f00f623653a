//! The settings of a pipeline file that decide keys and contents of its objects, and what its records count up to, by name, and
//! back.

mod counted;

use jiff::SignedDuration;
use kinesink_pipeline::Recipe;
use kinesink_sinks::s3::{KeySettings, KeyTemplate, Late};
use kinesink_sinks::{EventTime, Location};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::config::{Config, Sink};

const PATTERN: &str = "filter.pattern";
const JQ: &str = "transform.jq";

// Of each sink.
const COLUMNS: &str = "columns";
const KEY: &str = "key";
const TIME_ZONE: &str = "time_zone";
const UNKNOWN: &str = "unknown";
const EVENT_TIME_FIELD: &str = "event_time.field";
const EVENT_TIME_FORMAT: &str = "event_time.format";
const LATE_AFTER: &str = "late.after_ms";
const LATE_TO: &str = "late.to";

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
        let mut key = |name: &str, value: String| recipe.insert(format!("sink.{index}.{name}"), value);
        key_settings(sink.key.settings(), &mut key);
        if let Some(columns) = &sink.columns {
            key(COLUMNS, columns.to_string());
        }
        key("name", sink.name.clone());
        key("url", sink.url.to_string());
        key("format", word(&sink.format));
        key("compression", word(&sink.compression));
    }
    counted::put(config, &mut recipe);
    recipe
}

/// The file as it was when a window was announced with `recipe`. What decides neither keys nor contents stays as it is
/// now: credentials, limits, dead letters, and how a bucket is reached.
///
/// # Errors
/// [`Error::Configuration`] names the setting that this program does not know, or the bucket that the file no longer
/// says how to reach.
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
        let url: Location = text("url").and_then(|url| url.parse().ok()).ok_or_else(|| unknown("sink.url"))?;
        let now = reaching(&config.sinks, name, &url);
        let mut sink = now.cloned().map_err(|why| {
            Error::Configuration(format!("a window was announced for {url} by sink {name}, and {why}"))
        })?;
        sink.name.clone_from(name);
        sink.url = url;
        sink.format = text("format").and_then(|text| of_word(text)).ok_or_else(|| unknown("sink.format"))?;
        let compression = text("compression").and_then(|text| of_word(text));
        sink.compression = compression.ok_or_else(|| unknown("sink.compression"))?;
        let columns = text(COLUMNS).map(|columns| columns.parse()).transpose();
        sink.columns = columns.map_err(|_| unknown("sink.columns"))?;
        let settings = settings_of_key(&text).ok_or_else(|| unknown("sink.key"))?;
        sink.key = KeyTemplate::new(settings).map_err(|_| unknown("sink.key"))?;
        then.sinks.push(sink);
    }
    then.tables = counted::applied(&config.tables, recipe)?;
    if of(&then) == *recipe { Ok(then) } else { Err(unknown("setting, which this program does not know")) }
}

/// How objects are named, as far as the usual was changed: a plan is kept in a lease row.
fn key_settings(settings: &KeySettings, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let usual = KeySettings::default();
    let KeySettings { template, time_zone, event_time, late, unknown } = settings;
    for (name, value, usual) in
        [(KEY, template, &usual.template), (TIME_ZONE, time_zone, &usual.time_zone), (UNKNOWN, unknown, &usual.unknown)]
    {
        if value != usual {
            put(name, value.clone());
        }
    }
    if let Some(EventTime { field, format }) = event_time {
        put(EVENT_TIME_FIELD, field.to_string());
        put(EVENT_TIME_FORMAT, format.to_string());
    }
    if let Some(Late { after, to }) = late {
        put(LATE_AFTER, after.as_millis().to_string());
        put(LATE_TO, word(to));
    }
}

/// The same, back.
fn settings_of_key<'a>(text: &impl Fn(&str) -> Option<&'a String>) -> Option<KeySettings> {
    let mut settings = KeySettings::default();
    let parts = [(KEY, &mut settings.template), (TIME_ZONE, &mut settings.time_zone), (UNKNOWN, &mut settings.unknown)];
    for (name, part) in parts {
        if let Some(value) = text(name) {
            part.clone_from(value);
        }
    }
    if let Some(field) = text(EVENT_TIME_FIELD) {
        let format = text(EVENT_TIME_FORMAT)?.parse().ok()?;
        settings.event_time = Some(EventTime { field: field.parse().ok()?, format });
    }
    if let Some(after) = text(LATE_AFTER) {
        let after = SignedDuration::from_millis(after.parse().ok()?);
        settings.late = Some(Late { after, to: of_word(text(LATE_TO)?)? });
    }
    Some(settings)
}

/// A setting that is one of some words, as it stands in the file.
fn word(setting: &impl Serialize) -> String {
    match serde_json::to_value(setting) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The same, back.
fn of_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    T::deserialize(Value::from(word)).ok()
}

/// The sink of today that says how the place is reached: the one that has it; else the one of that name, or any, of the same
/// bucket.
///
/// # Errors
/// Why there is none, and what to do.
fn reaching<'a>(sinks: &'a [Sink], name: &str, url: &Location) -> Result<&'a Sink, &'static str> {
    let bucket_of = |url: &Location| match url {
        Location::Bucket { bucket, .. } => Some(bucket.clone()),
        Location::Directory(_) => None,
    };
    let bucket = bucket_of(url);
    // A directory is reached without anything that a sink says.
    let near = || sinks.iter().filter(|sink| bucket.is_none() || bucket_of(&sink.url) == bucket);
    if let Some(sink) = near().find(|sink| sink.url == *url).or_else(|| near().find(|sink| sink.name == name)) {
        return Ok(sink);
    }
    let any =
        near().next().ok_or("no [[sink]] says any more how to reach it: put it back until the window is finished")?;
    if bucket.is_some() && near().any(|sink| (&sink.reached, &sink.bucket) != (&any.reached, &any.bucket)) {
        return Err(
            "the sinks of its bucket reach it in different ways, or keep objects differently: give the one whose way it \
                    was that name or url again until the window is finished",
        );
    }
    Ok(any)
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
        key = "{event:%Y}/{.type}/{first}"
        time_zone = "Europe/Berlin"
        event_time = { field = ".ts", format = "epoch-ms" }
        late = { after = "1h", to = "arrival" }
        unknown = "none"
        [[sink]]
        name = "b"
        type = "s3"
        url = "file:///var/orders"
        format = "raw"
        [[sink]]
        name = "c"
        type = "s3"
        url = "file:///var/columns"
        format = "parquet"
        compression = "snappy"
        rest = "others"
        columns = { z = "list<struct<`a, b`: decimal(18,2)>>", "a b" = { type = "date", on_mismatch = "null" } }
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
        url = "s3://bucket-a/elsewhere"
        region = "eu-central-1"
    "#;

    #[test]
    fn a_window_is_finished_with_the_settings_it_was_announced_with() {
        let (then, now) = (Config::parse(THEN, "then").unwrap(), Config::parse(NOW, "now").unwrap());
        let again = applied(&now, &of(&then)).unwrap();
        assert_eq!((&again.patterns, &again.jq), (&then.patterns, &then.jq));
        assert_eq!(of(&again), of(&then));
        assert_eq!(again.sinks[0].key, then.sinks[0].key);
        assert_eq!(again.sinks[2].columns, then.sinks[2].columns);
        assert!(again.sinks[2].columns.is_some());
        assert_eq!(again.sinks[0].reached.region.as_deref(), Some("eu-central-1"), "where it is reached is today's");
    }

    #[test]
    fn a_bucket_that_the_file_no_longer_has_is_not_asked_for_elsewhere() {
        let (then, now) = (Config::parse(THEN, "then").unwrap(), NOW.replace("bucket-a", "bucket-c"));
        let error = applied(&Config::parse(&now, "now").unwrap(), &of(&then)).unwrap_err().to_string();
        assert!(error.contains("s3://bucket-a/orders") && error.contains("put it back"), "{error}");
    }

    #[test]
    fn of_two_sinks_of_one_bucket_each_finishes_its_windows_the_way_it_is_reached_itself() {
        let file = |sinks: &[(&str, &str, &str)]| {
            let sink = |(name, prefix, class): &(&str, &str, &str)| {
                format!(
                    "[[sink]]\nname = \"{name}\"\ntype = \"s3\"\nurl = \"s3://lake/{prefix}\"\nregion = \"{name}-1\"\n\
                     endpoint = \"https://{name}.example\"\nstorage_class = \"{class}\"\n"
                )
            };
            let sinks: String = sinks.iter().map(sink).collect();
            let text = format!("version = 1\napp = \"orders\"\n[source]\nstream = \"orders\"\n{sinks}");
            Config::parse(&text, "orders.toml").unwrap()
        };
        let told = |config: &Config| -> Vec<(String, Option<String>, Option<String>)> {
            let sink =
                |sink: &Sink| (sink.url.to_string(), sink.reached.endpoint.clone(), sink.bucket.storage_class.clone());
            config.sinks.iter().map(sink).collect()
        };
        let (a, b) = (("a", "a", "STANDARD_IA"), ("b", "b", "GLACIER_IR"));
        let then = file(&[a, b]);
        let c = ("c", "a", "STANDARD");
        let swapped = [("b", "a", "STANDARD"), ("a", "b", "GLACIER_IR")];
        // A sink that has the place now, by whatever name, or else the one of that name.
        for (now, expected) in [
            (&[a, b], [a, b]),
            (&[b, a], [a, b]),
            (&[("b", "c", b.2), a], [a, b]),
            (&[c, b], [c, b]),
            (&swapped, swapped),
        ] {
            let expected = ["s3://lake/a", "s3://lake/b"].into_iter().zip(expected);
            let expected: Vec<_> = expected
                .map(|(url, (name, _, class))| {
                    (url.into(), Some(format!("https://{name}.example")), Some(class.into()))
                })
                .collect();
            assert_eq!(told(&applied(&file(now), &of(&then)).unwrap()), expected);
        }
        // One that was renamed and moved: which of the two ways was its own cannot be known.
        let refused = applied(&file(&[a, ("c", "c", "STANDARD")]), &of(&then)).unwrap_err().to_string();
        assert!(refused.contains("s3://lake/b by sink b") && refused.contains("different ways"), "{refused}");
        let again = applied(&file(&[a]), &of(&then)).unwrap();
        assert_eq!(again.sinks[1].reached, then.sinks[0].reached, "there is no other way to it");
    }

    #[test]
    fn a_setting_of_a_newer_program_is_not_overlooked() {
        let now = Config::parse(NOW, "now").unwrap();
        let mut recipe = of(&now);
        recipe.insert("sink.0.partition".into(), "day={day}".into());
        assert!(applied(&now, &recipe).is_err());
        let mut recipe = of(&now);
        recipe.insert("sink.0.key".into(), "{moon:%Y}/{first}".into());
        assert!(applied(&now, &recipe).is_err());
        let mut recipe = of(&now);
        recipe.insert("sink.0.format".into(), "orc".into());
        assert!(applied(&now, &recipe).is_err());
        let mut recipe = of(&now);
        recipe.insert("sink.0.columns".into(), "a: uuid dead-letter, .._rest".into());
        assert!(applied(&now, &recipe).is_err());
    }
}
