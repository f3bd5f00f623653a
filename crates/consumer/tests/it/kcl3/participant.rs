//! A leader assigns leases to us, and has them handed over.

use std::sync::Arc;
use std::time::Duration;

use kinesink_consumer::Finished;
use kinesink_core::Clock as _;
use tokio::time::Instant;

use super::java::{self, JAVA, V3, application, assign, complete, get, initiate, lease, n, of_lease, owned, s, shard};
use crate::dynamo::Fault;
use crate::fleet::Stubborn;
use crate::recorder::{Commit, Event, Recorder};
use crate::world::{APP, FAILOVER, World, run, until};

const US: &str = "kinesink";

fn texts(tag: &str) -> Vec<String> {
    (0..40).map(|number| format!("{tag}{number}")).collect()
}

/// Whether the shard is read now.
fn runs(recorder: &Recorder, index: usize) -> bool {
    let mut runs = false;
    for event in recorder.events() {
        match event {
            Event::Started(id, _) if id.as_str() == shard(index) => runs = true,
            Event::Stopped(id, _) if id.as_str() == shard(index) => runs = false,
            _ => {}
        }
    }
    runs
}

async fn starts(recorder: &Recorder, index: usize) {
    until("the shard is read", async || runs(recorder, index)).await;
}

/// What was delivered, each once.
fn assert_once(recorder: &Recorder, mut all: Vec<String>) {
    all.sort();
    assert_eq!(recorder.texts(), all);
}

