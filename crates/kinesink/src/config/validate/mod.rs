//! [`RawConfig`] to [`Config`]: every value on its own, then what contradicts.

mod aggregates;
mod columns;
mod lease;
mod limits;
mod sinks;
mod table_order;
mod tables;

pub use self::lease::{WORKER_ID, is_worker_id};

use std::net::SocketAddr;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_consumer::{BeyondRetention, Retrieval, Start};
use kinesink_core::StreamName;
use serde_json::Value;
use toml::Spanned;

use super::error::Mistake;
use super::raw::{self, RawConfig, RawSource, Size};
use super::structure::not_one_of;
use super::validated::{Config, Source};
use super::values;

/// Less holds hardly a reply of the service.
const MEMORY_BYTES_MIN: usize = 1024 * 1024;
const MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024 * 1024;
/// KCL's lower bound; GetRecords takes five requests a second and shard.
const IDLE_MIN: Duration = Duration::from_millis(200);
const CONSUMER_CHARACTERS_MAX: usize = 128;
const GRACE_MIN: Duration = Duration::from_millis(1);
/// A year: what is longer is a mistake, and no clock has to reach it.
const DURATION_HOURS_MAX: u64 = 365 * 24;
const DURATION_MAX: Duration = Duration::from_secs(DURATION_HOURS_MAX * 3600);

/// Checks everything, so that all mistakes are told at once.
pub(super) fn validate(raw: RawConfig) -> Result<Config, Vec<Mistake>> {
    let mut checks = Checks::default();
    let app = checks.table_name("app", &raw.app);
    let memory_bytes = checks.size("memory", raw.memory.as_ref(), raw::MEMORY, MEMORY_BYTES_MIN).unwrap_or(usize::MAX);
    let source = checks.source(&raw.source, &raw.app);
    let patterns = raw.filter.map(|filter| checks.patterns(&filter.pattern)).unwrap_or_default();
    let jq = raw.transform.map(|transform| checks.not_empty("transform.jq", &transform.jq));
    let lease = checks.lease(&raw.lease, &app);
    let spill = raw.spill.and_then(|raw| checks.spill(&raw));
    let buffer = checks.buffer(&raw.buffer, memory_bytes, spill.as_ref());
    let (sinks, tables) = checks.sinks(&raw.sink, source.as_ref());
    let region = source.as_ref().and_then(|source| source.region.as_deref());
    let of_the_app = [
        (lease.table.clone(), "the leases of this application"),
        (format!("{app}-CoordinatorState"), "what the workers of this application agree on"),
        (format!("{app}-WorkerMetricStats"), "what the workers of this application report"),
    ];
    checks.tables_apart(&raw.sink, &of_the_app, region);
    checks.counters(&raw.sink, raw.dead_letter.is_some());
    let dead_letter = raw.dead_letter.and_then(|raw| checks.dead_letter(&raw, &sinks, source.as_ref()));
    let metrics_listen = raw.metrics.and_then(|metrics| checks.address(metrics.listen.as_ref()));
    let drain_grace = checks.duration("drain.grace", raw.drain.grace.as_ref(), raw::GRACE, GRACE_MIN);
    match source {
        Some(source) if checks.mistakes.is_empty() => Ok(Config {
            app,
            memory_bytes,
            source,
            patterns,
            jq,
            lease,
            buffer,
            spill,
            sinks,
            tables,
            dead_letter,
            metrics_listen,
            drain_grace,
            #[cfg(feature = "planted-faults")]
            fault: None,
            file: Default::default(),
        }),
        _ => Err(checks.mistakes),
    }
}

/// What was found wrong so far. Each check gives a value to go on with, which is used only if nothing was wrong.
#[derive(Debug, Default)]
struct Checks {
    mistakes: Vec<Mistake>,
}

impl Checks {
    fn refuse(&mut self, what: impl Into<String>, span: Range<usize>, label: &'static str, hint: impl Into<String>) {
        self.mistakes.push(Mistake::new(what, span, label).hint(hint));
    }

    fn source(&mut self, raw: &RawSource, app: &Spanned<String>) -> Option<Source> {
        let stream = StreamName::from_str(raw.stream.get_ref()).ok();
        if stream.is_none() {
            let what = format!("`source.stream` cannot be {:?}", raw.stream.get_ref());
            self.refuse(what, raw.stream.span(), "not a stream's name", "1 to 128 of `a-z A-Z 0-9 _ . -`");
        }
        let region = raw.region.as_ref().map(|region| self.region("source.region", region));
        let start = raw.start.as_ref().map_or(Start::TrimHorizon, |start| self.start(start));
        let beyond_retention = self.beyond_retention(raw.beyond_retention.as_ref());
        let fetch = self.fetch(raw, app);
        let idle = self.duration("source.idle", raw.idle.as_ref(), raw::IDLE, IDLE_MIN);
        let max_records =
            self.count("source.max_records", raw.max_records.as_ref(), raw::MAX_RECORDS, raw::MAX_RECORDS);
        let max_records = whole(max_records);
        Some(Source { stream: stream?, region, start, beyond_retention, fetch, idle, max_records })
    }

