use std::sync::{Arc, Mutex};
use std::time::Duration;

use kinesink_aws::kinesis::primitives::Blob;
use kinesink_consumer::Start;
use kinesink_core::{Budget, Record};
use kinesink_emulator::{Fault, FaultKind};
use kinesink_kpl::Aggregator;
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use super::handlers::{Hoarder, Impatient, Rewinder};
use super::{Way, error, numbered};
use crate::recorder::{Commit, Recorder};
use crate::world::{STREAM, World, exposed, metric, run, run_counted, until};

/// Each test once with each way.
macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        mod polling {
            $(#[tokio::test(start_paused = true)] async fn $test() { super::$test(super::Way::Polling).await; })+
        }
        mod fan_out {
            $(#[tokio::test(start_paused = true)] async fn $test() { super::$test(super::Way::FanOut).await; })+
        }
    };
}

contract!(
    records_come_once_and_in_order_for_as_long_as_it_runs,
    what_breaks_loses_and_doubles_nothing,
    what_is_refused_for_a_while_loses_and_doubles_nothing,
    a_position_that_expires_continues_behind_what_was_given,
    a_read_that_is_given_up_again_and_again_loses_and_doubles_nothing,
    a_rewound_reader_continues_after_the_checkpoint_and_gives_back_what_it_read_ahead,
    records_are_paid_for_while_they_are_held_and_reading_stops_when_nothing_is_left,
    a_budget_smaller_than_a_record_delivers_it,
    what_unpacks_to_more_than_is_free_is_read_when_there_is_room,
    data_come_as_they_are_up_to_a_mebibyte,
    a_shard_without_records_is_waited_on,
    latest_that_breaks_before_anything_came_skips_nothing,
    the_rest_of_a_half_checkpointed_aggregate_survives_what_breaks_before_it_came,
    a_shard_ends_after_its_last_record_and_its_children_follow,
);

const SHARD: &str = "shardId-000000000000";

/// Longer than two subscriptions and than an iterator lives.
async fn records_come_once_and_in_order_for_as_long_as_it_runs(way: Way) {
    let world = World::new(1).await;
    let (recorder, mut registry) = (Recorder::new(Commit::Each), Registry::default());
    let running = run_counted(way.consumer(&world), &recorder, &mut registry);
    let all = numbered(400);
    for part in all.chunks(4) {
        world.put("key", part).await;
        sleep(Duration::from_secs(7)).await;
    }
    until("all came", async || recorder.texts().len() >= all.len()).await;
    assert_eq!(metric(&registry, &format!("shard_fetched_records_total{{shard=\"{SHARD}\"}}")), 400);
    running.drained().await;
    assert_eq!(recorder.records()[SHARD], all);
    assert_eq!(recorder.starts().len(), 1);
    assert!(!exposed(&registry).contains(SHARD), "a shard that is not read any more is still counted");
}

/// Puts, reads under the faults, and wants every record exactly once and in order.
async fn survives(way: Way, fault: &Fault) {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world), &recorder);
    let mut all = Vec::new();
    for round in 0..3 {
        world.emulator.faults().push(fault.clone()).unwrap();
        let texts: Vec<_> = (0..100).map(|number| format!("{round}-{number:03}")).collect();
        world.put("key", &texts).await;
        all.extend(texts);
        until("they came", async || recorder.texts().len() >= all.len()).await;
    }
    running.drained().await;
    assert_eq!(recorder.records()[SHARD], all, "{way:?} {fault:?}");
    assert_eq!(recorder.starts().len(), 1, "{way:?} {fault:?}: the handler saw it");
}

async fn what_breaks_loses_and_doubles_nothing(way: Way) {
    for kind in [FaultKind::Cut, FaultKind::Truncate, FaultKind::DelayMs(4_000)] {
        survives(way, &Fault::on(way.delivery(), kind.clone()).times(3)).await;
        survives(way, &Fault::on(way.positioning(), kind).times(3)).await;
    }
}

