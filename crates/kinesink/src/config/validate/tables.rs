//! The section `[[sink]]` of type `dynamodb`.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use kinesink_aws::ServiceOptions;
use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_sinks::FieldPath;
use kinesink_sinks::dynamodb::{
    Changes, Deletion, FieldType, Guard, KeyAttribute, KeySource, OWN_ATTRIBUTES, Order, Provisioned,
};
use toml::Spanned;

use super::{Checks, whole};
use crate::config::raw::{self, RawDestination, RawTable};
use crate::config::validated::{Source, TableSink};

const REQUESTS_MAX: u64 = 1_000;
const EXPIRY_MIN: Duration = Duration::from_secs(1);
/// Streams keep their records for a day at least.
pub(super) const KEEP_MIN: Duration = Duration::from_secs(24 * 3600);

fn tables(raw: &[Spanned<RawDestination>]) -> impl Iterator<Item = &RawTable> {
    raw.iter().filter_map(|spanned| match spanned.get_ref() {
        RawDestination::DynamoDb(raw) => Some(&**raw),
        RawDestination::S3(_) => None,
    })
}

/// Why a text is hardly meant as a name, if it is not.
pub(super) fn no_name(text: &str) -> Option<&'static str> {
    if text.starts_with('.') {
        return Some("it begins with a dot, as the way to a field does");
    }
    if text.contains(['{', '}']) {
        return Some("it has braces, which stand for nothing here");
    }
    (text.trim() != text || text.chars().any(char::is_control))
        .then_some("it has blanks around it, or a control character")
}

impl Checks {
    pub(super) fn table_sink(&mut self, raw: &RawTable, source: Option<&Source>) -> Option<TableSink> {
        let mistakes = self.mistakes.len();
        let name = self.sink_name(raw.name.as_ref(), "dynamodb");
        let table = self.table_name("sink.table", &raw.table);
        let types = self.types(&raw.types);
        let key = self.table_key(raw, &types);
        let order = self.order(raw, &key);
        let partition_key = self.partition_key(raw, order.as_ref(), &key);
        let guard = match raw.guard.as_ref().map(Spanned::get_ref).copied().unwrap_or_default() {
            raw::Guard::Always => Guard::Always,
            raw::Guard::Takeover => Guard::Takeover,
            raw::Guard::Never => Guard::Never,
        };
        let changes = self.changes(raw, order.as_ref(), &key);
        let aggregate = raw.aggregate.as_ref().and_then(|given| self.aggregate(raw, given, &key));
        self.window_of_key(raw);
        let delete = raw.delete.as_ref().and_then(|delete| self.deletion(delete));
        let ttl = raw.ttl.as_ref().map(|ttl| self.expiry(ttl, raw, &key));
        if let Some(given) = raw.delete.as_ref().filter(|_| guard != Guard::Never && ttl.is_none()) {
            let hint = "name the attribute by which the table expires items in `ttl`; or write `guard = \"never\"`";
            self.refuse("`sink.delete` leaves marks that never expire", given.span(), "needs `ttl`", hint);
        }
        let expire_after = raw.expire_after.as_ref();
        let expire_after = expire_after.map(|after| self.duration("sink.expire_after", Some(after), "", EXPIRY_MIN));
        if let Some(given) = raw.expire_after.as_ref().filter(|_| ttl.is_none()) {
            let hint = "name the attribute by which the table expires items in `ttl`";
            self.refuse("`sink.expire_after` means nothing without `ttl`", given.span(), "needs `ttl`", hint);
        }
        let requests = self.count("sink.requests", raw.requests.as_ref(), raw::REQUESTS, REQUESTS_MAX);
        let provisioned = raw.capacity.as_ref().map(|capacity| self.provisioned(capacity.get_ref()));
        let write_units = raw.write_units.as_ref().map(|units| self.units("sink.write_units", units));
        let max_write_fraction = raw.max_write_fraction.as_ref().map(|fraction| self.fraction(fraction));
        let endpoint = raw.endpoint.as_ref().map(|endpoint| self.endpoint("DynamoDB", endpoint));
        let own = raw.region.as_ref().map(|region| self.region("sink.region", region));
        let region = own.or_else(|| source.and_then(|source| source.region.clone()));
        let (role, external_id) = self.role(raw.role.as_ref(), raw.external_id.as_ref());
        let reached = ServiceOptions { region, endpoint, role, external_id };
        (self.mistakes.len() == mistakes).then_some(TableSink {
            name,
            table,
            key,
            types,
            order: order?,
            partition_key,
            guard,
            changes,
            aggregate,
            delete,
            ttl,
            expire_after,
            provisioned,
            requests_max: whole(requests),
            write_units,
            max_write_fraction,
            reached,
        })
    }

