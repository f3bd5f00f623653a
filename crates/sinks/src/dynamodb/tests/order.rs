//! Which write stays.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::dynamodb::types::{AttributeValue, ScalarAttributeType};
use kinesink_core::testkit::ManualClock;
use kinesink_core::{Class, Clock, Emitted, Exception};
use serde_json::{Value, json};

use super::answers::exceptions;
use super::dynamo::Dynamo;
use super::{Sample, TABLE, config, emit, emit_items, field, items, refusal, sink, stored};
use crate::dynamodb::{Deletion, DynamoDbConfig, DynamoDbEmitter, Guard, KeySource, Order};

async fn value(dynamo: &Dynamo, id: &str) -> Option<Value> {
    stored(&dynamo.client()).await.get(id).and_then(|item| item.get("v").cloned())
}

fn put(sequence: u64, value: &str) -> Sample<'_> {
    (sequence, "a", json!({ "id": "a", "v": value }))
}

#[tokio::test]
async fn a_write_that_comes_late_or_again_changes_nothing() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    assert_eq!(emit(&sink, &[put(9, "nine")]).await.unwrap(), Emitted::all());
    // 10 is after 9, which as text it is not.
    assert_eq!(emit(&sink, &[put(10, "ten")]).await.unwrap(), Emitted::all());
    for late in [&[put(9, "nine")][..], &[put(10, "ten")], &[put(3, "three"), put(4, "four")]] {
        assert_eq!(emit(&sink, late).await.unwrap(), Emitted::all(), "it is delivered: a later write is there");
        assert_eq!(value(&dynamo, "a").await, Some(json!({"S": "ten"})));
    }
}

#[tokio::test]
async fn of_a_batch_the_last_write_of_each_key_is_sent() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let b = |sequence, value: &'static str| (sequence, "b", json!({ "id": "b", "v": value }));
    let samples = [put(1, "one"), b(2, "two"), put(3, "three"), put(4, "four"), b(5, "five")];
    assert_eq!(emit(&sink, &samples).await.unwrap(), Emitted::all());
    assert_eq!(dynamo.calls("PutItem").len(), 2);
    assert_eq!(value(&dynamo, "a").await, Some(json!({"S": "four"})));
    assert_eq!(value(&dynamo, "b").await, Some(json!({"S": "five"})));
}

#[tokio::test]
async fn outputs_of_one_record_are_in_their_order() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let mut outputs = items(&[put(1, "first"), put(1, "second")]);
    outputs[1].ordinal = 1;
    assert_eq!(emit_items(&sink, &outputs[1..]).await.unwrap(), Emitted::all());
    assert_eq!(emit_items(&sink, &outputs[..1]).await.unwrap(), Emitted::all());
    assert_eq!(value(&dynamo, "a").await, Some(json!({"S": "second"})));
}

fn deleting(dynamo: &Dynamo) -> DynamoDbConfig {
    let mut config = config(dynamo.client());
    config.ttl = Some("expires".into());
    let keep = Duration::from_secs(1000);
    config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
    config
}

fn delete(sequence: u64) -> Sample<'static> {
    (sequence, "a", json!({ "id": "a", "op": "D", "v": "gone" }))
}

#[tokio::test]
async fn a_put_that_is_older_than_a_delete_does_not_bring_the_item_back() {
    let dynamo = Dynamo::new();
    let sink = sink(deleting(&dynamo)).await;
    for (samples, left) in [
        (vec![put(1, "one")], Some(json!({"S": "one"}))),
        (vec![delete(3)], None),
        (vec![put(2, "two")], None),
        (vec![put(5, "five"), delete(6)], None),
        (vec![delete(7), put(8, "eight")], Some(json!({"S": "eight"}))),
    ] {
        assert_eq!(emit(&sink, &samples).await.unwrap(), Emitted::all());
        let item = stored(&dynamo.client()).await.remove("a").unwrap();
        assert_eq!(item.get("v"), left.as_ref());
        let mark = left.is_none().then(|| (json!({"BOOL": true}), json!({"N": "1700001000"})));
        assert_eq!(item.get("_deleted").cloned().zip(item.get("expires").cloned()), mark);
    }
    let unmarked = DynamoDbConfig { ttl: None, ..deleting(&dynamo) };
    let error = DynamoDbEmitter::open(unmarked).unwrap_err().to_string();
    assert!(error.contains("a guarded delete leaves a mark") && error.contains("set `ttl`"), "{error}");
}

