//! The request that counts: an item and its guard, both or neither.

use std::collections::HashMap;

use kinesink_aws::dynamodb::error::BuildError;
use kinesink_aws::dynamodb::operation::transact_write_items::TransactWriteItemsError;
use kinesink_aws::dynamodb::types::{
    AttributeValue, CancellationReason, ConsumedCapacity, Put, ReturnConsumedCapacity,
    ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use kinesink_core::{Class, Failure, Reject};

use super::super::attributes::{Attributes, bytes};
use super::super::config::{DynamoDbConfig, POSITION};
use super::super::error::{self, Action, CONDITION_FAILED_OF_MANY, Verdict};
use super::super::number::Decimal;
use super::super::pace::{Pace, units};
use super::super::requests::COMES_AFTER;
use super::super::write::expiry;
use super::config::Aggregate;
use super::fold::Group;
use super::guard::{self, Passed};

/// A lowest or highest number is settled after one more request. Others may remove the item meanwhile, and begin it anew.
const ATTEMPTS_MAX: usize = 8;
/// Each item of a transaction counts twice.
const UNITS_FACTOR: f64 = 2.0;

/// What a group met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    /// It is counted now, or said to be refused, and durable.
    Done,
    /// Its shard was counted so far before.
    There(Passed),
    /// Something is there that kinesink did not write.
    Foreign(Reject),
}

/// The tables of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) config: &'a DynamoDbConfig,
    pub(super) aggregate: &'a Aggregate,
    pub(super) pace: &'a Pace,
    pub(super) guards_pace: &'a Pace,
}

/// Attributes whose lowest or highest number the item is known to keep, since ours is not beyond it.
type Kept = Vec<String>;

/// Counts the group, unless some of it is counted.
pub(super) async fn count(tables: Tables<'_>, guard_key: Attributes, group: &Group) -> Result<Met, Verdict> {
    let Tables { config, aggregate, .. } = tables;
    let from = group.arrival.max(config.clock.now());
    let passed = Passed { last: group.last.clone(), refused_from: group.refused_from.clone() };
    let guard = guard::guard(aggregate, guard_key, passed, from);
    let mut kept = Kept::new();
    for _ in 0..ATTEMPTS_MAX {
        let update = update(config, aggregate, group, &kept)?;
        let Some(reasons) = send(tables, group, &guard, Some(update)).await? else {
            return Ok(Met::Done);
        };
        let [of_item, of_guard] = reasons.as_slice() else {
            return Err(unknown(config, "without a reason for each item"));
        };
        if let Some(met) = of_the_guard(config, aggregate, of_guard, group) {
            return met;
        }
        if let Some(verdict) = error::cancelled(Action::UpdateItem, &config.table, of_item) {
            return Err(verdict);
        }
        if of_item.code() != Some(CONDITION_FAILED_OF_MANY) {
            return Err(unknown(config, "for no reason that it gives"));
        }
        kept = match of_item.item() {
            Some(item) => match now_kept(config, aggregate, item, group) {
                Ok(kept) => kept,
                Err(why) => return Ok(Met::Foreign(why)),
            },
            // Without an item, the first condition holds.
            None if kept.is_empty() => return Err(silent(config)),
            // It was removed in between: nothing is kept.
            None => Kept::new(),
        };
    }
    Err(Verdict::Failed(Failure::transient(format!(
        "cannot count in table {}: others write the item at the same time",
        config.table
    ))))
}

/// Has the guard say that the group is refused, unless some of it is counted: then no one counts it who sends it again, and what
/// becomes a dead letter is counted by that alone.
pub(super) async fn refuse(tables: Tables<'_>, guard_key: Attributes, group: &Group) -> Result<Met, Verdict> {
    let Tables { config, aggregate, .. } = tables;
    let from = group.arrival.max(config.clock.now());
    let passed = Passed { last: group.last.clone(), refused_from: Some(group.first.clone()) };
    let guard = guard::guard(aggregate, guard_key, passed, from);
    match send(tables, group, &guard, None).await?.as_deref() {
        None => Ok(Met::Done),
        Some([of_guard]) => of_the_guard(config, aggregate, of_guard, group)
            .unwrap_or_else(|| Err(unknown(config, "for no reason that it gives"))),
        Some(_) => Err(unknown(config, "without a reason for each item")),
    }
}

