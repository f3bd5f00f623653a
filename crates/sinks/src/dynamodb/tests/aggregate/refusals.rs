//! What cannot be counted, and whose fault that is.

use std::collections::BTreeMap;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Class, Emitted, Exception};
use serde_json::{Value, json};

use super::super::TABLE;
use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::{GUARDS, MINUTE, Sent, counted, counting, emit, number, of_a, open, scan, sink, totals};
use crate::TimeFormat;
use crate::dynamodb::{DynamoDbConfig, DynamoDbEmitter, FieldType};

#[tokio::test]
async fn a_cancelled_transaction_is_judged_by_the_reason_of_each_item() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let none = ("None", "");
    let cases = [
        ([("TransactionConflict", "x"), none], Class::Transient, "table items: another write is on its way"),
        ([none, ("TransactionConflict", "x")], Class::Transient, "table guards: another write is on its way"),
        (
            [("ThrottlingError", "slow"), none],
            Class::Transient,
            "cannot update an item in table items: ThrottlingError: slow",
        ),
        ([none, ("ProvisionedThroughputExceeded", "slow")], Class::Transient, "table guards: ProvisionedThroughput"),
        (
            [("ValidationError", "The provided key element does not match the schema"), none],
            Class::Configuration,
            "cannot update an item in table items: its key is not the one that it had at the start",
        ),
        ([none, ("ValidationError", "Item size")], Class::Configuration, "table guards refuses the item"),
        ([none, none], Class::Transient, "was cancelled for no reason that it gives"),
    ];
    for (reasons, class, text) in cases {
        let before = dynamo.calls("TransactWriteItems").len();
        dynamo.fail("TransactWriteItems", Fault::Cancel(reasons));
        let failure = emit(&sink, 0, &[(1, number(1))]).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.message.contains(text), "{failure}");
        assert_eq!(dynamo.calls("TransactWriteItems").len(), before + 1, "{text}: sent again");
    }
    for (code, class) in [
        ("ThrottlingException", Class::Transient),
        ("TransactionInProgressException", Class::Transient),
        ("AccessDeniedException", Class::Configuration),
        ("ResourceNotFoundException", Class::Configuration),
    ] {
        dynamo.fail("TransactWriteItems", Fault::Answer(code, "no"));
        let failure = emit(&sink, 0, &[(1, number(1))]).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.message.contains("cannot update an item in table items"), "{failure}");
        let is_of_either = failure.message.ends_with("; or it is that of its guards, guards");
        assert_eq!(is_of_either, class == Class::Configuration, "{failure}");
    }
    assert!(scan(&dynamo.client(), TABLE).await.is_empty());
    // Of two items the one that fails is sent again alone.
    dynamo.fail("TransactWriteItems", Fault::Cancel([("TransactionConflict", "x"), none]));
    let emitted = emit(&sink, 0, &[(1, number(1)), (2, json!({"id": "b"})), (3, number(3))]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![0, 2], vec![]));
}

#[tokio::test]
async fn a_service_that_does_not_say_what_is_in_the_way_is_told_and_an_item_that_is_removed_begins_anew() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let (none, failed) = (("None", ""), ("ConditionalCheckFailed", ""));
    for reasons in [[failed, none], [none, failed]] {
        let before = dynamo.calls("TransactWriteItems").len();
        dynamo.fail("TransactWriteItems", Fault::Cancel(reasons));
        let failure = emit(&sink, 0, &[(1, number(1))]).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration, "{failure}");
        assert!(failure.message.contains("does not say what is there where a condition fails"), "{failure}");
        assert_eq!(dynamo.calls("TransactWriteItems").len(), before + 1);
    }
    assert_eq!(emit(&sink, 0, &[(1, number(1))]).await.unwrap(), Emitted::all());
    // It is no lowest number, as the item says; then the item is gone, and does not say so any more.
    dynamo.fail("TransactWriteItems", Fault::None);
    dynamo.fail("TransactWriteItems", Fault::Cancel([failed, none]));
    assert_eq!(emit(&sink, 0, &[(2, number(5))]).await.unwrap(), Emitted::all());
    assert_eq!((of_a(&dynamo).await, dynamo.faults_left()), (totals("2", "6", "1", "5"), 0));
}

