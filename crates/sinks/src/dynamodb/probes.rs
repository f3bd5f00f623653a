//! Requests that change nothing, by which it is known what the service lets the sink do: as those of records, on conditions that never hold.

use std::error::Error as StdError;

use kinesink_aws::dynamodb::error::{BuildError, ProvideErrorMetadata};
use kinesink_aws::dynamodb::operation::transact_write_items::TransactWriteItemsError;
use kinesink_aws::dynamodb::types::{
    AttributeValue, Put, ScalarAttributeType, TransactWriteItem, Update as UpdateItem,
};
use kinesink_aws::{HttpResponse, SdkError, code};
use kinesink_core::Failure;

use super::attributes::Attributes;
use super::config::{DELETED, DynamoDbConfig, Order};
use super::error::{self, Action, CONDITION_FAILED, CONDITION_FAILED_OF_MANY, Throttled, Verdict};
use super::number::Decimal;
use super::pace::Pace;
use super::requests::{OverMark, guarded_put, guarded_update, put_batch};
use super::table::Table;
use super::update::Update;
use super::write::{Change, Rank};

/// Holds for no item.
pub(super) const NEVER: &str = "attribute_exists(#key) AND attribute_not_exists(#key)";
/// The key that a start asks about; nothing is stored there.
const PROBE_TEXT: &str = "_kinesink_check";
const PROBE_NUMBER: &str = "-7.3141592653589793238462643383279502884E+124";

/// Proves that guarded items may be put.
pub(super) async fn probe_put(config: &DynamoDbConfig, table: &Table) -> Result<(), Failure> {
    let request = guarded_put(config, probe(table), &first_rank(config));
    let condition = request.get_condition_expression().as_deref().map(never);
    let request = request.set_condition_expression(condition).expression_attribute_names("#key", hash_key(table));
    let answer = request.send().await;
    let_in(config, Action::PutItem, answer.err().as_ref())
}

/// Proves that items may be updated, by an update of all that a record can change.
pub(super) async fn probe_update(config: &DynamoDbConfig, table: &Table) -> Result<(), Failure> {
    let rank = first_rank(config);
    let neutral = |name: &str| match table.indexed_type(name) {
        None => AttributeValue::Null(true),
        indexed => value(indexed),
    };
    let mut update = config.changes.as_ref().map(|changes| Update::of_all(changes, neutral)).unwrap_or_default();
    update.set(config.guard_attribute(), rank.to_attribute());
    let over_mark = if config.delete.is_some() { OverMark::No } else { OverMark::Whole };
    let request = guarded_update(config, (probe(table), update), (&rank, None), over_mark);
    let condition = request.get_condition_expression().as_deref().map(never);
    let request = request.set_condition_expression(condition).expression_attribute_names("#key", hash_key(table));
    let answer = request.send().await;
    let_in(config, Action::UpdateItem, answer.err().as_ref())
}

fn never(condition: &str) -> String {
    format!("({condition}) AND {NEVER}")
}

/// Before that of any record.
fn first_rank(config: &DynamoDbConfig) -> Rank {
    match config.order {
        Order::PartitionKey => Rank::Position("0".into()),
        Order::Version(_) => Rank::Version(Decimal::ZERO),
    }
}

fn hash_key(table: &Table) -> &str {
    table.key_names().next().unwrap_or_default()
}

/// Who may ask, is told that the condition does not hold.
fn let_in<E>(config: &DynamoDbConfig, action: Action, error: Option<&SdkError<E, HttpResponse>>) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + Throttled + StdError + 'static,
{
    match error {
        Some(error) if code(error) != Some(CONDITION_FAILED) => {
            Err(error::write(action, &config.table, error).into_failure())
        }
        _ => Ok(()),
    }
}

/// Proves that an item and its guard may be written together, by conditions that cannot hold.
pub(super) async fn probe_transaction(
    (config, table): (&DynamoDbConfig, &Table),
    (guards, of_guards): (&DynamoDbConfig, &Table),
) -> Result<(), Failure> {
    let incomplete = |error: BuildError| Failure::fatal(error.to_string());
    let update = UpdateItem::builder().table_name(&config.table).set_key(Some(probe(table)));
    let update = update
        .update_expression("REMOVE #mark")
        .condition_expression(NEVER)
        .expression_attribute_names("#key", hash_key(table))
        .expression_attribute_names("#mark", DELETED);
    let put = Put::builder().table_name(&guards.table).set_item(Some(probe(of_guards)));
    let put = put.condition_expression(NEVER).expression_attribute_names("#key", hash_key(of_guards));
    let request = config
        .client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().update(update.build().map_err(incomplete)?).build())
        .transact_items(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build());
    let Err(error) = request.send().await else { return Ok(()) };
    let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
        return Err(error::transaction(&config.table, &guards.table, &error));
    };
    // Another worker that starts may ask at the same time, and was let in as this one.
    let is_let_in = |code: &str| matches!(code, "None" | CONDITION_FAILED_OF_MANY | "TransactionConflict");
    let tried = [(Action::UpdateItem, &config.table), (Action::PutItem, &guards.table)];
    let reasons = canceled.cancellation_reasons().iter().zip(tried);
    let mut others = reasons.filter(|(reason, _)| !reason.code().is_none_or(is_let_in));
    let verdict = others.find_map(|(reason, (action, table))| error::cancelled(action, table, reason));
    verdict.map_or(Ok(()), |verdict| Err(verdict.into_failure()))
}

/// Proves that items may be written in batches, by deleting one that there is none of.
pub(super) async fn probe_batch(config: &DynamoDbConfig, pace: &Pace, table: &Table) -> Result<(), Failure> {
    let probed = put_batch(config, pace, table, vec![Change::Delete(probe(table))]).await;
    probed.map(drop).map_err(Verdict::into_failure)
}

pub(super) fn probe(table: &Table) -> Attributes {
    table.key_names().map(|name| (name.to_owned(), value(table.key_type(name)))).collect()
}

/// Of a key of that type.
pub(super) fn value(key_type: Option<&ScalarAttributeType>) -> AttributeValue {
    match key_type {
        Some(ScalarAttributeType::N) => AttributeValue::N(PROBE_NUMBER.into()),
        Some(ScalarAttributeType::B) => AttributeValue::B(PROBE_TEXT.as_bytes().to_vec().into()),
        _ => AttributeValue::S(PROBE_TEXT.into()),
    }
}