    /// A table has the items of one. `of_the_app` are tables in `region` that the consumer writes to, and what is in them.
    pub(super) fn tables_apart(
        &mut self,
        raw: &[Spanned<RawDestination>],
        of_the_app: &[(String, &str)],
        region: Option<&str>,
    ) {
        for raw in tables(raw) {
            let is_elsewhere = raw.endpoint.is_some() || raw.role.is_some();
            let at = raw.region.as_ref().map(|region| region.get_ref().as_str()).or(region);
            let mut of_the_app = of_the_app.iter().filter(|_| at == region && !is_elsewhere);
            if let Some((table, holds)) = of_the_app.find(|(table, _)| table == raw.table.get_ref()) {
                let hint = "name another table: one that has neither the name of `lease.table`, which is `app` unless you say \
                            otherwise, nor that of `app` with an ending of the KCL's";
                self.refuse(format!("`sink.table` is {table}, which has {holds}"), raw.table.span(), "taken", hint);
            }
        }
        let taken =
            of_the_app.iter().map(|(table, _)| table.as_str()).chain(tables(raw).map(|raw| &**raw.table.get_ref()));
        self.guards_apart(tables(raw), &taken.collect::<Vec<_>>());
    }

    /// What counts each record needs a place for what is refused.
    pub(super) fn counters(&mut self, raw: &[Spanned<RawDestination>], has_dead_letters: bool) {
        for raw in tables(raw).filter(|_| !has_dead_letters) {
            let counted = raw.add.iter().chain(&raw.append).map(Spanned::span);
            if let Some(counted) = counted.chain(raw.aggregate.iter().map(Spanned::span)).next() {
                let what = "`[dead_letter]` is missing, which what counts each record needs";
                let hint = "add `[dead_letter]` and its `url`: a record that is refused cannot be made behind later ones of its key";
                self.refuse(what, counted, "counts each record", hint);
            }
        }
    }

    /// The attribute by which the table expires items, which has no other meaning.
    fn expiry(&mut self, ttl: &Spanned<String>, raw: &RawTable, key: &[KeyAttribute]) -> String {
        let name = self.not_empty("sink.ttl", ttl);
        self.name_of_attribute("sink.ttl", ttl);
        let fields = raw.add.iter().chain(&raw.append).chain(&raw.ordered_by);
        let mut fields = fields.filter_map(|field| field.get_ref().strip_prefix('.'));
        let is_taken = OWN_ATTRIBUTES.contains(&&*name) || key.iter().any(|key| key.name == name);
        if is_taken || fields.any(|field| field == name) {
            let hint = "name an attribute that is no key, no version, not added up, and not one of kinesink's own";
            self.refuse(format!("`sink.ttl` cannot be {name:?}"), ttl.span(), "has another meaning", hint);
        }
        name
    }

    /// Not a field or a template: they would be taken for the name as they are, and no one would find the attribute.
    pub(super) fn name_of_attribute(&mut self, key: &str, name: &Spanned<String>) {
        if let Some(why) = no_name(name.get_ref()) {
            let what = format!("`{key}` cannot name an attribute {:?}", name.get_ref());
            let hint =
                format!("{why}: an attribute is named as in the table, without a dot or braces, as in `customer`");
            self.refuse(what, name.span(), "not a name", hint);
        }
    }

