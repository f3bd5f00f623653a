//! Which algorithm holds, and where the rows are.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_consumer::{Coordination, Error};
use serde_json::Value;

use super::java::{
    self, COORDINATOR, JAVA, METRICS, Row, V3, application, assign, create_table, get, lock_row, n, of_lease, put,
    report, s, set_version,
};
use crate::dynamo::Fault;
use crate::recorder::{Commit, Recorder};
use crate::world::{APP, FAILOVER, World, run, until};

const US: &str = "kinesink";
const POLL: Duration = Duration::from_secs(61);

async fn owners(world: &World) -> BTreeSet<String> {
    world.texts("leaseOwner").await.into_values().collect()
}

/// Every table that was written to or created.
fn written(world: &World) -> BTreeSet<String> {
    world.dynamo.writes().iter().map(|(_, request)| request["TableName"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_application_gets_lease_rows_only() {
    let world = World::new(4).await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER * 30).await;
    us.drained().await;
    assert!(
        world.rows().await.into_iter().all(|(key, row)| key.starts_with("shardId-") && !row.contains_key("entityType"))
    );
    assert!(world.texts("throughputKBps").await.is_empty());
    assert_eq!(written(&world), BTreeSet::from([APP.to_owned()]));
    let table = world.dynamo.client().describe_table().table_name(APP).send().await.unwrap();
    assert!(table.table().unwrap().global_secondary_indexes().is_empty());
}

/// Names and types of a row's attributes, those of maps and lists too.
fn shape(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(_) => "S".into(),
        AttributeValue::N(_) => "N".into(),
        AttributeValue::M(map) => map.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        AttributeValue::L(list) => list.iter().map(shape).collect(),
        other => panic!("{other:?}"),
    }
}

fn shape_of(row: &Row) -> Value {
    shape(&AttributeValue::M(row.clone()))
}

/// The same of a row in a dump of Java's.
fn dumped(row: &Value) -> Value {
    let shape = |value: &Value| {
        let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "M" => dumped(value),
            "L" => value.as_array().unwrap().iter().map(|item| dumped(&item["M"])).collect(),
            kind => kind.into(),
        }
    };
    row.as_object().unwrap().iter().map(|(name, value)| (name.clone(), shape(value))).collect()
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_to_be_of_kcl3_has_the_rows_and_the_index_that_java_makes() {
    let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rows/kcl-3.x.json");
    let dump: Value = serde_json::from_slice(&std::fs::read(dump).unwrap()).unwrap();
    let table = &dump["appd"];
    let golden = |key: &str| {
        let rows = table["rows"].as_array().unwrap();
        dumped(rows.iter().find(|row| row["leaseKey"]["S"] == key).unwrap())
    };
    let world = World::new(4).await;
    let us = run(world.consumer(US).coordination(Coordination::Kcl3), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER * 3).await;
    let rows = world.rows().await;
    assert_eq!(rows.len(), 7, "{:?}", rows.keys());
    for (ours, theirs) in [("Leader", "Leader"), ("Migration3.0", "Migration3.0"), (US, "k3d")] {
        assert_eq!(shape_of(&rows[ours]), golden(theirs), "{ours}");
    }
    let mut lease = rows["shardId-000000000000"].clone();
    lease.retain(|name, _| !name.starts_with("kinesink_"));
    assert_eq!(shape_of(&lease), golden("shardId-000000000000"));
    assert_eq!(rows["Migration3.0"]["cv"], s(V3));
    let described = world.dynamo.client().describe_table().table_name(APP).send().await.unwrap().table.unwrap();
    let index = &described.global_secondary_indexes()[0];
    let wanted = &table["description"]["GlobalSecondaryIndexes"][0];
    assert_eq!(index.index_name(), wanted["IndexName"].as_str());
    let keys: Vec<_> = index.key_schema().iter().map(|key| (key.attribute_name(), key.key_type().as_str())).collect();
    assert_eq!(keys, [("leaseOwner", "HASH"), ("leaseKey", "RANGE")]);
    assert_eq!(index.projection().unwrap().projection_type().unwrap().as_str(), "KEYS_ONLY");
    us.drained().await;
    // It stays one, whoever comes next.
    let next = run(world.consumer("next"), &Recorder::new(Commit::Each));
    until("the next one leads", async || {
        world.rows().await.get("Leader").is_some_and(|row| row["ownerName"] == s("next"))
    })
    .await;
    next.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_that_was_away_had_its_leases_taken_beside_the_leader_once_it_was_back() {
    let world = application(4, Some(V3), true).await;
    let mut leader = java::leads(&world);
    let way = world.dynamo.apart();
    let us = run(world.consumer_by(&way, US), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER * 4).await;
    let away = |fault| ["Scan", "Query", "GetItem", "UpdateItem"].iter().for_each(|call| way.every(call, fault));
    away(Some(Fault::NoTable));
    tokio::time::sleep(POLL).await;
    away(None);
    tokio::time::sleep(FAILOVER * 3).await;
    assert!(owners(&world).await.is_empty(), "{:?}", owners(&world).await);
    us.drained().await;
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_algorithm_follows_the_row_both_ways_while_running() {
    let world = application(4, Some(V3), true).await;
    let mut leader = java::leads(&world);
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER * 4).await;
    assert!(owners(&world).await.is_empty());

    set_version(&world, "CLIENT_VERSION_2X").await;
    tokio::time::sleep(POLL).await;
    until("leases are taken", async || world.texts("leaseOwner").await.len() == 4).await;
    assert_eq!(get(&world, APP, ("leaseKey", US)).await, None, "nobody reports after a rollback");

    set_version(&world, "CLIENT_VERSION_UPGRADE_FROM_2X").await;
    tokio::time::sleep(POLL).await;
    assert!(get(&world, APP, ("leaseKey", US)).await.is_some(), "the way to 3.x waits for everybody's report");
    assign(&world, 0, JAVA).await;
    until("it is taken back once it expires", async || of_lease(&world, 0, "leaseOwner").await.as_deref() == Some(US))
        .await;

    set_version(&world, "CLIENT_VERSION_3X_WITH_ROLLBACK").await;
    tokio::time::sleep(POLL).await;
    assert_eq!(owners(&world).await, BTreeSet::from([US.to_owned()]), "what is held stays held");
    assign(&world, 0, JAVA).await;
    tokio::time::sleep(FAILOVER * 6).await;
    assert_eq!(of_lease(&world, 0, "leaseOwner").await.as_deref(), Some(JAVA), "a lease was taken");

    set_version(&world, "CLIENT_VERSION_UPGRADE_FROM_2X").await;
    tokio::time::sleep(POLL).await;
    until("it is taken back", async || of_lease(&world, 0, "leaseOwner").await.as_deref() == Some(US)).await;
    set_version(&world, V3).await;
    tokio::time::sleep(POLL).await;
    assert_eq!(owners(&world).await, BTreeSet::from([US.to_owned()]), "what is held stays held");
    assign(&world, 1, JAVA).await;
    tokio::time::sleep(FAILOVER * 6).await;
    assert_eq!(of_lease(&world, 1, "leaseOwner").await.as_deref(), Some(JAVA), "a lease was taken");
    us.drained().await;
    leader.shutdown().await;
}

/// It was silent for a minute more, and took leases all the while.
#[tokio::test(start_paused = true)]
async fn a_version_that_could_not_be_read_is_read_again_within_seconds() {
    for fault in [Fault::Hang, Fault::Throttle] {
        let world = application(4, Some("CLIENT_VERSION_2X"), true).await;
        let us = run(world.consumer(US), &Recorder::new(Commit::Each));
        until("leases are taken", async || world.texts("leaseOwner").await.len() == 4).await;
        tokio::time::sleep(POLL / 2).await;
        // Of a worker that takes leases only this reads a row.
        world.dynamo.fail("GetItem", fault);
        set_version(&world, V3).await;
        until("it was asked in vain", async || world.dynamo.faults_left() == 0).await;
        tokio::time::sleep(FAILOVER).await;
        assert!(get(&world, APP, ("leaseKey", US)).await.is_some(), "it does not report yet after {fault:?}");
        us.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_ours_that_is_rolled_back_gives_up_its_lock() {
    let world = application(2, Some(V3), true).await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    until("we lead", async || get(&world, APP, ("leaseKey", "Leader")).await.is_some()).await;
    set_version(&world, "CLIENT_VERSION_2X").await;
    tokio::time::sleep(POLL).await;
    assert_eq!(get(&world, APP, ("leaseKey", "Leader")).await, None);
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_not_known_is_left_alone() {
    let world = application(2, Some("CLIENT_VERSION_4X"), true).await;
    let before = world.rows().await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    let Err(Error::Start(failure)) = us.ended().await else { panic!("it started") };
    assert!(failure.message.contains("CLIENT_VERSION_4X"), "{failure}");
    assert_eq!(world.rows().await, before);
}

fn without_type(mut row: Row, key: &str) -> Row {
    row.remove("entityType");
    let id = row.remove("leaseKey").unwrap();
    row.insert(key.to_owned(), id);
    row
}

/// Tables as KCL 3.0 to 3.4 lays them out.
async fn three_tables(shards: usize) -> Arc<World> {
    let world = application(shards, None, true).await;
    create_table(&world, COORDINATOR, "key", false).await;
    create_table(&world, METRICS, "wid", false).await;
    put(&world, COORDINATOR, Row::from([("key".into(), s("Migration3.0")), ("cv".into(), s(V3))])).await;
    world
}

#[tokio::test(start_paused = true)]
async fn three_tables_stay_three() {
    let world = three_tables(4).await;
    // A worker of Java that reports and finds what it is given.
    put(&world, METRICS, Row::from([("wid".into(), s(JAVA)), ("lut".into(), n(1_772_366_400))])).await;
    let mut java = java::renews(&world, vec![0, 1, 2, 3]);
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    until("the leases are divided", async || {
        let owners: Vec<_> = world.texts("leaseOwner").await.into_values().collect();
        owners.iter().filter(|owner| *owner == US).count() == 2 && owners.len() == 4
    })
    .await;
    let reported = get(&world, METRICS, ("wid", US)).await.unwrap();
    assert_eq!(
        reported.keys().collect::<BTreeSet<_>>(),
        ["lut", "opr", "sts", "wid"].map(String::from).iter().collect()
    );
    let lock = get(&world, COORDINATOR, ("key", "Leader")).await.unwrap();
    assert_eq!((&lock["ownerName"], lock.get("entityType")), (&s(US), None));
    assert_eq!(world.rows().await.len(), 4, "rows beside the leases");
    us.drained().await;
    assert_eq!(get(&world, COORDINATOR, ("key", "Leader")).await, None);
    assert_eq!(get(&world, METRICS, ("wid", US)).await, None);
    java.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_where_its_lock_is() {
    let world = three_tables(1).await;
    put(&world, COORDINATOR, without_type(lock_row(JAVA, "last"), "key")).await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    tokio::time::sleep(Duration::from_secs(115)).await;
    until("we lead", async || {
        get(&world, COORDINATOR, ("key", "Leader")).await.is_some_and(|row| row["ownerName"] == s(US))
    })
    .await;
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn rows_follow_when_three_tables_become_one() {
    let world = three_tables(2).await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    let migration = async |status: &str| {
        let row = Row::from([("key".into(), s("TableMigration3.5")), ("tm".into(), s(status))]);
        put(&world, COORDINATOR, row).await;
        tokio::time::sleep(POLL + Duration::from_secs(31)).await;
    };
    migration("TABLE_MIGRATION_STATUS_DEPLOYED").await;
    assert_eq!(world.rows().await.len(), 2);
    migration("TABLE_MIGRATION_STATUS_PENDING").await;
    assert!(world.rows().await.contains_key(US), "it still reports to the old table");
    assert!(get(&world, COORDINATOR, ("key", "Leader")).await.is_some(), "the lock moves last");
    set_version(&world, V3).await;
    migration("TABLE_MIGRATION_STATUS_COMPLETE").await;
    assert_eq!(world.rows().await["Leader"]["ownerName"], s(US));
    assert_eq!(get(&world, COORDINATOR, ("key", "Leader")).await, None);
    assert_eq!(owners(&world).await, BTreeSet::from([US.to_owned()]));
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn missing_tables_are_never_made() {
    // As if somebody had deleted the table of reports.
    let world = application(1, None, false).await;
    create_table(&world, COORDINATOR, "key", false).await;
    put(&world, COORDINATOR, Row::from([("key".into(), s("Migration3.0")), ("cv".into(), s(V3))])).await;
    let us = run(world.consumer(US).coordination(Coordination::Kcl3), &Recorder::new(Commit::Each));
    until("we are alone and have the lease", async || of_lease(&world, 0, "leaseOwner").await.as_deref() == Some(US))
        .await;
    tokio::time::sleep(FAILOVER * 10).await;
    us.drained().await;
    let created = world.dynamo.writes().into_iter().filter(|(operation, _)| operation.contains("Table"));
    let created: Vec<_> = created.map(|(_, request)| request["TableName"].as_str().unwrap().to_owned()).collect();
    assert_eq!(created, [APP, COORDINATOR], "the two of this test");
    report(&world, US).await;
}

#[tokio::test(start_paused = true)]
async fn a_role_that_may_use_the_lease_table_alone_has_enough() {
    for version in [None, Some(V3)] {
        let world = application(2, version, true).await;
        world.dynamo.deny(COORDINATOR);
        world.dynamo.deny(METRICS);
        let us = run(world.consumer(US), &Recorder::new(Commit::Each));
        until("the leases are ours", async || owners(&world).await == BTreeSet::from([US.to_owned()])).await;
        assert_eq!(world.rows().await.contains_key("Leader"), version.is_some());
        us.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_that_loses_the_table_that_says_how_leases_are_divided_takes_none() {
    let world = three_tables(2).await;
    put(&world, COORDINATOR, without_type(lock_row(JAVA, "last"), "key")).await;
    let us = run(world.consumer(US), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER / 2).await;
    world.dynamo.deny(COORDINATOR);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(owners(&world).await.is_empty(), "a lease was taken that a leader gives");
    us.drained().await;
}
