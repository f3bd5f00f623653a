//! Changes that the table refuses, and what its items say of them.

use std::collections::BTreeSet;

use kinesink_core::{Emitted, Emitter};
use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::super::{TABLE, config, emit, sink, stored};
use super::{change, changing, item};
use crate::dynamodb::{Changes, DynamoDbConfig, DynamoDbEmitter, Order};

#[tokio::test]
async fn a_change_that_the_service_refuses_is_found_among_the_others() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    with_text_for_a_sum(&dynamo).await;
    let samples = [
        change(1, json!({"count": 1})),
        change(2, json!({"count": 1})),
        change(3, json!({"count": 1, "sum": 5})),
        change(4, json!({"count": 1})),
        change(5, json!({"count": 1})),
    ];
    let emitted = emit(&sink, &samples).await.unwrap();
    let said = format!("{:?}", emitted.exceptions());
    assert!(said.starts_with("[(2, Rejected") && emitted.exceptions().len() == 1, "{said}");
    assert!(said.contains("An operand in the update expression has an incorrect data type"), "{said}");
    assert_eq!(item(&dynamo).await["count"], json!({"N": "4"}));
}

/// The item has text where `sum` is, so that the service refuses whatever adds to that.
async fn with_text_for_a_sum(dynamo: &Dynamo) {
    let put = dynamo.client().put_item().table_name(TABLE);
    let text = |text: &str| kinesink_aws::dynamodb::types::AttributeValue::S(text.into());
    put.item("id", text("a")).item("sum", text("no number")).send().await.unwrap();
}

#[tokio::test]
async fn a_refused_change_was_taken_for_made_once_a_later_one_was_made() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    with_text_for_a_sum(&dynamo).await;
    let (refused, fine) = (change(1, json!({"count": 1, "sum": 5})), change(2, json!({"count": 1})));
    let window = [refused.clone(), fine.clone()];
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![0]));
    // The next owner cuts its windows elsewhere, and knows only what the table says.
    let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
    let more = [refused.clone(), fine, change(3, json!({"sum": 7})), change(4, json!({"count": 1}))];
    for (window, refusals) in [(&window[..], vec![0]), (&window[..1], vec![0]), (&more[..], vec![0, 2])] {
        assert_eq!(exceptions(&emit(&next, window).await.unwrap()), (vec![], refusals));
    }
    let replayed = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..changing(&dynamo) }).unwrap();
    assert_eq!(exceptions(&emit(&replayed, &more).await.unwrap()).1, [0, 1, 2]);
    assert_eq!(item(&dynamo).await["count"], json!({"N": "2"}));
}

#[tokio::test]
async fn a_dead_letter_of_which_the_item_says_that_it_was_refused_counts_once_when_it_is_sent_again() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    let letter = |n: Value, status: &str| change(2, json!({"count": n, "status": status, "log": ["late"]}));
    let window = [
        change(1, json!({"count": 1, "log": ["first"]})),
        letter(json!("text"), "old"),
        change(3, json!({"count": 10, "status": "new"})),
        change(4, json!({"count": [], "status": "unread"})),
        change(5, json!({"count": 100})),
    ];
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1, 3]));
    assert_eq!(item(&dynamo).await["_refused"]["SS"].as_array().unwrap().len(), 2);
    let replaying = || DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..changing(&dynamo) }).unwrap();
    let mended = [letter(json!(1000), "old"), window[3].clone()];
    dynamo.fail("UpdateItem", Fault::None);
    dynamo.fail("UpdateItem", Fault::Answer("ThrottlingException", "slow"));
    emit(&replaying(), &mended).await.unwrap_err();
    dynamo.fail("UpdateItem", Fault::None);
    dynamo.fail("UpdateItem", Fault::LoseAnswer);
    emit(&replaying(), &mended).await.unwrap_err();
    let counted = item(&dynamo).await;
    assert_eq!(counted["count"], json!({"N": "1111"}), "it counts, though its answer was lost");
    assert_eq!(counted["status"], json!({"S": "new"}), "what a later one has set stays");
    assert_eq!(counted["log"], json!({"L": [{"S": "first"}, {"S": "late"}]}));
    assert_eq!(counted["_refused"]["SS"].as_array().unwrap().len(), 1, "the other one is still refused");
    // It counts no second time, by whomever: by a replay, which cannot tell it from others, or from the stream.
    assert_eq!(exceptions(&emit(&replaying(), &mended).await.unwrap()), (vec![], vec![0, 1]));
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1, 3]));
    let next = [mended[0].clone(), window[4].clone()];
    assert_eq!(emit(&running, &next).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await, counted);
}

#[tokio::test]
async fn a_refusal_was_forgotten_where_what_followed_it_had_to_wait() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let window = [change(1, json!({"count": "text"})), change(2, json!({"count": 1}))];
    let other = (3, "b", json!({"id": "b", "count": 1}));
    let throttled = || Fault::Answer("ThrottlingException", "slow");
    dynamo.fail("UpdateItem", throttled());
    let emitted = emit(&sink, &[window[0].clone(), window[1].clone(), other]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![0, 1], vec![]), "both, so that the one can tell the item of the other");
    // Alone, it is the batch that fails.
    dynamo.fail("UpdateItem", throttled());
    emit(&sink, &window).await.unwrap_err();
    assert_eq!(exceptions(&emit(&sink, &window).await.unwrap()), (vec![], vec![0]));
    // And if the record can be read meanwhile.
    let mended = [change(1, json!({"count": 1})), window[1].clone()];
    assert_eq!(exceptions(&emit(&sink, &mended).await.unwrap()), (vec![], vec![0]));
}

