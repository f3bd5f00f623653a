//! One of us leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinesink_consumer::{ConsumerBuilder, Coordination};
use tokio::time::Instant;

use super::java::{
    self, JAVA, V3, application, assign, get, initiate, lease, lock_row, of_lease, owned, put, report, s,
};
use crate::dynamo::Fault;
use crate::fleet::{balanced, forwards, one_run_each};
use crate::recorder::{Commit, Recorder};
use crate::resharding::{QUARTER, check, listed, put_all};
use crate::world::{APP, FAILOVER, STREAM, World, run, until};

fn of_kcl3(world: &World, id: &str) -> ConsumerBuilder {
    world.consumer(id).coordination(Coordination::Kcl3)
}

async fn leader(world: &World) -> Option<String> {
    let row = get(world, APP, ("leaseKey", "Leader")).await?;
    Some(row["ownerName"].as_s().unwrap().clone())
}

#[tokio::test(start_paused = true)]
async fn workers_join_and_leave_under_load_and_nothing_is_lost_or_doubled() {
    let world = World::new(12).await;
    let recorder = Recorder::new(Commit::Each);
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let a = run(of_kcl3(&world, "a"), &recorder);
    let started = Instant::now();
    balanced(&world, &[("a", 12)]).await;
    assert!(started.elapsed() <= Duration::from_secs(2), "one worker alone waited for {:?}", started.elapsed());
    let (b, c) = (run(of_kcl3(&world, "b"), &recorder), run(of_kcl3(&world, "c"), &recorder));
    put_all(&world, "b", &mut all).await;
    let joined = Instant::now();
    balanced(&world, &[("a", 4), ("b", 4), ("c", 4)]).await;
    until("all are running", async || one_run_each(&recorder.events()) == 12).await;
    until("the handoffs are done", async || world.texts("checkpointOwner").await.is_empty()).await;
    assert!(joined.elapsed() < FAILOVER * 2, "balanced after {:?}", joined.elapsed());
    put_all(&world, "c", &mut all).await;

    assert_eq!(leader(&world).await.as_deref(), Some("a"));
    let left = Instant::now();
    a.drained().await;
    put_all(&world, "d", &mut all).await;
    until("all are running", async || one_run_each(&recorder.events()) == 12).await;
    assert!(left.elapsed() < FAILOVER * 2, "after {:?}", left.elapsed());
    balanced(&world, &[("b", 6), ("c", 6)]).await;
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    tokio::time::sleep(FAILOVER * 3).await;
    b.drained().await;
    c.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);
    assert_eq!(one_run_each(&recorder.events()), 0);
    forwards(&recorder.events());
    assert_eq!(leader(&world).await, None, "the lock is left behind");
    let rows: Vec<_> = world.rows().await.into_keys().filter(|key| !key.starts_with("shardId-")).collect();
    assert_eq!(rows, ["Migration3.0"], "reports are left behind");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_amid_a_look_has_no_leases_handed_over_to_itself() {
    let world = World::new(4).await;
    let (recorder, ways) = (Recorder::new(Commit::Each), world.dynamo.apart());
    let a = run(world.consumer_by(&ways, "a").coordination(Coordination::Kcl3), &recorder);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let b = run(of_kcl3(&world, "b"), &recorder);
    balanced(&world, &[("a", 2), ("b", 2)]).await;
    assert_eq!(leader(&world).await.as_deref(), Some("a"));
    tokio::time::sleep(FAILOVER * 2).await;
    // Its next look shows that it has less than its share.
    ways.every("Scan", Some(Fault::Slow(Duration::from_millis(500))));
    for index in 0..4 {
        assign(&world, index, "b").await;
    }
    let looks = ways.served("Scan");
    until("it looks", async || ways.served("Scan") > looks).await;
    a.drained().await;
    let owners = world.texts("leaseOwner").await;
    assert!(owners.values().all(|owner| owner == "b"), "a worker that has left is to have leases: {owners:?}");
    b.drained().await;
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_killed_worker_and_of_a_killed_leader_run_again() {
    for (killed, limit) in [("b", FAILOVER + Duration::from_secs(4)), ("a", FAILOVER * 3)] {
        let world = World::new(6).await;
        let recorder = Recorder::new(Commit::Each);
        let mut workers = BTreeMap::new();
        for id in ["a", "b", "c"] {
            workers.insert(id, run(of_kcl3(&world, id), &recorder));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        balanced(&world, &[("a", 2), ("b", 2), ("c", 2)]).await;
        assert_eq!(leader(&world).await.as_deref(), Some("a"));
        tokio::time::sleep(FAILOVER * 2).await;
        workers.remove(killed).unwrap().killed().await;
        let died = Instant::now();
        until("all are running again", async || one_run_each(&recorder.events()) == 6).await;
        assert!(died.elapsed() <= limit, "{killed} was replaced after {:?}", died.elapsed());
        assert!(!world.texts("leaseOwner").await.values().any(|owner| owner == killed));
        tokio::time::sleep(FAILOVER * 9).await;
        let owners = world.texts("leaseOwner").await;
        assert!(!owners.values().any(|owner| owner == killed), "a dead worker was given leases: {owners:?}");
        assert_ne!(leader(&world).await.as_deref(), Some(killed).filter(|killed| *killed == "a"));
        for worker in workers.into_values() {
            worker.drained().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_alone_does_not_wait_for_a_dead_leaders_lock() {
    // As a Java worker leaves it behind that is killed: lock, report and leases.
    let world = application(4, Some(V3), true).await;
    put(&world, APP, lock_row(JAVA, "last")).await;
    report(&world, JAVA).await;
    for index in 0..4 {
        assign(&world, index, JAVA).await;
    }
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer("kinesink"), &recorder);
    let started = Instant::now();
    until("all are running", async || one_run_each(&recorder.events()) == 4).await;
    assert!(started.elapsed() <= Duration::from_secs(60), "after {:?}", started.elapsed());
    assert_eq!(leader(&world).await.as_deref(), Some(JAVA), "its lock is not over yet");
    tokio::time::sleep((started + Duration::from_secs(118)).saturating_duration_since(Instant::now())).await;
    until("we lead", async || leader(&world).await.as_deref() == Some("kinesink")).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(120) && took <= Duration::from_secs(130), "after {took:?}");
    let lock = get(&world, APP, ("leaseKey", "Leader")).await.unwrap();
    assert_eq!((&lock["leaseDuration"], &lock["entityType"]), (&s("20000"), &s("LEADER")));
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_alive_is_never_replaced() {
    let world = application(2, Some(V3), true).await;
    let mut java = java::leads(&world);
    let us = run(world.consumer("kinesink"), &Recorder::new(Commit::Each));
    for _ in 0..40 {
        tokio::time::sleep(FAILOVER).await;
        assert_eq!(leader(&world).await.as_deref(), Some(JAVA));
    }
    java.shutdown().await;
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_ours_divides_with_java_workers_that_report_and_leaves_others_alone() {
    let world = application(5, Some(V3), true).await;
    assign(&world, 4, "silent").await;
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer("kinesink"), &recorder);
    let mut silent = tokio::task::JoinSet::new();
    let renewing = Arc::clone(&world);
    silent.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assign(&renewing, 4, "silent").await;
        }
    });
    until("four are running", async || one_run_each(&recorder.events()) == 4).await;
    // A Java worker joins: by its report alone.
    let mut java = java::renews(&world, vec![0, 1, 2, 3]);
    let reporting = Arc::clone(&world);
    java.spawn(async move {
        loop {
            report(&reporting, JAVA).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    let owners = async || {
        let mut loads = BTreeMap::<String, usize>::new();
        for owner in world.texts("leaseOwner").await.into_values() {
            *loads.entry(owner).or_default() += 1;
        }
        loads
    };
    let wanted = BTreeMap::from([(JAVA.to_owned(), 2), ("kinesink".to_owned(), 2), ("silent".to_owned(), 1)]);
    until("it has its share", async || owners().await == wanted && world.texts("checkpointOwner").await.is_empty())
        .await;
    tokio::time::sleep(FAILOVER * 6).await;
    assert_eq!(owners().await, wanted, "leases move although nothing changes");
    silent.shutdown().await;
    // It renews what it has, and ignores that a lease is asked for.
    let other = run(world.consumer("other"), &recorder);
    until("the lease of the one that never reported is assigned once it expires", async || {
        of_lease(&world, 4, "leaseOwner").await.as_deref() != Some("silent")
    })
    .await;
    java.shutdown().await;
    until("the dead one's leases are running", async || one_run_each(&recorder.events()) == 5).await;
    other.drained().await;
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_handoff_that_got_stuck_is_assigned_again() {
    let world = application(2, Some(V3), true).await;
    let recorder = Recorder::new(Commit::Each);
    // Its old owner is dead, or its new one.
    for index in 0..2 {
        assign(&world, index, JAVA).await;
    }
    initiate(&world, 0, JAVA, "kinesink").await;
    initiate(&world, 1, JAVA, "nobody").await;
    let us = run(world.consumer("kinesink"), &recorder);
    let started = Instant::now();
    for index in 0..2 {
        owned(&world, index, "kinesink").await;
    }
    assert!(started.elapsed() <= FAILOVER + Duration::from_secs(2), "after {:?}", started.elapsed());
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_ignores_a_handoff_loses_the_lease_in_the_end() {
    let world = application(2, Some(V3), true).await;
    for index in 0..2 {
        assign(&world, index, JAVA).await;
    }
    let mut java = java::renews(&world, vec![0, 1]);
    let reporting = Arc::clone(&world);
    java.spawn(async move {
        loop {
            report(&reporting, JAVA).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer("kinesink"), &recorder);
    until("a handoff is under way", async || !world.texts("checkpointOwner").await.is_empty()).await;
    let initiated = Instant::now();
    until("the lease is ours", async || one_run_each(&recorder.events()) == 1).await;
    let took = initiated.elapsed();
    assert!(took >= Duration::from_secs(40) && took <= Duration::from_secs(45), "after {took:?}");
    assert!(world.texts("checkpointOwner").await.is_empty());
    java.shutdown().await;
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_under_load_keep_parents_before_children_across_workers() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let workers = ["a", "b", "c"].map(|id| run(of_kcl3(&world, id), &recorder));
    until("reading has begun", async || recorder.starts().len() >= 2).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    put_all(&world, "b", &mut all).await;
    let merge = world.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000003");
    merge.adjacent_shard_to_merge("shardId-000000000001").send().await.unwrap();
    put_all(&world, "c", &mut all).await;
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    assert!(lease(&world, 4).await.contains_key("entityType"), "a child's row does not say what it is");
    for worker in workers {
        worker.drained().await;
    }
    all.sort();
    assert_eq!(recorder.texts(), all);
    one_run_each(&recorder.events());
    forwards(&recorder.events());
    check(&recorder.events(), &world.dynamo.writes(), &listed(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_assign_leases_any_more_lets_another_worker_lead() {
    let world = World::new(4).await;
    let recorder = Recorder::new(Commit::Each);
    let way_of_a = world.dynamo.apart();
    let a = run(world.consumer_by(&way_of_a, "a").coordination(Coordination::Kcl3), &recorder);
    until("there is a table", async || !way_of_a.writes().is_empty()).await;
    until("a leads", async || leader(&world).await.as_deref() == Some("a")).await;
    let b = run(of_kcl3(&world, "b"), &recorder);
    balanced(&world, &[("a", 2), ("b", 2)]).await;
    way_of_a.every("Scan", Some(Fault::Deny));
    until("b leads", async || leader(&world).await.as_deref() == Some("b")).await;
    let c = run(of_kcl3(&world, "c"), &recorder);
    until("c is given leases", async || world.texts("leaseOwner").await.values().any(|owner| owner == "c")).await;
    for worker in [a, b, c] {
        worker.drained().await;
    }
}
