//! Refused changes behind which no other of the window is made.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::Emitted;
use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::super::{Sample, emit, items, sink, stored};
use super::{change, changing, item};
use crate::dynamodb::attributes::Attributes;
use crate::dynamodb::requests::{Met, update_guarded};
use crate::dynamodb::update::Update;
use crate::dynamodb::write::{Rank, position};
use crate::dynamodb::{Deletion, DynamoDbConfig, DynamoDbEmitter};

pub(super) fn replaying(config: DynamoDbConfig) -> DynamoDbEmitter {
    DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..config }).unwrap()
}

pub(super) fn deleting(dynamo: &Dynamo) -> DynamoDbConfig {
    let keep = Duration::from_secs(1000);
    let delete = Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep };
    DynamoDbConfig { delete: Some(delete), ttl: Some("expires".into()), ..changing(dynamo) }
}

/// Counts 1, refuses the second, and says so.
async fn one_refused(dynamo: &Dynamo) -> DynamoDbEmitter {
    let running = sink(changing(dynamo)).await;
    let window = [change(1, json!({"count": 1})), change(2, json!({"count": "10", "status": "late"}))];
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1]));
    running
}

fn mended() -> Sample<'static> {
    change(2, json!({"count": 10, "status": "late"}))
}

#[tokio::test]
async fn a_dead_letter_that_was_the_last_of_its_window_was_lost_once_a_later_window_counted() {
    let dynamo = Dynamo::new();
    let running = one_refused(&dynamo).await;
    let later = change(3, json!({"count": 100, "status": "later"}));
    assert_eq!(emit(&running, &[later]).await.unwrap(), Emitted::all());
    assert_eq!(emit(&replaying(changing(&dynamo)), &[mended()]).await.unwrap(), Emitted::all());
    let counted = item(&dynamo).await;
    assert_eq!((&counted["count"], &counted["status"]), (&json!({"N": "111"}), &json!({"S": "later"})));
    // No second time.
    let emitted = emit(&replaying(changing(&dynamo)), &[mended()]).await.unwrap();
    let said = format!("{:?}", emitted.exceptions());
    assert!(said.contains("overtaken: ") && said.contains("add it by hand with an update expression"), "{said}");
    assert_eq!(item(&dynamo).await, counted);
}

#[tokio::test]
async fn a_dead_letter_behind_which_nothing_was_made_sets_what_it_sets_and_counts_once() {
    let dynamo = Dynamo::new();
    let running = one_refused(&dynamo).await;
    for _ in 0..2 {
        assert_eq!(emit(&replaying(changing(&dynamo)), &[mended()]).await.unwrap(), Emitted::all());
        let item = item(&dynamo).await;
        assert_eq!((&item["count"], &item["status"]), (&json!({"N": "11"}), &json!({"S": "late"})));
        assert!(item.get("_refused").is_none(), "{item}");
    }
    // By whomever it is sent.
    let again = [mended(), change(3, json!({"count": 100}))];
    assert_eq!(emit(&running, &again).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await["count"], json!({"N": "111"}));
}

#[tokio::test]
async fn a_letter_that_can_count_no_more_was_told_for_ever_that_it_had_been_refused() {
    let dynamo = Dynamo::new();
    let running = sink(deleting(&dynamo)).await;
    let unread = [json!({"count": 1}), json!({"status": "late", "count": "x"}), json!({"op": "U", "count": "y"})];
    let window: Vec<_> = unread.into_iter().zip(1..).map(|(json, n)| change(n, json)).collect();
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1, 2]));
    assert_eq!(emit(&running, &[change(4, json!({"count": 100}))]).await.unwrap(), Emitted::all());
    let mended = [change(2, json!({"status": "late"})), change(3, json!({"op": "D"}))];
    for _ in 0..2 {
        for letter in &mended {
            let emitted = emit(&replaying(deleting(&dynamo)), std::slice::from_ref(letter)).await.unwrap();
            let said = format!("{:?}", emitted.exceptions());
            assert!(said.contains("[(0, Rejected") && said.contains("overtaken: the item in table items"), "{said}");
        }
    }
    assert_eq!(item(&dynamo).await["count"], json!({"N": "101"}));
}

