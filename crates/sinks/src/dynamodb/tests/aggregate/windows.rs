//! Windows of time, and keys.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_core::{Emitted, Emitter, Fingerprint};
use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::super::{TABLE, config, field, sample};
use super::{ARRIVAL, MINUTE, Sent, counted, counting, emit, number, of_a, open, scan, sink, totals};
use crate::dynamodb::{Aggregate, DynamoDbConfig, DynamoDbEmitter, FieldType, KeyAttribute, KeySource};

#[tokio::test]
async fn a_record_counts_in_the_window_of_its_own_time_or_else_of_its_arrival() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let at = |n: u64, ts: Value| (n, json!({"id": "a", "n": n, "ts": ts}));
    let window = [
        at(1, json!("2026-01-31T12:00:00Z")),
        at(2, json!("2026-01-31T13:00:59.999999999+01:00")),
        at(3, json!("2026-01-31T12:01:00Z")),
        at(4, json!("1969-12-31T23:59:59.5Z")),
        at(5, json!("yesterday")),
        at(6, json!({})),
        at(7, Value::Null),
        (8, number(8)),
    ];
    assert_eq!(emit(&sink, 0, &window).await.unwrap(), Emitted::all());
    let expected = [
        ("2026-01-31T12:00:00Z", totals("2", "3", "1", "2")),
        ("2026-01-31T12:01:00Z", totals("1", "3", "3", "3")),
        ("1969-12-31T23:59:00Z", totals("1", "4", "4", "4")),
        (MINUTE, totals("4", "26", "5", "8")),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(minute, totals)| (("a".to_owned(), minute.to_owned()), totals)).collect();
    assert_eq!(counted(&dynamo).await, expected);
}

#[tokio::test]
async fn a_field_that_is_missing_or_null_adds_to_nothing_but_the_count() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let window = [(1, json!({"id": "a"})), (2, json!({"id": "a", "n": null})), (3, number(7)), (4, json!({"id": "b"}))];
    assert_eq!(emit(&sink, 0, &window).await.unwrap(), Emitted::all());
    let mut found = scan(&dynamo.client(), TABLE).await;
    found.sort();
    let item = |fields: &[(&str, &str)]| -> BTreeMap<String, String> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let a = item(&[("id", "a"), ("minute", MINUTE), ("count", "3"), ("sum", "7"), ("least", "7"), ("most", "7")]);
    assert_eq!(found, [item(&[("id", "b"), ("minute", MINUTE), ("count", "1")]), a]);
    // Without a count, a record without numbers asks for nothing.
    let mut config = counting(dynamo.client());
    config.aggregate.as_mut().unwrap().count = None;
    let calls = dynamo.calls("TransactWriteItems").len();
    let sink = DynamoDbEmitter::open(config).unwrap();
    assert_eq!(emit(&sink, 0, &[(5, json!({"id": "c"}))]).await.unwrap(), Emitted::all());
    assert_eq!(dynamo.calls("TransactWriteItems").len(), calls);
}

#[tokio::test]
async fn sums_are_exact_and_in_any_order_the_same() {
    let numbers = ["0.1", "0.2", "1e18", "-7.000000000000000003", "99999999999999999", "-1e18", "2e-17"];
    let mut found = Vec::new();
    for start in 0..numbers.len() {
        let dynamo = Dynamo::new();
        let mut config = counting(dynamo.client());
        config.types = [(".n".parse().unwrap(), FieldType::Number)].into();
        let sink = super::super::sink(config).await;
        for n in 0..numbers.len() {
            let json = json!({"id": "a", "n": numbers[(start + n) % numbers.len()]});
            assert_eq!(emit(&sink, 0, &[(n as u64, json)]).await.unwrap(), Emitted::all());
        }
        found.push(of_a(&dynamo).await);
    }
    let expected = totals("7", "99999999999999992.300000000000000017", "-1000000000000000000", "1000000000000000000");
    assert!(found.iter().all(|found| *found == expected), "{found:?}");
}

#[tokio::test]
async fn a_time_window_is_a_number_where_the_table_has_one_and_its_item_expires_after_it() {
    let dynamo = Dynamo::new();
    let mut config = counting(dynamo.client());
    let key_type = Some(ScalarAttributeType::N);
    config.key[1] = KeyAttribute { name: "minute".into(), source: KeySource::Window, key_type };
    (config.ttl, config.expire_after) = (Some("expires".into()), Some(Duration::from_secs(1000)));
    let sink = super::super::sink(config).await;
    assert_eq!(emit(&sink, 0, &[(1, number(1)), (2, number(2))]).await.unwrap(), Emitted::all());
    let item = scan(&dynamo.client(), TABLE).await.remove(0);
    let start = ARRIVAL - 20;
    assert_eq!((item["minute"].clone(), item["expires"].clone()), (start.to_string(), (start + 60 + 1000).to_string()));
}

#[tokio::test]
async fn what_is_left_of_a_window_that_others_count_in_part_is_counted() {
    let dynamo = Dynamo::new();
    let config = counting(dynamo.client());
    let metrics = config.metrics.clone();
    let sink = super::super::sink(config).await;
    let passed_over = || sample(&metrics, "table_records_passed_over_total{table=\"items\"}");
    let window: Vec<Sent> = (1..=6).map(|n| (n, number(n))).collect();
    assert_eq!(emit(&open(&dynamo), 0, &window[..2]).await.unwrap(), Emitted::all());
    assert_eq!(passed_over(), None);
    assert_eq!(emit(&sink, 0, &window[1..]).await.unwrap(), Emitted::all());
    assert_eq!(of_a(&dynamo).await, totals("6", "21", "1", "6"));
    assert_eq!(passed_over().as_deref(), Some("1"), "it is told of what it passes over");
    assert_eq!(emit(&sink, 0, &window[3..]).await.unwrap(), Emitted::all());
    assert_eq!(passed_over().as_deref(), Some("4"));
}

