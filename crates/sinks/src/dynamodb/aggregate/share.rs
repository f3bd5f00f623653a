//! A record to what it adds to its item.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Item, Reject};

use super::super::attributes::{Attributes, at, type_of};
use super::super::config::DynamoDbConfig;
use super::super::number::Decimal;
use super::super::table::Table;
use super::super::write::{key_values, position};
use super::config::Aggregate;
use super::fold::{Share, Totals};
use crate::FieldPath;

/// What the output adds, or why it counts nowhere.
pub(super) fn share<U>(
    config: &DynamoDbConfig,
    aggregate: &Aggregate,
    table: &Table,
    item: &Item<U>,
    own_time: Option<Timestamp>,
    attributes: &Attributes,
) -> Result<Share, Reject> {
    let record = &item.record;
    let start =
        aggregate.start(record, own_time).ok_or_else(|| Reject::new("its time window begins before any clock"))?;
    let place = position(record.position, item.ordinal)?;
    let key = key_values(config, table, record, &place, Some(start), attributes)?;
    let id = table.key_of(&key)?;
    let totals = Totals {
        count: u64::from(aggregate.count.is_some()),
        sums: numbers(&aggregate.sum, attributes)?,
        lowest: numbers(&aggregate.min, attributes)?,
        highest: numbers(&aggregate.max, attributes)?,
    };
    Ok(Share { id, key, start, place, arrival: record.arrival, totals })
}

fn numbers(fields: &BTreeMap<String, FieldPath>, attributes: &Attributes) -> Result<Vec<Option<Decimal>>, Reject> {
    let number = |path: &FieldPath| match at(attributes, path) {
        None | Some(AttributeValue::Null(_)) => Ok(None),
        Some(AttributeValue::N(number)) => Decimal::parse(number)
            .map(Some)
            .map_err(|why| Reject::new(format!("its field {path}, which is counted, is {why}"))),
        Some(other) => {
            Err(Reject::new(format!("its field {path}, which is counted, is {}, not a number", type_of(other))))
        }
    };
    fields.values().map(number).collect()
}