#[tokio::test]
async fn a_new_table_expires_items_and_an_item_says_when() {
    let dynamo = Dynamo::new();
    let mut config = deleting(&dynamo);
    config.expire_after = Some(Duration::from_secs(60));
    let timed = sink(config.clone()).await;
    assert_eq!(emit(&timed, &[put(1, "one")]).await.unwrap(), Emitted::all());
    assert_eq!(stored(&dynamo.client()).await["a"]["expires"], json!({"N": "1700000060"}));
    let reply = dynamo.client().describe_time_to_live().table_name(TABLE).send().await.unwrap();
    assert_eq!(reply.time_to_live_description().unwrap().attribute_name(), Some("expires"));

    // By its own field.
    (config.table, config.expire_after) = ("own".into(), None);
    let sink = sink(config).await;
    let why = refusal(&sink, json!({"id": "a", "expires": "2026-01-01"})).await;
    assert_eq!(why, "its field expires, by which the table expires items, is text, not seconds since 1970");
    for (expires, why) in [
        (
            json!(1_800_000_000_123_i64),
            "is after the year 5000: if it is in milliseconds, divide it by 1000 in the transform",
        ),
        (json!(1e30), "is after the year 5000"),
        (json!(1_800_000_000.5), "is no whole number of seconds since 1970: round it in the transform"),
        (json!(-5), "is before 1970: give it the seconds since then in the transform, or leave it out"),
        (json!(-0.5), "is before 1970"),
    ] {
        let refused = refusal(&sink, json!({"id": "a", "expires": expires})).await;
        assert!(refused.contains(why), "{refused}");
    }
    for expires in [json!(1_800_000_000), json!(1.8e9), json!(100_000_000_000_u64), Value::Null] {
        let emitted = emit(&sink, &[(3, "a", json!({"id": "a", "expires": expires}))]).await.unwrap();
        assert_eq!(emitted, Emitted::all(), "{expires}");
    }
}

#[tokio::test]
async fn without_guards_a_delete_removes_the_item_and_the_last_request_wins() {
    let dynamo = Dynamo::new();
    let sink = sink(DynamoDbConfig { guard: Guard::Never, ttl: None, ..deleting(&dynamo) }).await;
    assert_eq!(emit(&sink, &[put(5, "five")]).await.unwrap(), Emitted::all());
    assert_eq!(emit(&sink, &[put(4, "four")]).await.unwrap(), Emitted::all());
    assert_eq!(stored(&dynamo.client()).await["a"], json!({"id": {"S": "a"}, "v": {"S": "four"}}));
    assert_eq!(emit(&sink, &[put(6, "six"), delete(7)]).await.unwrap(), Emitted::all());
    assert!(stored(&dynamo.client()).await.is_empty());
    assert_eq!((dynamo.calls("BatchWriteItem").len(), dynamo.calls("PutItem").len()), (3, 0));
}