#[tokio::test]
async fn what_the_service_refuses_is_refused_with_all_that_counts_together_and_again_for_who_sends_it_again() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let text = AttributeValue::S("SECRET".into());
    let put = dynamo.client().put_item().table_name(TABLE).item("id", AttributeValue::S("a".into()));
    put.item("minute", AttributeValue::S(MINUTE.into())).item("sum", text).send().await.unwrap();
    let window = [(1, number(1)), (2, json!({"id": "b", "n": 2})), (3, number(3))];
    for (sink, why) in [
        (&sink, "An operand in the update expression has an incorrect data type"),
        (&open(&dynamo), "refused before, as the guard of its item says"),
    ] {
        let emitted = emit(sink, 0, &window).await.unwrap();
        assert_eq!(exceptions(&emitted), (vec![], vec![0, 2]));
        let said = format!("{emitted:?}");
        assert!(said.contains(why) && !said.contains("SECRET"), "{said}");
    }
}

/// Between a dead letter and the checkpoint, a worker dies and the item is mended.
#[tokio::test]
async fn a_dead_letter_counted_twice_where_the_next_owner_counted_its_window_too() {
    let dynamo = Dynamo::new();
    let running = sink(&dynamo).await;
    let key = [("id", "a"), ("minute", MINUTE)].map(|(name, text)| (name.to_owned(), AttributeValue::S(text.into())));
    let put = dynamo.client().put_item().table_name(TABLE).set_item(Some(key.clone().into()));
    put.item("sum", AttributeValue::S("text".into())).send().await.unwrap();
    let window = [(1, number(1)), (2, json!({"id": "b", "n": 2})), (3, number(3))];
    assert_eq!(exceptions(&emit(&running, 0, &window).await.unwrap()), (vec![], vec![0, 2]));
    dynamo.client().put_item().table_name(TABLE).set_item(Some(key.into())).send().await.unwrap();
    let next = open(&dynamo);
    assert_eq!(exceptions(&emit(&next, 0, &window).await.unwrap()), (vec![], vec![0, 2]), "they are dead letters");
    let replaying = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..counting(dynamo.client()) }).unwrap();
    let letters = [window[0].clone(), window[2].clone()];
    for _ in 0..3 {
        assert_eq!(emit(&replaying, 0, &letters).await.unwrap(), Emitted::all());
        assert_eq!(exceptions(&emit(&next, 0, &window).await.unwrap()), (vec![], vec![0, 2]));
    }
    assert_eq!(of_a_beside(&dynamo, "b").await, totals("2", "4", "1", "3"));
    // What comes behind them counts, and so it does where windows are cut elsewhere.
    assert_eq!(emit(&next, 0, &[(4, number(4))]).await.unwrap(), Emitted::all());
    let cut = [window[2].clone(), (4, number(4)), (5, number(5))];
    assert_eq!(emit(&open(&dynamo), 0, &cut).await.unwrap(), Emitted::all());
    assert_eq!(of_a_beside(&dynamo, "b").await, totals("4", "13", "1", "5"));
}

/// The numbers of `a`, beside the items of others.
async fn of_a_beside(dynamo: &Dynamo, others: &str) -> [String; 4] {
    let mut counted = items_counted(dynamo).await;
    others.split(' ').for_each(|other| drop(counted.remove(other).unwrap()));
    assert_eq!(counted.len(), 1);
    counted.remove("a").unwrap()
}

/// Of one minute, by id; items without numbers are left out.
async fn items_counted(dynamo: &Dynamo) -> BTreeMap<String, [String; 4]> {
    let numbers = |item: &BTreeMap<String, String>| {
        ["count", "sum", "least", "most"].map(|name| item.get(name).cloned().unwrap_or_default())
    };
    let items = scan(&dynamo.client(), TABLE).await;
    items.iter().map(|item| (item["id"].clone(), numbers(item))).collect()
}

