//! What records of a window count up to, of each table that counts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use kinesink_pipeline::Recipe;
use kinesink_sinks::dynamodb::{Aggregate, KeyAttribute};
use kinesink_sinks::{EventTime, FieldPath};
use serde_json::Value;

use super::{of_word, word};
use crate::Error;
use crate::config::{Config, TableSink};

// Of each table. What stands in a table of the file, or has an order, is JSON.
const NAME: &str = "name";
const TABLE: &str = "table";
const KEY: &str = "key";
const TYPES: &str = "types";
const WINDOW: &str = "window_s";
const EVENT_TIME_FIELD: &str = "event_time.field";
const EVENT_TIME_FORMAT: &str = "event_time.format";
const COUNT: &str = "count";
const SUM: &str = "sum";
const MIN: &str = "min";
const MAX: &str = "max";
const GUARDS: &str = "guards";
const TTL: &str = "ttl";
const EXPIRE_AFTER: &str = "expire_after_s";

/// Adds the settings of each table that counts.
pub(super) fn put(config: &Config, recipe: &mut Recipe) {
    let counting = config.tables.iter().filter_map(|sink| Some((sink, sink.aggregate.as_ref()?)));
    for (index, (sink, aggregate)) in counting.enumerate() {
        let mut put = |name: &str, value: String| drop(recipe.insert(format!("table.{index}.{name}"), value));
        put(NAME, sink.name.clone());
        put(TABLE, sink.table.clone());
        put(KEY, Value::from(sink.key.iter().map(pair).collect::<Vec<_>>()).to_string());
        put(WINDOW, aggregate.window.as_secs().to_string());
        put(GUARDS, aggregate.guards.clone());
        for (name, fields) in [(SUM, &aggregate.sum), (MIN, &aggregate.min), (MAX, &aggregate.max)] {
            if !fields.is_empty() {
                put(name, object(fields.iter().map(|(name, path)| (name, path.to_string()))));
            }
        }
        if !sink.types.is_empty() {
            put(TYPES, object(sink.types.iter().map(|(path, field_type)| (path, word(field_type)))));
        }
        if let Some(EventTime { field, format }) = &aggregate.event_time {
            put(EVENT_TIME_FIELD, field.to_string());
            put(EVENT_TIME_FORMAT, format.to_string());
        }
        let expire_after = sink.expire_after.map(|after| after.as_secs().to_string());
        for (name, value) in [(COUNT, aggregate.count.clone()), (TTL, sink.ttl.clone()), (EXPIRE_AFTER, expire_after)] {
            if let Some(value) = value {
                put(name, value);
            }
        }
    }
}

/// The tables as they were, and those that do not count as they are now.
pub(super) fn applied(now: &[TableSink], recipe: &Recipe) -> Result<Vec<TableSink>, Error> {
    let mut tables: Vec<TableSink> = now.iter().filter(|sink| sink.aggregate.is_none()).cloned().collect();
    for index in 0.. {
        let text = |key: &str| recipe.get(&format!("table.{index}.{key}"));
        let (Some(name), Some(table)) = (text(NAME), text(TABLE)) else { break };
        // Tables of one name are there in each region.
        let counting = || now.iter().filter(|sink| sink.table == *table && sink.aggregate.is_some());
        let refuse =
            |why| Error::Configuration(format!("a window was announced for table {table} by sink {name}, and {why}"));
        let any = counting()
            .next()
            .ok_or_else(|| refuse("no [[sink]] counts there any more: put it back until the window is finished"))?;
        let named = counting().find(|sink| sink.name == *name);
        if named.is_none() && counting().any(|sink| sink.reached != any.reached) {
            return Err(refuse(
                "sinks count in tables of that name in several places: give the one in its place that name again",
            ));
        }
        let sink = named.unwrap_or(any);
        let unknown =
            || Error::Configuration(format!("a window was announced with another `aggregate` of table {table}"));
        let mut sink = sink.clone();
        sink.name.clone_from(name);
        settings(&mut sink, &text).ok_or_else(unknown)?;
        tables.push(sink);
    }
    Ok(tables)
}

fn settings<'a>(sink: &mut TableSink, text: &impl Fn(&str) -> Option<&'a String>) -> Option<()> {
    let key: Vec<(String, String)> = serde_json::from_str(text(KEY)?).ok()?;
    sink.key = key.into_iter().map(key_attribute).collect::<Option<_>>()?;
    sink.types = read(text(TYPES), of_word)?;
    let event_time = match text(EVENT_TIME_FIELD) {
        None => None,
        Some(field) => Some(EventTime { field: field.parse().ok()?, format: text(EVENT_TIME_FORMAT)?.parse().ok()? }),
    };
    let seconds = |text: &String| text.parse().ok().map(Duration::from_secs);
    let path = |text: &str| text.parse::<FieldPath>().ok();
    sink.aggregate = Some(Aggregate {
        window: seconds(text(WINDOW)?)?,
        event_time,
        count: text(COUNT).cloned(),
        sum: read(text(SUM), path)?,
        min: read(text(MIN), path)?,
        max: read(text(MAX), path)?,
        guards: text(GUARDS)?.clone(),
        // Says nothing of what is counted.
        keep: sink.aggregate.as_ref()?.keep,
    });
    sink.ttl = text(TTL).cloned();
    sink.expire_after = match text(EXPIRE_AFTER) {
        None => None,
        Some(after) => Some(seconds(after)?),
    };
    Some(())
}

