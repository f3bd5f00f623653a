use std::time::Duration;

use kinesink_consumer::{ConsumerBuilder, Start};
use kinesink_core::{Checkpoint, Clock as _};
use tokio::time::Instant;

use crate::recorder::{Commit, Recorder};
use crate::world::{FAILOVER, World, run, until};

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Runs until `expected` came, in this order, then kills.
async fn killed_after(consumer: ConsumerBuilder, commit: Commit, expected: &[&str]) {
    let recorder = Recorder::new(commit);
    let running = run(consumer, &recorder);
    let delivered = || recorder.records().into_values().flatten().collect::<Vec<_>>();
    until(&format!("{expected:?} came"), async || delivered().len() >= expected.len()).await;
    running.killed().await;
    assert_eq!(delivered(), expected);
}

#[tokio::test(start_paused = true)]
async fn after_a_drain_the_next_start_continues_at_once() {
    let world = World::new(1).await;
    world.put("key", &strings(&["a", "b"])).await;
    let first = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &first);
    until("both came", async || first.texts().len() >= 2).await;
    running.drained().await;
    world.put("key", &strings(&["c"])).await;
    let began = Instant::now();
    killed_after(world.consumer("two"), Commit::Each, &["c"]).await;
    assert!(began.elapsed() < FAILOVER, "a released lease was waited for");
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_the_same_worker_is_back_at_once_and_another_waits_until_the_lease_expired() {
    let world = World::new(1).await;
    world.put("key", &strings(&["a", "b", "c"])).await;
    killed_after(world.consumer("one"), Commit::After("b"), &["a", "b", "c"]).await;
    let began = Instant::now();
    killed_after(world.consumer("one"), Commit::Never, &["c"]).await;
    assert!(began.elapsed() < FAILOVER, "its own lease was waited for");
    let began = Instant::now();
    killed_after(world.consumer("two"), Commit::Never, &["c"]).await;
    assert!(began.elapsed() >= FAILOVER, "a lease was taken that may still be held");
    let rows = world.rows().await;
    assert_eq!(rows["shardId-000000000000"]["leaseOwner"].as_s().unwrap(), "two");
    assert_eq!(rows["shardId-000000000000"]["ownerSwitchesSinceCheckpoint"].as_n().unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn an_abort_returns_at_once_and_leaves_the_leases_to_expire() {
    let world = World::new(1).await;
    world.put("key", &strings(&["a"])).await;
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("one"), &recorder);
    until("it came", async || !recorder.texts().is_empty()).await;
    running.abort.cancel();
    let began = Instant::now();
    running.ended().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(world.texts("leaseOwner").await["shardId-000000000000"], "one");
}

#[tokio::test(start_paused = true)]
async fn latest_killed_before_its_first_checkpoint_loses_nothing() {
    let world = World::new(1).await;
    world.put("key", &strings(&["old"])).await;
    // Longer than the clocks of a worker and of the service are allowed to differ.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("one").start(Start::Latest), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    // The first read, which is when LATEST is asked for, is long over.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.put("key", &strings(&["a", "b"])).await;
    until("both came", async || recorder.texts().len() >= 2).await;
    running.killed().await;
    assert_eq!(recorder.texts(), ["a", "b"]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.put("key", &strings(&["c"])).await;
    for _ in 0..2 {
        let latest = world.consumer("one").start(Start::Latest);
        killed_after(latest, Commit::Never, &["a", "b", "c"]).await;
    }
    // Another worker reads the same start from the row.
    killed_after(world.consumer("two").start(Start::Latest), Commit::Never, &["a", "b", "c"]).await;
}

#[tokio::test(start_paused = true)]
async fn latest_whose_iterator_expires_before_the_first_record_loses_nothing() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Never);
    let idle = Duration::from_secs(400);
    let running = run(world.consumer("one").start(Start::Latest).idle(idle), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.put("key", &strings(&["a"])).await;
    until("it came", async || !recorder.texts().is_empty()).await;
    running.drained().await;
    assert_eq!(recorder.texts(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_a_time_begins_there_and_is_remembered() {
    let world = World::new(1).await;
    world.put("key", &strings(&["before"])).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let time = world.clock.now();
    world.put("key", &strings(&["a", "b"])).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    killed_after(world.consumer("one").start(Start::AtTimestamp(time)), Commit::Never, &["a", "b"]).await;
    assert_eq!(world.texts("checkpoint").await["shardId-000000000000"], Checkpoint::AtTimestamp.sequence_text());
    // A later setting does not move a start that was made.
    let later = world.clock.now();
    killed_after(world.consumer("one").start(Start::AtTimestamp(later)), Commit::Never, &["a", "b"]).await;
}