/// Sends it, with the guard alone where nothing is counted, and gives back why it was cancelled, if it was.
async fn send(
    tables: Tables<'_>,
    group: &Group,
    guard: &Attributes,
    update: Option<Update>,
) -> Result<Option<Vec<CancellationReason>>, Verdict> {
    let Tables { config, aggregate, pace, guards_pace } = tables;
    let foreseen = update.as_ref().map_or(0.0, |_| UNITS_FACTOR * units(bytes(&group.key)));
    let of_guard = UNITS_FACTOR * units(bytes(guard));
    pace.take(foreseen).await;
    guards_pace.take(of_guard).await;
    let put = Put::builder()
        .table_name(&aggregate.guards)
        .set_item(Some(guard.clone()))
        .condition_expression(COMES_AFTER)
        .expression_attribute_names("#rank", POSITION)
        .expression_attribute_values(":rank", AttributeValue::S(group.first.clone()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let put = put.build().map_err(|error| incomplete(&error))?;
    let update = update.map(|update| TransactWriteItem::builder().update(update).build());
    let request = config
        .client
        .transact_write_items()
        .set_transact_items(update.map(|update| vec![update]))
        .transact_items(TransactWriteItem::builder().put(put).build())
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    match request.send().await {
        Ok(reply) => {
            took(tables, foreseen, of_guard, reply.consumed_capacity());
            Ok(None)
        }
        Err(error) => match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                Ok(Some(canceled.cancellation_reasons().to_vec()))
            }
            _ => Err(of_either(aggregate, error::write(Action::UpdateItem, &config.table, &error))),
        },
    }
}

/// What becomes of the item: sums are added; a lowest number is set on the condition that it is one, or left on the condition that
/// the item's is no higher.
fn update(config: &DynamoDbConfig, aggregate: &Aggregate, group: &Group, kept: &Kept) -> Result<Update, Verdict> {
    let mut parts = Parts::default();
    let totals = &group.totals;
    if let Some(count) = aggregate.count.as_ref() {
        parts.add(count, totals.count.to_string());
    }
    for (name, sum) in aggregate.sum.keys().zip(&totals.sums) {
        if let Some(sum) = sum {
            parts.add(name, sum.to_string());
        }
    }
    for (name, number, extreme) in extremes(aggregate, group) {
        parts.extreme(name, number, extreme, kept.contains(name));
    }
    if let Some((ttl, after)) = config.ttl.as_ref().zip(config.expire_after) {
        let end = group.start.saturating_add(aggregate.window).unwrap_or(group.start);
        let place = parts.place(ttl, expiry(end, after));
        parts.sets.push(format!("#n{place} = :v{place}"));
    }
    let mut text = String::new();
    for (clause, parts) in [("SET", &parts.sets), ("ADD", &parts.adds)] {
        if !parts.is_empty() {
            text.push_str(&format!("{clause} {} ", parts.join(", ")));
        }
    }
    let condition = (!parts.conditions.is_empty()).then(|| parts.conditions.join(" AND "));
    let update = Update::builder().table_name(&config.table).set_key(Some(group.key.clone()));
    let update = update.update_expression(text.trim_end()).set_condition_expression(condition);
    let update = update
        .set_expression_attribute_names(Some(parts.names))
        .set_expression_attribute_values(Some(parts.values).filter(|values| !values.is_empty()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    update.build().map_err(|error| incomplete(&error))
}

/// Which end of an attribute's numbers an item keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extreme {
    Lowest,
    Highest,
}

impl Extreme {
    /// How an item's number compares that ours is not beyond, and one that it is.
    fn operators(self) -> (&'static str, &'static str) {
        match self {
            Self::Lowest => ("<=", ">"),
            Self::Highest => (">=", "<"),
        }
    }

    fn is_kept(self, there: Decimal, ours: Decimal) -> bool {
        match self {
            Self::Lowest => there <= ours,
            Self::Highest => there >= ours,
        }
    }
}

/// Lowest and highest numbers of the group, with their attributes.
fn extremes<'a>(aggregate: &'a Aggregate, group: &'a Group) -> impl Iterator<Item = (&'a String, Decimal, Extreme)> {
    let lowest = aggregate.min.keys().zip(&group.totals.lowest).map(|(name, number)| (name, number, Extreme::Lowest));
    let highest = aggregate.max.keys().zip(&group.totals.highest);
    let highest = highest.map(|(name, number)| (name, number, Extreme::Highest));
    lowest.chain(highest).filter_map(|(name, number, extreme)| Some((name, (*number)?, extreme)))
}

