//! A lease that somebody changes who does not hold it.

use kinesink_aws::dynamodb::types::{AttributeValue, ReturnValue};
use kinesink_aws::{code, failure};
use kinesink_core::Failure;
use uuid::Uuid;

use super::row::{
    ANNOUNCED, CHECKPOINT, CHECKPOINT_OWNER, COUNTER, LeaseRow, MARK, OWNER, PENDING, PENDING_STATE,
    PENDING_SUB_SEQUENCE, START_MS, SUB_SEQUENCE, SWITCHES, TOKEN, WISH, binary, number, text,
};
use super::table::{CONDITION_FAILED, Change, LeaseTable};

impl Change {
    /// What writes owners, place and plan of the row over another, the counter aside.
    pub(crate) fn rewriting(row: &LeaseRow) -> Self {
        let start = row.start.and_then(|start| u64::try_from(start.as_millisecond()).ok()).map(number);
        let wish = row.wish.as_ref().map(|wish| text(wish.to_text()));
        let attributes = [
            (OWNER, row.owner.clone().map(text)),
            (CHECKPOINT_OWNER, row.checkpoint_owner.clone().map(text)),
            (MARK, row.mark.clone().map(text)),
            (WISH, wish),
            (CHECKPOINT, Some(text(row.checkpoint.sequence_text()))),
            (SUB_SEQUENCE, Some(number(row.checkpoint.sub_sequence()))),
            (SWITCHES, Some(number(row.switches))),
            (START_MS, start),
        ];
        let mut change = Self::default();
        for (name, value) in attributes {
            match value {
                Some(value) => change.set.push((name, value)),
                None => change.remove.push(name),
            }
        }
        match &row.pending {
            None => change.remove.extend([PENDING, PENDING_SUB_SEQUENCE, PENDING_STATE, ANNOUNCED]),
            Some(pending) => change.set.extend(pending.state.clone().map(|state| (PENDING_STATE, binary(state)))),
        }
        change
    }
}

impl LeaseTable {
    /// A write of somebody who does not hold the lease, if its owners, checkpoint and plan are as observed. Moves the
    /// counter whatever it is: a live owner moves it all the time. None if something has changed.
    pub(crate) async fn edit(&self, observed: &LeaseRow, change: &Change) -> Result<Option<LeaseRow>, Failure> {
        self.counted("UpdateItem");
        let mut change = change.clone();
        // No owner of ours may take the row for its own unanswered write.
        change.set.push((TOKEN, text(Uuid::new_v4())));
        let mut request = self.update(&observed.shard, &change);
        let mut conditions = Vec::new();
        for (name, value) in place_and_owners(observed) {
            request = request.expression_attribute_names(format!("#{name}"), name);
            conditions.push(match value {
                Some(value) => {
                    // A missing number is read as 0.
                    let missing =
                        if value == number(0) { format!(" OR attribute_not_exists(#{name})") } else { String::new() };
                    request = request.expression_attribute_values(format!(":was_{name}"), value);
                    format!("(#{name} = :was_{name}{missing})")
                }
                None => format!("attribute_not_exists(#{name})"),
            });
        }
        let expression = request.get_update_expression().clone().unwrap_or_default();
        let request = request.update_expression(format!("{expression} ADD #{COUNTER} :one"));
        let request = request.expression_attribute_names(format!("#{COUNTER}"), COUNTER);
        let request = request.expression_attribute_values(":one", number(1));
        let request = request.condition_expression(conditions.join(" AND ")).return_values(ReturnValue::AllNew);
        match request.send().await {
            Ok(reply) => match reply.attributes().map(|item| self.read(item)) {
                Some(Ok(Some(row))) => Ok(Some(row)),
                _ => Err(Failure::transient(format!("{} sent no row back", self.what()))),
            },
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(None),
            Err(error) => Err(failure("write", &format!("lease {} in {}", observed.shard, self.what()), &error)),
        }
    }
}

/// What an edit is conditional on: who has the lease, where it stands, what is planned.
fn place_and_owners(row: &LeaseRow) -> [(&'static str, Option<AttributeValue>); 5] {
    let pending = row.pending.as_ref().map(|pending| text(pending.checkpoint.sequence_text()));
    [
        (OWNER, row.owner.clone().map(text)),
        (CHECKPOINT_OWNER, row.checkpoint_owner.clone().map(text)),
        (CHECKPOINT, Some(text(row.checkpoint.sequence_text()))),
        (SUB_SEQUENCE, Some(number(row.checkpoint.sub_sequence()))),
        (PENDING, pending),
    ]
}