/// An attribute of a key and its source.
fn pair(part: &KeyAttribute) -> Value {
    Value::from(vec![part.name.clone(), part.source.to_string()])
}

/// Of a table that is there: its types are known.
fn key_attribute((name, text): (String, String)) -> Option<KeyAttribute> {
    Some(KeyAttribute { name, source: text.parse().ok()?, key_type: None })
}

fn object(fields: impl Iterator<Item = (impl Display, String)>) -> String {
    Value::Object(fields.map(|(name, value)| (name.to_string(), value.into())).collect()).to_string()
}

/// The same, back; of nothing, an empty one.
fn read<K: FromStr + Ord, V>(text: Option<&String>, value: impl Fn(&str) -> Option<V>) -> Option<BTreeMap<K, V>> {
    let Some(text) = text else { return Some(BTreeMap::new()) };
    let fields: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    fields.into_iter().map(|(name, text)| Some((name.parse().ok()?, value(&text)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{applied, of};
    use crate::config::Config;

    const THEN: &str = r#"
        version = 1
        app = "orders"
        [source]
        stream = "orders"
        region = "us-east-1"
        [transform]
        jq = "."
        [dead_letter]
        url = "file:///var/dead"
        [[sink]]
        name = "latest"
        type = "dynamodb"
        table = "latest"
        key = { id = ".id" }
        [[sink]]
        name = "by-minute"
        type = "dynamodb"
        table = "minutes"
        key = { shop = '."a b".shop', minute = "{window}" }
        types = { ".price" = "number" }
        ttl = "expires"
        expire_after = "720h"
        [sink.aggregate]
        window = "1m"
        event_time = { field = ".ts", format = "epoch-ms" }
        count = "orders"
        sum = { revenue = ".price" }
        min = { least = ".price" }
        max = { most = ".price", latest = ".ts" }
    "#;

    fn then() -> Config {
        Config::parse(THEN, "then").unwrap()
    }

    #[test]
    fn a_window_is_counted_on_by_the_settings_it_was_announced_with() {
        let then = then();
        let changes = [
            (".\"a b\".shop", ".shop"),
            ("1m", "5m"),
            ("jq = \".\"", "jq = \". + {}\""),
            ("count = \"orders\"", "count = \"number\""),
            ("types = { \".price\" = \"number\" }", "write_units = 7"),
            ("ttl = \"expires\"", ""),
            ("expire_after = \"720h\"", ""),
            ("name = \"by-minute\"", "name = \"by-5-minutes\""),
        ];
        let now = changes.iter().fold(THEN.to_owned(), |text, (then, now)| {
            assert!(text.contains(then), "{then}");
            text.replace(then, now)
        });
        let now = Config::parse(&now, "now").unwrap();
        let again = applied(&now, &of(&then)).unwrap();
        assert_eq!(of(&again), of(&then));
        let [latest, minutes] = &again.tables[..] else { panic!("two tables") };
        assert_eq!((latest, &minutes.aggregate), (&now.tables[0], &then.tables[1].aggregate));
        assert_eq!(
            (&minutes.key, &minutes.types, &minutes.ttl),
            (&then.tables[1].key, &then.tables[1].types, &then.tables[1].ttl)
        );
        assert_eq!(minutes.write_units, Some(7), "what decides nothing of it is today's");
    }

    #[test]
    fn of_two_tables_of_one_name_each_is_counted_on_where_it_is() {
        let (head, aggregate) = THEN.split_once("[[sink]]\n        name = \"by-minute\"").unwrap();
        let file = |names: [&str; 2]| {
            let sinks = names.map(|name| {
                let region = if name == "east" { "us-east-1" } else { "eu-west-1" };
                format!("[[sink]]\nname = \"{name}\"\nregion = \"{region}\"{aggregate}\nguards = \"{name}\"\n")
            });
            Config::parse(&format!("{head}{}", sinks.concat()), "orders").unwrap()
        };
        let (then, now) = (file(["east", "west"]), file(["west", "east"]));
        let reached = |config: &Config| -> Vec<_> {
            let counting = config.tables.iter().filter(|sink| sink.aggregate.is_some());
            counting.map(|sink| (sink.name.clone(), sink.reached.clone())).collect()
        };
        assert_eq!(reached(&applied(&now, &of(&then)).unwrap()), reached(&then));
        let renamed = applied(&file(["east", "other"]), &of(&then)).unwrap_err().to_string();
        assert!(renamed.contains("minutes by sink west") && renamed.contains("several places"), "{renamed}");
    }

    #[test]
    fn a_table_that_nothing_counts_in_any_more_is_named() {
        let now = Config::parse(THEN.rsplit_once("[[sink]]").unwrap().0, "now").unwrap();
        let error = applied(&now, &of(&then())).unwrap_err().to_string();
        assert!(error.contains("table minutes") && error.contains("put it back"), "{error}");
        // And one that counts since then, has nothing of the window.
        let then = applied(&then(), &of(&now)).unwrap();
        assert_eq!(then.tables.iter().map(|sink| &*sink.table).collect::<Vec<_>>(), ["latest"]);
    }
}