async fn what_is_refused_for_a_while_loses_and_doubles_nothing(way: Way) {
    for code in ["InternalFailureException", "LimitExceededException", "ProvisionedThroughputExceededException"] {
        survives(way, &Fault::on(way.delivery(), error(code)).times(3)).await;
        survives(way, &Fault::on(way.positioning(), error(code)).times(3)).await;
    }
}

async fn a_position_that_expires_continues_behind_what_was_given(way: Way) {
    survives(way, &way.expiry().times(3)).await;
}

async fn a_read_that_is_given_up_again_and_again_loses_and_doubles_nothing(way: Way) {
    let world = World::new(1).await;
    // Each reply takes far longer than the handler waits for it.
    world.emulator.faults().push(Fault::on(way.delivery(), FaultKind::DelayMs(100)).times(50)).unwrap();
    let handler = Arc::new(Impatient::default());
    let running = run(way.consumer(&world).idle(Duration::from_millis(50)), &handler);
    until("it is started", async || *handler.given_up.lock().unwrap() > 0).await;
    let all = numbered(3_000);
    for part in all.chunks(300) {
        world.put("key", part).await;
        sleep(Duration::from_millis(130)).await;
    }
    until("all came", async || handler.texts.lock().unwrap().len() >= all.len()).await;
    running.drained().await;
    assert_eq!(*handler.texts.lock().unwrap(), all);
    assert!(*handler.given_up.lock().unwrap() > 50, "nothing was given up");
}

