//! The suite of all emitters, and what the sink needs of a DynamoDB.
//!
//! Plain `cargo test` runs this on the DynamoDB in process. `cargo xtask test dynamodb-local` runs the same on AWS's
//! DynamoDB Local.

use bytes::Bytes;
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::testkit::{EmitterPromises, emitter_contract};
use kinesink_core::{Emitted, Emitter, Exception, Record};
use serde_json::json;

use super::dynamo::any_client;
use super::{aggregate, config, emit, stored};
use crate::dynamodb::{Attributes, Changes, Deletion, DynamoDbConfig, DynamoDbEmitter, Guard, KeyAttribute, KeySource};

fn by_position(client: Client, table: &str) -> DynamoDbConfig {
    let attribute = |name: &str, source| KeyAttribute { name: name.into(), source, key_type: None };
    let key = vec![attribute("shard_id", KeySource::Shard), attribute("at", KeySource::Position)];
    DynamoDbConfig::new(client, table, key)
}

/// The JSON that the suite's records are.
async fn lines(client: &Client, table: &str) -> Vec<Bytes> {
    let mut pages = client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
    let mut lines = Vec::new();
    while let Some(item) = pages.next().await {
        let item = item.unwrap();
        let (shard, n) = (item["shard"].as_s().unwrap(), item["n"].as_n().unwrap());
        lines.push(format!("{{\"shard\":\"{shard}\",\"n\":{n}}}").into());
    }
    lines
}

#[tokio::test]
async fn the_sink_keeps_the_contract_of_emitters_with_guards_and_without() {
    let client = any_client();
    for (guard, table) in [(Guard::Always, "contract-guarded"), (Guard::Never, "contract-unguarded")] {
        let sink = DynamoDbEmitter::open(DynamoDbConfig { guard, ..by_position(client.clone(), table) }).unwrap();
        sink.create_table().await.unwrap();
        // Without guards too: what is sent again is put again.
        let promises = EmitterPromises { ordered: false, idempotent: true };
        emitter_contract(&sink, promises, |record| record.data.clone(), async || lines(&client, table).await)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_transformer_of_your_own_makes_attributes() {
    let (client, table) = (any_client(), "contract-attributes");
    let sink = DynamoDbEmitter::open(by_position(client.clone(), table)).unwrap();
    sink.create_table().await.unwrap();
    let output = |record: &Record| -> Attributes {
        let line = String::from_utf8_lossy(&record.data).into_owned();
        Attributes::from([("line".to_owned(), AttributeValue::S(line))])
    };
    let stored = async || {
        let mut pages = client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(item) = pages.next().await {
            all.push(Attributes::from([("line".to_owned(), item.unwrap()["line"].clone())]));
        }
        all
    };
    emitter_contract(&sink, EmitterPromises { ordered: false, idempotent: true }, output, stored).await.unwrap();
}

#[tokio::test]
async fn sums_lists_and_expressions_are_those_of_the_service() {
    let client = any_client();
    let table = "contract-updates";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let changes = Changes { set: names(&["status"]), add: names(&["count"]), append: names(&["log"]) };
    let mut config = DynamoDbConfig { changes: Some(changes), table: table.into(), ..config(client.clone()) };
    (config.ttl, config.expire_after) = (Some("ttl".into()), Some(std::time::Duration::from_secs(4_000_000_000)));
    let keep = std::time::Duration::from_secs(4_000_000_000);
    config.delete = Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep });
    let sink = DynamoDbEmitter::open(config).unwrap();
    sink.create_table().await.unwrap();
    Emitter::<Bytes>::check(&sink).await.unwrap();
    let one = |n: u64| (n, "a", json!({"id": "a", "status": n, "count": 0.5, "log": [n]}));
    let delete = |n: u64| (n, "a", json!({"id": "a", "op": "D"}));
    for window in [vec![one(1), one(2)], vec![delete(3)], vec![one(2), delete(3), one(4), one(5)], vec![one(5), one(6)]]
    {
        assert_eq!(emit(&sink, &window).await.unwrap(), Emitted::all());
    }
    let key = AttributeValue::S("a".into());
    let reply = client.get_item().table_name(table).key("id", key).consistent_read(true).send().await.unwrap();
    let item = reply.item().unwrap();
    assert_eq!((item["count"].as_n().unwrap().as_str(), item["status"].as_n().unwrap().as_str()), ("1.5", "6"));
    let log: Vec<_> = item["log"].as_l().unwrap().iter().map(|value| value.as_n().unwrap().clone()).collect();
    assert_eq!(log, ["4", "5", "6"]);
    assert!(!item.contains_key("_deleted") && item["ttl"].as_n().unwrap() == "5700000000");
}