    /// As it stands in the file: a table of TOML has no order, but a key has.
    fn table_key(&mut self, raw: &RawTable, types: &BTreeMap<FieldPath, FieldType>) -> Vec<KeyAttribute> {
        let mut given: Vec<_> = raw.key.get_ref().iter().collect();
        given.sort_by_key(|(name, _)| name.span().start);
        if !(1..=2).contains(&given.len()) {
            let what = format!("`sink.key` has {} attributes", given.len());
            let hint = "a table's key is a hash key, or a hash key and a range key, as in `{ customer = \".customer\", at = \".ts\" }`";
            self.refuse(what, raw.key.span(), "no key of a table", hint);
        }
        let mut key = Vec::new();
        for (name, text) in given {
            self.name_of_attribute("sink.key", name);
            if name.get_ref().is_empty() || OWN_ATTRIBUTES.contains(&name.get_ref().as_str()) {
                let what = format!("`sink.key` cannot have an attribute {:?}", name.get_ref());
                let own = OWN_ATTRIBUTES.join(", ");
                self.refuse(
                    what,
                    name.span(),
                    "has another meaning",
                    format!("name another: kinesink itself writes {own}"),
                );
            }
            let source = match KeySource::from_str(text.get_ref()) {
                Ok(source) => source,
                Err(why) => {
                    let what = format!("`sink.key` cannot be {:?}", text.get_ref());
                    self.refuse(what, text.span(), "no source of a key", why);
                    continue;
                }
            };
            let field_type = match &source {
                KeySource::Field(path) => types.get(path),
                _ => None,
            };
            let key_type = field_type.and_then(|field_type| match field_type {
                FieldType::Number => Some(ScalarAttributeType::N),
                FieldType::Binary => Some(ScalarAttributeType::B),
                _ => None,
            });
            if field_type.is_some() && key_type.is_none() {
                let what = format!("`sink.types` makes a set of {}, which is a key", text.get_ref());
                self.refuse(what, text.span(), "no set is a key", "leave the type out, or name another field");
            }
            key.push(KeyAttribute { name: name.get_ref().clone(), source, key_type });
        }
        key
    }

    fn provisioned(&mut self, given: &raw::RawCapacity) -> Provisioned {
        Provisioned {
            read_units: self.units("sink.capacity.read", &given.read),
            write_units: self.units("sink.capacity.write", &given.write),
        }
    }

    fn units(&mut self, key: &str, given: &Spanned<u64>) -> u32 {
        u32::try_from(self.count(key, Some(given), 1, u32::MAX.into())).unwrap_or(u32::MAX)
    }

    fn fraction(&mut self, given: &Spanned<f64>) -> f64 {
        let fraction = *given.get_ref();
        if fraction <= 0.0 || fraction > 1.0 || fraction.is_nan() {
            let what = format!("`sink.max_write_fraction` is {fraction}");
            self.refuse(
                what,
                given.span(),
                "no part",
                "write more than 0 and at most 1, such as 0.5 for half of the table's units",
            );
        }
        fraction
    }

