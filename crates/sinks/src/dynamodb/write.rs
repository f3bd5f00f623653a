//! What a record asks of the table: an item, or that there be none.

use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::dynamodb::types::{AttributeValue, ScalarAttributeType};
use kinesink_core::{Failure, Item, Position, Record, Reject};

use super::attributes::{Attributes, Fields, ITEM_BYTES_MAX, at, bytes, too_large, type_of};
use super::config::{
    Changes, DELETED, Deletion, DynamoDbConfig, Guard, KeyAttribute, KeySource, Order, POSITION, partition_key_part,
};
use super::number::Decimal;
use super::table::{ItemKey, Table, key_part};
use super::update::Update;
use crate::FieldPath;
use crate::position_text::{POSITION_BYTES, position_text};

/// Of any number of outputs.
const ORDINAL_DIGITS: usize = 10;
/// In seconds since 1970, some day in the year 5138; in milliseconds, one in 1973.
const EXPIRY_MAX_S: u64 = 100_000_000_000;

/// Where a write stands in the order of its item's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Position(String),
    Version(Decimal),
}

impl Rank {
    pub(super) fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::Position(text) => AttributeValue::S(text.clone()),
            Self::Version(number) => AttributeValue::N(number.to_string()),
        }
    }

    /// The rank that an item says it was written at, if it is one of the same order.
    pub(super) fn of_same_order(&self, found: &AttributeValue) -> Option<Self> {
        match (self, found) {
            (Self::Position(ours), AttributeValue::S(text)) if text.len() == ours.len() => {
                Some(Self::Position(text.clone()))
            }
            (Self::Version(_), AttributeValue::N(number)) => Decimal::parse(number).ok().map(Self::Version),
            _ => None,
        }
    }
}

/// What becomes of the item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// It is this.
    Put(Attributes),
    /// It goes: of a table without guards. This is its key.
    Delete(Attributes),
    /// Some of its attributes change. The first is its key.
    Update(Attributes, Update),
    /// Some would change, but the record is at fault: who makes later changes of the item has to say so there.
    Refused(Reject),
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    pub(super) key: ItemKey,
    pub(super) rank: Rank,
    pub(super) change: Change,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoWrite {
    /// The record is at fault.
    Refused(Reject),
    /// No record of the stream can be written so.
    Impossible(Failure),
}

impl From<Reject> for NoWrite {
    fn from(reject: Reject) -> Self {
        Self::Refused(reject)
    }
}

/// What is to be written for one output. Of a change, the item is told also what of the record could not be read, if it is known which item
/// and where the change stands.
pub(super) fn write<U>(
    config: &DynamoDbConfig,
    table: &Table,
    item: &Item<U>,
    fields: Fields,
) -> Result<Write, NoWrite> {
    let record = &item.record;
    let is_ordered_by_stream = config.is_ordered_by_stream();
    if is_ordered_by_stream && record.partition_key.is_none() {
        return Err(NoWrite::Impossible(without_keys(config)));
    }
    let Fields { mut attributes, refused: unreadable } = fields;
    let deletion = config.delete.as_ref().filter(|deletion| deletes(deletion, &attributes));
    // To delete an item is to know its key.
    let refused = unreadable.clone().or_else(|| own_name(config, &attributes)).filter(|_| deletion.is_none());
    if let (None, Some(why)) = (&config.changes, &refused) {
        return Err(why.clone().into());
    }
    let position = position(record.position, item.ordinal)?;
    let version = match &config.order {
        Order::PartitionKey => None,
        Order::Version(field) => Some(version(&attributes, field)),
    };
    let key = key_values(config, table, record, &position, None, &attributes).and_then(|values| {
        // What the record itself says is read by now: a part of the key may have the name of another field.
        attributes.extend(values);
        table.key_of(&attributes)
    });
    let or_unreadable = |why| unreadable.clone().unwrap_or(why);
    let key = key.map_err(or_unreadable)?;
    if is_ordered_by_stream {
        check_order(config, record, &key)?;
    }
    let rank = match version {
        None => Rank::Position(position),
        Some(version) => Rank::Version(version.map_err(or_unreadable)?),
    };
    match refused.map_or_else(|| change(config, table, record, attributes, deletion, &rank), Err) {
        Err(why) if config.changes.is_some() => Ok(Write { key, rank, change: Change::Refused(why) }),
        change => Ok(Write { key, rank, change: change? }),
    }
}