/// Another replay, or a later change, comes between its look at the item and its count.
#[tokio::test]
async fn a_letter_whose_item_changed_at_that_moment_was_told_that_it_adds_nothing() {
    let later = || [change(3, json!({"count": 100}))];
    for (has_later, comes_later) in [(false, false), (false, true), (true, false)] {
        let before = async |dynamo: &Dynamo| {
            let running = one_refused(dynamo).await;
            if has_later {
                assert_eq!(emit(&running, &later()).await.unwrap(), Emitted::all());
            }
            running
        };
        let sample = Dynamo::new();
        let running = before(&sample).await;
        let emitted = match comes_later {
            true => emit(&running, &later()).await,
            false => emit(&replaying(changing(&sample)), &[mended()]).await,
        };
        assert_eq!(emitted.unwrap(), Emitted::all());
        let dynamo = Dynamo::new();
        before(&dynamo).await;
        dynamo.fail("UpdateItem", Fault::None);
        dynamo.fail("UpdateItem", Fault::After(sample.calls("UpdateItem").pop().unwrap()));
        let emitted = format!("{:?}", emit(&replaying(changing(&dynamo)), &[mended()]).await.unwrap());
        assert_eq!(dynamo.faults_left(), 0);
        assert!(!emitted.contains("adds and appends nothing"), "{emitted}");
        assert_eq!(emitted.contains("an earlier replay has counted it"), has_later, "{emitted}");
        let counted = if has_later || comes_later { "111" } else { "11" };
        assert_eq!(item(&dynamo).await["count"], json!({"N": counted}));
    }
}

#[tokio::test]
async fn what_was_refused_last_is_refused_whoever_sends_it_again() {
    let dynamo = Dynamo::new();
    one_refused(&dynamo).await;
    let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
    let first = change(1, json!({"count": 1}));
    for window in [vec![mended()], vec![first.clone(), mended()], vec![mended(), change(3, json!({"count": 100}))]] {
        let place = usize::from(window[0].0 == 1);
        assert_eq!(exceptions(&emit(&next, &window).await.unwrap()), (vec![], vec![place]));
    }
    assert_eq!(item(&dynamo).await["count"], json!({"N": "101"}));
}

/// Its program could not read what that of the next owner reads.
#[tokio::test]
async fn a_worker_that_woke_late_noted_as_refused_what_another_had_counted() {
    for later in [json!({"count": 100}), json!({"count": "no number"})] {
        let dynamo = Dynamo::new();
        let next = sink(changing(&dynamo)).await;
        let first = change(1, json!({"count": 1}));
        assert_eq!(emit(&next, &[first, mended()]).await.unwrap(), Emitted::all());
        let slow = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
        let window = [change(2, json!({"count": "10"})), change(3, later.clone())];
        assert!(exceptions(&emit(&slow, &window).await.unwrap()).1.contains(&0));
        assert_eq!(exceptions(&emit(&replaying(changing(&dynamo)), &[mended()]).await.unwrap()).0, [0; 0]);
        let counted = if later["count"].is_number() { "111" } else { "11" };
        assert_eq!(item(&dynamo).await["count"], json!({"N": counted}));
    }
}

#[tokio::test]
async fn an_item_of_which_all_was_refused_says_so_and_expires_as_others_do() {
    let dynamo = Dynamo::new();
    let config = || DynamoDbConfig {
        ttl: Some("expires".into()),
        expire_after: Some(Duration::from_secs(100)),
        ..changing(&dynamo)
    };
    let running = sink(config()).await;
    let window = [change(2, json!({"count": "10"}))];
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![0]));
    let noted = stored(&dynamo.client()).await.remove("a").unwrap();
    let names: BTreeSet<_> = noted.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["_refused", "_refused_to", "expires", "id"].into());
    assert_eq!(emit(&running, &[change(3, json!({"count": 100}))]).await.unwrap(), Emitted::all());
    assert_eq!(emit(&replaying(config()), &[mended()]).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await["count"], json!({"N": "110"}));
}

#[tokio::test]
async fn a_refused_change_behind_a_delete_makes_an_item_again_when_it_is_replayed() {
    let dynamo = Dynamo::new();
    let config = || {
        let mut config = deleting(&dynamo);
        config.changes.as_mut().unwrap().set.push("expires".into());
        config
    };
    let running = sink(config()).await;
    let second = |n: Value| change(2, json!({"count": n, "expires": 2_000_000_000}));
    let third = |n: Value| change(3, json!({"count": n, "status": "third"}));
    let window = [change(1, json!({"op": "D"})), second("x".into()), third("x".into())];
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1, 2]));
    assert_eq!(item(&dynamo).await["_deleted"], json!({"BOOL": true}));
    assert_eq!(emit(&replaying(config()), &[second(10.into()), third(1.into())]).await.unwrap(), Emitted::all());
    let mut item = item(&dynamo).await;
    item.as_object_mut().unwrap().remove("_refused_to");
    let expires = json!({"N": "2000000000"});
    assert_eq!(item, json!({"id": {"S": "a"}, "count": {"N": "11"}, "status": {"S": "third"}, "expires": expires}));
}

