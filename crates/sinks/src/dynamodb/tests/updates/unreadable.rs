//! Records of which a field cannot be read, but not the one that says which item they change.

use std::time::Duration;

use kinesink_core::Emitted;
use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::Dynamo;
use super::super::mapping::verbatim;
use super::super::{emit, emit_items, field, refusal, sink, stored};
use super::{change, changing, item};
use crate::dynamodb::{Deletion, DynamoDbConfig, DynamoDbEmitter, FieldType};

/// Tags are a set of texts.
fn of_tags(dynamo: &Dynamo) -> DynamoDbConfig {
    DynamoDbConfig { types: [(".tags".parse().unwrap(), FieldType::StringSet)].into(), ..changing(dynamo) }
}

#[tokio::test]
async fn a_record_with_a_field_that_no_attribute_can_have_was_noted_nowhere() {
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    for (name, value) in [("tags", json!("no set")), ("sum", json!(1e126)), ("other", deep), ("", json!(1))] {
        let dynamo = Dynamo::new();
        let running = sink(of_tags(&dynamo)).await;
        let unread = change(2, json!({"count": 10, name: value}));
        let window = [change(1, json!({"count": 1})), unread, change(3, json!({"count": 100}))];
        let emitted = emit(&running, &window).await.unwrap();
        let said = format!("{:?}", emitted.exceptions());
        assert_eq!(exceptions(&emitted), (vec![], vec![1]));
        assert!(said.contains(&format!("field .{name} holds ")), "{said}");
        // The worker halts, and another can read it.
        let mended = [window[0].clone(), change(2, json!({"count": 10})), window[2].clone()];
        let next = DynamoDbEmitter::open(changing(&dynamo)).unwrap();
        assert_eq!(exceptions(&emit(&next, &mended).await.unwrap()), (vec![], vec![1]), "it is not taken for made");
        let replaying = DynamoDbEmitter::open(DynamoDbConfig { is_replay: true, ..changing(&dynamo) }).unwrap();
        assert_eq!(emit(&replaying, &mended[1..2]).await.unwrap(), Emitted::all());
        assert_eq!(item(&dynamo).await["count"], json!({"N": "111"}), "{name}");
    }
}

#[tokio::test]
async fn a_record_whose_key_cannot_be_read_is_refused_for_that() {
    let dynamo = Dynamo::new();
    let config = DynamoDbConfig { key: vec![field("id", ".user.id")], ..changing(&dynamo) };
    let sink = sink(config).await;
    let sample = |sequence, user: Value| (sequence, "a", json!({"user": user, "count": 1}));
    let why = refusal(&sink, json!({"user": {"id": 1e126, "name": 1e127}})).await;
    assert!(why.starts_with("field .user.id holds a number outside of"), "{why}");
    // Of a name that stands twice, the last counts.
    let twice = verbatim(r#"{"user":{"id":"a"},"count":1,"user":{"id":"a","id":1e126}}"#);
    assert_eq!(exceptions(&emit_items(&sink, &twice).await.unwrap()), (vec![], vec![0]));
    assert!(stored(&dynamo.client()).await.is_empty());
    // Beside the key, it is another field.
    let window = [sample(1, json!({"id": "a"})), sample(2, json!({"name": 1e127, "id": "a"}))];
    assert_eq!(exceptions(&emit(&sink, &window).await.unwrap()), (vec![], vec![1]));
    assert_eq!(item(&dynamo).await["_refused"]["SS"].as_array().unwrap().len(), 1);
}

/// To delete an item is to know its key.
#[tokio::test]
async fn a_delete_of_which_another_field_could_not_be_read_was_a_dead_letter() {
    for changes in [true, false] {
        let dynamo = Dynamo::new();
        let delete = Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep: Duration::from_secs(9) };
        let mut config = DynamoDbConfig { delete: Some(delete), ttl: Some("expires".into()), ..of_tags(&dynamo) };
        config.changes = config.changes.filter(|_| changes);
        let sink = sink(config).await;
        let window = [change(1, json!({"count": 1})), change(2, json!({"op": "D", "tags": "no set"}))];
        assert_eq!(emit(&sink, &window).await.unwrap(), Emitted::all());
        assert_eq!(item(&dynamo).await["_deleted"], json!({"BOOL": true}));
        // Not known to be a delete.
        let emitted = emit(&sink, &[change(3, json!({"op": 1e126, "tags": []}))]).await.unwrap();
        assert_eq!(exceptions(&emitted), (vec![], vec![0]));
    }
}

/// It changes none of these, and none of them is in the table.
#[tokio::test]
async fn records_with_fields_of_names_that_are_not_changed_were_refused() {
    let dynamo = Dynamo::new();
    let sink = sink(changing(&dynamo)).await;
    let window: Vec<_> = ["_deleted", "_position", "_refused", "_refused_to"]
        .into_iter()
        .zip(1..)
        .map(|(name, n)| change(n, json!({"count": 1, name: "theirs"})))
        .collect();
    assert_eq!(emit(&sink, &window).await.unwrap(), Emitted::all());
    assert_eq!(item(&dynamo).await, json!({"id": {"S": "a"}, "count": {"N": "4"}}));
}
