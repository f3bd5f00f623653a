//! What is counted, and by which windows of time.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesink_core::{Fingerprint, Record};

use super::super::attributes::{Attributes, at};
use super::super::config::{DynamoDbConfig, Guard, KeySource, Order};
use super::super::update::OPERATORS_MAX;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kinesink_aws::dynamodb::types::AttributeValue;

use crate::{EventTime, FieldPath};

/// A condition that a number is the lowest or the highest has a function, two operators, and one more that joins it to the next.
const OPERATORS_OF_AN_EXTREME: usize = 4;

/// The attribute of an item, by its name, and the record's field that it is made of.
type Named = BTreeMap<String, FieldPath>;

/// What records add to the item of their key and time window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// How long a time window is, in whole seconds. They follow each other from 1970 on, in UTC.
    pub window: Duration,
    /// Where a record's own time stands. One without it counts by its arrival.
    pub event_time: Option<EventTime>,
    /// The attribute that counts records, if any does.
    pub count: Option<String>,
    /// Attributes that fields are added up in.
    pub sum: Named,
    /// Attributes with the lowest number of a field.
    pub min: Named,
    /// Attributes with the highest number of a field.
    pub max: Named,
    /// The table of the guards.
    pub guards: String,
    /// How long after a record's arrival, or after now where that is later, its guard expires: longer than the stream keeps records.
    pub keep: Duration,
}

impl Aggregate {
    /// The record's own time, if it has one.
    pub(super) fn own_time(&self, attributes: &Attributes) -> Option<Timestamp> {
        let event_time = self.event_time.as_ref()?;
        let (AttributeValue::S(text) | AttributeValue::N(text)) = at(attributes, &event_time.field)? else {
            return None;
        };
        event_time.read(text, &TimeZone::UTC)
    }

    /// The start of the record's time window; none where no clock has it.
    pub(super) fn start(&self, record: &Record, own: Option<Timestamp>) -> Option<Timestamp> {
        let time = own.unwrap_or(record.arrival).as_nanosecond();
        let window = i128::try_from(self.window.as_nanos()).ok()?.max(1);
        Timestamp::from_nanosecond(time.div_euclid(window) * window).ok()
    }

    /// Whether one request can count in all of them. With so few operators, none of its expressions is longer than the 4 KB that it may be.
    #[must_use]
    pub fn fits_in_a_request(&self) -> bool {
        let expiry = 1;
        let extremes = self.min.len() + self.max.len();
        self.attributes().count() + expiry <= OPERATORS_MAX && OPERATORS_OF_AN_EXTREME * extremes <= OPERATORS_MAX
    }

    /// Attributes of numbers, in the order of a [`Totals`](super::fold::Totals).
    fn attributes(&self) -> impl Iterator<Item = &String> {
        self.count.iter().chain(self.sum.keys()).chain(self.min.keys()).chain(self.max.keys())
    }

    /// What decides keys and numbers for every window.
    pub(super) fn feed(&self, config: &DynamoDbConfig, content: &mut Fingerprint) {
        let totals = [("sum", &self.sum), ("min", &self.min), ("max", &self.max)];
        let totals = totals
            .into_iter()
            .flat_map(|(total, fields)| fields.iter().map(move |(name, path)| format!("{total} {name}={path}")));
        let count = self.count.iter().map(|name| format!("count {name}"));
        let time = self.event_time.iter().map(|time| format!("time {}={:?}", time.field, time.format));
        let types = config.types.iter().map(|(path, of)| format!("type {path}={of:?}"));
        let key = config.key.iter().map(|part| format!("key {}={:?}", part.name, part.source));
        let tables = [config.table.clone(), self.guards.clone(), self.window.as_secs().to_string()];
        for text in tables.into_iter().chain(count).chain(time).chain(totals).chain(types).chain(key) {
            content.part(text.as_bytes());
        }
    }
}

/// What of the sink's settings contradicts that it counts.
pub(in crate::dynamodb) fn contradiction(config: &DynamoDbConfig) -> Option<String> {
    let windows = config.key.iter().filter(|part| part.source == KeySource::Window).count();
    let Some(aggregate) = &config.aggregate else {
        return (windows > 0).then(|| "a time window is a part of the key where records are counted alone".into());
    };
    let is_key = |name: &String| config.key.iter().any(|part| part.name == *name);
    let mut names: Vec<&String> = aggregate.attributes().chain(&config.ttl).collect();
    if aggregate.attributes().next().is_none() {
        return Some("nothing is counted: give one of `count`, `sum`, `min`, `max`".into());
    }
    if names.iter().any(|name| name.is_empty()) {
        return Some("an attribute of `count`, `sum`, `min` or `max` has no name: give it one".into());
    }
    if let Some(name) = names.iter().find(|name| is_key(name)) {
        return Some(format!("`{name}` is a part of the key, and can be neither a number that is counted nor `ttl`"));
    }
    names.sort_unstable();
    if let Some(name) = names.windows(2).find_map(|pair| (pair.first() == pair.last()).then(|| pair.first())).flatten()
    {
        return Some(format!("attribute `{name}` stands once in `count`, `sum`, `min`, `max` and `ttl` together"));
    }
    if !aggregate.fits_in_a_request() {
        return Some(
            "`count`, `sum`, `min` and `max` name more attributes than a request can: 75 in `min` and `max` together, 299 in all".into(),
        );
    }
    if windows != 1 || config.key.iter().any(|part| part.source == KeySource::Position) {
        return Some(
            "an item is counted for each time window: one part of the key is that, and none a position".into(),
        );
    }
    if aggregate.window.as_secs() == 0 || aggregate.window.subsec_nanos() != 0 {
        return Some("a time window has whole seconds, one at least".into());
    }
    if aggregate.guards == config.table {
        return Some("guards need a table of their own".into());
    }
    if config.ttl.is_some() != config.expire_after.is_some() {
        return Some("an item that is counted expires by `expire_after`, in `ttl`: set both, or none".into());
    }
    let others = config.changes.is_some() || config.delete.is_some() || config.partition_key.is_some();
    if others || config.guard != Guard::Always || config.order != Order::PartitionKey {
        return Some("what is counted is always guarded, and neither changed nor deleted by records: leave `guard`, `ordered_by`, `partition_key`, `set`, `add`, `append` and `delete` out".into());
    }
    None
}