#[tokio::test]
async fn what_was_refused_last_waits_with_the_item_that_is_to_say_so() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    let window = [change(1, json!({"count": 1})), change(2, json!({"count": "10"}))];
    for fault in [Fault::Answer("ThrottlingException", "slow"), Fault::LoseAnswer] {
        dynamo.fail("UpdateItem", Fault::None);
        dynamo.fail("UpdateItem", fault);
        emit(&running, &window).await.unwrap_err();
    }
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()), (vec![], vec![1]));
    assert_eq!(item(&dynamo).await["_refused"]["SS"].as_array().unwrap().len(), 1);
}

/// Of more than an item notes, the others count as long as nothing behind them does.
#[tokio::test]
async fn letters_without_a_note_were_overtaken_by_the_notes_of_others() {
    let bad = |n: u64| change(n, json!({"count": "1"}));
    let good = |n: u64| change(n, json!({"count": 1, "log": [n]}));
    for windows in [vec![1..=150, 151..=151], vec![1..=100, 101..=200, 201..=300, 301..=410]] {
        let dynamo = Dynamo::new();
        let running = sink(changing(&dynamo)).await;
        let last = *windows.last().unwrap().end();
        for window in &windows {
            let samples: Vec<_> = window.clone().map(bad).collect();
            let refused = exceptions(&emit(&running, &samples).await.unwrap()).1;
            assert_eq!(refused.len(), samples.len());
        }
        let letters: Vec<_> = (1..=last).map(good).collect();
        let emitter = replaying(changing(&dynamo));
        dynamo.fail("UpdateItem", Fault::None);
        dynamo.fail("UpdateItem", Fault::LoseAnswer);
        emit(&emitter, &letters).await.unwrap_err();
        let emitted = emit(&emitter, &letters).await.unwrap();
        assert!(exceptions(&emitted).0.is_empty());
        let item = item(&dynamo).await;
        let log: Vec<_> = (1..=last).map(|n| json!({"N": n.to_string()})).collect();
        assert_eq!((&item["count"], &item["log"]["L"]), (&json!({"N": last.to_string()}), &json!(log)));
    }
}

/// What another worker notes meanwhile is looked at first.
#[tokio::test]
async fn an_update_is_made_only_while_the_notes_are_as_they_were_read() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    let window: Vec<_> = (1..=5).map(|n| change(n, json!({"count": "1"}))).collect();
    assert_eq!(exceptions(&emit(&running, &window).await.unwrap()).1.len(), 5);
    let items = items(&window);
    let rank = |n: usize| Rank::Position(position(items[n - 1].record.position, 0).unwrap());
    let key = Attributes::from([("id".to_owned(), AttributeValue::S("a".into()))]);
    for (seen, is_made) in [(None, false), (Some(4), false), (Some(5), true)] {
        let (first, seen, item) = (rank(1), seen.map(rank), (key.clone(), Update::default()));
        let (config, pace) = (changing(&dynamo), &running.traffic.pace);
        let met = update_guarded(&config, pace, item, (&first, seen.as_ref()), &first).await.unwrap();
        assert_eq!(matches!(met, Met::Written { .. }), is_made, "{seen:?}");
    }
}

/// The worker halts, and what it could not read is mended before the window is sent again.
#[tokio::test]
async fn records_that_were_refused_without_a_note_were_taken_for_made_when_they_were_sent_again() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    for part in [1..=150, 151..=300, 301..=450] {
        let samples: Vec<_> = part.map(|n| change(n, json!({"count": "1"}))).collect();
        assert_eq!(exceptions(&emit(&running, &samples).await.unwrap()).1.len(), 150);
    }
    let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
    let mended: Vec<_> = (1..=450).map(|n| change(n, json!({"count": 1}))).collect();
    let letters = exceptions(&emit(&next, &mended).await.unwrap()).1;
    let counted = 450 - letters.len();
    assert_eq!(item(&dynamo).await["count"], json!({"N": counted.to_string()}));
    let letters: Vec<_> = letters.into_iter().map(|place| mended[place].clone()).collect();
    assert_eq!(emit(&replaying(changing(&dynamo)), &letters).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await["count"], json!({"N": "450"}));
}

#[tokio::test]
async fn letters_that_are_refused_still_shut_out_those_behind_them() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    let bad = (1..=100).map(|n| change(n, json!({"count": "x"})));
    let all: Vec<_> = bad.chain((101..=150).map(|n| change(n, json!({"count": 1})))).collect();
    assert_eq!(exceptions(&emit(&running, &all).await.unwrap()).1.len(), 150);
    assert_eq!(exceptions(&emit(&replaying(changing(&dynamo)), &all).await.unwrap()).1.len(), 100);
    assert_eq!(item(&dynamo).await["count"], json!({"N": "50"}));
}
