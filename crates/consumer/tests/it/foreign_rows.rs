//! Tables that Java KCL 1.x, 2.x and 3.x wrote: dumps of real ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use kinesink_consumer::{Finished, Shard, ShardHandler, Start};
use kinesink_core::{Clock as _, Failure};

use crate::dumps::{self, Row};
use crate::recorder::{Commit, Recorder};
use crate::world::{APP, FAILOVER, STREAM, World, run, until};

/// Holds its shards and does nothing with them.
struct Idle;

#[async_trait]
impl ShardHandler for Idle {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        shard.drain.cancelled().await;
        Ok(Finished::Drained)
    }
}

/// The rows of a dump, whose workers are gone.
fn lease_table(file: &Path) -> Vec<Row> {
    let mut rows = dumps::lease_table(file);
    // The dumps are younger than the tests' clock: an hour before it.
    for reported in rows.iter_mut().filter_map(|row| row.get_mut("lut")) {
        *reported = AttributeValue::N("1772362800".into());
    }
    rows
}

/// The stream that the table's leases are of: four shards, or two of which the first was split.
async fn stream_of(rows: &[Row]) -> World {
    if !rows.iter().any(|row| row.contains_key("parentShardId")) {
        return World::new(4).await;
    }
    let world = World::new(2).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key("1000").send().await.unwrap();
    world
}

pub(crate) async fn fill(world: &World, rows: &[Row]) {
    let client = world.dynamo.client();
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().unwrap();
    let attribute = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S);
    let create = client.create_table().table_name(APP).key_schema(key);
    let create = create.attribute_definitions(attribute.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
    create.send().await.unwrap();
    for row in rows {
        client.put_item().table_name(APP).set_item(Some(row.clone())).send().await.unwrap();
    }
}

/// Written where a leader assigns.
const THROUGHPUT: &str = "throughputKBps";

/// Rows that nobody here touches: versions, and reports of workers that are gone.
fn others(rows: &[Row]) -> usize {
    let keys = rows.iter().map(|row| row["leaseKey"].as_s().unwrap());
    keys.filter(|key| !key.starts_with("shardId-") && *key != "Leader").count()
}

/// What this worker writes when it takes and renews a lease.
const OURS: [&str; 8] = [
    THROUGHPUT,
    "leaseOwner",
    "leaseCounter",
    "ownerSwitchesSinceCheckpoint",
    "checkpointOwner",
    "kinesink_token",
    "kinesink_owner",
    "kinesink_start_ms",
];

fn foreign(row: &Row) -> Vec<(&String, &AttributeValue)> {
    let mut foreign: Vec<_> = row.iter().filter(|(name, _)| !OURS.contains(&name.as_str())).collect();
    foreign.sort_by_key(|(name, _)| *name);
    foreign
}

#[tokio::test(start_paused = true)]
async fn the_tables_of_java_are_taken_over_and_nothing_foreign_in_them_changes() {
    let files = dumps::of_java_alone();
    assert_eq!(files.len(), 12);
    for path in files {
        let name = path.display();
        let before = lease_table(&path);
        let is_lease = |row: &&Row| row.contains_key("checkpoint");
        let world = stream_of(&before).await;
        fill(&world, &before).await;
        let running = run(world.consumer("kinesink"), &Arc::new(Idle));
        tokio::time::sleep(FAILOVER * 6).await;
        let after = world.rows().await;
        running.drained().await;
        let is_kcl3 = before.iter().any(|row| row.contains_key("cv"));
        // A worker of KCL 3.x reports; it leads once the leader is dead, as all are who are in these dumps.
        let theirs =
            |key: &&String| key.starts_with("shardId-") || (is_kcl3 && (*key == "kinesink" || *key == "Leader"));
        assert_eq!(after.keys().filter(theirs).count(), after.len() - others(&before), "{name}: {:?}", after.keys());
        for row in &before {
            let key = row["leaseKey"].as_s().unwrap();
            let now = &after[key];
            if !is_lease(&row) {
                assert!(now == row || key == "Leader", "{name}: {key} is not ours to touch");
                continue;
            }
            assert_eq!(foreign(now), foreign(row), "{name}: {key}");
            assert!(is_kcl3 || now.get(THROUGHPUT) == row.get(THROUGHPUT), "{name}: {key}");
            let counter = |row: &Row| row["leaseCounter"].as_n().unwrap().parse::<u64>().unwrap();
            // Finished ones too, as KCL takes them: somebody has to delete them one day.
            assert_eq!(now["leaseOwner"].as_s().unwrap(), "kinesink", "{name}: {key}");
            assert!(counter(now) > counter(row) && !now.contains_key("checkpointOwner"), "{name}: {key}");
        }
    }
}

/// A lease as Java creates it, of the one shard.
pub(crate) fn unread(checkpoint: &str) -> Row {
    let number = || AttributeValue::N("0".into());
    Row::from([
        ("leaseKey".into(), AttributeValue::S("shardId-000000000000".into())),
        ("leaseCounter".into(), number()),
        ("ownerSwitchesSinceCheckpoint".into(), number()),
        ("checkpoint".into(), AttributeValue::S(checkpoint.into())),
        ("checkpointSubSequenceNumber".into(), number()),
    ])
}

/// What is delivered of "old", put a minute before the lease is taken, and "new", put after.
async fn delivered(checkpoint: &str, start: impl FnOnce(&World) -> Start) -> (Vec<String>, Option<AttributeValue>) {
    let world = World::new(1).await;
    fill(&world, &[unread(checkpoint)]).await;
    world.put("key", &["old".to_owned()]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let start = start(&world);
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("kinesink").start(start), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.put("key", &["new".to_owned()]).await;
    until("the new one came", async || recorder.texts().contains(&"new".to_owned())).await;
    running.drained().await;
    let start = world.rows().await["shardId-000000000000"].get("kinesink_start_ms").cloned();
    (recorder.records().remove("shardId-000000000000").unwrap(), start)
}

#[tokio::test(start_paused = true)]
async fn a_row_of_java_that_starts_at_a_time_we_do_not_know_is_read_from_the_oldest_record() {
    for start in [Start::TrimHorizon, Start::Latest] {
        assert_eq!(delivered("AT_TIMESTAMP", |_| start).await, (vec!["old".to_owned(), "new".to_owned()], None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_of_java_starts_where_it_says_whatever_our_setting_is() {
    let at_the_present = |world: &World| Start::AtTimestamp(world.clock.now());
    assert_eq!(delivered("AT_TIMESTAMP", at_the_present).await.0, ["new"]);
    let long_ago = |world: &World| Start::AtTimestamp(world.clock.now() - Duration::from_secs(3600));
    let (texts, start) = delivered("LATEST", long_ago).await;
    assert_eq!(texts, ["new"]);
    // Ten seconds before it was taken, at 12:01.
    assert_eq!(start, Some(AttributeValue::N("1772366450000".into())));
    assert_eq!(delivered("TRIM_HORIZON", |_| Start::Latest).await, (vec!["old".to_owned(), "new".to_owned()], None));
}