/// Of a slice for each record, a sum that is too large for a window is not too large.
#[tokio::test]
async fn a_sum_that_was_refused_is_refused_by_an_owner_that_folds_otherwise() {
    let dynamo = Dynamo::new();
    let running = sink(&dynamo).await;
    let with = |sequence: u64, text: &str| -> Sent {
        (sequence, serde_json::from_str(&format!(r#"{{"id": "a", "n": {text}}}"#)).unwrap())
    };
    let window = [with(1, "1"), with(2, "1e100"), with(3, "-1e100")];
    assert_eq!(exceptions(&emit(&running, 0, &window).await.unwrap()), (vec![], vec![1, 2]));
    let apart = DynamoDbConfig { encoded_bytes_max: 1, ..counting(dynamo.client()) };
    let calls = dynamo.calls("TransactWriteItems").len();
    let emitted = emit(&DynamoDbEmitter::open(apart).unwrap(), 0, &window).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![1, 2]));
    assert_eq!(dynamo.calls("TransactWriteItems").len(), calls + 1, "nothing that is refused is sent");
    assert_eq!(of_a(&dynamo).await[0], "1");
}

/// It is known from the guard that the last is refused, and one before it is put off with others.
#[tokio::test]
async fn a_counted_record_before_a_refused_one_is_no_dead_letter_where_the_window_waits() {
    let dynamo = Dynamo::new();
    sink(&dynamo).await;
    let apart = || DynamoDbEmitter::open(DynamoDbConfig { encoded_bytes_max: 1, ..counting(dynamo.client()) }).unwrap();
    let none = ("None", "");
    let window = [(1, number(1)), (2, json!({"id": "b"})), (3, number(3)), (4, number(4)), (5, json!({"id": "c"}))];
    // The third number is no lowest, which the second request for it knows.
    (0..4).for_each(|_| dynamo.fail("TransactWriteItems", Fault::None));
    dynamo.fail("TransactWriteItems", Fault::Cancel([("ValidationError", "Item size"), none]));
    assert_eq!(exceptions(&emit(&apart(), 0, &window).await.unwrap()), (vec![], vec![3]));
    dynamo.fail("TransactWriteItems", Fault::None);
    dynamo.fail("TransactWriteItems", Fault::Cancel([("TransactionConflict", "x"), none]));
    assert_eq!(exceptions(&emit(&apart(), 0, &window).await.unwrap()), (vec![1, 2, 4], vec![3]));
    assert_eq!(exceptions(&emit(&apart(), 0, &window).await.unwrap()), (vec![], vec![3]));
    assert_eq!(of_a_beside(&dynamo, "b c").await, totals("2", "4", "1", "3"));
}

#[tokio::test]
async fn what_another_program_wrote_is_told_by_name() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let put = dynamo.client().put_item().table_name(TABLE).item("id", AttributeValue::S("a".into()));
    let least = AttributeValue::S("x".into());
    put.item("minute", AttributeValue::S(MINUTE.into())).item("least", least).send().await.unwrap();
    let emitted = emit(&sink, 0, &[(1, number(1))]).await.unwrap();
    assert!(
        format!("{emitted:?}").contains("attribute `least` of its item in table items is no number"),
        "{emitted:?}"
    );

    assert_eq!(emit(&sink, 0, &[(1, json!({"id": "b"}))]).await.unwrap(), Emitted::all());
    let guards = scan(&dynamo.client(), GUARDS).await;
    let guard = guards.iter().find(|guard| guard["item"] == "b").unwrap();
    let put = dynamo.client().put_item().table_name(GUARDS);
    let put = put.item("item", AttributeValue::S(guard["item"].clone()));
    put.item("source", AttributeValue::S(guard["source"].clone())).send().await.unwrap();
    let foreign =
        dynamo.client().update_item().table_name(GUARDS).key("item", AttributeValue::S(guard["item"].clone()));
    let foreign = foreign.key("source", AttributeValue::S(guard["source"].clone()));
    let foreign = foreign.update_expression("SET #p = :p").expression_attribute_names("#p", "_position");
    foreign.expression_attribute_values(":p", AttributeValue::N("7".into())).send().await.unwrap();
    let emitted = emit(&sink, 0, &[(2, json!({"id": "b"}))]).await.unwrap();
    assert!(format!("{emitted:?}").contains("the guard of its item in table guards"), "{emitted:?}");
}