async fn a_rewound_reader_continues_after_the_checkpoint_and_gives_back_what_it_read_ahead(way: Way) {
    let world = World::new(1).await;
    let all = numbered(5_000);
    world.put("key", &all).await;
    let handler = Arc::new(Rewinder::default());
    let budget = Budget::new(16 * 1024 * 1024);
    let running = run(way.consumer(&world).budget(budget.clone()), &handler);
    until("all came again", async || handler.after.lock().unwrap().len() >= all.len() - 10).await;
    running.drained().await;
    assert_eq!(*handler.after.lock().unwrap(), all[10..]);
    let before = handler.before.lock().unwrap();
    assert!(before.len() > 10 && *before == all[..before.len()]);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

async fn records_are_paid_for_while_they_are_held_and_reading_stops_when_nothing_is_left(way: Way) {
    let world = World::new(4).await;
    let record = "x".repeat(10_000);
    for key in 0..16 {
        world.put(&format!("key{key}"), &vec![record.clone(); 100]).await;
    }
    let budget = Budget::new(4 * 1024 * 1024);
    let handler = Hoarder::new();
    let running = run(way.consumer(&world).budget(budget.clone()), &handler);
    sleep(Duration::from_secs(600)).await;
    {
        let held = handler.held.lock().unwrap();
        let paid: usize = held.iter().map(|records| records.reservation.bytes()).sum();
        let taken: usize = held.iter().flat_map(|records| &records.records).map(|record| record.memory_bytes()).sum();
        assert!(taken <= paid, "{taken} bytes are held and {paid} reserved");
        assert!(taken <= budget.total_bytes(), "{taken} bytes are held");
        assert!(taken > budget.total_bytes() / 4, "only {taken} bytes came");
        let records: usize = held.iter().map(|records| records.records.len()).sum();
        assert!(records < 1_600, "everything was read although nothing was given back");
    }
    // Giving memory back lets the rest come.
    let count = Mutex::new(0);
    until("the rest came", async || {
        let mut count = count.lock().unwrap();
        *count += handler.held.lock().unwrap().drain(..).map(|records| records.records.len()).sum::<usize>();
        *count >= 1_600
    })
    .await;
    running.drained().await;
    drop(handler);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

async fn a_budget_smaller_than_a_record_delivers_it(way: Way) {
    let world = World::new(2).await;
    let budget = Budget::new(256 * 1024);
    let mut all = Vec::new();
    for number in 0..10 {
        let large = format!("{number}{}", "x".repeat(500_000));
        world.put(&format!("key{number}"), std::slice::from_ref(&large)).await;
        all.push(large);
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world).budget(budget.clone()), &recorder);
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    assert!(recorder.texts() == all, "something was lost or doubled");
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

/// User records of a few bytes take much more memory than their aggregates, which nobody knows before they are read.
async fn what_unpacks_to_more_than_is_free_is_read_when_there_is_room(way: Way) {
    let world = World::new(1).await;
    for aggregate in 0..6 {
        let mut aggregator = Aggregator::default();
        for number in 0..1_000 {
            aggregator.push("key", None, format!("{aggregate:02}-{number:03}").as_bytes()).unwrap();
        }
        let envelope = aggregator.finish().unwrap();
        let put = world.kinesis.put_record().stream_name(STREAM).partition_key(&envelope.partition_key);
        put.data(Blob::new(envelope.data.clone())).send().await.unwrap();
    }
    let budget = Budget::new(4 * 1024 * 1024);
    let elsewhere = budget.reserve(budget.total_bytes() / 2).await;
    let handler = Hoarder::new();
    let running = run(way.consumer(&world).budget(budget.clone()), &handler);
    sleep(Duration::from_secs(60)).await;
    let count = || handler.held.lock().unwrap().iter().map(|held| held.records.len()).sum::<usize>();
    let held_bytes = || {
        let held = handler.held.lock().unwrap();
        held.iter().flat_map(|held| &held.records).map(Record::memory_bytes).sum::<usize>()
    };
    assert!(count() < 6_000 && held_bytes() <= budget.total_bytes() / 2, "more is held than was free");
    drop(elsewhere);
    until("all came", async || count() >= 6_000).await;
    running.drained().await;
    let held = handler.held.lock().unwrap();
    let records = || held.iter().flat_map(|held| &held.records);
    assert!(records().map(|record| record.position).is_sorted_by(|one, next| one < next));
    assert_eq!(records().count(), 6_000);
}

async fn data_come_as_they_are_up_to_a_mebibyte(way: Way) {
    let world = World::new(1).await;
    let mebibyte = "m".repeat(1024 * 1024 - 100);
    let all = [String::new(), mebibyte.clone(), "plain".to_owned(), mebibyte];
    for text in &all {
        let put = world.kinesis.put_record().stream_name(STREAM).partition_key("key");
        put.data(Blob::new(text.as_bytes())).send().await.unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world), &recorder);
    until("all are delivered", async || recorder.texts().len() >= all.len()).await;
    running.drained().await;
    assert!(recorder.records()[SHARD] == all, "something was lost, doubled or changed");
}

async fn a_shard_without_records_is_waited_on(way: Way) {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world), &recorder);
    until("both shards are started", async || recorder.starts().len() >= 2).await;
    sleep(Duration::from_secs(700)).await;
    assert_eq!(recorder.starts().len(), 2, "a shard without records was restarted");
    world.put("key", &numbered(1)).await;
    until("the first record came", async || !recorder.texts().is_empty()).await;
    running.drained().await;
    assert_eq!(recorder.texts(), numbered(1));
}

