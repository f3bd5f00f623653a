//! What Java workers of KCL 3.x write, by requests of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kinesink_aws::dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use kinesink_core::Clock as _;
use tokio::task::JoinSet;

use crate::world::{APP, World, until};

pub(super) type Row = HashMap<String, AttributeValue>;

pub(super) const JAVA: &str = "java";
pub(super) const COORDINATOR: &str = "orders-to-s3-CoordinatorState";
pub(super) const METRICS: &str = "orders-to-s3-WorkerMetricStats";
pub(super) const V3: &str = "CLIENT_VERSION_3X";

pub(super) fn s(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(super) fn n(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn shard(index: usize) -> String {
    format!("shardId-{index:012}")
}

/// A table with one key, and KCL's index if that is wanted.
pub(super) async fn create_table(world: &World, name: &str, key: &str, has_index: bool) {
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let element = |name: &str, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build().unwrap();
    let request = world.dynamo.client().create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    let mut request = request.key_schema(element(key, KeyType::Hash)).attribute_definitions(attribute(key));
    if has_index {
        let index = GlobalSecondaryIndex::builder()
            .index_name("LeaseOwnerToLeaseKeyIndex")
            .key_schema(element("leaseOwner", KeyType::Hash))
            .key_schema(element("leaseKey", KeyType::Range))
            .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
        request = request.attribute_definitions(attribute("leaseOwner"));
        request = request.global_secondary_indexes(index.build().unwrap());
    }
    request.send().await.unwrap();
}

pub(super) async fn put(world: &World, table: &str, row: Row) {
    world.dynamo.client().put_item().table_name(table).set_item(Some(row)).send().await.unwrap();
}

/// One row, by the table's only key.
pub(super) async fn get(world: &World, table: &str, key: (&str, &str)) -> Option<Row> {
    let request = world.dynamo.client().get_item().table_name(table).key(key.0, s(key.1));
    request.consistent_read(true).send().await.unwrap().item
}

pub(super) async fn lease(world: &World, index: usize) -> Row {
    get(world, APP, ("leaseKey", &shard(index))).await.unwrap()
}

/// One text attribute of a lease.
pub(super) async fn of_lease(world: &World, index: usize, attribute: &str) -> Option<String> {
    lease(world, index).await.get(attribute).map(|value| value.as_s().unwrap().clone())
}

/// The one that assigns: an application of KCL 3.5 with nobody's leases of so many shards, as Java creates them.
pub(super) async fn application(shards: usize, version: Option<&str>, has_index: bool) -> Arc<World> {
    let world = Arc::new(World::new(i32::try_from(shards).unwrap()).await);
    create_table(&world, APP, "leaseKey", has_index).await;
    for index in 0..shards {
        let row = Row::from([
            ("leaseKey".into(), s(&shard(index))),
            ("leaseCounter".into(), n(0)),
            ("ownerSwitchesSinceCheckpoint".into(), n(0)),
            ("checkpoint".into(), s("TRIM_HORIZON")),
            ("checkpointSubSequenceNumber".into(), n(0)),
            ("entityType".into(), s("LEASE")),
        ]);
        put(&world, APP, row).await;
    }
    if let Some(version) = version {
        set_version(&world, version).await;
    }
    world
}

pub(super) async fn set_version(world: &World, version: &str) {
    let row = Row::from([
        ("leaseKey".into(), s("Migration3.0")),
        ("entityType".into(), s("CLIENT_VERSION_MIGRATION")),
        ("cv".into(), s(version)),
        ("mb".into(), s(JAVA)),
        ("mts".into(), n(1_772_366_400_000)),
    ]);
    put(world, APP, row).await;
}

/// Keeps the leader's lock and a fresh report, as a Java worker does for as long as the set lives.
pub(super) fn leads(world: &Arc<World>) -> JoinSet<()> {
    let world = Arc::clone(world);
    let mut java = JoinSet::new();
    java.spawn(async move {
        for beat in 0_u64.. {
            put(&world, APP, lock_row(JAVA, &format!("java-{beat}"))).await;
            report(&world, JAVA).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    java
}

pub(super) fn lock_row(owner: &str, version: &str) -> Row {
    Row::from([
        ("leaseKey".into(), s("Leader")),
        ("entityType".into(), s("LEADER")),
        ("ownerName".into(), s(owner)),
        ("leaseDuration".into(), s("120000")),
        ("recordVersionNumber".into(), s(version)),
    ])
}

/// The worker is alive.
pub(super) async fn report(world: &World, worker: &str) {
    let row = Row::from([
        ("leaseKey".into(), s(worker)),
        ("entityType".into(), s("WORKER_METRIC_STATS")),
        ("lut".into(), n(world.clock.now().as_second())),
        ("sts".into(), AttributeValue::M(Row::new())),
        ("opr".into(), AttributeValue::M(Row::new())),
    ]);
    put(world, APP, row).await;
}

async fn update(world: &World, index: usize, expression: &str, condition: &str, values: &[(&str, AttributeValue)]) {
    let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", s(&shard(index)));
    let mut request = request.update_expression(expression).condition_expression(condition);
    for (name, value) in values {
        request = request.expression_attribute_values(*name, value.clone());
    }
    request.send().await.unwrap();
}

/// A leader's outright assignment.
pub(super) async fn assign(world: &World, index: usize, to: &str) {
    let set = "SET leaseOwner = :to REMOVE checkpointOwner ADD leaseCounter :one";
    update(world, index, set, "attribute_exists(leaseKey)", &[(":to", s(to)), (":one", n(1))]).await;
}

/// A leader's request to hand a lease over.
pub(super) async fn initiate(world: &World, index: usize, from: &str, to: &str) {
    let is_free = "leaseOwner = :from AND attribute_not_exists(checkpointOwner)";
    let set = "SET leaseOwner = :to, checkpointOwner = :from";
    update(world, index, set, is_free, &[(":to", s(to)), (":from", s(from))]).await;
}

/// The old owner's end of a handoff.
pub(super) async fn complete(world: &World, index: usize, to: &str) {
    let set = "SET leaseOwner = :to REMOVE checkpointOwner ADD leaseCounter :one";
    update(world, index, set, "checkpointOwner = :java", &[(":to", s(to)), (":one", n(1)), (":java", s(JAVA))]).await;
}

/// Renews leases as their owner, or the one who hands them over, for as long as the set lives.
pub(super) fn renews(world: &Arc<World>, leases: Vec<usize>) -> JoinSet<()> {
    let world = Arc::clone(world);
    let mut java = JoinSet::new();
    java.spawn(async move {
        loop {
            for index in &leases {
                let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", s(&shard(*index)));
                let request = request.update_expression("ADD leaseCounter :one");
                let mine = "checkpointOwner = :java OR (leaseOwner = :java AND attribute_not_exists(checkpointOwner))";
                let request = request.condition_expression(mine).expression_attribute_values(":one", n(1));
                // It may be somebody else's by now.
                let _renewed = request.expression_attribute_values(":java", s(JAVA)).send().await;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    });
    java
}

/// Waits until the lease is an owner's, without a handoff under way.
pub(super) async fn owned(world: &World, index: usize, owner: &str) {
    until(&format!("{owner} has lease {index}"), async || {
        let row = lease(world, index).await;
        row.get("leaseOwner") == Some(&s(owner)) && !row.contains_key("checkpointOwner")
    })
    .await;
}
