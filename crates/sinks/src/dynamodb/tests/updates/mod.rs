//! Changes of attributes: each made once, whatever is sent how often.

mod last;
mod parts;
mod refused;
mod story;
mod unreadable;

use std::collections::BTreeMap;
use std::time::Duration;

use kinesink_core::{Emitted, Emitter};
use serde_json::{Value, json};

use super::answers::exceptions;
use super::dynamo::{Dynamo, Fault};
use super::{Sample, config, emit, refusal, sink, stored};
use crate::dynamodb::{Changes, Deletion, DynamoDbConfig, DynamoDbEmitter, Guard, Order};

fn changing(dynamo: &Dynamo) -> DynamoDbConfig {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let changes = Changes { set: names(&["status"]), add: names(&["count", "sum"]), append: names(&["log"]) };
    DynamoDbConfig { changes: Some(changes), ..config(dynamo.client()) }
}

async fn item(dynamo: &Dynamo) -> Value {
    let mut item = stored(&dynamo.client()).await.remove("a").unwrap();
    item.as_object_mut().unwrap().remove("_position").unwrap();
    item
}

fn change(sequence: u64, json: Value) -> Sample<'static> {
    let mut json = json;
    json["id"] = "a".into();
    (sequence, "a", json)
}

#[tokio::test]
async fn a_record_changes_the_named_attributes_alone() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let first = change(1, json!({"status": "new", "count": 1, "sum": 0.1, "log": ["x"], "other": "not named"}));
    assert_eq!(emit(&sink, &[first]).await.unwrap(), Emitted::all());
    let item_of = |status: &str, count: &str, sum: &str, log: &[&str]| {
        let log: Vec<_> = log.iter().map(|text| json!({"S": text})).collect();
        json!({"id": {"S": "a"}, "status": {"S": status}, "count": {"N": count}, "sum": {"N": sum}, "log": {"L": log}})
    };
    assert_eq!(item(&dynamo).await, item_of("new", "1", "0.1", &["x"]));
    // Three in a request, the second of which has no status, and the third a text in place of a list.
    let calls = dynamo.calls("UpdateItem").len();
    let more = [
        change(2, json!({"status": "old", "count": 2, "sum": 0.2})),
        change(3, json!({"count": -4, "log": ["y", "z"]})),
        change(4, json!({"log": "w"})),
    ];
    assert_eq!(emit(&sink, &more).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await, item_of("old", "-1", "0.3", &["x", "y", "z", "w"]));
    assert_eq!(dynamo.calls("UpdateItem").len(), calls + 1);
}

/// The service takes an expression only as it would write it itself: no parentheses that are not needed.
#[tokio::test]
async fn updates_of_a_table_without_counts_and_deletes_were_refused() {
    for order in [Order::PartitionKey, Order::Version("v".into())] {
        let dynamo = Dynamo::new();
        let changes = Changes { set: vec!["status".into()], ..Changes::default() };
        let sink = sink(DynamoDbConfig { changes: Some(changes), order, ..config(dynamo.client()) }).await;
        Emitter::<bytes::Bytes>::check(&sink).await.unwrap();
        let window = [change(1, json!({"v": 1, "status": "one"})), change(2, json!({"v": 2, "status": "two"}))];
        assert_eq!(emit(&sink, &window).await.unwrap(), Emitted::all());
        assert_eq!(stored(&dynamo.client()).await["a"]["status"], json!({"S": "two"}));
    }
}

#[tokio::test]
async fn what_was_made_before_is_left_out_wherever_a_window_begins_and_ends() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let one = |sequence| change(sequence, json!({"count": 1, "log": [sequence]}));
    for window in [1..=4, 1..=4, 3..=6, 1..=9, 5..=7, 9..=10] {
        let samples: Vec<_> = window.map(one).collect();
        assert_eq!(emit(&sink, &samples).await.unwrap(), Emitted::all());
    }
    let log: Vec<_> = (1..=10).map(|n: u64| json!({"N": n.to_string()})).collect();
    assert_eq!((&item(&dynamo).await["count"], &item(&dynamo).await["log"]), (&json!({"N": "10"}), &json!({"L": log})));
}