#[tokio::test]
async fn what_arrived_before_a_shard_was_taken_is_guarded_and_the_rest_goes_in_batches() {
    let dynamo = Dynamo::new();
    let clock = ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let config = DynamoDbConfig { guard: Guard::Takeover, clock: Arc::clone(&clock), ..deleting(&dynamo) };
    let sink = sink(config.clone()).await;
    let calls = || (dynamo.calls("PutItem").len(), dynamo.calls("BatchWriteItem").len());
    let window = async |sink: &DynamoDbEmitter, sample: Sample<'_>, seconds: i64| {
        let mut items = items(&[sample]);
        items[0].record.arrival = Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        assert_eq!(emit_items(sink, &items).await.unwrap(), Emitted::all());
    };
    window(&sink, put(5, "five"), 0).await;
    window(&sink, put(6, "six"), 60).await;
    assert_eq!(calls(), (2, 0), "it arrived before, or a minute after");
    window(&sink, put(7, "seven"), 61).await;
    window(&sink, put(7, "seven"), 61).await;
    assert_eq!(calls(), (2, 2), "an attempt at the same window changes nothing");
    window(&sink, delete(8), 62).await;
    assert_eq!(stored(&dynamo.client()).await["a"]["_deleted"], json!({"BOOL": true}), "a later guard needs the mark");

    // The next owner reads from the last checkpoint.
    let next = DynamoDbEmitter::open(config).unwrap();
    window(&next, put(7, "seven"), 60).await;
    assert_eq!((calls(), value(&dynamo, "a").await), ((3, 3), None));
    // And so does this one, if it gets the shard back.
    window(&sink, put(6, "six"), 60).await;
    assert_eq!((calls(), value(&dynamo, "a").await), ((4, 3), None));
}

#[tokio::test]
async fn a_version_decides_whatever_the_order_of_the_stream() {
    let dynamo = Dynamo::new();
    let mut config = config(dynamo.client());
    config.order = Order::Version("n".into());
    let sink = sink(config).await;
    let put = |sequence, n: Value| (sequence, "another key", json!({ "id": "a", "n": n, "v": n }));
    assert_eq!(emit(&sink, &[put(1, json!(2)), put(2, json!(10)), put(3, json!(9))]).await.unwrap(), Emitted::all());
    assert_eq!(value(&dynamo, "a").await, Some(json!({"N": "10"})));
    assert_eq!(emit(&sink, &[put(4, json!(9.5))]).await.unwrap(), Emitted::all());
    assert_eq!(value(&dynamo, "a").await, Some(json!({"N": "10"})));
    assert_eq!(emit(&sink, &[put(5, json!(10.25))]).await.unwrap(), Emitted::all());
    assert_eq!(value(&dynamo, "a").await, Some(json!({"N": "10.25"})));
    assert_eq!(refusal(&sink, json!({"id": "a", "n": "11"})).await, "its version .n is text, not a number");
    assert_eq!(refusal(&sink, json!({"id": "a"})).await, "it has no version .n, by which writes are ordered");
}

#[tokio::test]
async fn a_partition_key_that_is_no_part_of_the_items_key_is_refused() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let emitted = emit(&sink, &[(1, "b", json!({"id": "a"})), (2, "a", json!({"id": "a"}))]).await.unwrap();
    let said = format!("{:?}", emitted.exceptions());
    assert!(said.starts_with("[(0, ") && said.contains("name a field with a version in `ordered_by`"), "{said}");

    let mut unordered = items(&[put(3, "three")]);
    unordered[0].record.partition_key = None;
    let failure = emit_items(&sink, &unordered).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    assert!(failure.message.contains("the stream distributes its records by itself"), "{failure}");
}

#[tokio::test]
async fn a_record_without_the_key_that_its_items_are_made_of_had_been_a_dead_letter_as_the_whole_stream_was() {
    let dynamo = Dynamo::new();
    let mut config = config(dynamo.client());
    config.key[0].source = KeySource::PartitionKey;
    let mut unordered = items(&[put(3, "three")]);
    unordered[0].record.partition_key = None;
    let failure = emit_items(&sink(config.clone()).await, &unordered).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    assert!(failure.message.contains("the stream distributes its records by itself"), "{failure}");

    // By a version, it lacks nothing but its key.
    config.order = Order::Version("v".into());
    let emitted = emit_items(&DynamoDbEmitter::open(config).unwrap(), &unordered).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![0]));
}

/// A table of `id` and `order`.
fn composite(dynamo: &Dynamo) -> DynamoDbConfig {
    DynamoDbConfig { key: vec![field("id", ".id"), field("order", ".order")], ..config(dynamo.client()) }
}

/// Of an item whose key is `c` and `o`.
fn put_by(sequence: u64, partition_key: &str) -> Sample<'_> {
    (sequence, partition_key, json!({ "id": "c", "order": "o" }))
}

