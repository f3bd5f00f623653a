//! Which leases an application begins with.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_consumer::Start;
use kinesink_core::Clock as _;
use kinesink_emulator::{Fault as KinesisFault, FaultKind};

use crate::dynamo::Fault;
use crate::recorder::{Commit, Recorder};
use crate::resharding::QUARTER;
use crate::world::{APP, STREAM, World, run, until};

async fn split(world: &World, shard: &str, at: &str) {
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split(shard);
    split.new_starting_hash_key(at).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// Checkpoint of each lease.
async fn checkpoints(world: &World) -> BTreeMap<String, String> {
    world.texts("checkpoint").await.into_iter().collect()
}

/// The leases after a worker that reads nothing has started with `start`.
async fn synced(world: &World, start: Start) -> BTreeMap<String, String> {
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("one").start(start), &recorder);
    until("something is started", async || !recorder.starts().is_empty()).await;
    running.killed().await;
    checkpoints(world).await
}

fn expected(leases: &[(u32, &str)]) -> BTreeMap<String, String> {
    leases.iter().map(|(shard, at)| (format!("shardId-{shard:012}"), (*at).to_owned())).collect()
}

/// Shard 0 of two became 2 and 3; half an hour later 3 became 4 and 5.
async fn resharded() -> (World, jiff::Timestamp) {
    let world = World::new(2).await;
    tokio::time::sleep(Duration::from_secs(1800)).await;
    split(&world, "shardId-000000000000", QUARTER).await;
    let between = world.clock.now();
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let three_eighths = "127605887595351923798765477786913079296";
    split(&world, "shardId-000000000003", three_eighths).await;
    (world, between)
}

#[tokio::test(start_paused = true)]
async fn an_empty_table_gets_the_shards_of_its_start() {
    let (world, _) = resharded().await;
    let latest = synced(&world, Start::Latest).await;
    assert_eq!(latest, expected(&[(1, "LATEST"), (2, "LATEST"), (4, "LATEST"), (5, "LATEST")]));
    let (world, _) = resharded().await;
    let oldest = synced(&world, Start::TrimHorizon).await;
    assert_eq!(oldest, expected(&[(0, "TRIM_HORIZON"), (1, "TRIM_HORIZON")]));
    let (world, between) = resharded().await;
    let at_time = synced(&world, Start::AtTimestamp(between)).await;
    assert_eq!(at_time, expected(&[(1, "AT_TIMESTAMP"), (2, "AT_TIMESTAMP"), (3, "AT_TIMESTAMP")]));
}

async fn delete(world: &World, shard: &str) {
    let request = world.dynamo.client().delete_item().table_name(APP);
    request.key("leaseKey", AttributeValue::S(shard.into())).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_table_that_lacks_a_branch_gets_the_first_level_that_its_start_has_to_read() {
    for (start, made) in [(Start::Latest, "LATEST"), (Start::TrimHorizon, "TRIM_HORIZON")] {
        let (world, _) = resharded().await;
        synced(&world, Start::TrimHorizon).await;
        delete(&world, "shardId-000000000000").await;
        let left = synced(&world, start).await;
        let branch: &[u32] = if start == Start::Latest { &[2, 4, 5] } else { &[0] };
        let mut leases: Vec<_> = branch.iter().map(|shard| (*shard, made)).collect();
        leases.push((1, "TRIM_HORIZON"));
        assert_eq!(left, expected(&leases), "{start:?}");
    }
    let (world, between) = resharded().await;
    synced(&world, Start::TrimHorizon).await;
    delete(&world, "shardId-000000000000").await;
    // As KCL: the oldest shard, read from the time.
    let left = synced(&world, Start::AtTimestamp(between)).await;
    assert_eq!(left, expected(&[(0, "AT_TIMESTAMP"), (1, "TRIM_HORIZON")]));
}

#[tokio::test(start_paused = true)]
async fn a_listing_and_a_scan_of_many_pages_are_read_to_their_end() {
    // ListShards gives a thousand at once.
    let world = World::new(1_100).await;
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("one").max_leases(1), &recorder);
    until("one is started", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    assert_eq!(world.rows().await.len(), 1_100);
    // A page of a scan ends at a megabyte: whichever rows come first, the last are many pages on.
    for shard in (0..1_100).step_by(100) {
        let key = AttributeValue::S(format!("shardId-{shard:012}"));
        let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", key);
        let request = request.update_expression("SET padding = :padding");
        request.expression_attribute_values(":padding", AttributeValue::S("x".repeat(390_000))).send().await.unwrap();
    }
    let pages = world.dynamo.client().scan().table_name(APP).send().await.unwrap();
    assert!(pages.last_evaluated_key.is_some(), "the table fits a page");
    let writes = world.dynamo.writes().len();
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("two").max_leases(1), &recorder);
    until("one is started", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    let creates = world.dynamo.writes()[writes..].iter().filter(|(operation, _)| operation == "PutItem").count();
    assert_eq!(creates, 0, "a lease that the scan had not seen was created");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_listed_late_does_not_begin_children_of_a_shard_that_another_reads() {
    let world = World::new(1).await;
    world.dynamo.fail("Scan", Fault::Slow(Duration::from_secs(20)));
    let late = run(world.consumer("late").start(Start::Latest), &Recorder::new(Commit::Never));
    until("its scan is under way", async || world.dynamo.faults_left() == 0).await;
    let recorder = Recorder::new(Commit::Never);
    let early = run(world.consumer("early").start(Start::Latest), &recorder);
    until("the other has begun", async || !recorder.starts().is_empty()).await;
    let began = tokio::time::Instant::now();
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key("1000").send().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "the scan has been answered");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(checkpoints(&world).await, expected(&[(0, "LATEST")]), "the end of the parent creates its children");
    late.drained().await;
    early.drained().await;
}

/// Found by seed 3643 of the simulation: a scan in the midst of another worker's creates, then a listing for which the
/// service had no room for a minute.
#[tokio::test(start_paused = true)]
async fn a_worker_that_saw_some_leases_and_listed_late_does_not_begin_children_of_the_others() {
    let world = World::new(2).await;
    synced(&world, Start::Latest).await;
    let not_yet = world.rows().await.remove("shardId-000000000000").unwrap();
    delete(&world, "shardId-000000000000").await;
    let kind = FaultKind::Error { code: "LimitExceededException".into(), message: "no room".into() };
    // The first listing sees whether the stream is there.
    world.emulator.faults().push(KinesisFault::on("ListShards", FaultKind::DelayMs(1))).unwrap();
    world.emulator.faults().push(KinesisFault::on("ListShards", kind).times(45)).unwrap();
    let late = run(world.consumer("late").start(Start::Latest), &Recorder::new(Commit::Never));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.dynamo.client().put_item().table_name(APP).set_item(Some(not_yet)).send().await.unwrap();
    split(&world, "shardId-000000000000", QUARTER).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let left = expected(&[(0, "LATEST"), (1, "LATEST")]);
    assert_eq!(checkpoints(&world).await, left, "the end of the parent creates its children");
    late.drained().await;
}