#[tokio::test]
async fn what_a_version_that_came_late_had_set_depended_on_the_window() {
    for cut in [1, 2, 3] {
        let dynamo = Dynamo::new();
        let changes = Changes { set: vec!["status".into(), "extra".into()], ..Changes::default() };
        let mut config =
            DynamoDbConfig { changes: Some(changes), order: Order::Version("v".into()), ..config(dynamo.client()) };
        config.ttl = Some("expires".into());
        let keep = Duration::from_secs(1000);
        config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
        let sink = sink(config).await;
        let window = [
            change(1, json!({"v": 5, "status": "five"})),
            change(2, json!({"v": 3, "status": "three", "extra": "late"})),
            change(3, json!({"v": 4, "op": "D"})),
            change(4, json!({"v": 6, "status": "six"})),
        ];
        for part in window.chunks(cut) {
            assert_eq!(emit(&sink, part).await.unwrap(), Emitted::all());
        }
        let item = stored(&dynamo.client()).await.remove("a").unwrap();
        assert_eq!(item, json!({"id": {"S": "a"}, "v": {"N": "6"}, "status": {"S": "six"}}), "{cut}");
    }
}

#[tokio::test]
async fn a_change_without_an_expiry_took_that_of_its_item_away() {
    let dynamo = Dynamo::new();
    let mut config = changing(&dynamo);
    config.ttl = Some("expires".into());
    config.changes.as_mut().unwrap().set.push("expires".into());
    let keep = Duration::from_secs(1000);
    config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
    let sink = sink(config).await;
    for json in [json!({"count": 1, "expires": 2_000_000_000}), json!({"count": 1})] {
        let sequence = dynamo.calls("UpdateItem").len() as u64;
        assert_eq!(emit(&sink, &[change(sequence, json)]).await.unwrap(), Emitted::all());
        assert_eq!(item(&dynamo).await["expires"], json!({"N": "2000000000"}));
    }
}

#[tokio::test]
async fn sums_that_no_table_keeps_are_not_made_here() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    // Each fits, and their sum has 39 digits: DynamoDB itself says what becomes of that.
    let samples = [change(1, json!({"sum": 1e38})), change(2, json!({"sum": 1}))];
    let before = dynamo.calls("UpdateItem").len();
    let emitted = emit(&sink, &samples).await.unwrap();
    // One of each, and one that notes the second.
    assert_eq!((exceptions(&emitted), dynamo.calls("UpdateItem").len() - before), ((vec![], vec![1]), 3));
    assert_eq!(refusal(&sink, json!({"id": "a", "count": "1"})).await, "its field count, which is added up, is text");
}

#[tokio::test]
async fn a_delete_among_changes_takes_those_before_it_along() {
    let dynamo = Dynamo::new();
    let mut config = changing(&dynamo);
    config.ttl = Some("expires".into());
    let keep = Duration::from_secs(1000);
    config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
    let sink = sink(config).await;
    let one = |sequence| change(sequence, json!({"count": 1}));
    let delete = |sequence| change(sequence, json!({"op": "D"}));
    assert_eq!(emit(&sink, &[one(1), one(2), delete(3)]).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await["_deleted"], json!({"BOOL": true}));
    assert_eq!(emit(&sink, &[one(2), delete(3), one(4), one(5)]).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await, json!({"id": {"S": "a"}, "count": {"N": "2"}}), "it does not expire any more");
}

#[tokio::test(start_paused = true)]
async fn no_more_units_are_taken_than_the_sink_may() {
    let dynamo = Dynamo::new();
    let sink = sink(DynamoDbConfig { write_units: Some(2), ..changing(&dynamo) }).await;
    let start = tokio::time::Instant::now();
    // An item of more than 3 KB, which takes four units: what an update of it takes, only the service knows.
    let large = change(1, json!({"status": "x".repeat(3000)}));
    assert_eq!(emit(&sink, &[large]).await.unwrap(), Emitted::all());
    for sequence in 2..=4 {
        assert_eq!(emit(&sink, &[change(sequence, json!({"count": 1}))]).await.unwrap(), Emitted::all());
    }
    // Two were there, and ten came since, when the last is sent.
    let wait = start.elapsed().as_secs_f64();
    assert!((4.9..5.1).contains(&wait), "{wait} s until the fourth of four updates");
}

