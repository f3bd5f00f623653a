//! Windows that memory does not hold, which come in parts.

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Batch, Class, Emitted};
use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::super::{Sample, emit, emit_part, items, shard, sink, stored};
use super::{change, changing, item};
use crate::dynamodb::write::Rank;
use crate::dynamodb::{Changes, DynamoDbConfig, DynamoDbEmitter, FieldType};

/// Its records are those of 1,001 to 1,600, of which a program that is not mended cannot read two of three.
fn window(is_mended: bool) -> Vec<Sample<'static>> {
    let count = |n: u64| if n.is_multiple_of(3) || is_mended { json!(1) } else { json!("1") };
    (1_001..=1_600).map(|n| change(n, json!({ "count": count(n) }))).collect()
}

/// Sends it in parts of so many records. Indexes of those that are refused.
async fn in_parts(sink: &DynamoDbEmitter, window: &[Sample<'_>], records: usize) -> Vec<usize> {
    let (all, mut refused) = (items(window), Vec::new());
    for (part, from) in all.chunks(records).zip((0..).step_by(records)) {
        let (again, of_part) = exceptions(&emit_part(sink, &all, part).await.unwrap());
        assert_eq!(again, [0; 0]);
        refused.extend(of_part.into_iter().map(|index| index + from));
    }
    refused
}

async fn notes(dynamo: &Dynamo) -> usize {
    stored(&dynamo.client()).await["a"]["_refused"]["SS"].as_array().map_or(0, Vec::len)
}

/// The worker halts before its dead letters are written, and what it could not read is mended before the window is sent again.
#[tokio::test]
async fn refused_records_of_a_window_in_parts_were_neither_counted_nor_refused_by_a_mended_program() {
    for (records, again_records) in [(150, 150), (40, 600), (600, 70), (130, 45)] {
        let dynamo = Dynamo::new();
        let halted = sink(changing(&dynamo)).await;
        // An earlier window has notes of its own, which are too many with those of this one.
        let earlier: Vec<_> = (1..=100).map(|n| change(n, json!({"count": "1"}))).collect();
        assert_eq!(exceptions(&emit(&halted, &earlier).await.unwrap()).1.len(), 100);
        let refused = in_parts(&halted, &window(false), records).await;
        assert!(refused.len() > 500 && (100..=300).contains(&notes(&dynamo).await), "{} refused", refused.len());
        let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
        let mended = window(true);
        let letters = in_parts(&next, &mended, again_records).await;
        let counted = mended.len() - letters.len();
        assert_eq!(item(&dynamo).await["count"], json!({"N": counted.to_string()}), "{records}, {again_records}");
        let letters: Vec<_> = letters.into_iter().map(|index| mended[index].clone()).collect();
        let replaying = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..changing(&dynamo) }).unwrap();
        assert_eq!(emit(&replaying, &letters).await.unwrap(), Emitted::all());
        assert_eq!(item(&dynamo).await["count"], json!({"N": "600"}));
    }
}

/// A record that the service refuses, and the note of it too.
#[tokio::test]
async fn a_record_behind_one_that_its_item_had_no_room_to_note_was_made_in_the_next_part() {
    let dynamo = Dynamo::new();
    let running = sink(changing(&dynamo)).await;
    let window = [change(1, json!({"log": ["large"]})), change(2, json!({"count": 1}))];
    let all = items(&window);
    for _ in 0..2 {
        let full = "Item size to update has exceeded the maximum allowed size";
        dynamo.fail("UpdateItem", Fault::Answer("ValidationException", full));
    }
    for part in all.chunks(1) {
        assert_eq!(exceptions(&emit_part(&running, &all, part).await.unwrap()), (vec![], vec![0]));
    }
    // The dead letters are not written, and who sends the window again meets an item that has room.
    let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
    assert_eq!(emit(&next, &window).await.unwrap(), Emitted::all());
    let item = item(&dynamo).await;
    assert_eq!((&item["count"], &item["log"]), (&json!({"N": "1"}), &json!({"L": [{"S": "large"}]})));
}