/// The first loss hazard: LATEST that is asked for again later skips what arrived meanwhile.
async fn latest_that_breaks_before_anything_came_skips_nothing(way: Way) {
    for (operation, kind) in [
        (way.positioning(), FaultKind::Cut),
        (way.positioning(), error("InternalFailureException")),
        (way.delivery(), FaultKind::Cut),
    ] {
        let world = World::new(1).await;
        // So old that the stored start, which is a little before now, does not reach back to it.
        world.put("key", &["old".to_owned()]).await;
        sleep(Duration::from_secs(60)).await;
        world.emulator.faults().push(Fault::on(operation, kind.clone()).times(4)).unwrap();
        let recorder = Recorder::new(Commit::Each);
        let running = run(way.consumer(&world).start(Start::Latest), &recorder);
        until("the first fault was met", async || {
            world.emulator.faults().list() != [Fault::on(operation, kind.clone()).times(4)]
        })
        .await;
        world.put("key", &numbered(3)).await;
        if way == Way::Polling && operation == way.delivery() {
            // What was had is an iterator, and it is still good: the worst is that it is lost too.
            world.emulator.faults().push(way.expiry()).unwrap();
        }
        until("they came", async || recorder.texts().len() >= 3).await;
        running.drained().await;
        assert_eq!(recorder.texts(), numbered(3), "{way:?} {operation} {kind:?}");
    }
}

/// The second: AFTER a checkpoint inside an aggregate skips the rest of it.
async fn the_rest_of_a_half_checkpointed_aggregate_survives_what_breaks_before_it_came(way: Way) {
    let world = World::new(1).await;
    let mut aggregator = Aggregator::default();
    for text in ["one", "two", "three", "four"] {
        aggregator.push("key", None, text.as_bytes()).unwrap();
    }
    let envelope = aggregator.finish().unwrap();
    let put = world.kinesis.put_record().stream_name(STREAM).partition_key(&envelope.partition_key);
    put.data(Blob::new(envelope.data.clone())).send().await.unwrap();
    world.put("key", &["five".to_owned()]).await;
    let first = Recorder::new(Commit::After("two"));
    let running = run(way.consumer(&world), &first);
    until("all five are delivered", async || first.texts().len() >= 5).await;
    running.killed().await;
    assert_eq!(world.rows().await[SHARD]["checkpointSubSequenceNumber"].as_n().unwrap(), "1");

    world.emulator.faults().push(Fault::on(way.delivery(), FaultKind::Cut).times(2)).unwrap();
    world.emulator.faults().push(Fault::on(way.delivery(), FaultKind::Truncate)).unwrap();
    world.emulator.faults().push(way.expiry()).unwrap();
    let second = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world), &second);
    until("the rest is delivered", async || second.texts().len() >= 3).await;
    running.drained().await;
    assert_eq!(world.emulator.faults().list(), [], "not every fault was met");
    assert_eq!(second.records()[SHARD], ["three", "four", "five"]);
}

async fn a_shard_ends_after_its_last_record_and_its_children_follow(way: Way) {
    let world = World::new(1).await;
    let texts = |prefix: &str| (0..100).map(|number| format!("{prefix}{number:03}")).collect::<Vec<_>>();
    world.put("key", &texts("a")).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(way.consumer(&world), &recorder);
    until("reading has begun", async || !recorder.texts().is_empty()).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split(SHARD);
    world.put("key", &texts("b")).await;
    // The event that says so breaks once.
    world.emulator.faults().push(Fault::on(way.delivery(), FaultKind::Truncate)).unwrap();
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    world.put("key", &texts("c")).await;
    until("the children are read", async || recorder.texts().len() >= 300).await;
    let merge = world.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000001");
    merge.adjacent_shard_to_merge("shardId-000000000002").send().await.unwrap();
    world.put("key", &texts("d")).await;
    until("the merged shard is read", async || recorder.texts().len() >= 400).await;
    running.drained().await;
    let records = recorder.records();
    assert_eq!(records[SHARD], [texts("a"), texts("b")].concat());
    assert_eq!(records["shardId-000000000003"], texts("d"));
    assert_eq!(recorder.texts(), [texts("a"), texts("b"), texts("c"), texts("d")].concat());
    let checkpoints = world.texts("checkpoint").await;
    for ended in [SHARD, "shardId-000000000001", "shardId-000000000002"] {
        assert_eq!(checkpoints.get(ended).map(String::as_str), Some("SHARD_END"), "{ended}");
    }
}