#[tokio::test]
async fn a_record_was_passed_over_again_in_each_pass_that_others_counted_a_part_in() {
    let dynamo = Dynamo::new();
    let config = counting(dynamo.client());
    let metrics = config.metrics.clone();
    let slow = super::super::sink(config).await;
    let window: Vec<Sent> = (1..=6).map(|n| (n, number(n))).collect();
    assert_eq!(emit(&open(&dynamo), 0, &window[..2]).await.unwrap(), Emitted::all());
    let elsewhere = Dynamo::new();
    let mut without_extremes = counting(elsewhere.client());
    without_extremes.aggregate = without_extremes.aggregate.map(|aggregate| Aggregate {
        min: BTreeMap::new(),
        max: BTreeMap::new(),
        ..aggregate
    });
    let other = super::super::sink(without_extremes).await;
    assert_eq!(emit(&other, 0, &window[2..4]).await.unwrap(), Emitted::all());
    dynamo.fail("TransactWriteItems", Fault::None);
    dynamo.fail("TransactWriteItems", Fault::After(elsewhere.calls("TransactWriteItems").remove(0)));
    assert_eq!(emit(&slow, 0, &window[1..]).await.unwrap(), Emitted::all());
    assert_eq!((of_a(&dynamo).await, dynamo.faults_left()), (totals("6", "21", "1", "6"), 0));
    let passed_over = sample(&metrics, "table_records_passed_over_total{table=\"items\"}");
    assert_eq!(passed_over.as_deref(), Some("3"), "the second, in the first pass, and two in the next");
}

#[tokio::test]
async fn a_dead_letter_counts_once_whatever_was_counted_since_and_however_often_it_is_sent_again() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    assert_eq!(emit(&sink, 0, &[(5, number(5)), (9, number(9))]).await.unwrap(), Emitted::all());
    let replaying = || DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..counting(dynamo.client()) }).unwrap();
    let (replay, another) = (replaying(), replaying());
    let letters = [(4, number(4)), (6, number(6)), (7, json!({"id": "a", "n": "seven"})), (10, number(10))];
    // Of the first, which is no highest number.
    dynamo.fail("TransactWriteItems", Fault::None);
    dynamo.fail("TransactWriteItems", Fault::LoseAnswer);
    assert_eq!(exceptions(&emit(&replay, 0, &letters).await.unwrap()), (vec![0], vec![2]));
    let expected = totals("5", "34", "4", "10");
    assert_eq!(of_a(&dynamo).await, expected);
    for sink in [&replay, &another] {
        assert_eq!(exceptions(&emit(sink, 0, &letters).await.unwrap()), (vec![], vec![2]), "others do not go along");
        assert_eq!(emit(sink, 0, &letters[1..2]).await.unwrap(), Emitted::all());
    }
    assert_eq!(of_a(&dynamo).await, expected);
    // One that the service refuses takes no other along either, and counts once it does not.
    let two = [(11, number(11)), (12, number(12))];
    dynamo.fail("TransactWriteItems", Fault::Cancel([("ValidationError", "Number overflow"), ("None", "")]));
    assert_eq!(exceptions(&emit(&replay, 0, &two).await.unwrap()), (vec![], vec![0]));
    assert_eq!(emit(&another, 0, &two).await.unwrap(), Emitted::all());
    assert_eq!(of_a(&dynamo).await, totals("7", "57", "4", "12"));
    // And what is read from the stream meanwhile counts as ever.
    assert_eq!(emit(&sink, 0, &[(13, number(13))]).await.unwrap(), Emitted::all());
    assert_eq!(of_a(&dynamo).await, totals("8", "70", "4", "13"));
}

#[test]
fn windows_of_counted_records_are_announced_with_what_decides_their_items() {
    let dynamo = Dynamo::new();
    let digest = |change: &dyn Fn(&mut DynamoDbConfig)| {
        let mut config = counting(dynamo.client());
        change(&mut config);
        let mut content = Fingerprint::new();
        assert!(Emitter::<Bytes>::plan(&DynamoDbEmitter::open(config).unwrap(), &mut content));
        content.finish()
    };
    let usual = digest(&|_| {});
    assert_eq!(digest(&|_| {}), usual);
    let changes: [&dyn Fn(&mut DynamoDbConfig); 7] = [
        &|config| config.table = "others".into(),
        &|config| config.key[0] = field("id", ".other"),
        &|config| config.aggregate.as_mut().unwrap().window = Duration::from_secs(1),
        &|config| drop(config.aggregate.as_mut().unwrap().sum.insert("more".into(), ".n".parse().unwrap())),
        &|config| config.aggregate.as_mut().unwrap().event_time = None,
        &|config| config.types = [(".n".parse().unwrap(), FieldType::Number)].into(),
        &|config| {
            let aggregate = config.aggregate.as_mut().unwrap();
            aggregate.max.append(&mut aggregate.min);
        },
    ];
    for change in changes {
        assert_ne!(digest(change), usual);
    }
    let puts = DynamoDbEmitter::open(config(dynamo.client())).unwrap();
    assert!(!Emitter::<Bytes>::plan(&puts, &mut Fingerprint::new()), "puts are told apart one by one");
}
