//! Checkpoints whose records have left the stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{BeyondRetention, ConsumerBuilder, Finished, Retrieval, Shard, ShardHandler, Start};
use kinesink_core::{Clock as _, Failure};
use prometheus_client::registry::Registry;

use crate::recorder::{Commit, Recorder};
use crate::world::{World, metric, run, run_counted, until};

const SHARD: &str = "shardId-000000000000";

/// A recorder that keeps what it was told.
struct Told(Arc<Recorder>, Mutex<Vec<String>>);

#[async_trait]
impl ShardHandler for Told {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        self.0.run(shard).await.inspect_err(|failure| self.1.lock().unwrap().push(failure.message.clone()))
    }
}

/// A checkpoint at `a`, of which nothing is left; `b` was never checkpointed, and `c` came a day later.
async fn behind() -> World {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned(), "b".to_owned()]).await;
    let recorder = Recorder::new(Commit::After("a"));
    let running = run(world.consumer("one"), &recorder);
    until("both came", async || recorder.texts().len() == 2).await;
    running.killed().await;
    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    world.put("key", &["c".to_owned()]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world
}

fn fetched(consumer: ConsumerBuilder, fan_out: bool) -> ConsumerBuilder {
    if fan_out { consumer.retrieval(Retrieval::FanOut { consumer: None }) } else { consumer }
}

#[tokio::test(start_paused = true)]
async fn by_default_reading_goes_on_at_the_oldest_record_and_the_gap_is_counted() {
    for fan_out in [false, true] {
        let world = behind().await;
        for (gaps, text) in [(1, "c"), (0, "d")] {
            let (recorder, mut registry) = (Recorder::new(Commit::Each), Registry::default());
            let running = run_counted(fetched(world.consumer("one"), fan_out), &recorder, &mut registry);
            until("it came", async || recorder.texts() == [text]).await;
            assert_eq!(metric(&registry, "checkpoints_beyond_retention_total"), gaps, "{text}");
            running.drained().await;
            world.put("key", &["d".to_owned()]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_at_the_start_where_that_is_chosen() {
    for fan_out in [false, true] {
        let world = behind().await;
        let recorder = Recorder::new(Commit::Each);
        let choice = world.consumer("one").start(Start::Latest).beyond_retention(BeyondRetention::Start);
        let running = run(fetched(choice, fan_out), &recorder);
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.put("key", &["d".to_owned()]).await;
        until("it came", async || !recorder.texts().is_empty()).await;
        running.drained().await;
        assert_eq!(recorder.texts(), ["d"]);

        let world = behind().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let time = world.clock.now();
        world.put("key", &["d".to_owned()]).await;
        let recorder = Recorder::new(Commit::Each);
        let choice = world.consumer("one").start(Start::AtTimestamp(time)).beyond_retention(BeyondRetention::Start);
        let running = run(fetched(choice, fan_out), &recorder);
        until("it came", async || !recorder.texts().is_empty()).await;
        running.drained().await;
        assert_eq!(recorder.texts(), ["d"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_waits_for_somebody_where_that_is_chosen_and_both_times_are_named() {
    for fan_out in [false, true] {
        let world = behind().await;
        let told = Arc::new(Told(Recorder::new(Commit::Each), Mutex::default()));
        let choice = world.consumer("one").beyond_retention(BeyondRetention::Fail);
        let running = run(fetched(choice, fan_out), &told);
        tokio::time::sleep(Duration::from_secs(300)).await;
        running.drained().await;
        assert_eq!(told.0.texts(), Vec::<String>::new());
        let checkpoint = world.texts("checkpoint").await.remove(SHARD).unwrap();
        let said = told.1.lock().unwrap().first().cloned().unwrap();
        for part in [SHARD, &checkpoint, "2026-03-01T12:00:0", "2026-03-02T13:00:", "move the checkpoint"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        // Somebody chooses.
        let recorder = Recorder::new(Commit::Each);
        let running = run(fetched(world.consumer("one"), fan_out), &recorder);
        until("the rest came", async || recorder.texts() == ["c"]).await;
        running.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_ended_with_nothing_left_of_it_is_a_gap_too() {
    let world = behind().await;
    let split = world.kinesis.split_shard().stream_name(crate::world::STREAM).shard_to_split(SHARD);
    split.new_starting_hash_key("1000").send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(24 * 3600 - 1800)).await;
    let (recorder, mut registry) = (Recorder::new(Commit::Each), Registry::default());
    let running = run_counted(world.consumer("one"), &recorder, &mut registry);
    until("its children are read", async || recorder.starts().len() == 3).await;
    assert_eq!(metric(&registry, "checkpoints_beyond_retention_total"), 1);
    running.drained().await;
}
