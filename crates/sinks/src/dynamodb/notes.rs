//! What items say of their changes: which was made last, and the positions of those that were refused, in a set of each item.

use kinesink_aws::code;
use kinesink_aws::dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::attributes::{Attributes, bytes, value_bytes};
use super::config::{DELETED, DynamoDbConfig, POSITION, REFUSED, REFUSED_TO};
use super::error::{self, Action, CONDITION_FAILED, Verdict};
use super::pace::{Pace, units};
use super::requests::{COMES_AFTER, OverMark, took};
use super::update::{Expression, Update};
use super::write::Rank;

/// Refused changes of an item and a window that it is told of, and as many more where the window comes in parts; each takes some 80 bytes
/// of it. Behind them, all are refused.
pub(super) const NOTES_OF_A_WINDOW_MAX: usize = 100;
/// An item with more has the earliest taken out, but for the latest hundred, and for those of the window that is on its way: who sends that
/// again has to find them.
const NOTES_MAX: usize = 2 * NOTES_OF_A_WINDOW_MAX;

/// Of an update that makes what was refused.
pub(super) const DELETE_NOTES: &str = " DELETE #refused :notes";

/// What an item said where a condition did not hold. Nothing, where the service does not tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct There {
    /// The last change that was made, if one was.
    pub(super) made: Option<Rank>,
    /// The last of those that were refused when none was made behind them.
    pub(super) refused_to: Option<Rank>,
    /// It stands in the place of an item that was deleted.
    pub(super) is_mark: bool,
    /// Positions of those that were refused.
    refused: Vec<String>,
}

impl There {
    /// None where the item says nothing in the order of that rank.
    pub(super) fn read(config: &DynamoDbConfig, rank: &Rank, item: &Attributes) -> Option<Self> {
        let read = |name: &str| match item.get(name) {
            Some(found) => rank.of_same_order(found).map(Some),
            None => Some(None),
        };
        let made = read(config.guard_attribute())?;
        let refused_to = if config.notes_refused() { read(REFUSED_TO)? } else { None };
        let there = Self { made, refused_to, is_mark: item.contains_key(DELETED), refused: of(item).to_vec() };
        there.decided().is_some().then_some(there)
    }

    /// Behind it, nothing was made and nothing noted.
    pub(super) fn decided(&self) -> Option<&Rank> {
        self.made.as_ref().max(self.refused_to.as_ref())
    }

    /// Whether the change of this rank was made, or overtaken, or is noted as refused. Of others that were refused, the item was not told,
    /// or has no note any more: they can be made as long as nothing behind them is.
    pub(super) fn has(&self, rank: &Rank) -> bool {
        self.made.as_ref().is_some_and(|made| rank <= made) || self.notes(rank)
    }

    /// Whether nothing was made from that rank on.
    pub(super) fn ends_before(&self, rank: &Rank) -> bool {
        self.made.as_ref().is_none_or(|made| made < rank)
    }

    /// Whether the change of this rank was refused.
    pub(super) fn notes(&self, rank: &Rank) -> bool {
        matches!(rank, Rank::Position(text) if self.refused.contains(text))
    }
}

/// Those of an item.
pub(super) fn of(item: &Attributes) -> &[String] {
    match item.get(REFUSED) {
        Some(AttributeValue::Ss(positions)) => positions,
        _ => &[],
    }
}

/// What became of a change that its item notes as refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    Made,
    /// Others were made behind it, and it adds and appends nothing.
    Overtaken,
    /// The item is not as it was read.
    Changed,
}

/// Makes a change that the item says was refused, and has the item say so no more: it is made once. Where others were made behind it, it is
/// what it adds and appends that is made, and what it sets is theirs.
pub(super) async fn make(
    config: &DynamoDbConfig,
    pace: &Pace,
    (key, mut update): (Attributes, Update),
    rank: &Rank,
    there: &mut There,
) -> Result<Noted, Verdict> {
    let Rank::Position(note) = rank else { return Ok(Noted::Overtaken) };
    let is_last = there.ends_before(rank);
    let mut over_mark = OverMark::Whole;
    let mut condition = "contains(#refused, :rank)".to_owned();
    if is_last {
        update.set(POSITION, rank.to_attribute());
        condition.push_str(&format!(" AND ({COMES_AFTER})"));
        if there.is_mark {
            over_mark = OverMark::Anew;
        }
    } else {
        let Some(counted) = update.counted() else { return Ok(Noted::Overtaken) };
        update = counted;
    }
    let foreseen = units(bytes(&key) + update.bytes());
    pace.take(foreseen).await;
    let Expression { text, mut names, mut values } = update.expression(&over_mark.removed(config));
    names.insert("#refused".into(), REFUSED.into());
    if is_last {
        names.insert("#rank".into(), POSITION.into());
    }
    values.insert(":rank".into(), rank.to_attribute());
    values.insert(":notes".into(), AttributeValue::Ss(vec![note.clone()]));
    let request = config.client.update_item().table_name(&config.table).set_key(Some(key));
    let request = request
        .update_expression(text + DELETE_NOTES)
        .condition_expression(condition)
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    match request.send().await {
        Ok(reply) => {
            took(config, pace, foreseen, reply.consumed_capacity());
            there.refused.retain(|other| other != note);
            if is_last {
                there.made = Some(rank.clone());
                there.is_mark = false;
            }
            Ok(Noted::Made)
        }
        Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(Noted::Changed),
        Err(error) => Err(error::write(Action::UpdateItem, &config.table, &error)),
    }
}

/// Those of an item's notes that go, if they are too many: the earliest, and none from position `window` on.
pub(super) fn surplus(mut notes: Vec<String>, window: &str) -> Vec<String> {
    if notes.len() <= NOTES_MAX {
        return Vec::new();
    }
    notes.sort_unstable();
    notes.truncate(notes.len() - NOTES_OF_A_WINDOW_MAX);
    notes.retain(|note| note.as_str() < window);
    notes
}

/// Takes these out of what the item notes. An item that is gone is not made anew.
pub(super) async fn forget(
    config: &DynamoDbConfig,
    pace: &Pace,
    key: Attributes,
    notes: Vec<String>,
) -> Result<(), Verdict> {
    let notes = AttributeValue::Ss(notes);
    let foreseen = units(bytes(&key) + value_bytes(&notes));
    pace.take(foreseen).await;
    let request = config.client.update_item().table_name(&config.table).set_key(Some(key));
    let request = request
        .update_expression(DELETE_NOTES.trim_start())
        .condition_expression("attribute_exists(#refused)")
        .expression_attribute_names("#refused", REFUSED)
        .expression_attribute_values(":notes", notes)
        .return_consumed_capacity(ReturnConsumedCapacity::Total);
    match request.send().await {
        Ok(reply) => took(config, pace, foreseen, reply.consumed_capacity()),
        Err(error) if code(&error) == Some(CONDITION_FAILED) => {}
        Err(error) => return Err(error::write(Action::UpdateItem, &config.table, &error)),
    }
    Ok(())
}
