//! What becomes of JSON, and what no table takes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kinesink_core::{Emitted, Item};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::dynamo::Dynamo;
use super::{config, emit, emit_items, field, items, refusal, sink, stored, typed};
use crate::dynamodb::attributes;
use crate::dynamodb::{
    Changes, Deletion, DynamoDbConfig, DynamoDbEmitter, FieldType, Guard, KeyAttribute, KeySource, Order,
};

/// The text as it is, for what `Value` would not keep.
pub(super) fn verbatim(text: &str) -> Vec<Item<Bytes>> {
    let mut items = items(&[(1, "a", json!({}))]);
    items[0].value = text.to_owned().into();
    items
}

#[tokio::test]
async fn each_json_value_is_the_attribute_that_says_the_same() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let json = r#"{"id":"a","n":12345678901234567890.123456789012345678,"e":1e3,"neg":-0.5,"t":"é\n","empty":"","yes":true,
        "no":false,"nil":null,"l":[1,"x",[],{}],"m":{"size":{"name":"deep"},"order":1},"name":"reserved","twice":1,"twice":2}"#;
    assert_eq!(emit_items(&sink, &verbatim(json)).await.unwrap(), Emitted::all());
    let mut item = stored(&dynamo.client()).await.remove("a").unwrap();
    let position = item.as_object_mut().unwrap().remove("_position").unwrap();
    assert_eq!(position, json!({ "S": format!("{:0>56}.00000000.0000000000", "1") }));
    let expected = json!({
        "id": {"S": "a"}, "n": {"N": "12345678901234567890.123456789012345678"}, "e": {"N": "1000"}, "neg": {"N": "-0.5"},
        "t": {"S": "é\n"}, "empty": {"S": ""}, "yes": {"BOOL": true}, "no": {"BOOL": false}, "nil": {"NULL": true},
        "l": {"L": [{"N": "1"}, {"S": "x"}, {"L": []}, {"M": {}}]},
        "m": {"M": {"size": {"M": {"name": {"S": "deep"}}}, "order": {"N": "1"}}},
        "name": {"S": "reserved"}, "twice": {"N": "2"},
    });
    assert_eq!(item, expected);
}

#[tokio::test]
async fn types_are_given_where_json_leaves_them_open() {
    let dynamo = Dynamo::new();
    let mut config = config(dynamo.client());
    let types = [
        (".photo", FieldType::Binary),
        (".tags", FieldType::StringSet),
        (".m.sizes", FieldType::NumberSet),
        (".hashes", FieldType::BinarySet),
        (".none", FieldType::StringSet),
        (".exact", FieldType::Number),
    ];
    config.types = types.into_iter().map(|(path, field_type)| (path.parse().unwrap(), field_type)).collect();
    let sink = sink(config).await;
    let json = json!({
        "id": "a", "photo": "AAEC", "tags": ["b", "a", "b"], "m": {"sizes": [1, "2", 1.0]}, "hashes": ["AA==", "/w=="],
        "none": [], "exact": "0.10", "l": [{"photo": "AAEC"}],
    });
    assert_eq!(emit(&sink, &[(1, "a", json)]).await.unwrap(), Emitted::all());
    let item = stored(&dynamo.client()).await.remove("a").unwrap();
    assert_eq!(item["photo"], json!({"B": [0, 1, 2]}));
    assert_eq!(item["tags"], json!({"SS": ["a", "b"]}));
    assert_eq!(item["m"], json!({"M": {"sizes": {"NS": ["1", "2"]}}}));
    assert_eq!(item["hashes"], json!({"BS": [[0], [255]]}));
    assert_eq!(item["exact"], json!({"N": "0.1"}));
    assert_eq!(item["l"], json!({"L": [{"M": {"photo": {"S": "AAEC"}}}]}), "a list's elements have no path");
    assert!(item.get("none").is_none(), "no set is empty");
    for (json, why) in [
        (json!({"id": "a", "photo": "SECRET!"}), "field .photo holds text that is no base64"),
        (json!({"id": "a", "tags": "SECRET"}), "field .tags holds text in place of a list"),
        (json!({"id": "a", "tags": [1]}), "field .tags holds a number in place of text"),
        (json!({"id": "a", "m": {"sizes": ["SECRET"]}}), "field .m.sizes holds no number"),
    ] {
        assert_eq!(refusal(&sink, json).await, why);
    }
}

