//! The table `aggregate` of a sink of type `dynamodb`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr as _;
use std::time::Duration;

use kinesink_sinks::FieldPath;
use kinesink_sinks::dynamodb::{Aggregate, KeyAttribute, KeySource, OWN_ATTRIBUTES};
use toml::Spanned;

use super::Checks;
use super::tables::KEEP_MIN;
use crate::config::raw::{self, RawAggregate, RawTable};

const WINDOW_MIN: Duration = Duration::from_secs(1);

impl Checks {
    /// What records count up to.
    pub(super) fn aggregate(
        &mut self,
        raw: &RawTable,
        given: &Spanned<RawAggregate>,
        key: &[KeyAttribute],
    ) -> Option<Aggregate> {
        let (span, aggregate) = (given.span(), given.get_ref());
        let window = self.duration("sink.aggregate.window", Some(&aggregate.window), "", WINDOW_MIN);
        if window.subsec_nanos() != 0 {
            let what = format!("`sink.aggregate.window` is {}", aggregate.window.get_ref());
            self.refuse(what, aggregate.window.span(), "no whole seconds", "write whole seconds, as in \"10s\"");
        }
        let event_time = aggregate.event_time.as_ref();
        let event_time = event_time.map(|given| self.event_time("sink.aggregate.event_time", given.get_ref()));
        let keep = self.duration("sink.aggregate.keep", aggregate.keep.as_ref(), raw::KEEP, KEEP_MIN);
        let guards = self.table_name("sink.aggregate.guards", &guards(raw, aggregate));
        self.attributes(raw, aggregate, &span, key);
        self.not_beside(raw);
        let count = aggregate.count.as_ref().map(|count| count.get_ref().clone());
        let (sum, min, max) = (self.fields(&aggregate.sum), self.fields(&aggregate.min), self.fields(&aggregate.max));
        let event_time = match event_time {
            Some(event_time) => Some(event_time?),
            None => None,
        };
        let aggregate = Aggregate { window, event_time, count, sum, min, max, guards, keep };
        if !aggregate.fits_in_a_request() {
            let hint = "the service takes 300 operators, of which each of `min` and `max` needs four, and any other one: name 75 in \
                        `min` and `max` together at most, and 299 in all";
            self.refuse("`sink.aggregate` counts in more attributes than a request can say", span, "too many", hint);
        }
        Some(aggregate)
    }

    /// Each attribute has one meaning.
    fn attributes(&mut self, raw: &RawTable, aggregate: &RawAggregate, span: &Range<usize>, key: &[KeyAttribute]) {
        let numbers = [&aggregate.sum, &aggregate.min, &aggregate.max].into_iter().flat_map(BTreeMap::keys);
        let numbers: Vec<_> = aggregate.count.iter().chain(numbers).collect();
        if numbers.is_empty() {
            let hint = "write one of `count = \"orders\"`, `sum = { revenue = \".price\" }`, `min`, `max`";
            self.refuse("`sink.aggregate` counts nothing", span.clone(), "nothing here", hint);
        }
        if let Some(name) = numbers.iter().find(|name| name.get_ref().is_empty()) {
            let hint = "name the attribute that the number is kept in, as in `sum = { revenue = \".price\" }`";
            self.refuse("`sink.aggregate` counts in an attribute without a name", name.span(), "empty", hint);
        }
        for (place, name) in numbers.iter().enumerate() {
            self.name_of_attribute("sink.aggregate", name);
            let is_other = |other: &&Spanned<String>| other.get_ref() == name.get_ref();
            let is_second = numbers.iter().take(place).copied().any(|other| is_other(&other));
            let is_taken = raw.ttl.as_ref().is_some_and(|ttl| is_other(&ttl))
                || OWN_ATTRIBUTES.contains(&name.get_ref().as_str())
                || key.iter().any(|key| key.name == *name.get_ref());
            if is_second || is_taken {
                let what = format!("`sink.aggregate` cannot count in attribute {:?}", name.get_ref());
                let hint = "an attribute that is neither key nor `ttl` stands once in `count`, `sum`, `min` and `max`";
                self.refuse(what, name.span(), if is_second { "the second" } else { "taken" }, hint);
            }
        }
    }