/// The second part sets something else.
#[tokio::test]
async fn a_refused_record_of_a_table_that_counts_nothing_was_taken_for_overtaken_in_the_next_part() {
    let dynamo = Dynamo::new();
    let setting = || {
        let mut config = changing(&dynamo);
        config.changes = Some(Changes { set: vec!["status".into(), "tags".into()], ..Changes::default() });
        config.types = [(".tags".parse().unwrap(), FieldType::StringSet)].into();
        config
    };
    let window = |tags: Value| [change(1, json!({ "tags": tags })), change(2, json!({"status": "late"}))];
    let running = sink(setting()).await;
    let (unreadable, mended) = (window(json!("a")), window(json!(["a"])));
    let all = items(&unreadable);
    let first = emit_part(&running, &all, &all[..1]).await.unwrap();
    assert_eq!(exceptions(&first), (vec![], vec![0]));
    assert_eq!(emit_part(&running, &all, &all[1..]).await.unwrap(), Emitted::all());
    // The dead letter is not written, and a mended program sends the window again.
    let next = DynamoDbEmitter::open(setting()).unwrap();
    assert_eq!(exceptions(&emit(&next, &mended).await.unwrap()), (vec![], vec![0]));
    assert_eq!(item(&dynamo).await["status"], json!({"S": "late"}));
    // So it does where nothing is made behind it, or nothing at all was.
    for made in [false, true] {
        let dynamo = Dynamo::new();
        let setting = || DynamoDbConfig { client: dynamo.client(), ..setting() };
        let (first, refused) = (change(1, json!({"status": "new"})), |tags: Value| change(2, json!({ "tags": tags })));
        let running = sink(setting()).await;
        if made {
            assert_eq!(emit(&running, &[first]).await.unwrap(), Emitted::all());
        }
        assert_eq!(exceptions(&emit(&running, &[refused(json!("a"))]).await.unwrap()), (vec![], vec![0]));
        let next = DynamoDbEmitter::open(setting()).unwrap();
        let again = [refused(json!(["a"])), change(3, json!({"status": "late"}))];
        for window in [&again[..1], &again] {
            assert_eq!(exceptions(&emit(&next, window).await.unwrap()), (vec![], vec![0]));
        }
        assert_eq!(item(&dynamo).await["status"], json!({"S": "late"}));
    }
}

/// By this worker, which has in mind behind which change all are refused.
#[tokio::test]
async fn a_part_that_is_sent_again_is_refused_from_where_it_was() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let first = in_parts(&sink, &window(false), 100).await;
    let counted = item(&dynamo).await;
    assert_eq!(in_parts(&sink, &window(false), 100).await, first);
    assert_eq!(item(&dynamo).await, counted);
    // The next window is another.
    let later: Vec<_> = (2_001..=2_003).map(|n| change(n, json!({"count": 1}))).collect();
    assert_eq!(emit(&sink, &later).await.unwrap(), Emitted::all());
}

/// An item has the notes of a window until its end, and then those of a hundred.
#[tokio::test]
async fn notes_of_windows_before_are_those_that_go() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let mixed = |from: u64| -> Vec<Sample<'static>> {
        let count = |n: u64| -> Value { if n.is_multiple_of(2) { json!(1) } else { json!("1") } };
        (from..from + 180).map(|n| change(n, json!({ "count": count(n) }))).collect()
    };
    for from in [1_001, 2_001, 3_001, 4_001] {
        assert_eq!(in_parts(&sink, &mixed(from), 60).await.len(), 90);
    }
    let all = stored(&dynamo.client()).await;
    let noted = all["a"]["_refused"]["SS"].as_array().unwrap();
    let sequence = |note: &Value| note.as_str().unwrap().split('.').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(noted.iter().filter(|note| sequence(note) >= 4_001).count(), 90);
    assert!(noted.len() <= 200, "{}", noted.len());
}

#[tokio::test]
async fn a_window_that_makes_ten_thousand_items_full_is_not_refused_but_fails() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let window: Vec<_> = (1..=100).map(|n| change(n, json!({"count": "1"}))).collect();
    let (stream, shard, all) = ("orders".parse().unwrap(), shard(), items(&window));
    let (first, last) = (all[0].record.position, all[99].record.position);
    let batch = |first| {
        let (items, partitions, keep_existing) = (Vec::new(), Vec::new(), false);
        Batch::<'_, ()> { stream: &stream, shard: &shard, first, last, items, partitions, keep_existing }
    };
    let table = sink.items.table().await.unwrap();
    let key = |n: usize| table.key_of(&[("id".to_owned(), AttributeValue::S(n.to_string()))].into()).unwrap();
    let rank = Rank::Position("1".into());
    assert!((0..10_000).all(|n| sink.full.add(&batch(first), &key(n), &rank)));
    let failure = emit(&sink, &window).await.unwrap_err();
    assert!(
        failure.class == Class::Configuration && failure.message.contains("10000 items of table items"),
        "{failure}"
    );
    assert_eq!(sink.full.behind(&batch(first), &key(9_999)), Some(rank.clone()));
    // The next window begins anew.
    assert!(sink.full.add(&batch(last), &key(10_001), &rank));
    assert_eq!(sink.full.behind(&batch(last), &key(9_999)), None);
}