#[tokio::test]
async fn a_record_that_cannot_be_counted_is_refused_alone() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let long = "x".repeat(2049);
    let cases: Vec<(Value, &str)> = vec![
        (json!({"id": "a", "n": "7"}), "its field .n, which is counted, is text, not a number"),
        (json!({"id": "a", "n": [7]}), "a list, not a number"),
        (json!({"n": 7}), "it has no field .id for key attribute `id` of table items"),
        (json!({"id": "", "n": 7}), "is empty, which no key may be"),
        (json!({"id": 7}), "is text there and a number here"),
        (json!({"id": long}), "is longer than the 2048 bytes"),
    ];
    for (sequence, (json, why)) in (10..).zip(cases) {
        let window = [(sequence, json), (sequence + 100, json!({"id": "b", "n": 1}))];
        let emitted = emit(&sink, 0, &window).await.unwrap();
        let [(0, Exception::Rejected(found))] = emitted.exceptions() else { panic!("{why}: {emitted:?}") };
        assert!(found.to_string().contains(why), "{found}");
    }
    // What JSON cannot say exactly is text.
    let mut config = counting(dynamo.client());
    config.types = [(".n".parse().unwrap(), FieldType::Number)].into();
    let aggregate = config.aggregate.as_mut().unwrap();
    aggregate.window = std::time::Duration::from_secs(24 * 3600);
    aggregate.event_time.as_mut().unwrap().format = TimeFormat::EpochSeconds;
    let sink = DynamoDbEmitter::open(config).unwrap();
    let digits = json!({"id": "a", "n": "123456789012345678901234567890123456789"});
    let early = json!({"id": "a", "ts": jiff::Timestamp::MIN.as_second()});
    let emitted = emit(&sink, 1, &[(1, digits), (2, early)]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![0, 1]));
    let said = format!("{emitted:?}");
    assert!(said.contains("more than 38 digits") && said.contains("begins before any clock"), "{said}");
}

#[tokio::test]
async fn a_sum_that_no_table_keeps_takes_the_records_behind_it_along() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let with = |sequence: u64, text: &str| -> Sent {
        (sequence, serde_json::from_str(&format!(r#"{{"id": "a", "n": {text}}}"#)).unwrap())
    };
    let window = [with(1, "1"), with(2, "1e100"), with(3, "2"), (4, json!({"id": "b", "n": 5}))];
    for sink in [&sink, &open(&dynamo)] {
        assert_eq!(exceptions(&emit(sink, 0, &window).await.unwrap()), (vec![], vec![1, 2]));
        let found = counted(&dynamo).await;
        assert_eq!(found[&("a".to_owned(), MINUTE.to_owned())], totals("1", "1", "1", "1"));
    }
    // With what the item has, only the service sees it: it refuses what it does not keep.
    let emitted = emit(&sink, 0, &[with(5, "1e100")]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![0]), "{emitted:?}");
    assert_eq!(emit(&sink, 0, &[with(6, "3")]).await.unwrap(), Emitted::all());
    assert_eq!(counted(&dynamo).await[&("a".to_owned(), MINUTE.to_owned())], totals("2", "4", "1", "3"));
}

/// The sum that is refused shows only once what was counted before is left out of it.
#[tokio::test]
async fn records_behind_one_that_is_refused_beside_counted_ones_are_refused_too() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let with = |sequence: u64, text: &str| -> Sent {
        (sequence, serde_json::from_str(&format!(r#"{{"id": "a", "n": {text}}}"#)).unwrap())
    };
    let window = [with(1, "-1e38"), with(2, "1e38"), with(3, "1"), with(4, "2")];
    assert_eq!(emit(&sink, 0, &window[..1]).await.unwrap(), Emitted::all());
    assert_eq!(exceptions(&emit(&sink, 0, &window).await.unwrap()), (vec![], vec![2, 3]));
    assert_eq!(of_a(&dynamo).await[0], "2", "what is not refused is counted once");
}
