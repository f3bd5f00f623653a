use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::Failure;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::recorder::{Commit, Event, Recorder};
use crate::world::{STREAM, World, run, until};

/// The middle of the first of two equal shards.
pub(crate) const QUARTER: &str = "85070591730234615865843651857942052864";

pub(crate) async fn listed(world: &World) -> BTreeMap<String, Vec<String>> {
    let reply = world.kinesis.list_shards().stream_name(STREAM).send().await.unwrap();
    let shards = reply.shards.unwrap().into_iter().map(|shard| {
        let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
        (shard.shard_id, parents.into_iter().flatten().collect())
    });
    shards.collect()
}

pub(crate) async fn put_all(world: &World, round: &str, all: &mut Vec<String>) {
    for key in 0..12 {
        let texts: Vec<_> = (0..40).map(|number| format!("{round}-{key}-{number:03}")).collect();
        world.put(&format!("key{key}"), &texts).await;
        all.extend(texts);
    }
}

/// Invariant 4, and the order of writes at a shard's end.
pub(crate) fn check(events: &[Event], writes: &[(String, Value)], parents: &BTreeMap<String, Vec<String>>) {
    for (child, parents) in parents {
        let first =
            events.iter().position(|event| matches!(event, Event::Started(shard, _) if shard.as_str() == child));
        let first = first.unwrap_or_else(|| panic!("{child} was never started"));
        for parent in parents {
            let of_parent = |event: &Event| match event {
                Event::Record(shard, ..) | Event::Committed(shard, _) => shard.as_str() == parent,
                _ => false,
            };
            let last = events.iter().rposition(of_parent).unwrap();
            assert!(last < first, "{child} started before {parent} was done");
            let key = |write: &(String, Value)| {
                write.1.pointer("/Key/leaseKey/S").or(write.1.pointer("/Item/leaseKey/S")).cloned()
            };
            let ended = writes.iter().position(|write| {
                key(write) == Some(parent.as_str().into())
                    && write.0 == "UpdateItem"
                    && write.1.to_string().contains("SHARD_END")
            });
            let created =
                writes.iter().position(|write| key(write) == Some(child.as_str().into()) && write.0 == "PutItem");
            assert!(created.unwrap() < ended.unwrap(), "{parent} ended before {child} had a lease");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn splits_and_merges_under_load_keep_parents_before_children() {
    let world = World::new(2).await;
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &recorder);
    until("reading has begun", async || !recorder.texts().is_empty()).await;

    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    put_all(&world, "b", &mut all).await;
    // Shard 0 became 2 and 3; 3 and 1 are neighbours.
    let merge = world.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000003");
    merge.adjacent_shard_to_merge("shardId-000000000001").send().await.unwrap();
    put_all(&world, "c", &mut all).await;

    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);

    let parents = listed(&world).await;
    assert_eq!(parents.len(), 5);
    check(&recorder.events(), &world.dynamo.writes(), &parents);
    let rows = world.rows().await;
    let set = |row: &str, attribute: &str| {
        let mut set = rows[row].get(attribute).unwrap().as_ss().unwrap().clone();
        set.sort();
        set
    };
    assert_eq!(set("shardId-000000000000", "childShardIds"), ["shardId-000000000002", "shardId-000000000003"]);
    assert_eq!(set("shardId-000000000004", "parentShardId"), ["shardId-000000000001", "shardId-000000000003"]);
    for ended in ["shardId-000000000000", "shardId-000000000001", "shardId-000000000003"] {
        assert_eq!(rows[ended]["checkpoint"].as_s().unwrap(), "SHARD_END");
    }
    let hash_key = |attribute: &str| rows["shardId-000000000004"][attribute].as_s().unwrap().clone();
    assert_eq!((hash_key("startingHashKey").as_str(), hash_key("endingHashKey")), (QUARTER, u128::MAX.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_resharded_before_the_first_start_is_read_from_its_oldest_shards() {
    let world = World::new(1).await;
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    put_all(&world, "b", &mut all).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &recorder);
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);
    check(&recorder.events(), &world.dynamo.writes(), &listed(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_end_is_not_committed_keeps_its_children_waiting() {
    let world = World::new(1).await;
    world.put("key", &["parents".to_owned()]).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    world.put("key", &["childs".to_owned()]).await;
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("a"), &recorder);
    until("the parent is read", async || !recorder.texts().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    running.drained().await;
    assert_eq!(recorder.texts(), ["parents"]);
    assert_eq!(recorder.starts().len(), 1);
}

/// Says at first that its shard is read to its end, and has committed nothing; a recorder when it is started again.
struct Hasty {
    recorder: Arc<Recorder>,
    left: AtomicBool,
}

#[async_trait]
impl ShardHandler for Hasty {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        if !self.left.swap(true, Ordering::Relaxed) {
            return Ok(Finished::ShardEnd);
        }
        self.recorder.run(shard).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_not_committed_is_not_believed_and_the_shard_is_read() {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    let hasty = Arc::new(Hasty { recorder: Recorder::new(Commit::Each), left: AtomicBool::default() });
    let running = run(world.consumer("a"), &hasty);
    until("the record is delivered", async || !hasty.recorder.texts().is_empty()).await;
    running.drained().await;
    assert_eq!(hasty.recorder.texts(), ["a"]);
}

/// A recorder whose first shard stands still until it may go on.
struct Lagging {
    recorder: Arc<Recorder>,
    go_on: CancellationToken,
}

impl Lagging {
    fn new() -> Arc<Self> {
        Arc::new(Self { recorder: Recorder::new(Commit::Each), go_on: CancellationToken::new() })
    }
}

#[async_trait]
impl ShardHandler for Lagging {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        if shard.id.as_str() == "shardId-000000000000" {
            tokio::select! {
                () = self.go_on.cancelled() => {}
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
            }
        }
        self.recorder.run(shard).await
    }
}

/// Shard 0 becomes 2 and 3, then 3 and 1 become 4.
async fn split_and_merged(all: &mut Vec<String>) -> World {
    let world = World::new(2).await;
    put_all(&world, "a", all).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    put_all(&world, "b", all).await;
    let merge = world.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000003");
    merge.adjacent_shard_to_merge("shardId-000000000001").send().await.unwrap();
    put_all(&world, "c", all).await;
    all.sort();
    world
}

#[tokio::test(start_paused = true)]
async fn a_merged_shard_waits_for_a_parent_that_has_no_lease_yet() {
    let mut all = Vec::new();
    let world = split_and_merged(&mut all).await;
    let lagging = Lagging::new();
    let recorder = &lagging.recorder;
    let running = run(world.consumer("a"), &lagging);
    until("shard 1 is read", async || !recorder.texts().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!world.rows().await.contains_key("shardId-000000000004"), "a merged shard has a lease before its parent");
    lagging.go_on.cancel();
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    assert_eq!(recorder.texts(), all);
    check(&recorder.events(), &world.dynamo.writes(), &listed(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_the_parent_of_a_merged_shard() {
    let mut all = Vec::new();
    let world = split_and_merged(&mut all).await;
    let lagging = Lagging::new();
    let running = run(world.consumer("a"), &lagging);
    until("shard 1 is read", async || !lagging.recorder.texts().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let began = tokio::time::Instant::now();
    running.drained().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(world.texts("leaseOwner").await.is_empty(), "a drained lease was not released");
    assert_ne!(world.texts("checkpoint").await["shardId-000000000001"], "SHARD_END");

    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("b"), &recorder);
    let delivered = || lagging.recorder.texts().len() + recorder.texts().len();
    until("everything is delivered", async || delivered() >= all.len()).await;
    running.drained().await;
    let mut delivered = [lagging.recorder.texts(), recorder.texts()].concat();
    delivered.sort();
    assert_eq!(delivered, all);
}
