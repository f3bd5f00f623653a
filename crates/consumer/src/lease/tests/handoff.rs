//! Handoffs of KCL 3.x, which a leader begins between the owner's writes, and what a leader writes.

use super::dynamo::{Dynamo, Fault};
use super::*;

/// A handoff as a leader of KCL 3.x begins it: the counter stays.
async fn handed_over(dynamo: &Dynamo, holder: &str, next: &str) {
    let request = dynamo.client().update_item().table_name("leases").key("leaseKey", text("shardId-000000000001"));
    let request = request.update_expression("SET leaseOwner = :next, checkpointOwner = :holder");
    let request = request.expression_attribute_values(":next", text(next));
    request.expression_attribute_values(":holder", text(holder)).send().await.unwrap();
}

async fn owners(table: &LeaseTable) -> (Option<String>, Option<String>) {
    let row = stored(table).await;
    (row.owner, row.checkpoint_owner)
}

#[tokio::test(start_paused = true)]
async fn a_handoff_is_known_after_a_renewal_and_the_lease_is_held_until_it_is_given() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    handed_over(&dynamo, "me", "next").await;
    held.checkpoint(at(7)).await.unwrap();
    assert_eq!(held.asked_for().await, "next", "a checkpoint shows it too");
    held.renew(Some(1.25)).await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
    assert_eq!(owners(&table).await, (Some("next".into()), Some("me".into())));
    let counter = stored(&table).await.counter;
    // Whom the leader chose gets it, whatever we would do.
    held.give(Some("other")).await.unwrap();
    let row = stored(&table).await;
    assert_eq!((row.holder(), row.checkpoint_owner.as_deref(), row.counter), (Some("next"), None, counter + 1));
    assert_eq!((row.checkpoint, row.mark), (at(9), None));
    assert!(held.is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_finds_a_handoff_by_its_condition_and_renews_in_spite_of_it() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    handed_over(&dynamo, "me", "next").await;
    held.renew(None).await.unwrap();
    assert_eq!((held.asked_for().await.as_str(), stored(&table).await.counter), ("next", 2));
    let conditions: Vec<_> =
        dynamo.writes().into_iter().map(|(_, request)| request["ConditionExpression"].clone()).collect();
    let renewal = conditions.last().unwrap().as_str().unwrap();
    assert!(renewal.contains("#is_holder = :is_holder"), "{renewal}");
}

#[tokio::test(start_paused = true)]
async fn a_handoff_of_somebody_elses_and_a_row_that_names_one_worker_twice_lose_the_lease() {
    for (holder, next) in [("other", "next"), ("other", "me"), ("me", "me")] {
        let dynamo = Dynamo::new();
        let table = table(&dynamo).await;
        let held = take(&table, &lease(), "me").await.unwrap();
        handed_over(&dynamo, holder, next).await;
        assert!(matches!(held.renew(None).await, Err(LeaseError::Lost)), "{holder} {next}");
        assert_eq!(stored(&table).await.counter, 1, "{holder} {next}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_recognized_during_a_handoff() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    dynamo.fail("UpdateItem", Fault::LoseAnswer);
    assert!(matches!(held.checkpoint(at(9)).await, Err(LeaseError::Failed(_))));
    handed_over(&dynamo, "me", "next").await;
    held.renew(None).await.unwrap();
    assert_eq!(held.asked_for().await, "next");
    assert_eq!((stored(&table).await.checkpoint, stored(&table).await.counter), (at(9), 3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_while_a_handoff_begins_goes_to_the_next_owner() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    handed_over(&dynamo, "me", "next").await;
    held.give(None).await.unwrap();
    assert_eq!(owners(&table).await, (Some("next".into()), None));
}

#[tokio::test(start_paused = true)]
async fn a_take_needs_the_owners_that_were_observed_and_ends_a_handoff() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    take(&table, &lease(), "old").await.unwrap();
    let observed = stored(&table).await;
    handed_over(&dynamo, "old", "next").await;
    assert!(matches!(take(&table, &observed, "me").await, Err(LeaseError::Lost)), "the leader's word is overwritten");
    take(&table, &stored(&table).await, "me").await.unwrap();
    assert_eq!(owners(&table).await, (Some("me".into()), None));
}