/// Expressions in the making. Names always go through places: no name of an attribute is a reserved word then.
#[derive(Debug, Default)]
struct Parts {
    sets: Vec<String>,
    adds: Vec<String>,
    conditions: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Parts {
    fn place(&mut self, name: &str, value: AttributeValue) -> usize {
        let place = self.names.len();
        self.names.insert(format!("#n{place}"), name.to_owned());
        self.values.insert(format!(":v{place}"), value);
        place
    }

    fn add(&mut self, name: &str, number: String) {
        let place = self.place(name, AttributeValue::N(number));
        self.adds.push(format!("#n{place} :v{place}"));
    }

    /// Sets the number on the condition that it is beyond the item's; or leaves that, on the condition that it is known to be.
    fn extreme(&mut self, name: &str, number: Decimal, extreme: Extreme, is_kept: bool) {
        let place = self.place(name, AttributeValue::N(number.to_string()));
        let (keeps, gives_way) = extreme.operators();
        if is_kept {
            self.conditions.push(format!("#n{place} {keeps} :v{place}"));
            // An update has to change something.
            self.sets.push(format!("#n{place} = #n{place}"));
        } else {
            self.conditions.push(format!("(attribute_not_exists(#n{place}) OR #n{place} {gives_way} :v{place})"));
            self.sets.push(format!("#n{place} = :v{place}"));
        }
    }
}

/// Which lowest and highest numbers the item keeps, by what it is; or that it has something else there.
fn now_kept(config: &DynamoDbConfig, aggregate: &Aggregate, item: &Attributes, group: &Group) -> Result<Kept, Reject> {
    let mut kept = Kept::new();
    for (name, number, extreme) in extremes(aggregate, group) {
        let there = match item.get(name) {
            None => continue,
            Some(AttributeValue::N(there)) => Decimal::parse(there).ok(),
            Some(_) => None,
        };
        let Some(there) = there else {
            return Err(Reject::new(format!(
                "attribute `{name}` of its item in table {} is no number: another program writes there",
                config.table
            )));
        };
        if extreme.is_kept(there, number) {
            kept.push(name.clone());
        }
    }
    Ok(kept)
}

/// What the guard's part of a transaction that was cancelled says, unless it was not because of that.
fn of_the_guard(
    config: &DynamoDbConfig,
    aggregate: &Aggregate,
    reason: &CancellationReason,
    group: &Group,
) -> Option<Result<Met, Verdict>> {
    if reason.code() == Some(CONDITION_FAILED_OF_MANY) {
        return Some(there(config, aggregate, reason, group));
    }
    error::cancelled(Action::PutItem, &aggregate.guards, reason).map(|verdict| Err(lasting(verdict)))
}

/// How far the guard says that the shard is counted.
fn there(
    config: &DynamoDbConfig,
    aggregate: &Aggregate,
    reason: &CancellationReason,
    group: &Group,
) -> Result<Met, Verdict> {
    let Some(item) = reason.item() else { return Err(silent(config)) };
    Ok(match guard::passed(item, &group.last) {
        Some(passed) => Met::There(passed),
        None => Met::Foreign(Reject::new(format!(
            "the guard of its item in table {} has an attribute `{POSITION}` of another kind: another program writes there",
            aggregate.guards
        ))),
    })
}

/// What the service says of a transaction as a whole may be of either table.
fn of_either(aggregate: &Aggregate, verdict: Verdict) -> Verdict {
    let said = |mut failure: Failure| {
        failure.message.push_str(&format!("; or it is that of its guards, {}", aggregate.guards));
        failure
    };
    match verdict {
        Verdict::Changed(failure) => Verdict::Changed(said(failure)),
        Verdict::Failed(failure) if failure.class == Class::Configuration => Verdict::Failed(said(failure)),
        other => other,
    }
}

/// What the service counted, of each table.
fn took(tables: Tables<'_>, foreseen: f64, of_guard: f64, counted: &[ConsumedCapacity]) {
    let Tables { config, aggregate, pace, guards_pace } = tables;
    for of_table in counted {
        let (table, units) = (of_table.table_name().unwrap_or_default(), of_table.capacity_units().unwrap_or_default());
        if table == config.table {
            pace.settle(foreseen, units);
        } else if table == aggregate.guards {
            guards_pace.settle(of_guard, units);
        }
        config.metrics.took(table, units);
    }
}

/// A guard is of kinesink's own making: no record is at fault.
fn lasting(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Refused(_) | Verdict::Unclear { .. } => Verdict::Changed(verdict.into_failure()),
        other => other,
    }
}

/// Without that, nobody knows what is counted.
fn silent(config: &DynamoDbConfig) -> Verdict {
    Verdict::Failed(Failure::configuration(format!(
        "cannot count in table {}: the service does not say what is there where a condition fails: name one that does",
        config.table
    )))
}

fn unknown(config: &DynamoDbConfig, how: &str) -> Verdict {
    Verdict::Failed(Failure::transient(format!(
        "cannot count in table {}: the transaction was cancelled {how}",
        config.table
    )))
}

fn incomplete(error: &BuildError) -> Verdict {
    Verdict::Failed(Failure::fatal(error.to_string()))
}