#[tokio::test]
async fn what_no_table_takes_is_refused_by_name_and_never_quoted() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let deep = |levels: usize| format!(r#"{{"id":"a","d":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let large = json!({ "id": "a", "pad": "x".repeat(400 * 1024) }).to_string();
    let many = json!({ "id": "a", "pad": vec![1; 400 * 1024 / 2] }).to_string();
    let cases = [
        ("SECRET", "not JSON: line 1, column 1"),
        ("[1]", "a list in place of an object"),
        (r#"{"id":"a"} {}"#, "not JSON"),
        (r#"{"id":"a","n":123456789012345678901234567890123456789}"#, "field .n holds a number of more than 38 digits"),
        (r#"{"id":"a","m":{"n":1e126}}"#, "field .m.n holds a number outside of 1E-130 to 9.99E+125"),
        (r#"{"id":"a","":1}"#, "field . holds a field without a name"),
        (r#"{"id":"a","t":"\ud800"}"#, "field .t holds text with half of a surrogate pair"),
        (&deep(32), "field .d holds nested deeper than the 32 levels of an item"),
        (&large, "an item of 409601 bytes and more, where a table takes 409600"),
        (&many, "an item of 4096"),
        (r#"{"other":1}"#, "it has no field .id for key attribute `id` of table items"),
        (r#"{"id":""}"#, "key attribute `id` of table items is empty, which no key may be"),
        (
            r#"{"id":7}"#,
            "key attribute `id` of table items is text there and a number here: convert it in the transform, or name its type in `types` before the table is made",
        ),
        (r#"{"id":null}"#, "key attribute `id` of table items is text there and null here"),
        (r#"{"id":"a","_position":1}"#, "it has a field _position"),
        (r#"{"id":"a","_deleted":1}"#, "it has a field _deleted"),
    ];
    for (json, why) in cases {
        let emitted = emit_items(&sink, &verbatim(json)).await.unwrap();
        let said = format!("{:?}", emitted.exceptions());
        assert!(said.starts_with("[(0, Rejected") && said.contains(why), "{json:.60} {said}");
        assert!(!said.contains("SECRET"), "{said}");
    }
    assert_eq!(dynamo.calls("PutItem").len(), 0, "nothing of it was sent");
    assert_eq!(emit_items(&sink, &verbatim(&deep(31))).await.unwrap(), Emitted::all());
    let id = "k".repeat(2049);
    assert!(refusal(&sink, json!({ "id": id })).await.contains("is longer than the 2048 bytes of a hash key"));
}

#[tokio::test]
async fn a_key_comes_from_fields_or_from_the_record() {
    let dynamo = Dynamo::new();
    let attribute = |name: &str, source| KeyAttribute { name: name.into(), source, key_type: None };
    let mut config = config(dynamo.client());
    config.key = vec![attribute("id", KeySource::Shard), attribute("at", KeySource::Position)];
    let by_position = sink(config.clone()).await;
    assert_eq!(emit(&by_position, &[(7, "a", json!({"v": 1}))]).await.unwrap(), Emitted::all());
    let item = stored(&dynamo.client()).await.remove("shardId-000000000003").unwrap();
    assert_eq!(item["at"], json!({ "S": format!("{:0>56}.00000000.0000000000", "7") }));

    (config.table, config.key) =
        ("nested".into(), vec![field("pk", ".order.id"), attribute("sk", KeySource::PartitionKey)]);
    config.key[0].key_type = Some(kinesink_aws::dynamodb::types::ScalarAttributeType::N);
    let nested = sink(config).await;
    assert_eq!(emit(&nested, &[(7, "a", json!({"order": {"id": 4.0}}))]).await.unwrap(), Emitted::all());
    let key = [("pk", kinesink_aws::dynamodb::types::AttributeValue::N("4".into()))];
    let request = dynamo.client().get_item().table_name("nested").key(key[0].0, key[0].1.clone());
    let reply = request.key("sk", kinesink_aws::dynamodb::types::AttributeValue::S("a".into())).send().await.unwrap();
    assert_eq!(typed(&reply.item().unwrap()["order"]), json!({"M": {"id": {"N": "4"}}}));
}

#[tokio::test]
async fn a_part_of_the_key_took_the_place_of_a_field_that_the_next_is_made_of() {
    let dynamo = Dynamo::new();
    let mut config = config(dynamo.client());
    config.key = vec![field("id", ".customer"), field("at", ".id")];
    config.ttl = Some("expires".into());
    let (at, values) = (".id".parse().unwrap(), vec!["i2".into()]);
    config.delete = Some(Deletion { field: at, values, keep: Duration::from_secs(1000) });
    let sink = sink(config).await;
    for id in ["i1", "i2"] {
        assert_eq!(emit(&sink, &[(1, "c", json!({"customer": "c", "id": id}))]).await.unwrap(), Emitted::all());
        let request = dynamo.client().get_item().table_name(super::TABLE);
        let text = |text: &str| kinesink_aws::dynamodb::types::AttributeValue::S(text.into());
        let reply = request.key("id", text("c")).key("at", text(id)).send().await.unwrap();
        assert_eq!(reply.item().unwrap().contains_key("_deleted"), id == "i2");
    }
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let client = Dynamo::new().client();
    let refused = |change: fn(&mut DynamoDbConfig)| {
        let mut config = config(client.clone());
        change(&mut config);
        DynamoDbEmitter::open(config).unwrap_err().to_string()
    };
    assert!(refused(|config| config.key.clear()).contains("give `key` one or two"));
    // Every write of a key was an item of its own.
    assert!(refused(|config| config.key[0] = field("_position", ".id")).contains("`_position` has another meaning"));
    let mut by_version = config(client.clone());
    (by_version.key[0], by_version.order) = (field("v", ".v"), Order::Version("v".into()));
    assert!(DynamoDbEmitter::open(by_version.clone()).is_ok(), "each version has an item of its own");
    by_version.changes = Some(Changes { set: vec!["n".into()], ..Changes::default() });
    let why = DynamoDbEmitter::open(by_version).unwrap_err().to_string();
    assert!(why.contains("is a part of the key, and cannot say which change is the last"), "{why}");
    assert!(refused(|config| config.expire_after = Some(Duration::from_secs(1))).contains("set `ttl`"));
    let taken: [fn(&mut DynamoDbConfig); 6] = [
        |config| config.ttl = Some("id".into()),
        |config| config.ttl = Some("_position".into()),
        |config| config.ttl = Some("_deleted".into()),
        |config| (config.ttl, config.order) = (Some("v".into()), Order::Version("v".into())),
        |config| {
            (config.ttl, config.changes) =
                (Some("n".into()), Some(Changes { add: vec!["n".into()], ..Changes::default() }));
        },
        |config| {
            (config.ttl, config.changes) =
                (Some("n".into()), Some(Changes { append: vec!["n".into()], ..Changes::default() }));
        },
    ];
    for change in taken {
        assert!(refused(change).contains("which has another meaning there"));
    }
}

#[test]
fn a_partition_key_that_means_nothing_or_contradicts_the_key_is_named() {
    let client = Dynamo::new().client();
    let part = |name: &str, source| KeyAttribute { name: name.into(), source, key_type: None };
    let named = |name: Option<&str>, key: &[KeyAttribute]| DynamoDbConfig {
        partition_key: name.map(Into::into),
        key: key.to_vec(),
        ..config(client.clone())
    };
    let (id, order) = (field("id", ".id"), field("order", ".order"));
    let both = [id.clone(), order];
    let by_version = DynamoDbConfig { order: Order::Version("v".into()), ..named(Some("id"), &both) };
    let means_nothing =
        "`partition_key` means nothing where a version orders writes, or a position tells all items apart";
    let refused = [
        (by_version, means_nothing),
        (named(Some("id"), &[id.clone(), part("at", KeySource::Position)]), means_nothing),
        (named(Some(".id"), &both), "`partition_key` is `.id`, which is no part of the key"),
        (named(Some("s"), &[id.clone(), part("s", KeySource::Shard)]), "`partition_key` is `s`, which is the shard"),
        (
            named(Some("id"), &[id, part("pk", KeySource::PartitionKey)]),
            "`partition_key` is `id`, but `pk` is the partition key",
        ),
        (named(None, &[part("s", KeySource::Shard)]), "no part of the key is of a record"),
    ];
    let said = |config| DynamoDbEmitter::open(config).map_or_else(|error| error.to_string(), |_| "nothing".into());
    let others: Vec<_> = refused
        .into_iter()
        .map(|(config, why)| (said(config), why))
        .filter(|(said, why)| !said.contains(why))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    for guard in [Guard::Always, Guard::Takeover, Guard::Never] {
        assert!(DynamoDbEmitter::open(DynamoDbConfig { guard, ..named(Some("order"), &both) }).is_ok(), "{guard:?}");
    }
}

/// JSON of up to four levels.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{1,4}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// DynamoDB's JSON back to plain JSON, by another hand.
fn plain(typed: &Value) -> Value {
    let (kind, value) = typed.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        "NULL" => Value::Null,
        "L" => value.as_array().unwrap().iter().map(plain).collect(),
        "M" => {
            Value::Object(value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        _ => value.clone(),
    }
}

proptest! {
    #[test]
    fn any_json_comes_back_as_it_was(fields in prop::collection::btree_map(".{1,4}", any_json(), 0..5)) {
        let json = Value::Object(fields.into_iter().collect());
        let read = attributes::fields(json.to_string().as_bytes(), &BTreeMap::new(), usize::MAX).unwrap().whole().unwrap();
        let back: serde_json::Map<_, _> = read.iter().map(|(name, value)| (name.clone(), plain(&typed(value)))).collect();
        prop_assert_eq!(Value::Object(back), json);
    }
}