    /// What a record changes of its item, if not all of it.
    fn changes(&mut self, raw: &RawTable, order: Option<&Order>, key: &[KeyAttribute]) -> Option<Changes> {
        let given: Vec<_> = raw.set.iter().chain(&raw.add).chain(&raw.append).collect();
        let first = given.first()?;
        if let Some(guard) = raw.guard.as_ref().filter(|guard| *guard.get_ref() != raw::Guard::Always) {
            let what = "`sink.guard` cannot be other than \"always\" where attributes change";
            self.refuse(what, guard.span(), "too little", "leave `guard` out: a change is always guarded");
        }
        let by_version = matches!(order, Some(Order::Version(_)));
        if let Some(counted) = raw.add.iter().chain(&raw.append).next().filter(|_| by_version) {
            let what = "`sink.ordered_by` cannot be a version where something is added up or appended";
            let hint = "a version does not tell apart two records that have the same: leave `ordered_by` out";
            self.refuse(what, counted.span(), "counts each record", hint);
        }
        let is_key = |given: &str| key.iter().any(|key| given.strip_prefix('.') == Some(&key.name));
        if let Some(version) = raw.ordered_by.as_ref().filter(|version| by_version && is_key(version.get_ref())) {
            let what = "`sink.ordered_by` cannot be a part of the key where attributes change";
            let hint = "an item's key does not change, and its version has to: name another field, or leave `set` out";
            self.refuse(what, version.span(), "is the key", hint);
        }
        for (place, name) in given.iter().enumerate() {
            let is_key = is_key(name.get_ref());
            let is_second = given.iter().take(place).any(|other| other.get_ref() == name.get_ref());
            let is_own = name.get_ref().strip_prefix('.').is_some_and(|name| OWN_ATTRIBUTES.contains(&name));
            if is_key || is_second || is_own {
                let what = format!("`sink` cannot change {}", name.get_ref());
                let label = match (is_key, is_own) {
                    (true, _) => "is the key",
                    (_, true) => "is kinesink's own",
                    _ => "the second",
                };
                self.refuse(
                    what,
                    name.span(),
                    label,
                    "an attribute of the record that is no key stands once in `set`, `add` and `append`",
                );
            }
        }
        let mut names = |given: &[Spanned<String>]| given.iter().filter_map(|name| self.attribute(name)).collect();
        let changes = Changes { set: names(&raw.set), add: names(&raw.add), append: names(&raw.append) };
        if !changes.fit_in_a_request() {
            let what = format!("`sink` changes {} attributes, more than a request can say", given.len());
            let hint = "the service takes 4 KB and 300 operators: change fewer, or keep some of them in one object";
            self.refuse(what, first.span(), "the first of them", hint);
        }
        Some(changes)
    }

    /// A field at the top of the record, which has the name of the attribute.
    fn attribute(&mut self, given: &Spanned<String>) -> Option<String> {
        let path = FieldPath::from_str(given.get_ref());
        if let Ok(Some(name)) = path.as_ref().map(FieldPath::as_name) {
            return Some(name.to_owned());
        }
        let what = format!("`sink` cannot change {:?}", given.get_ref());
        self.refuse(what, given.span(), "no attribute", "write a field at the top of the record, as in \".status\"");
        None
    }

    fn types(&mut self, given: &BTreeMap<Spanned<String>, FieldType>) -> BTreeMap<FieldPath, FieldType> {
        let mut types = BTreeMap::new();
        for (text, field_type) in given {
            match FieldPath::from_str(text.get_ref()) {
                Ok(path) => drop(types.insert(path, *field_type)),
                Err(why) => self.refuse("`sink.types` names no field", text.span(), "not a field", why),
            }
        }
        types
    }

    fn deletion(&mut self, given: &Spanned<raw::RawDelete>) -> Option<Deletion> {
        let raw = given.get_ref();
        let keep = self.duration("sink.delete.keep", raw.keep.as_ref(), raw::KEEP, KEEP_MIN);
        if raw.is.get_ref().is_empty() {
            let hint = "write the texts by which a record is known that deletes, as in `is = [\"delete\"]`";
            self.refuse("`sink.delete.is` is empty", raw.is.span(), "deletes nothing", hint);
        }
        match FieldPath::from_str(raw.field.get_ref()) {
            Ok(field) => Some(Deletion { field, values: raw.is.get_ref().clone(), keep }),
            Err(why) => {
                self.refuse("`sink.delete.field` cannot be used", raw.field.span(), "not a field", why);
                None
            }
        }
    }
}