/// Why an item cannot have all of these: one has the name of an attribute that kinesink writes itself.
fn own_name(config: &DynamoDbConfig, attributes: &Attributes) -> Option<Reject> {
    if config.guard == Guard::Never || config.changes.is_some() {
        return None;
    }
    let own = [Some(DELETED), (config.order == Order::PartitionKey).then_some(POSITION)];
    let name = own.into_iter().flatten().find(|name| attributes.contains_key(*name))?;
    Some(Reject::new(format!(
        "it has a field {name}, which is the name of an attribute that kinesink writes: rename it"
    )))
}

fn change(
    config: &DynamoDbConfig,
    table: &Table,
    record: &Record,
    mut attributes: Attributes,
    deletion: Option<&Deletion>,
    rank: &Rank,
) -> Result<Change, Reject> {
    let guarded = config.guard != Guard::Never;
    match deletion {
        Some(_) if !guarded => Ok(Change::Delete(key_part(table, &attributes))),
        Some(deletion) => {
            let mut mark = key_part(table, &attributes);
            mark.insert(DELETED.into(), AttributeValue::Bool(true));
            if let Some(ttl) = &config.ttl {
                // Also where the worker is further behind than that.
                mark.insert(ttl.clone(), expiry(record.arrival.max(config.clock.now()), deletion.keep));
            }
            mark.insert(config.guard_attribute().to_owned(), rank.to_attribute());
            Ok(Change::Put(mark))
        }
        None => {
            set_expiry(config, record, &mut attributes)?;
            if let Some(changes) = &config.changes {
                return update(config, table, changes, attributes);
            }
            if guarded {
                attributes.insert(config.guard_attribute().to_owned(), rank.to_attribute());
            }
            table.check_indexed(&attributes)?;
            check_size(bytes(&attributes))?;
            Ok(Change::Put(attributes))
        }
    }
}

fn update(
    config: &DynamoDbConfig,
    table: &Table,
    changes: &Changes,
    mut attributes: Attributes,
) -> Result<Change, Reject> {
    let key = key_part(table, &attributes);
    let expires = config.ttl.as_ref().filter(|_| config.expire_after.is_some());
    let expires = expires.and_then(|ttl| Some((ttl, attributes.get(ttl)?.clone())));
    let mut update = Update::of(changes, &mut attributes)?;
    if let Some((ttl, value)) = expires {
        update.set(ttl, value);
    }
    table.check_indexed(&update.sets())?;
    check_size(bytes(&key) + update.bytes())?;
    Ok(Change::Update(key, update))
}

fn check_size(item_bytes: usize) -> Result<(), Reject> {
    if item_bytes <= ITEM_BYTES_MAX { Ok(()) } else { Err(too_large(item_bytes)) }
}

/// The position of an output in its shard, as text that orders as they do.
pub(super) fn position(position: Position, ordinal: u32) -> Result<String, Reject> {
    let text = position_text(position);
    if text.len() > POSITION_BYTES {
        return Err(Reject::new(format!("its position {position} has more digits than any of the service's")));
    }
    Ok(format!("{text}.{ordinal:0ORDINAL_DIGITS$}"))
}

/// Values of the key's attributes. `start` is that of the record's time window, where it has one.
pub(super) fn key_values(
    config: &DynamoDbConfig,
    table: &Table,
    record: &Record,
    position: &str,
    start: Option<Timestamp>,
    attributes: &Attributes,
) -> Result<Attributes, Reject> {
    let mut values = Attributes::new();
    for part in &config.key {
        let value = match &part.source {
            KeySource::Field(path) => {
                at(attributes, path).cloned().ok_or_else(|| no_field(config, &part.name, path))?
            }
            KeySource::PartitionKey => {
                let Some(key) = record.partition_key.as_deref() else {
                    let why =
                        format!("it has no partition key for key attribute `{}` of table {}", part.name, config.table);
                    return Err(Reject::new(why));
                };
                match (table.key_type(&part.name), Decimal::parse(key)) {
                    (Some(ScalarAttributeType::N), Ok(number)) => AttributeValue::N(number.to_string()),
                    _ => AttributeValue::S(key.to_owned()),
                }
            }
            KeySource::Shard => AttributeValue::S(record.shard.to_string()),
            KeySource::Position => AttributeValue::S(position.to_owned()),
            KeySource::Window => window(start, table.key_type(&part.name)),
        };
        values.insert(part.name.clone(), value);
    }
    Ok(values)
}

/// A time window by its start.
fn window(start: Option<Timestamp>, key_type: Option<&ScalarAttributeType>) -> AttributeValue {
    let start = start.unwrap_or(Timestamp::UNIX_EPOCH);
    match key_type {
        Some(ScalarAttributeType::N) => AttributeValue::N(start.as_second().to_string()),
        _ => AttributeValue::S(start.to_string()),
    }
}

