//! What items say of changes that were refused while later ones were made: the positions of those, in a set of each item.

use kinesink_aws::code;
use kinesink_aws::dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use tracing::debug;

use super::attributes::{Attributes, bytes, value_bytes};
use super::config::{DynamoDbConfig, REFUSED};
use super::error::{self, Action, CONDITION_FAILED, Verdict};
use super::pace::{Pace, units};
use super::requests::took;
use super::update::{Expression, Update};

/// Refused changes of an item and a window that it is told of; each takes some 80 bytes of it. Behind more of them, all are refused.
pub(super) const NOTES_OF_A_WINDOW_MAX: usize = 100;
/// An item with more has the earliest taken out, but for as many as a window may add: those of the window that is on its way are
/// the latest, and who sends that again has to find them.
const NOTES_MAX: usize = 2 * NOTES_OF_A_WINDOW_MAX;

/// Those of an item.
pub(super) fn of(item: &Attributes) -> &[String] {
    match item.get(REFUSED) {
        Some(AttributeValue::Ss(positions)) => positions,
        _ => &[],
    }
}

/// Makes a change that the item says was refused, and has the item say so no more: it is made once. Says whether the item said so.
pub(super) async fn make(
    config: &DynamoDbConfig,
    pace: &Pace,
    key: Attributes,
    update: Update,
    note: &str,
) -> Result<bool, Verdict> {
    let foreseen = units(bytes(&key) + update.bytes());
    pace.take(foreseen).await;
    let Expression { text, names, values } = update.expression(&[]);
    let request = config.client.update_item().table_name(&config.table).set_key(Some(key));
    let request = request
        .update_expression(format!("{text} DELETE #refused :notes"))
        .condition_expression("contains(#refused, :note)")
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .expression_attribute_names("#refused", REFUSED)
        .expression_attribute_values(":note", AttributeValue::S(note.to_owned()))
        .expression_attribute_values(":notes", AttributeValue::Ss(vec![note.to_owned()]))
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    match request.send().await {
        Ok(reply) => {
            took(config, pace, foreseen, reply.consumed_capacity());
            Ok(true)
        }
        Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
        Err(error) => Err(error::write(Action::UpdateItem, &config.table, &error)),
    }
}

/// Takes the earliest out of those that the item has, if they are too many. What goes wrong is made up for with the next that is noted.
pub(super) async fn trim(config: &DynamoDbConfig, pace: &Pace, key: Attributes, notes: &[String]) {
    if notes.len() <= NOTES_MAX {
        return;
    }
    let mut earliest = notes.to_vec();
    earliest.sort_unstable();
    earliest.truncate(notes.len() - NOTES_OF_A_WINDOW_MAX);
    let removed = earliest.len();
    let earliest = AttributeValue::Ss(earliest);
    let foreseen = units(bytes(&key) + value_bytes(&earliest));
    pace.take(foreseen).await;
    let request = config.client.update_item().table_name(&config.table).set_key(Some(key));
    let request = request
        .update_expression("DELETE #refused :earliest")
        // An item that is gone is not made anew.
        .condition_expression("attribute_exists(#refused)")
        .expression_attribute_names("#refused", REFUSED)
        .expression_attribute_values(":earliest", earliest)
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    match request.send().await {
        Ok(reply) => {
            took(config, pace, foreseen, reply.consumed_capacity());
            debug!(
                table = config.table,
                removed, "an item has too many notes of refused changes: the earliest are removed"
            );
        }
        Err(error) => {
            let why = error::write(Action::UpdateItem, &config.table, &error);
            debug!(table = config.table, ?why, "the earliest notes of refused changes stay in an item");
        }
    }
}
