//! Rows of the lease table that are none of ours to read.

use std::collections::HashMap;

use kinesink_aws::dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use kinesink_consumer::{Error, Start};
use prometheus_client::registry::Registry;

use crate::recorder::{Commit, Recorder};
use crate::resharding::QUARTER;
use crate::world::{APP, FAILOVER, STREAM, World, metric, run, run_counted, until};

async fn set(world: &World, shard: &str, attribute: &str, value: AttributeValue) {
    let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", AttributeValue::S(shard.into()));
    let request = request.update_expression("SET #name = :value").expression_attribute_names("#name", attribute);
    request.expression_attribute_values(":value", value).send().await.unwrap();
}

/// A world whose application has run and left.
async fn known(shards: i32) -> World {
    let world = World::new(shards).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("first"), &recorder);
    until("all are started", async || recorder.starts().len() == usize::try_from(shards).unwrap()).await;
    running.drained().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_left_alone_and_the_others_go_on() {
    for (attribute, value) in [
        ("leaseCounter", AttributeValue::S("none".into())),
        // What a later version might write.
        ("checkpoint", AttributeValue::S("TOMORROW".into())),
        ("parentShardId", AttributeValue::S("shardId-000000000000".into())),
    ] {
        let world = known(3).await;
        set(&world, "shardId-000000000001", attribute, value).await;
        let before = world.rows().await.remove("shardId-000000000001").unwrap();
        let recorder = Recorder::new(Commit::Each);
        let mut registry = Registry::default();
        let running = run_counted(world.consumer("one"), &recorder, &mut registry);
        tokio::time::sleep(FAILOVER * 20).await;
        let mut shards: Vec<_> = recorder.starts().into_iter().map(|(shard, _)| shard).collect();
        shards.sort();
        assert_eq!(shards, ["shardId-000000000000", "shardId-000000000002"], "{attribute}");
        assert_eq!(metric(&registry, "lease_rows_unreadable"), 1);
        assert_eq!(world.rows().await["shardId-000000000001"], before, "{attribute}: the row was touched");
        // Somebody mends it.
        set(&world, "shardId-000000000001", "leaseCounter", AttributeValue::N("9".into())).await;
        set(&world, "shardId-000000000001", "checkpoint", AttributeValue::S("TRIM_HORIZON".into())).await;
        let parents = AttributeValue::Ss(vec!["shardId-000000000009".into()]);
        set(&world, "shardId-000000000001", "parentShardId", parents).await;
        until("the third is read too", async || recorder.starts().len() == 3).await;
        assert_eq!(metric(&registry, "lease_rows_unreadable"), 0);
        running.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_shard_whose_row_cannot_be_read_waits_for_it() {
    let world = known(2).await;
    set(&world, "shardId-000000000000", "checkpoint", AttributeValue::S("TOMORROW".into())).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one").start(Start::Latest), &recorder);
    tokio::time::sleep(FAILOVER * 20).await;
    assert_eq!(world.rows().await.len(), 2, "a child at LATEST skips what its parent still has");
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_breaks_while_its_lease_is_held_costs_that_shard_alone() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("both are started", async || recorder.starts().len() == 2).await;
    set(&world, "shardId-000000000000", "checkpoint", AttributeValue::S("TOMORROW".into())).await;
    tokio::time::sleep(FAILOVER * 5).await;
    for key in 0..8 {
        world.put(&format!("key{key}"), &["a".to_owned()]).await;
    }
    until("the other goes on", async || recorder.records().contains_key("shardId-000000000001")).await;
    tokio::time::sleep(FAILOVER * 5).await;
    assert!(!recorder.records().contains_key("shardId-000000000000"));
    assert_eq!(world.texts("checkpoint").await["shardId-000000000000"], "TOMORROW");
    running.drained().await;
}

async fn table_keyed_by(world: &World, key: &str) {
    let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
    let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
    let create = world.dynamo.client().create_table().table_name(APP).key_schema(schema);
    let create = create.attribute_definitions(attribute.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
    create.send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_no_lease_table_is_named_before_anything_is_written() {
    let world = World::new(1).await;
    table_keyed_by(&world, "orderId").await;
    let writes = world.dynamo.writes().len();
    let error = run(world.consumer("one"), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(error, Error::Start(_)), "{error:?}");
    assert!(error.to_string().contains(APP) && error.to_string().contains("orderId"), "{error}");
    assert_eq!(world.dynamo.writes().len(), writes);

    let world = World::new(1).await;
    table_keyed_by(&world, "leaseKey").await;
    let row = HashMap::from([("leaseKey".to_owned(), AttributeValue::S("customer 7".into()))]);
    world.dynamo.client().put_item().table_name(APP).set_item(Some(row)).send().await.unwrap();
    let writes = world.dynamo.writes().len();
    let error = run(world.consumer("one"), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(error, Error::Row { .. }), "{error:?}");
    assert!(error.to_string().contains(APP) && error.to_string().contains("customer 7"), "{error}");
    assert_eq!(world.dynamo.writes().len(), writes);
}