fn why(emitted: &Emitted) -> Vec<(usize, String)> {
    let why = |(index, exception): &(usize, Exception)| match exception {
        Exception::Rejected(why) => (*index, why.to_string()),
        other => panic!("{other:?}"),
    };
    emitted.exceptions().iter().map(why).collect()
}

#[tokio::test]
async fn one_stray_record_first_condemned_all_that_were_put_right() {
    let dynamo = Dynamo::new();
    let sink = sink(composite(&dynamo)).await;
    let both = (5, "same", json!({ "id": "same", "order": "same" }));
    let first = emit(&sink, &[put_by(1, "o")]).await.unwrap();
    let emitted =
        emit(&sink, &[put_by(2, "c"), put_by(3, "o"), put_by(4, "neither"), both, put_by(6, "c")]).await.unwrap();
    let stray = "its partition key is `order` of its item's key in table items, and not `id`, so that the stream does not order the \
                 item's writes: where all records are put by `order`, write `partition_key = \"order\"`; else put them by `id`, or \
                 name a field with a version in `ordered_by`";
    let neither = "its partition key is not `id` of its item's key in table items, so that the stream does not order the item's \
                   writes: put records by `id`, or, where all are put by `order`, write `partition_key = \"order\"`, or name a \
                   field with a version in `ordered_by`";
    assert_eq!(why(&first), [(0, stray.into())]);
    assert_eq!(why(&emitted), [(1, stray.into()), (2, neither.into())]);
}

#[tokio::test]
async fn a_replay_of_a_stray_record_put_it_over_the_state() {
    let dynamo = Dynamo::new();
    let running = sink(composite(&dynamo)).await;
    assert_eq!(emit(&running, &[put_by(1, "c")]).await.unwrap(), Emitted::all());
    let before = stored(&dynamo.client()).await;
    let replay = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..composite(&dynamo) }).unwrap();
    assert_eq!(exceptions(&emit(&replay, &[put_by(2, "o")]).await.unwrap()), (vec![], vec![0]));
    assert_eq!(stored(&dynamo.client()).await, before);
}

#[tokio::test]
async fn the_part_of_the_key_that_is_the_records_partition_key_is_what_the_settings_say() {
    let fields = || vec![field("id", ".id"), field("order", ".order")];
    let with = |place: usize, source| {
        let mut key = fields();
        key[place].source = source;
        key
    };
    for (key, named, refused) in [
        (fields(), None, [1, 2]),
        (fields(), Some("id"), [1, 2]),
        (fields(), Some("order"), [0, 2]),
        // It is one however the record was put.
        (with(1, KeySource::PartitionKey), None, [3, 3]),
        (with(1, KeySource::PartitionKey), Some("order"), [3, 3]),
        // No record is put by its shard.
        (with(0, KeySource::Shard), None, [0, 2]),
    ] {
        let dynamo = Dynamo::new();
        let sink = sink(DynamoDbConfig { key, partition_key: named.map(Into::into), ..config(dynamo.client()) }).await;
        let emitted = emit(&sink, &[put_by(1, "c"), put_by(2, "o"), put_by(3, "neither")]).await.unwrap();
        let expected: Vec<_> = refused.into_iter().filter(|index| *index < 3).collect();
        assert_eq!(exceptions(&emitted), (vec![], expected), "{named:?} {:?}", sink.config.key);
    }
}

#[tokio::test]
async fn a_remedy_that_would_be_refused_is_not_named() {
    let dynamo = Dynamo::new();
    let mut config = composite(&dynamo);
    (config.key[1].source, config.key[1].key_type) = (KeySource::PartitionKey, Some(ScalarAttributeType::N));
    let emitted = emit(&sink(config).await, &[(1, "07", json!({ "id": "07" }))]).await.unwrap();
    let [(0, said)] = &why(&emitted)[..] else { panic!("{emitted:?}") };
    assert!(said.starts_with("its partition key is not `order`") && !said.contains("partition_key ="), "{said}");
}

