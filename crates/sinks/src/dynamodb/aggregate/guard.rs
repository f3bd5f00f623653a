//! How far the items count each shard: items of a second table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kinesink_aws::dynamodb::types::{AttributeValue, ScalarAttributeType};
use kinesink_core::{Reject, ShardId, StreamName};

use super::super::attributes::Attributes;
use super::super::config::{DynamoDbConfig, KeyAttribute, KeySource, POSITION};
use super::super::number::Decimal;
use super::super::table::{HASH_BYTES_MAX, RANGE_BYTES_MAX};
use super::super::write::expiry;
use super::config::Aggregate;
use super::fold::Group;

/// Its key: the hash key of the item that it guards; and where the records come from, with the item's range key.
const ITEM: &str = "item";
const SOURCE: &str = "source";
/// The place of the first record up to that which is refused, and is a dead letter, or will be: so are all behind it of its window.
const REFUSED_FROM: &str = "refused_from";
/// The attribute by which it expires.
const EXPIRES: &str = "expires";

/// The table of the guards, as the settings of a sink: to describe it and to make it.
pub(in crate::dynamodb) fn guards(config: &DynamoDbConfig) -> Option<DynamoDbConfig> {
    let aggregate = config.aggregate.as_ref()?;
    let part = |name: &str| KeyAttribute {
        name: name.into(),
        source: KeySource::Position,
        key_type: Some(ScalarAttributeType::S),
    };
    let mut guards =
        DynamoDbConfig::new(config.client.clone(), aggregate.guards.clone(), vec![part(ITEM), part(SOURCE)]);
    guards.ttl = Some(EXPIRES.into());
    guards.requests_max = config.requests_max;
    guards.provisioned = config.provisioned;
    guards.write_units = config.write_units;
    guards.max_write_fraction = config.max_write_fraction;
    guards.metrics = config.metrics.clone();
    guards.traffic = config.traffic.clone();
    Some(guards)
}

/// The key of the guard of a group's item, for the records of a shard. A dead letter that is sent again has one of its own: that of the
/// others has passed it, or will.
pub(super) fn key(
    config: &DynamoDbConfig,
    stream: &StreamName,
    shard: &ShardId,
    group: &Group,
) -> Result<Attributes, Reject> {
    let mut parts = config.key.iter().map(|part| group.key.get(&part.name).map_or_else(String::new, text));
    let (hash, range) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // No name of a table, stream or shard has a bar or an at: sources are told apart whatever the range key is.
    let letter = if config.is_replay { format!("@{}", group.first) } else { String::new() };
    let source = format!("{}|{stream}|{shard}{letter}|{range}", config.table);
    if hash.len() > HASH_BYTES_MAX || source.len() > RANGE_BYTES_MAX {
        return Err(Reject::new(format!(
            "the key of its item in table {} is too long for a guard's key",
            config.table
        )));
    }
    Ok(Attributes::from([(ITEM.into(), AttributeValue::S(hash)), (SOURCE.into(), AttributeValue::S(source))]))
}

/// How far a shard is done for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    /// The place of the last record that is counted, or refused.
    pub(super) last: String,
    /// From there on, what is not counted of its window is refused.
    pub(super) refused_from: Option<String>,
}

/// The guard that says so.
pub(super) fn guard(aggregate: &Aggregate, mut key: Attributes, passed: Passed, from: Timestamp) -> Attributes {
    key.insert(POSITION.into(), AttributeValue::S(passed.last));
    key.extend(passed.refused_from.map(|place| (REFUSED_FROM.into(), AttributeValue::S(place))));
    key.insert(EXPIRES.into(), expiry(from, aggregate.keep));
    key
}

/// What a guard says, if it is one.
pub(super) fn passed(guard: &Attributes, ours: &str) -> Option<Passed> {
    let place = |name: &str| match guard.get(name)? {
        AttributeValue::S(place) if place.len() == ours.len() => Some(place.clone()),
        _ => None,
    };
    Some(Passed { last: place(POSITION)?, refused_from: place(REFUSED_FROM) })
}

fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::S(text) => text.clone(),
        // As the item's key is told apart, however it is written.
        AttributeValue::N(number) => {
            Decimal::parse(number).map_or_else(|_| number.clone(), |number| number.to_string())
        }
        AttributeValue::B(bytes) => STANDARD.encode(bytes.as_ref()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_write_a_number_have_one_guard() {
        let of = |number: &str| text(&AttributeValue::N(number.into()));
        assert_eq!(of("1.0"), of("1"));
        assert_ne!(of("1.5"), of("1"));
    }
}