    fn fetch(&mut self, raw: &RawSource, app: &Spanned<String>) -> Retrieval {
        let fetch = raw.fetch.as_ref().map_or(raw::FETCH, |fetch| fetch.get_ref());
        match (fetch, &raw.consumer) {
            (raw::FAN_OUT, consumer) => {
                let of_polling = [
                    ("idle", raw.idle.as_ref().map(Spanned::span)),
                    ("max_records", raw.max_records.as_ref().map(Spanned::span)),
                ];
                for (key, span) in of_polling.into_iter().filter_map(|(key, span)| Some((key, span?))) {
                    let what = format!("`source.{key}` means nothing for fan-out");
                    let hint = "leave it out, or write `fetch = \"polling\"`";
                    self.refuse(what, span, "contradicts `fetch`", hint);
                }
                Retrieval::FanOut { consumer: Some(self.consumer(consumer.as_ref(), app)) }
            }
            (raw::FETCH, None) => Retrieval::Polling,
            (raw::FETCH, Some(consumer)) => {
                let what = "`source.consumer` means nothing for polling";
                let hint = "leave it out, or write `fetch = \"fan-out\"`";
                self.refuse(what, consumer.span(), "contradicts `fetch`", hint);
                Retrieval::Polling
            }
            (other, _) => {
                let span = raw.fetch.as_ref().map(Spanned::span).unwrap_or_default();
                self.mistakes.push(not_one_of("source.fetch", other, &[raw::FETCH, raw::FAN_OUT], span));
                Retrieval::Polling
            }
        }
    }

    /// A consumer's ARN or name, which is made as a stream's.
    fn consumer(&mut self, consumer: Option<&Spanned<String>>, app: &Spanned<String>) -> String {
        let named = consumer.unwrap_or(app);
        let text = named.get_ref();
        let is_one = text.starts_with("arn:") || StreamName::from_str(text).is_ok();
        if consumer.is_some() && !is_one {
            let what = format!("`source.consumer` cannot be {text:?}");
            self.refuse(what, named.span(), "not a consumer's name", "1 to 128 of `a-z A-Z 0-9 _ . -`, or an ARN");
        } else if text.len() > CONSUMER_CHARACTERS_MAX && !is_one {
            let hint = "name one with `source.consumer`, in 1 to 128 characters";
            self.refuse("`app` is too long to name a consumer", named.span(), "taken for `source.consumer`", hint);
        }
        text.clone()
    }

    fn beyond_retention(&mut self, given: Option<&Spanned<String>>) -> BeyondRetention {
        match given.map_or(raw::BEYOND_RETENTION, |given| given.get_ref()) {
            raw::BEYOND_RETENTION => BeyondRetention::Oldest,
            "start" => BeyondRetention::Start,
            "fail" => BeyondRetention::Fail,
            other => {
                let span = given.map(Spanned::span).unwrap_or_default();
                let allowed = [raw::BEYOND_RETENTION, "start", "fail"];
                self.mistakes.push(not_one_of("source.beyond_retention", other, &allowed, span));
                BeyondRetention::Oldest
            }
        }
    }

    fn start(&mut self, start: &Spanned<String>) -> Start {
        match start.get_ref().as_str() {
            raw::START => Start::TrimHorizon,
            "latest" => Start::Latest,
            text => {
                if let Ok(time) = Timestamp::from_str(text) {
                    return Start::AtTimestamp(time);
                }
                let mut mistake = not_one_of("source.start", text, &[raw::START, "latest"], start.span());
                if let Some(hint) = &mut mistake.hint {
                    hint.push_str(", or a time such as \"2026-01-31T08:00:00Z\"");
                }
                self.mistakes.push(mistake);
                Start::TrimHorizon
            }
        }
    }

    /// A number from 1 to `max`.
    fn count(&mut self, key: &str, given: Option<&Spanned<u64>>, default: u64, max: u64) -> u64 {
        let Some(given) = given else { return default };
        let count = *given.get_ref();
        if !(1..=max).contains(&count) {
            let hint = if count > 0 || max < u32::MAX.into() {
                format!("write 1 to {max}")
            } else {
                "write at least 1".into()
            };
            self.refuse(format!("`{key}` is {count}"), given.span(), "out of range", hint);
        }
        count
    }