#[tokio::test]
async fn texts_of_one_number_are_partition_keys_whose_records_have_no_order() {
    let dynamo = Dynamo::new();
    let mut config = config(dynamo.client());
    config.key[0].key_type = Some(ScalarAttributeType::N);
    let sink = sink(config).await;
    let put = |sequence, key: &'static str| (sequence, key, json!({ "id": 7 }));
    let emitted = emit(&sink, &[put(1, "7"), put(2, "07"), put(3, "7.0"), put(4, "7")]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![1, 2]));
}

#[tokio::test]
async fn a_mark_of_a_worker_far_behind_had_expired_before_it_was_made() {
    let dynamo = Dynamo::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_700_005_000).unwrap()));
    let sink = sink(DynamoDbConfig { clock, ..deleting(&dynamo) }).await;
    assert_eq!(emit(&sink, &[delete(3)]).await.unwrap(), Emitted::all());
    assert_eq!(stored(&dynamo.client()).await["a"]["expires"], json!({"N": "1700006000"}));
}

#[tokio::test]
async fn an_item_of_another_program_is_not_taken_for_a_later_write() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let foreign = dynamo.client().put_item().table_name(TABLE).item("id", AttributeValue::S("a".into()));
    foreign.item("_position", AttributeValue::N("7".into())).send().await.unwrap();
    let why = refusal(&sink, json!({"id": "a"})).await;
    assert!(why.contains("attribute `_position` of another kind") && why.contains("another program"), "{why}");
    // Nor is that asked for each of its records.
    let before = dynamo.calls("PutItem").len();
    let emitted = emit(&sink, &[put(1, "one"), put(2, "two"), put(3, "three")]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![0, 1, 2]));
    assert_eq!(dynamo.calls("PutItem").len(), before + 1);
}

#[tokio::test]
async fn a_replay_says_what_was_overtaken() {
    let dynamo = Dynamo::new();
    let running = sink(config(dynamo.client())).await;
    assert_eq!(emit(&running, &[put(5, "five")]).await.unwrap(), Emitted::all());
    let replay = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..config(dynamo.client()) }).unwrap();
    let why = refusal(&replay, json!({"id": "a"})).await;
    assert_eq!(why, "overtaken: the item in table items has a later write");
    assert_eq!(emit(&replay, &[put(5, "five")]).await.unwrap(), Emitted::all(), "it is there");
    assert_eq!(emit(&replay, &[put(6, "six")]).await.unwrap(), Emitted::all());
    assert_eq!(value(&dynamo, "a").await, Some(json!({"S": "six"})));
}

/// A record that is refused, or read to see which item it changes, takes memory as one that is sent does.
#[tokio::test]
async fn a_large_record_was_read_without_waiting_for_memory() {
    let dynamo = Dynamo::new();
    let sink = sink(DynamoDbConfig { encoded_bytes_max: 256 * 1024, ..config(dynamo.client()) }).await;
    let memory = sink.encoding.reserve(200 * 1024).await;
    let samples = [(1, "a", json!({"pad": "x".repeat(100 * 1024)}))];
    let mut emitting = Box::pin(emit(&sink, &samples));
    assert!(futures::poll!(&mut emitting).is_pending(), "it has no key, which shows once it is read");
    drop(memory);
    assert_eq!(emitting.await.unwrap().exceptions().len(), 1);
    let memory = sink.encoding.reserve(200 * 1024).await;
    let small = [(1, "a", json!({"pad": "x"}))];
    assert!(futures::poll!(Box::pin(emit(&sink, &small))).is_ready());
    drop(memory);
}

#[tokio::test]
async fn each_refused_record_had_a_text_of_its_own_of_why() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let bad: Vec<_> = (1..=100).map(|n| (n, "a", json!({"n": n}))).collect();
    let emitted = emit(&sink, &bad).await.unwrap();
    let text_of = |(_, exception): &(usize, Exception)| match exception {
        Exception::Rejected(why) => why.reason().as_ptr(),
        other => panic!("{other:?}"),
    };
    let texts: HashSet<_> = emitted.exceptions().iter().map(text_of).collect();
    assert_eq!((emitted.exceptions().len(), texts.len()), (100, 1));
}