    /// What means nothing where records are counted.
    fn not_beside(&mut self, raw: &RawTable) {
        let changes = raw.set.iter().chain(&raw.add).chain(&raw.append).next();
        let given = [
            ("set`, `add` and `append", changes.map(Spanned::span)),
            ("delete", raw.delete.as_ref().map(Spanned::span)),
            ("ordered_by", raw.ordered_by.as_ref().map(Spanned::span)),
            ("partition_key", raw.partition_key.as_ref().map(Spanned::span)),
            ("guard", raw.guard.as_ref().filter(|guard| *guard.get_ref() != raw::Guard::Always).map(Spanned::span)),
        ];
        for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let what = format!("`{key}` cannot stand beside `aggregate`");
            let hint =
                "what is counted is always guarded, shard by shard, and neither changed nor deleted: leave it out";
            self.refuse(what, span, "contradicts `aggregate`", hint);
        }
        if let Some(ttl) = raw.ttl.as_ref().filter(|_| raw.expire_after.is_none()) {
            let hint = "say with `expire_after` how long after the end of its time window an item expires";
            self.refuse("`ttl` beside `aggregate` lacks `expire_after`", ttl.span(), "needs `expire_after`", hint);
        }
    }

    /// The time window is a part of the key exactly where records are counted.
    pub(super) fn window_of_key(&mut self, raw: &RawTable) {
        let of = |source: KeySource| {
            raw.key.get_ref().values().filter(move |given| given.get_ref().parse().as_ref() == Ok(&source))
        };
        let windows: Vec<_> = of(KeySource::Window).collect();
        let position = of(KeySource::Position).next();
        let hint =
            "an item is counted for each time window: give one attribute of the key `{window}`, and none `{position}`";
        match (&raw.aggregate, windows.first()) {
            (None, Some(window)) => {
                let hint = "add `aggregate`, or write a field";
                self.refuse("`{window}` means nothing without `aggregate`", window.span(), "no time window", hint);
            }
            (Some(_), _) if windows.len() != 1 => {
                let what = format!("`sink.key` has {} time windows", windows.len());
                self.refuse(what, raw.key.span(), "one is needed", hint);
            }
            (Some(_), _) => {
                if let Some(position) = position {
                    self.refuse("`sink.key` tells all records apart", position.span(), "counts one record", hint);
                }
            }
            (None, None) => {}
        }
    }

    fn fields(&mut self, given: &BTreeMap<Spanned<String>, Spanned<String>>) -> BTreeMap<String, FieldPath> {
        let mut fields = BTreeMap::new();
        for (name, path) in given {
            match FieldPath::from_str(path.get_ref()) {
                Ok(path) => drop(fields.insert(name.get_ref().clone(), path)),
                Err(why) => self.refuse("`sink.aggregate` names no field", path.span(), "not a field", why),
            }
        }
        fields
    }

    /// No table of this file has the guards of a sink beside what it has.
    pub(super) fn guards_apart<'a>(&mut self, sinks: impl Iterator<Item = &'a RawTable>, tables: &[&str]) {
        let mut before = Vec::new();
        for (raw, aggregate) in sinks.filter_map(|raw| Some((raw, raw.aggregate.as_ref()?))) {
            let guards = guards(raw, aggregate.get_ref());
            let name = guards.get_ref();
            if before.contains(name) || tables.contains(&name.as_str()) {
                let hint = "name another table for the guards of this sink, in `aggregate.guards`";
                self.refuse(format!("table {name} has another meaning in this file"), guards.span(), "taken", hint);
            }
            before.push(guards.into_inner());
        }
    }
}

/// The table of the guards, and where the file says so.
fn guards(raw: &RawTable, aggregate: &RawAggregate) -> Spanned<String> {
    let usual = || Spanned::new(raw.table.span(), format!("{}-guards", raw.table.get_ref()));
    aggregate.guards.clone().unwrap_or_else(usual)
}