#[tokio::test(start_paused = true)]
async fn leases_are_found_and_none_is_taken() {
    for has_index in [true, false] {
        let world = application(4, Some(V3), has_index).await;
        let mut leader = java::leads(&world);
        let recorder = Recorder::new(Commit::Each);
        let us = run(world.consumer(US), &recorder);
        for _ in 0..10 {
            tokio::time::sleep(FAILOVER * 2).await;
            assert!(world.texts("leaseOwner").await.is_empty(), "a lease was taken");
            let report = get(&world, APP, ("leaseKey", US)).await.unwrap();
            let reported: i64 = report["lut"].as_n().unwrap().parse().unwrap();
            assert!(world.clock.now().as_second() - reported <= 30, "no report");
            assert_eq!(get(&world, APP, ("leaseKey", "Leader")).await.unwrap()["ownerName"], s(JAVA));
        }
        for index in [1, 3] {
            assign(&world, index, US).await;
            let assigned = Instant::now();
            starts(&recorder, index).await;
            assert!(assigned.elapsed() <= Duration::from_secs(2), "found after {:?}", assigned.elapsed());
        }
        assert!(lease(&world, 3).await["leaseCounter"] != n(1), "it is not renewed");
        tokio::time::sleep(FAILOVER * 6).await;
        let owners = [(shard(1), US.to_owned()), (shard(3), US.to_owned())];
        assert_eq!(world.texts("leaseOwner").await, owners.into());
        us.drained().await;
        assert!(world.texts("leaseOwner").await.is_empty(), "given back");
        assert_eq!(get(&world, APP, ("leaseKey", US)).await, None, "a leader would assign to one that has left");
        leader.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn throughput_is_stored_with_renewals() {
    let world = application(1, Some(V3), true).await;
    let mut leader = java::leads(&world);
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer(US), &recorder);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assign(&world, 0, US).await;
    starts(&recorder, 0).await;
    // 10 KiB a second.
    for _ in 0..120 {
        world.put("key", &["x".repeat(10 * 1024)]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let row = lease(&world, 0).await;
    let kbps = row["throughputKBps"].as_n().unwrap();
    let stored: f64 = kbps.parse().unwrap();
    assert!((8.0..12.0).contains(&stored), "{stored} KB/s");
    assert!(kbps.split_once('.').is_none_or(|(_, digits)| digits.len() <= 6), "{kbps}");
    us.drained().await;
    leader.shutdown().await;
}

/// An application whose first lease is ours, and read.
async fn with_a_lease(recorder: &Arc<Recorder>) -> (Arc<World>, crate::world::Running, tokio::task::JoinSet<()>) {
    let world = application(1, Some(V3), true).await;
    let leader = java::leads(&world);
    let us = run(world.consumer(US), recorder);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assign(&world, 0, US).await;
    starts(recorder, 0).await;
    (world, us, leader)
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_handed_over_after_the_last_checkpoint_and_comes_back_without_a_gap() {
    let recorder = Recorder::new(Commit::Each);
    let (world, us, mut leader) = with_a_lease(&recorder).await;
    let mut all = texts("a");
    world.put("key", &all).await;
    until("they are delivered", async || recorder.texts().len() == all.len()).await;
    let before = lease(&world, 0).await;
    initiate(&world, 0, US, JAVA).await;
    assert_eq!(lease(&world, 0).await["leaseCounter"], before["leaseCounter"]);
    owned(&world, 0, JAVA).await;
    let given = lease(&world, 0).await;
    assert_ne!(given["leaseCounter"], before["leaseCounter"], "the old owner is not fenced");
    assert!(!given.contains_key("kinesink_owner"), "a Java worker is marked as one of ours");
    let last = recorder.events().into_iter().rev().find_map(|event| match event {
        Event::Committed(_, checkpoint) => Some(checkpoint),
        _ => None,
    });
    assert_eq!(given["checkpoint"].as_s().unwrap(), &last.unwrap().sequence_text());
    until("the run has ended", async || !runs(&recorder, 0)).await;
    assert!(recorder.events().iter().any(|event| matches!(event, Event::Stopped(_, Some(Finished::Drained)))));
    let more = texts("b");
    world.put("key", &more).await;
    all.extend(more);
    let mut java = java::renews(&world, vec![0]);
    tokio::time::sleep(FAILOVER * 3).await;
    assert!(!runs(&recorder, 0));

    initiate(&world, 0, JAVA, US).await;
    tokio::time::sleep(FAILOVER).await;
    assert!(!runs(&recorder, 0), "it is still the old owner's");
    complete(&world, 0, US).await;
    java.shutdown().await;
    until("all are delivered", async || recorder.texts().len() >= all.len()).await;
    assert_eq!(of_lease(&world, 0, "checkpointOwner").await, None);
    assert_once(&recorder, all);
    us.drained().await;
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_drain_is_dropped_and_its_lease_handed_over() {
    let recorder = Recorder::new(Commit::Each);
    let world = application(1, Some(V3), true).await;
    let mut leader = java::leads(&world);
    let us = run(world.consumer(US), &Arc::new(Stubborn(Arc::clone(&recorder))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assign(&world, 0, US).await;
    starts(&recorder, 0).await;
    initiate(&world, 0, US, JAVA).await;
    let initiated = Instant::now();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(runs(&recorder, 0), "it has half a minute");
    owned(&world, 0, JAVA).await;
    assert!(initiated.elapsed() <= Duration::from_secs(35), "after {:?}", initiated.elapsed());
    assert!(!runs(&recorder, 0), "two workers read the shard");
    us.killed().await;
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_during_a_handoff_gives_the_lease_to_whom_the_leader_chose() {
    let recorder = Recorder::new(Commit::Each);
    let (world, us, mut leader) = with_a_lease(&recorder).await;
    initiate(&world, 0, US, JAVA).await;
    us.drained().await;
    let row = lease(&world, 0).await;
    assert_eq!((row.get("leaseOwner"), row.get("checkpointOwner")), (Some(&s(JAVA)), None));
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_assigned_to_another_is_lost_at_the_next_renewal() {
    let recorder = Recorder::new(Commit::Each);
    let (world, us, mut leader) = with_a_lease(&recorder).await;
    assign(&world, 0, JAVA).await;
    until("it is lost", async || !runs(&recorder, 0)).await;
    assert_eq!(of_lease(&world, 0, "leaseOwner").await.as_deref(), Some(JAVA));
    us.drained().await;
    assert_eq!(of_lease(&world, 0, "leaseOwner").await.as_deref(), Some(JAVA), "given back by one that lost it");
    leader.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn leases_are_found_by_a_scan_where_the_index_may_not_be_asked() {
    let world = application(4, Some(V3), true).await;
    let mut leader = java::leads(&world);
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer(US), &recorder);
    tokio::time::sleep(FAILOVER).await;
    world.dynamo.every("Query", Some(Fault::Deny));
    for index in [1, 3] {
        assign(&world, index, US).await;
        starts(&recorder, index).await;
    }
    leader.shutdown().await;
    us.drained().await;
}