#[tokio::test]
async fn a_service_that_does_not_say_what_is_there_lost_the_changes_behind_a_delete() {
    let dynamo = Dynamo::new();
    let mut config = changing(&dynamo);
    config.ttl = Some("expires".into());
    let keep = Duration::from_secs(1000);
    config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
    let sink = sink(config).await;
    let (delete, one) = (change(3, json!({"op": "D"})), change(4, json!({"count": 1})));
    let silent = || Fault::Answer("ConditionalCheckFailedException", "The conditional request failed");
    dynamo.fail("PutItem", silent());
    assert_eq!(emit(&sink, &[delete, one]).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await["count"], json!({"N": "1"}));
    // How much of a sum was made cannot be guessed.
    dynamo.fail("UpdateItem", silent());
    let failure = emit(&sink, &[change(5, json!({"count": 1}))]).await.unwrap_err();
    assert!(failure.message.contains("does not say what is there"), "{failure}");
}

#[test]
fn changes_that_cannot_be_guarded_are_refused() {
    let dynamo = Dynamo::new();
    let refused = |config| DynamoDbEmitter::open(config).unwrap_err().to_string();
    assert!(refused(DynamoDbConfig { guard: Guard::Never, ..changing(&dynamo) }).contains("are always guarded"));
    let by_version = DynamoDbConfig { order: Order::Version("v".into()), ..changing(&dynamo) };
    assert!(refused(by_version).contains("leave `ordered_by` out"));
    let mut key = changing(&dynamo);
    key.changes.as_mut().unwrap().set.push("id".into());
    assert!(refused(key).contains("`id` is not changed by records"));
    let mut twice = changing(&dynamo);
    twice.changes.as_mut().unwrap().set.push("count".into());
    assert!(refused(twice).contains("stands once"));
}

/// The same at every run (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Count, log and status of each key, by a replay of its records one after the other.
fn replayed(records: &[(u64, String, Value)]) -> BTreeMap<String, (i64, Vec<u64>, Option<u64>)> {
    let mut state = BTreeMap::<String, (i64, Vec<u64>, Option<u64>)>::new();
    for (n, key, json) in records {
        if json["op"] == "D" {
            state.remove(key);
            continue;
        }
        let (count, log, status) = state.entry(key.clone()).or_default();
        *count += json["count"].as_i64().unwrap();
        log.push(*n);
        *status = json["status"].as_u64().or(*status);
    }
    state
}

/// Windows that begin anew anywhere before where the last ended, requests that are cut, throttled, or whose answers are lost.
#[tokio::test]
async fn each_change_is_made_once_for_every_seed() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let dynamo = Dynamo::new();
        let mut config = changing(&dynamo);
        config.ttl = Some("expires".into());
        let keep = Duration::from_secs(1000);
        config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
        let sink = sink(config).await;
        let records: Vec<(u64, String, Value)> = (1..=60)
            .map(|n| {
                let key = format!("k{}", random.below(4));
                let op = if random.below(8) == 0 { "D" } else { "U" };
                let mut json = json!({ "id": key, "op": op, "count": random.below(9) as i64 - 4, "log": [n] });
                if random.below(2) == 0 {
                    json["status"] = n.into();
                }
                (n, key, json)
            })
            .collect();
        let (mut end, mut windows) = (0, 0);
        while end < records.len() {
            windows += 1;
            let fault = match random.below(5) {
                0 => Some(Fault::Cut),
                1 => Some(Fault::LoseAnswer),
                2 => Some(Fault::Answer("ThrottlingException", "slow")),
                _ => None,
            };
            if let Some(fault) = fault {
                dynamo.fail(if random.below(3) == 0 { "PutItem" } else { "UpdateItem" }, fault);
            }
            let from = end - usize::try_from(random.below(12)).unwrap().min(end);
            let to = records.len().min(from + 1 + usize::try_from(random.below(20)).unwrap());
            let samples: Vec<Sample<'_>> =
                records[from..to].iter().map(|(n, key, json)| (*n, key.as_str(), json.clone())).collect();
            // A window counts once all of it is durable.
            let done = emit(&sink, &samples).await.is_ok_and(|emitted| emitted == Emitted::all());
            end = if done { end.max(to) } else { end };
            assert!(windows < 1_000, "seed {seed}: no end");
        }
        let mut found = BTreeMap::new();
        for (key, item) in stored(&dynamo.client()).await {
            if item.get("_deleted").is_none() {
                let number = |value: &Value| value["N"].as_str().unwrap().parse::<i64>().unwrap();
                let log =
                    item["log"]["L"].as_array().unwrap().iter().map(|n| u64::try_from(number(n)).unwrap()).collect();
                let status = item.get("status").map(|status| u64::try_from(number(status)).unwrap());
                found.insert(key, (number(&item["count"]), log, status));
            }
        }
        assert_eq!(found, replayed(&records), "seed {seed}");
    }
}