#[tokio::test]
async fn transactions_and_why_they_are_cancelled_are_those_of_the_service() {
    let (client, table, guards) = (any_client(), "contract-counted", "contract-counted-guards");
    let mut config = DynamoDbConfig { table: table.into(), ..aggregate::counting(client.clone()) };
    let counted = config.aggregate.as_mut().unwrap();
    (counted.guards, counted.keep) = (guards.into(), std::time::Duration::from_secs(4_000_000_000));
    let sink = DynamoDbEmitter::open(config).unwrap();
    assert!(sink.create_table().await.unwrap() && !sink.create_table().await.unwrap());
    Emitter::<Bytes>::check(&sink).await.unwrap();
    let n = |sequence: u64, n: f64| (sequence, json!({"id": "a", "n": n}));
    let windows = [
        // New; one lower; one higher; one neither; again; begun before where the last ended.
        (1, vec![n(1, 5.0), n(2, 6.0)]),
        (1, vec![n(3, -0.5)]),
        (2, vec![n(1, 7.25)]),
        (2, vec![n(2, 1.0)]),
        (1, vec![n(3, -0.5)]),
        (1, vec![n(2, 6.0), n(3, -0.5), n(4, 6.0), n(5, 0.0)]),
    ];
    for (shard, window) in windows {
        assert_eq!(aggregate::emit(&sink, shard, &window).await.unwrap(), Emitted::all());
    }
    // With what is there, a sum of more than 38 digits, or out of range.
    for (sequence, large) in [(6, 1e100), (7, -1e60)] {
        let emitted = aggregate::emit(&sink, 1, &[n(sequence, large)]).await.unwrap();
        assert!(matches!(emitted.exceptions(), [(0, Exception::Rejected(_))]), "{emitted:?}");
    }
    let item = aggregate::scan(&client, table).await.remove(0);
    let found = ["count", "sum", "least", "most"].map(|name| item[name].as_str());
    assert_eq!((item.len(), found), (6, ["7", "24.75", "-0.5", "7.25"]));
    assert_eq!(aggregate::scan(&client, guards).await.len(), 2);
}

#[tokio::test]
async fn conditions_keys_and_types_are_those_of_the_service() {
    let client = any_client();
    let mut config = config(client.clone());
    config.types = [(".tags".parse().unwrap(), crate::dynamodb::FieldType::StringSet)].into();
    let sink = DynamoDbEmitter::open(config).unwrap();
    sink.create_table().await.unwrap();
    assert!(!sink.create_table().await.unwrap(), "it is there already");
    let put =
        |sequence, v: &str| (sequence, "a", json!({"id": "a", "v": v, "n": 1e-130, "tags": ["b", "a"], "": null}));
    let clean = |(sequence, key, mut json): (u64, &'static str, serde_json::Value)| {
        json.as_object_mut().unwrap().remove("");
        (sequence, key, json)
    };
    for (sequence, v) in [(10, "ten"), (9, "nine"), (10, "ten")] {
        assert_eq!(emit(&sink, &[clean(put(sequence, v))]).await.unwrap(), Emitted::all());
    }
    let item = stored(&client).await.remove("a").unwrap();
    assert_eq!(item["v"], json!({"S": "ten"}));
    assert_eq!(item["tags"], json!({"SS": ["a", "b"]}));
}
