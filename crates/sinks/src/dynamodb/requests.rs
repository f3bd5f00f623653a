//! The requests that change the table.

use std::collections::HashMap;

use kinesink_aws::dynamodb::operation::put_item::PutItemError;
use kinesink_aws::dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use kinesink_aws::dynamodb::operation::update_item::UpdateItemError;
use kinesink_aws::dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use kinesink_aws::dynamodb::types::{
    ConsumedCapacity, DeleteRequest, PutRequest, ReturnConsumedCapacity, ReturnValue,
    ReturnValuesOnConditionCheckFailure, WriteRequest,
};
use kinesink_core::{Failure, Reject};

use super::attributes::{Attributes, bytes};
use super::config::{DELETED, DynamoDbConfig, REFUSED_TO};
use super::error::{self, Action, Verdict};
use super::notes::{self, There};
use super::pace::{Pace, units};
use super::table::{ItemKey, Table};
use super::update::{Expression, Update};
use super::write::{Change, Rank};

/// Comes after what is there, if anything is.
pub(super) const COMES_AFTER: &str = "attribute_not_exists(#rank) OR #rank < :rank";

/// What a guarded write met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    /// It is there now, and durable. The item has these notes of refused changes, where it was told of some.
    Written { notes: Vec<String> },
    /// It was there already, or a later one is.
    There(There),
    /// No write of ours is there, and none can be ordered with it.
    Foreign(Reject),
}

/// Puts the item unless a later write, or this one, is there.
pub(super) async fn put_guarded(
    config: &DynamoDbConfig,
    pace: &Pace,
    item: Attributes,
    rank: &Rank,
) -> Result<Met, Verdict> {
    let foreseen = units(bytes(&item));
    pace.take(foreseen).await;
    let error = match guarded_put(config, item, rank).send().await {
        Ok(reply) => {
            took(config, pace, foreseen, reply.consumed_capacity());
            return Ok(Met::Written { notes: Vec::new() });
        }
        Err(error) => error,
    };
    match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(failed)) => Ok(met(config, rank, failed.item())),
        _ => Err(error::write(Action::PutItem, &config.table, &error)),
    }
}

/// A put on the condition that nothing later is there.
pub(super) fn guarded_put(config: &DynamoDbConfig, item: Attributes, rank: &Rank) -> PutItemFluentBuilder {
    let request = config.client.put_item().table_name(&config.table).set_item(Some(item));
    request
        .condition_expression(COMES_AFTER)
        .expression_attribute_names("#rank", config.guard_attribute())
        .expression_attribute_values(":rank", rank.to_attribute())
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

/// Where a condition did not hold, the item that was in the way says why.
fn met(config: &DynamoDbConfig, rank: &Rank, there: Option<&Attributes>) -> Met {
    // A service that does not say what is there is taken at its word.
    let Some(item) = there else { return Met::There(There::default()) };
    There::read(config, rank, item).map_or_else(
        || {
            let (table, guard) = (&config.table, config.guard_attribute());
            Met::Foreign(Reject::new(format!(
                "the item in table {table} has an attribute `{guard}` of another kind than its writes are ordered by: another program \
                 writes there"
            )))
        },
        Met::There,
    )
}

/// Makes the changes that stand at `first` to `last` unless some of them, or a later one, have been made, or may be noted as refused: they
/// are not where the notes go no further than was `seen`.
pub(super) async fn update_guarded(
    config: &DynamoDbConfig,
    pace: &Pace,
    (key, mut update): (Attributes, Update),
    (first, seen): (&Rank, Option<&Rank>),
    last: &Rank,
) -> Result<Met, Verdict> {
    update.set(config.guard_attribute(), last.to_attribute());
    if config.delete.is_none() {
        return request_update(config, pace, (key, update), (first, seen), OverMark::Whole).await;
    }
    // What a mark has besides its rank goes, but a living item's own expiry stays: which it is, only the service knows.
    match request_update(config, pace, (key.clone(), update.clone()), (first, seen), OverMark::No).await? {
        Met::There(there) if there.is_mark && there.ends_before(first) => {
            request_update(config, pace, (key, update), (first, seen), OverMark::Anew).await
        }
        met => Ok(met),
    }
}

/// Where an item was deleted, and its mark is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OverMark {
    /// It is in the way, as a later change.
    No,
    /// It stays one.
    Whole,
    /// It is an item again.
    Anew,
}

impl OverMark {
    /// What goes with the mark.
    pub(super) fn removed(self, config: &DynamoDbConfig) -> Vec<&str> {
        let mark = [Some(DELETED), config.ttl.as_deref()].into_iter().flatten();
        mark.filter(|_| self == Self::Anew).collect()
    }
}

