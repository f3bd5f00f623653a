use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::Checkpoint;

use crate::dynamo::Fault;
use crate::recorder::{Commit, Event, Recorder};
use crate::world::{APP, FAILOVER, World, run, until};

const SHARD: &str = "shardId-000000000000";

#[tokio::test(start_paused = true)]
async fn of_sixteen_workers_at_most_one_runs_a_shard_and_they_come_to_rest() {
    let world = World::new(8).await;
    let recorder = Recorder::new(Commit::Each);
    let workers: Vec<_> = (0..16).map(|id| run(world.consumer(&format!("worker{id}")), &recorder)).collect();
    until("all shards are started", async || recorder.starts().len() >= 8).await;
    tokio::time::sleep(FAILOVER * 2).await;
    let starts = recorder.starts().len();
    tokio::time::sleep(FAILOVER * 6).await;
    assert_eq!(recorder.starts().len(), starts, "leases move although nothing changes");
    let mut running = BTreeMap::<_, i32>::new();
    for event in recorder.events() {
        match event {
            Event::Started(shard, _) => {
                let running = running.entry(shard).or_default();
                *running += 1;
                assert_eq!(*running, 1, "a shard had two owners");
            }
            Event::Stopped(shard, _) => *running.entry(shard).or_default() -= 1,
            _ => {}
        }
    }
    assert_eq!(running.values().sum::<i32>(), 8);
    let owners: BTreeSet<_> = world.texts("leaseOwner").await.into_values().collect();
    assert_eq!(owners.len(), 8, "a worker has two leases while another has none");
    for worker in workers {
        worker.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stolen_lease_drops_its_handler_and_refuses_its_checkpoint() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    steal(&world, "thief").await;
    world.put("key", &["too late".to_owned()]).await;
    let dropped = |event: &Event| matches!(event, Event::Stopped(_, None));
    until("the handler is dropped", async || recorder.events().iter().any(dropped)).await;
    let rows = world.rows().await;
    assert_eq!(rows[SHARD]["checkpoint"].as_s().unwrap(), "TRIM_HORIZON");
    assert_eq!(rows[SHARD]["leaseOwner"].as_s().unwrap(), "thief");
    assert!(!recorder.events().iter().any(|event| matches!(event, Event::Committed(..))));
    running.drained().await;
    let owner = world.texts("leaseOwner").await.remove(SHARD);
    assert_eq!(owner.as_deref(), Some("thief"), "a lease was released that was not held");
}

/// A take as KCL does it.
async fn steal(world: &World, thief: &str) {
    let counter = world.rows().await[SHARD]["leaseCounter"].as_n().unwrap().parse::<u64>().unwrap();
    let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", AttributeValue::S(SHARD.into()));
    let request = request.update_expression("SET leaseOwner = :o, leaseCounter = :n");
    let request = request.expression_attribute_values(":o", AttributeValue::S(thief.into()));
    request.expression_attribute_values(":n", AttributeValue::N((counter + 1).to_string())).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nobody_renews_any_more_is_taken_over() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    steal(&world, "thief").await;
    until("it is started again", async || recorder.starts().len() >= 2).await;
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_held_lease_is_renewed_while_nothing_happens() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    let counter = async || world.rows().await[SHARD]["leaseCounter"].as_n().unwrap().parse::<u64>().unwrap();
    for _ in 0..20 {
        let before = counter().await;
        tokio::time::sleep(FAILOVER / 2).await;
        assert!(counter().await > before, "not renewed within half a failover");
    }
    assert_eq!(recorder.starts().len(), 1);
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_any_write_loses_no_lease() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    for fault in [Fault::Cut, Fault::Throttle, Fault::LoseAnswer] {
        world.dynamo.fail("PutItem", fault);
        world.dynamo.fail("UpdateItem", fault);
    }
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    for round in 0..30 {
        let fault = [Fault::LoseAnswer, Fault::Cut, Fault::Throttle][round % 3];
        world.dynamo.fail("UpdateItem", fault);
        world.put("key", &[format!("{round:02}")]).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    until("every fault was met", async || world.dynamo.faults_left() == 0).await;
    until("all came", async || recorder.texts().len() >= 30).await;
    running.drained().await;
    assert_eq!(recorder.starts().len(), 1, "the lease was lost on the way");
    assert_eq!(recorder.texts().len(), 30);
    let last = recorder.events().into_iter().rev().find_map(|event| match event {
        Event::Committed(_, Checkpoint::At(position)) => Some(position.sequence.to_string()),
        _ => None,
    });
    assert_eq!(world.texts("checkpoint").await.remove(SHARD), last);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_followed_by_a_request_that_never_arrives_loses_no_lease() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    world.dynamo.fail("UpdateItem", Fault::LoseAnswer);
    world.dynamo.fail("UpdateItem", Fault::Cut);
    world.put("key", &["a".to_owned()]).await;
    until("the faults were met", async || world.dynamo.faults_left() == 0).await;
    tokio::time::sleep(FAILOVER * 3).await;
    running.drained().await;
    assert_eq!(recorder.starts().len(), 1, "the lease was lost on the way");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_reached_loses_the_lease_by_the_own_clock() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    for _ in 0..2_000 {
        world.dynamo.fail("UpdateItem", Fault::Cut);
    }
    let began = tokio::time::Instant::now();
    let dropped = |event: &Event| matches!(event, Event::Stopped(_, None));
    until("the handler is dropped", async || recorder.events().iter().any(dropped)).await;
    assert!(began.elapsed() <= FAILOVER + Duration::from_secs(1), "held for {:?}", began.elapsed());
    running.killed().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_costs_neither_its_own_lease_nor_another() {
    let world = World::new(3).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("all shards are started", async || recorder.starts().len() >= 3).await;
    for _ in 0..3 {
        world.dynamo.fail("UpdateItem", Fault::Hang);
        tokio::time::sleep(FAILOVER * 2).await;
    }
    assert_eq!(world.dynamo.faults_left(), 0);
    running.drained().await;
    assert_eq!(recorder.starts().len(), 3, "a lease was lost on the way");
}
