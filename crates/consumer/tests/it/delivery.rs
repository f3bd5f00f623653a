use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::kinesis::primitives::Blob;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Budget, Checkpoint, Failure};
use kinesink_kpl::Aggregator;

use crate::recorder::{Commit, Event, Recorder};
use crate::world::{World, run, until};

fn texts(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:05}")).collect()
}

#[tokio::test(start_paused = true)]
async fn every_record_comes_once_in_its_shards_order_and_a_drain_gives_the_leases_back() {
    let world = World::new(4).await;
    let keys: Vec<_> = (0..16).map(|key| format!("key{key}")).collect();
    let mut all = Vec::new();
    for key in &keys {
        let of_key = texts(key, 700);
        world.put(key, &of_key).await;
        all.extend(of_key);
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &recorder);
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    // What comes while it runs comes too.
    let late = texts("late", 50);
    world.put("key3", &late).await;
    all.extend(late);
    until("the late ones are delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;

    all.sort();
    assert_eq!(recorder.texts(), all);
    assert_eq!(recorder.records().len(), 4, "every shard got some of 16 keys");
    for (shard, delivered) in recorder.records() {
        for key in &keys {
            let of_key: Vec<_> = delivered.iter().filter(|text| text.starts_with(&format!("{key}-"))).collect();
            assert!(of_key.is_sorted(), "{shard} mixed up {key}");
        }
    }
    assert!(world.texts("leaseOwner").await.is_empty(), "a lease is still owned");
    let checkpoints = world.texts("checkpoint").await;
    for (shard, position) in recorder.events().into_iter().filter_map(|event| match event {
        Event::Record(shard, position, _) => Some((shard.to_string(), position)),
        _ => None,
    }) {
        let stored: kinesink_core::SequenceNumber = checkpoints[&shard].parse().unwrap();
        assert!(stored >= position.sequence, "{shard} stands at {stored}, before {position}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_smaller_than_the_stream_delivers_everything_and_is_given_back() {
    let world = World::new(2).await;
    let budget = Budget::new(256 * 1024);
    let mut all = BTreeSet::new();
    for key in 0..8 {
        let big: Vec<_> = (0..20).map(|number| format!("{key}-{number}-{}", "x".repeat(50_000))).collect();
        world.put(&format!("key{key}"), &big).await;
        all.extend(big);
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a").budget(budget.clone()), &recorder);
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    assert!(recorder.texts().into_iter().eq(all));
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_is_unpacked_and_resumed_in_its_middle() {
    let world = World::new(1).await;
    let mut aggregator = Aggregator::default();
    for text in ["one", "two", "three", "four"] {
        aggregator.push("key", None, text.as_bytes()).unwrap();
    }
    let envelope = aggregator.finish().unwrap();
    let put = world.kinesis.put_record().stream_name(crate::world::STREAM).partition_key(&envelope.partition_key);
    put.data(Blob::new(envelope.data.clone())).send().await.unwrap();
    world.put("key", &["five".to_owned()]).await;

    let first = Recorder::new(Commit::After("two"));
    let running = run(world.consumer("a"), &first);
    until("all five are delivered", async || first.texts().len() >= 5).await;
    running.killed().await;
    assert_eq!(first.records()["shardId-000000000000"], ["one", "two", "three", "four", "five"]);
    assert_eq!(world.rows().await["shardId-000000000000"]["checkpointSubSequenceNumber"].as_n().unwrap(), "1");

    let second = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &second);
    until("the rest is delivered", async || second.texts().len() >= 3).await;
    running.drained().await;
    assert_eq!(second.records()["shardId-000000000000"], ["three", "four", "five"]);
}

#[tokio::test(start_paused = true)]
async fn empty_large_and_broken_data_comes_as_it_is() {
    let world = World::new(1).await;
    let megabyte = "m".repeat(1024 * 1024 - 100);
    // The magic of an aggregate, and nothing after it that makes sense.
    let put = |data: Vec<u8>| {
        let put = world.kinesis.put_record().stream_name(crate::world::STREAM).partition_key("key");
        put.data(Blob::new(data)).send()
    };
    for data in [Vec::new(), megabyte.clone().into_bytes(), b"plain".to_vec()] {
        put(data).await.unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &recorder);
    until("all are delivered", async || recorder.texts().len() >= 3).await;
    running.drained().await;
    assert_eq!(recorder.records()["shardId-000000000000"], ["".to_owned(), megabyte, "plain".to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_stream_is_waited_on_and_drained() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("a"), &recorder);
    until("both shards are started", async || recorder.starts().len() >= 2).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(recorder.starts().len(), 2, "a shard without records was restarted");
    running.drained().await;
    assert!(
        world
            .texts("checkpoint")
            .await
            .values()
            .all(|checkpoint| checkpoint == &Checkpoint::TrimHorizon.sequence_text())
    );
}

/// A recorder whose first shards take a reply and keep it.
struct Keeping {
    recorder: Arc<Recorder>,
    keeping: BTreeSet<&'static str>,
}

#[async_trait]
impl ShardHandler for Keeping {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        if self.keeping.contains(shard.id.as_str()) {
            let kept = shard.reader.next().await?;
            shard.drain.cancelled().await;
            drop(kept);
            return Ok(Finished::Drained);
        }
        self.recorder.run(shard).await
    }
}

#[tokio::test(start_paused = true)]
async fn shards_that_keep_their_memory_do_not_starve_the_others() {
    let world = World::new(8).await;
    let mut others = Vec::new();
    for shard in 0..8_u128 {
        for number in 0..60 {
            let text = format!("{shard}-{number:02}-{}", "x".repeat(20_000));
            let put = world.kinesis.put_record().stream_name(crate::world::STREAM).partition_key("key");
            let put = put.explicit_hash_key(((u128::MAX / 8 + 1) * shard).to_string());
            put.data(Blob::new(text.as_bytes())).send().await.unwrap();
            if shard >= 2 {
                others.push(text);
            }
        }
    }
    // What the two keep is more than half of it, and all that there is twice as much.
    let budget = Budget::new(4 * 1024 * 1024);
    let keeping = BTreeSet::from(["shardId-000000000000", "shardId-000000000001"]);
    let handler = Arc::new(Keeping { recorder: Recorder::new(Commit::Each), keeping });
    let running = run(world.consumer("a").budget(budget.clone()), &handler);
    until("the others are delivered", async || handler.recorder.texts().len() >= others.len()).await;
    running.drained().await;
    assert_eq!(handler.recorder.texts(), others);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}