/// Makes the changes from `first` on, on the same conditions, besides that of a mark.
pub(super) async fn request_update(
    config: &DynamoDbConfig,
    pace: &Pace,
    (key, update): (Attributes, Update),
    (first, seen): (&Rank, Option<&Rank>),
    over_mark: OverMark,
) -> Result<Met, Verdict> {
    let foreseen = units(bytes(&key) + update.bytes());
    pace.take(foreseen).await;
    let notes = !update.refused.is_empty();
    let request = guarded_update(config, (key, update), (first, seen), over_mark);
    let request = request.set_return_values(notes.then_some(ReturnValue::UpdatedNew));
    let error = match request.send().await {
        Ok(reply) => {
            took(config, pace, foreseen, reply.consumed_capacity());
            let notes = reply.attributes().map_or(&[][..], notes::of).to_vec();
            return Ok(Met::Written { notes });
        }
        Err(error) => error,
    };
    let Some(UpdateItemError::ConditionalCheckFailedException(failed)) = error.as_service_error() else {
        return Err(error::write(Action::UpdateItem, &config.table, &error));
    };
    match met(config, first, failed.item()) {
        Met::There(there) if there.decided().is_none() => Err(Verdict::Failed(Failure::configuration(format!(
            "cannot update items in table {}: the service does not say what is there where a condition fails: name one that does",
            config.table
        )))),
        met => Ok(met),
    }
}

/// An update on the condition that nothing from `first` on was made, or noted since the notes were `seen`.
pub(super) fn guarded_update(
    config: &DynamoDbConfig,
    (key, update): (Attributes, Update),
    (first, seen): (&Rank, Option<&Rank>),
    over_mark: OverMark,
) -> UpdateItemFluentBuilder {
    let Expression { text, mut names, mut values } = update.expression(&over_mark.removed(config));
    let mut conditions = vec![COMES_AFTER];
    if over_mark == OverMark::No {
        conditions.push("attribute_not_exists(#deleted)");
        names.insert("#deleted".into(), DELETED.into());
    }
    if config.notes_refused() {
        conditions.push(match seen {
            None => "attribute_not_exists(#refused_to) OR #refused_to < :rank",
            Some(_) => "attribute_not_exists(#refused_to) OR #refused_to < :rank OR #refused_to = :seen",
        });
        names.insert("#refused_to".into(), REFUSED_TO.into());
        values.extend(seen.map(|seen| (":seen".into(), seen.to_attribute())));
    }
    names.insert("#rank".into(), config.guard_attribute().into());
    values.insert(":rank".into(), first.to_attribute());
    let request = config.client.update_item().table_name(&config.table).set_key(Some(key)).update_expression(text);
    request
        .condition_expression(all_of(&conditions))
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
}

/// The service takes no parentheses that are not needed.
fn all_of(conditions: &[&str]) -> String {
    match conditions {
        [one] => (*one).to_owned(),
        several => several.iter().map(|condition| format!("({condition})")).collect::<Vec<_>>().join(" AND "),
    }
}

/// Sends up to 25 changes at once; gives back the keys of those that the service had no room for.
pub(super) async fn put_batch(
    config: &DynamoDbConfig,
    pace: &Pace,
    table: &Table,
    changes: Vec<Change>,
) -> Result<Vec<ItemKey>, Verdict> {
    let foreseen = changes.iter().map(units_of).sum();
    pace.take(foreseen).await;
    let requests = changes.into_iter().map(to_request).collect::<Result<Vec<_>, _>>()?;
    let request = config.client.batch_write_item().request_items(&config.table, requests);
    let request = request.return_consumed_capacity(ReturnConsumedCapacity::Total);
    let reply = request.send().await;
    let reply = reply.map_err(|error| error::write(Action::BatchWriteItem, &config.table, &error))?;
    took(config, pace, foreseen, reply.consumed_capacity());
    let left = reply.unprocessed_items().into_iter().flat_map(HashMap::values).flatten();
    let key = |request: &WriteRequest| {
        let put = request.put_request().map(PutRequest::item);
        let item = put.or_else(|| request.delete_request().map(DeleteRequest::key))?;
        table.key_of(item).ok()
    };
    let unreadable = || {
        let what =
            format!("cannot tell what table {} had no room for: an item without its key came back", config.table);
        Verdict::Failed(Failure::transient(what))
    };
    left.map(|request| key(request).ok_or_else(unreadable)).collect()
}

/// Of a change in a batch. What a delete takes depends on what is there.
fn units_of(change: &Change) -> f64 {
    match change {
        Change::Put(item) | Change::Delete(item) | Change::Update(item, _) => units(bytes(item)),
        Change::Refused(_) => 0.0,
    }
}

/// What the service counted for a request.
pub(super) fn took<'a>(
    config: &DynamoDbConfig,
    pace: &Pace,
    foreseen: f64,
    counted: impl IntoIterator<Item = &'a ConsumedCapacity>,
) {
    let counted: f64 = counted.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
    pace.settle(foreseen, counted);
    config.metrics.took(&config.table, counted);
}

fn to_request(change: Change) -> Result<WriteRequest, Verdict> {
    let incomplete =
        |error: kinesink_aws::dynamodb::error::BuildError| Verdict::Failed(Failure::fatal(error.to_string()));
    let request = WriteRequest::builder();
    Ok(match change {
        Change::Put(item) => {
            request.put_request(PutRequest::builder().set_item(Some(item)).build().map_err(incomplete)?).build()
        }
        Change::Update(..) | Change::Refused(_) => {
            return Err(Verdict::Failed(Failure::fatal("an update in a batch of puts: a bug")));
        }
        Change::Delete(key) => {
            request.delete_request(DeleteRequest::builder().set_key(Some(key)).build().map_err(incomplete)?).build()
        }
    })
}