#[tokio::test]
async fn behind_many_refused_changes_all_are_refused() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let bad = (1..=100).map(|n| change(n, json!({"count": "text"})));
    let all: Vec<_> = bad.chain([change(101, json!({"count": 1}))]).collect();
    assert_eq!(exceptions(&emit(&sink, &all).await.unwrap()).1.len(), 101);
    assert_eq!(exceptions(&emit(&sink, &all[1..]).await.unwrap()).1.len(), 99, "the last is not among them");
    let item = item(&dynamo).await;
    assert_eq!((item["_refused"]["SS"].as_array().unwrap().len(), &item["count"]), (100, &json!({"N": "1"})));
}

/// Every other one is refused, and what is between them says so.
#[tokio::test]
async fn an_item_was_told_of_each_refused_change_of_a_window_until_it_was_full() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let notes = async || stored(&dynamo.client()).await["a"]["_refused"]["SS"].as_array().unwrap().clone();
    let json = |n: u64| if n % 2 == 1 { json!({"count": "text"}) } else { json!({"count": 1}) };
    let window = |from: u64| (from..from + 250).map(|n| change(n, json(n))).collect::<Vec<_>>();
    // Behind the hundredth, the others wait in the dead letters, and the item has none of them.
    let refused = |emitted: &Emitted| exceptions(emitted).1.len();
    assert_eq!(refused(&emit(&sink, &window(1)).await.unwrap()), 100 + 51);
    assert_eq!((notes().await.len(), &item(&dynamo).await["count"]), (100, &json!({"N": "99"})));
    // Windows later, the earliest are gone, and who sends the last window again finds all of it.
    for from in [1_001, 2_001, 3_001] {
        assert_eq!(refused(&emit(&sink, &window(from)).await.unwrap()), 100 + 51);
        assert!(notes().await.len() <= 200, "{} in the item", notes().await.len());
    }
    let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
    let mended: Vec<_> = (3_001..3_199).map(|n| change(n, json!({"count": 1}))).collect();
    let again: Vec<usize> = (0..198).step_by(2).collect();
    assert_eq!(exceptions(&emit(&next, &mended).await.unwrap()), (vec![], again));
}

/// By versions, no item is told.
#[tokio::test]
async fn of_versions_any_number_is_refused() {
    let dynamo = Dynamo::new();
    let changes = Changes { set: vec!["status".into()], ..Changes::default() };
    let config =
        DynamoDbConfig { changes: Some(changes), order: Order::Version("v".into()), ..config(dynamo.client()) };
    let sink = sink(DynamoDbConfig { ttl: Some("expires".into()), ..config }).await;
    let bad = (1..=120).map(|n| change(n, json!({"v": n, "status": 1, "expires": "never"})));
    let all: Vec<_> = bad.chain([change(121, json!({"v": 121, "status": "fine"}))]).collect();
    assert_eq!(exceptions(&emit(&sink, &all).await.unwrap()).1.len(), 120);
}

#[tokio::test]
async fn each_refused_change_was_looked_for_among_all_that_were_left() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    with_text_for_a_sum(&dynamo).await;
    let bad: Vec<_> = (1..=16).map(|n| change(n, json!({"sum": 1}))).collect();
    assert_eq!(exceptions(&emit(&sink, &bad).await.unwrap()).1.len(), 16);
    let calls = dynamo.calls("UpdateItem").len();
    assert!(calls <= 4 + 16 + 1, "{calls}");
}

#[tokio::test]
async fn a_refusal_of_updates_for_an_unknown_reason_condemned_all_changes_of_an_item() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let window: Vec<_> = (1..=3).map(|n| change(n, json!({"count": 1}))).collect();
    let unknown = || Fault::Answer("ValidationException", "Updates are not taken today");
    // Of all three, of the first alone, and of none.
    for _ in 0..3 {
        dynamo.fail("UpdateItem", unknown());
    }
    let failure = emit(&sink, &window).await.unwrap_err();
    assert!(
        failure.message.contains("cannot update an item in table items: the service takes no such request"),
        "{failure}"
    );
    assert_eq!((emit(&sink, &window).await.unwrap(), dynamo.faults_left()), (Emitted::all(), 0));
    assert_eq!(item(&dynamo).await["count"], json!({"N": "3"}));
}

/// A start asks with all that a record can change.
#[tokio::test]
async fn an_update_that_the_service_does_not_take_is_found_at_the_start() {
    let dynamo = Dynamo::new();
    let started = sink(changing(&dynamo)).await;
    Emitter::<bytes::Bytes>::check(&started).await.unwrap();
    let asked = dynamo.calls("UpdateItem").pop().unwrap();
    let names: BTreeSet<&str> =
        asked["ExpressionAttributeNames"].as_object().unwrap().values().filter_map(Value::as_str).collect();
    let all = ["_position", "_refused", "_refused_to", "count", "id", "log", "status", "sum"];
    assert_eq!(names, all.into());
    assert!(stored(&dynamo.client()).await.is_empty());
    dynamo.fail("UpdateItem", Fault::Answer("ValidationException", "Invalid UpdateExpression: too long"));
    let failure = Emitter::<bytes::Bytes>::check(&started).await.unwrap_err();
    assert!(failure.message.ends_with("it says: Invalid UpdateExpression: too long"), "{failure}");
}