fn no_field(config: &DynamoDbConfig, name: &str, path: &FieldPath) -> Reject {
    Reject::new(format!("it has no field {path} for key attribute `{name}` of table {}", config.table))
}

/// None of them is in an order with another.
fn without_keys(config: &DynamoDbConfig) -> Failure {
    Failure::configuration(format!(
        "cannot order the writes to table {}: the stream distributes its records by itself, and those of one key may be in \
         several shards: name a field with a version in `ordered_by`",
        config.table
    ))
}

/// Only records of one partition key are in one order: an item may not have writes of two. So it is the same part of the key for
/// all.
fn check_order(config: &DynamoDbConfig, record: &Record, key: &ItemKey) -> Result<(), Reject> {
    let partition_key = record.partition_key.as_deref().unwrap_or_default();
    let part = partition_key_part(&config.key, config.partition_key.as_deref()).unwrap_or_default();
    if key.is(part, partition_key) {
        return Ok(());
    }
    let (table, name) = (&config.table, config.key.get(part).map_or("", |part| part.name.as_str()));
    let is_made_of_it = config.key.iter().any(|part| part.source == KeySource::PartitionKey);
    let may_be_named = |source: &KeySource| !is_made_of_it && matches!(source, KeySource::Field(_));
    let mut others =
        config.key.iter().enumerate().filter(|(place, other)| *place != part && may_be_named(&other.source));
    let (what, remedy) = match others.next() {
        Some((place, KeyAttribute { name: other, .. })) if key.is(place, partition_key) => (
            format!("is `{other}` of its item's key in table {table}, and not `{name}`"),
            format!(
                "where all records are put by `{other}`, write `partition_key = {other:?}`; else put them by `{name}`"
            ),
        ),
        Some((_, KeyAttribute { name: other, .. })) => (
            format!("is not `{name}` of its item's key in table {table}"),
            format!("put records by `{name}`, or, where all are put by `{other}`, write `partition_key = {other:?}`"),
        ),
        None => (format!("is not `{name}` of its item's key in table {table}"), format!("put records by `{name}`")),
    };
    Err(Reject::new(format!(
        "its partition key {what}, so that the stream does not order the item's writes: {remedy}, or name a field with a version in \
         `ordered_by`"
    )))
}

fn version(attributes: &Attributes, field: &str) -> Result<Decimal, Reject> {
    match attributes.get(field) {
        Some(AttributeValue::N(number)) => {
            Decimal::parse(number).map_err(|why| Reject::new(format!("its version .{field} is {why}")))
        }
        Some(other) => Err(Reject::new(format!("its version .{field} is {}, not a number", type_of(other)))),
        None => Err(Reject::new(format!("it has no version .{field}, by which writes are ordered"))),
    }
}

fn deletes(deletion: &Deletion, attributes: &Attributes) -> bool {
    let text = match at(attributes, &deletion.field) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.as_str(),
        Some(AttributeValue::Bool(true)) => "true",
        Some(AttributeValue::Bool(false)) => "false",
        _ => return false,
    };
    deletion.values.iter().any(|value| value == text)
}

fn set_expiry(config: &DynamoDbConfig, record: &Record, attributes: &mut Attributes) -> Result<(), Reject> {
    let Some(ttl) = &config.ttl else { return Ok(()) };
    if let Some(after) = config.expire_after {
        attributes.insert(ttl.clone(), expiry(record.arrival, after));
        return Ok(());
    }
    let what = match attributes.get(ttl) {
        None | Some(AttributeValue::Null(_)) => return Ok(()),
        Some(AttributeValue::N(number)) => match Decimal::parse(number).ok().and_then(Decimal::to_whole) {
            Some(seconds) if seconds <= EXPIRY_MAX_S => return Ok(()),
            Some(_) => "after the year 5000: if it is in milliseconds, divide it by 1000 in the transform",
            None if number.starts_with('-') => {
                "before 1970: give it the seconds since then in the transform, or leave it out of an item that is to stay"
            }
            None => "no whole number of seconds since 1970: round it in the transform",
        },
        Some(other) => &format!("{}, not seconds since 1970", type_of(other)),
    };
    // The table would keep the item for ever, in silence.
    Err(Reject::new(format!("its field {ttl}, by which the table expires items, is {what}")))
}

pub(super) fn expiry(from: Timestamp, after: Duration) -> AttributeValue {
    let after = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    AttributeValue::N(from.as_second().saturating_add(after).to_string())
}