    fn patterns(&mut self, pattern: &Spanned<toml::Value>) -> Vec<Value> {
        let patterns = match pattern.get_ref() {
            toml::Value::Array(patterns) => patterns.as_slice(),
            single => std::slice::from_ref(single),
        };
        let tables: Option<Vec<Value>> = patterns.iter().map(|one| json(one).filter(Value::is_object)).collect();
        match tables {
            Some(tables) if !tables.is_empty() => tables,
            _ => {
                let what = "`filter.pattern` is not a pattern";
                let hint = "write a table as in JSON, such as `{ data = { type = [\"click\"] } }`, or a list of such \
                            tables; without dates";
                self.refuse(what, pattern.span(), "not a pattern", hint);
                Vec::new()
            }
        }
    }

    fn address(&mut self, given: Option<&Spanned<String>>) -> Option<SocketAddr> {
        let Some(given) = given else {
            return SocketAddr::from_str(raw::LISTEN).ok();
        };
        let address = SocketAddr::from_str(given.get_ref()).ok();
        if address.is_none() {
            let what = format!("`metrics.listen` cannot be {:?}", given.get_ref());
            let hint = format!("write a numeric address and a port, such as \"{}\"", raw::LISTEN);
            self.refuse(what, given.span(), "not an address and port", hint);
        }
        address
    }

    fn duration(&mut self, key: &str, given: Option<&Spanned<String>>, default: &str, min: Duration) -> Duration {
        let Some(given) = given else {
            return values::duration(default).unwrap_or(min);
        };
        match values::duration(given.get_ref()) {
            Some(duration) if (min..=DURATION_MAX).contains(&duration) => return duration,
            Some(duration) if duration > min => {
                let what = format!("`{key}` is {}, which is too long", given.get_ref());
                self.refuse(what, given.span(), "too long", format!("write at most \"{DURATION_HOURS_MAX}h\""));
            }
            Some(_) => {
                let what = format!("`{key}` is {}, which is too short", given.get_ref());
                self.refuse(
                    what,
                    given.span(),
                    "too short",
                    format!("write at least {:?}", values::duration_text(min)),
                );
            }
            None => {
                let what = format!("`{key}` cannot be {:?}", given.get_ref());
                let hint = "write a whole number and `ms`, `s`, `m` or `h`, such as \"500ms\" or \"10s\"";
                self.refuse(what, given.span(), "not a duration", hint);
            }
        }
        min
    }

    fn size(&mut self, key: &str, given: Option<&Spanned<Size>>, default: &str, min: usize) -> Option<usize> {
        let (text, span) = match given {
            Some(given) => (given.get_ref().clone(), given.span()),
            None => (Size::Text(default.into()), 0..0),
        };
        let bytes = match &text {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => values::size(text),
        };
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) if (min..=MEMORY_BYTES_MAX).contains(&bytes) => return Some(bytes),
            Some(bytes) if bytes < min => {
                let what = format!("`{key}` is {}, which is too small", values::size_text(bytes));
                self.refuse(what, span, "too small", format!("write at least {:?}", values::size_text(min)));
            }
            Some(bytes) => {
                let what = format!("`{key}` is {}, which no machine has", values::size_text(bytes));
                self.refuse(what, span, "too large", "write at most \"1024GiB\"");
            }
            None => {
                let hint = "write a whole number and `B`, `KB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, such as \"64MiB\"; \
                            or a number of bytes without quotes";
                self.refuse(format!("`{key}` is not a size"), span, "not a size", hint);
            }
        }
        None
    }

    fn table_name(&mut self, key: &str, name: &Spanned<String>) -> String {
        let text = name.get_ref();
        if !is_table_name(text) {
            self.refuse(format!("`{key}` cannot be {text:?}"), name.span(), "not a table's name", TABLE_NAME);
        }
        text.clone()
    }

    fn region(&mut self, key: &str, text: &Spanned<String>) -> String {
        if kinesink_aws::check_region(text.get_ref()).is_err() {
            let what = format!("`{key}` cannot be {:?}", text.get_ref());
            self.refuse(what, text.span(), "not a region", "1 to 63 of `a-z 0-9 -`, such as \"eu-west-1\"");
        }
        text.get_ref().clone()
    }

    fn not_empty(&mut self, key: &str, text: &Spanned<String>) -> String {
        if text.get_ref().trim().is_empty() {
            self.refuse(format!("`{key}` is empty"), text.span(), "empty", "write something, or leave the key out");
        }
        text.get_ref().clone()
    }
}

/// What [`is_table_name`] asks for, as a hint.
pub const TABLE_NAME: &str = "it names a DynamoDB table: 3 to 255 of `a-z A-Z 0-9 _ . -`";

/// Whether DynamoDB could have a table of this name.
#[must_use]
pub fn is_table_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (3..=255).contains(&text.len()) && text.bytes().all(allowed)
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A TOML value as JSON, unless there is a date in it.
fn json(value: &toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(items) => Value::Array(items.iter().map(json).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            let entry = |(key, value): (&String, &toml::Value)| Some((key.clone(), json(value)?));
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}
