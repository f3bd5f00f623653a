//! Each setting by what it changes, with KCL's default beside it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_consumer::{Billing, ConsumerBuilder, Finished, Shard, ShardHandler, TableOptions};
use kinesink_core::{Failure, Read};
use kinesink_emulator::{Fault, FaultKind};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::dumps::Row;
use crate::foreign_rows::fill;
use crate::recorder::{Commit, Recorder};
use crate::resharding::QUARTER;
use crate::world::{APP, FAILOVER, STREAM, World, run, until};

const SHARD: &str = "shardId-000000000000";

/// Notes how many records each read gave.
#[derive(Debug, Default)]
struct Sizes(Mutex<Vec<usize>>);

#[async_trait]
impl ShardHandler for Sizes {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        loop {
            tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = shard.reader.next() => match read? {
                    Read::Records(records) => self.0.lock().unwrap().push(records.records.len()),
                    Read::ShardEnd => return Ok(Finished::Drained),
                },
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn max_records_bounds_each_read() {
    for (limit, largest) in [(None, 300), (Some(7), 7)] {
        let world = World::new(1).await;
        world.put("key", &(0..400).map(|number| number.to_string()).collect::<Vec<_>>()).await;
        let consumer = world.consumer("one");
        let consumer = match limit {
            Some(limit) => consumer.max_records(limit),
            None => consumer,
        };
        let handler = Arc::new(Sizes::default());
        let running = run(consumer, &handler);
        until("all came", async || handler.0.lock().unwrap().iter().sum::<usize>() == 400).await;
        running.drained().await;
        // The first read asks for 100, while the size of a record is not known.
        assert_eq!(handler.0.lock().unwrap().iter().max(), Some(&largest));
    }
}

/// Eight leases that a live worker of the Java KCL 2.x holds.
async fn java_holds_eight() -> World {
    let world = World::new(8).await;
    let rows: Vec<_> = (0..8).map(held_by_java).collect();
    fill(&world, &rows).await;
    world
}

fn held_by_java(shard: usize) -> Row {
    let number = || AttributeValue::N("1".into());
    Row::from([
        ("leaseKey".into(), AttributeValue::S(format!("shardId-{shard:012}"))),
        ("leaseOwner".into(), AttributeValue::S("java".into())),
        ("leaseCounter".into(), number()),
        ("ownerSwitchesSinceCheckpoint".into(), number()),
        ("checkpoint".into(), AttributeValue::S("TRIM_HORIZON".into())),
        ("checkpointSubSequenceNumber".into(), number()),
    ])
}

async fn java_renews(world: &World) {
    for (shard, owner) in world.texts("leaseOwner").await {
        if owner == "java" {
            let request = world.dynamo.client().update_item().table_name(APP);
            let request = request.key("leaseKey", AttributeValue::S(shard)).update_expression("ADD leaseCounter :one");
            request.expression_attribute_values(":one", AttributeValue::N("1".into())).send().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn max_steals_is_how_many_leases_a_round_takes_from_a_live_java_worker() {
    for (consumer, steals) in [(None, 1), (Some(3), 3)] {
        let world = java_holds_eight().await;
        let builder = world.consumer("one");
        let builder = match consumer {
            Some(steals) => builder.max_steals(steals),
            None => builder,
        };
        let running = run(builder, &Recorder::new(Commit::Never));
        let taken = async || world.texts("leaseOwner").await.values().filter(|owner| *owner == "one").count();
        until("the first round stole", async || {
            java_renews(&world).await;
            taken().await > 0
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(taken().await, steals);
        running.killed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn shard_sync_is_how_soon_a_shard_without_a_lease_gets_one() {
    for (interval, soonest_s, latest_s) in [(None, 40, 60), (Some(Duration::from_secs(5)), 0, 5)] {
        let world = World::new(1).await;
        let consumer = world.consumer("one");
        let consumer = match interval {
            Some(interval) => consumer.shard_sync(interval),
            None => consumer,
        };
        let recorder = Recorder::new(Commit::Never);
        let running = run(consumer, &recorder);
        until("the shard is started", async || !recorder.starts().is_empty()).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        let key = AttributeValue::S(SHARD.into());
        world.dynamo.client().delete_item().table_name(APP).key("leaseKey", key).send().await.unwrap();
        let deleted = Instant::now();
        until("the lease is there again", async || world.rows().await.contains_key(SHARD)).await;
        let seconds = deleted.elapsed().as_secs();
        assert!((soonest_s..=latest_s).contains(&seconds), "{interval:?}: after {seconds} s");
        running.drained().await;
    }
}

/// How a start ends, and after how long, while so many listings in a row are throttled.
async fn started(throttles: u32, settings: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Duration {
    let world = World::new(1).await;
    let kind = FaultKind::Error { code: "LimitExceededException".into(), message: "made up".into() };
    world.emulator.faults().push(Fault::on("ListShards", kind).times(throttles)).unwrap();
    let recorder = Recorder::new(Commit::Never);
    let began = Instant::now();
    let running = run(settings(world.consumer("one")), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    let took = began.elapsed();
    running.drained().await;
    took
}

#[tokio::test(start_paused = true)]
async fn a_throttled_listing_is_asked_for_again_after_the_pause_and_as_often_as_is_set() {
    let kcl = started(20, |consumer| consumer).await;
    assert!((30..32).contains(&kcl.as_secs()), "20 times 1.5 s, and not {kcl:?}");
    let set = started(20, |consumer| consumer.list_shards(21, Duration::from_millis(100))).await;
    assert!((2..3).contains(&set.as_secs()), "20 times 100 ms, and not {set:?}");
    // A pause of an hour is not waited for after the only attempt; the start itself is tried again.
    let once = started(1, |consumer| consumer.list_shards(1, Duration::from_secs(3_600))).await;
    assert!(once < Duration::from_secs(3), "{once:?}");
}

/// Whether the lease of a split shard is gone so long after its end.
async fn cleaned_up(cleanup: Option<Option<Duration>>, after: Duration) -> bool {
    let world = World::new(1).await;
    let consumer = world.consumer("one").idle(Duration::from_secs(20));
    let consumer = match cleanup {
        Some(cleanup) => consumer.cleanup(cleanup),
        None => consumer,
    };
    let recorder = Recorder::new(Commit::Each);
    let running = run(consumer, &recorder);
    world.put("key", &["a".to_owned()]).await;
    until("it came", async || !recorder.texts().is_empty()).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split(SHARD);
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    until("the shard is at its end", async || {
        world.texts("checkpoint").await.get(SHARD).is_some_and(|checkpoint| checkpoint == "SHARD_END")
    })
    .await;
    // Both children begin.
    for key in 0..20 {
        world.put(&format!("key{key}"), &["b".to_owned()]).await;
    }
    tokio::time::sleep(after).await;
    let gone = !world.rows().await.contains_key(SHARD);
    running.drained().await;
    gone
}

#[tokio::test(start_paused = true)]
async fn cleanup_is_how_soon_the_lease_of_a_finished_shard_goes_or_whether_at_all() {
    let seconds = Duration::from_secs;
    assert!(cleaned_up(Some(Some(seconds(10))), seconds(60)).await);
    assert!(!cleaned_up(None, seconds(240)).await && cleaned_up(None, seconds(360)).await, "KCL's five minutes");
    assert!(!cleaned_up(Some(None), seconds(1_800)).await, "it was to stay");
}

#[tokio::test(start_paused = true)]
async fn a_new_table_is_made_as_the_options_say_and_one_that_is_there_stays_as_it_is() {
    let world = World::new(1).await;
    let options = TableOptions {
        billing: Billing::Provisioned { read: 5, write: 7 },
        deletion_protection: true,
        point_in_time_recovery: true,
        tags: [("team".to_owned(), "orders".to_owned())].into(),
    };
    for options in [options, TableOptions::default()] {
        let recorder = Recorder::new(Commit::Never);
        let running = run(world.consumer("one").table_options(options), &recorder);
        until("the shard is started", async || !recorder.starts().is_empty()).await;
        running.drained().await;
        let reply = world.dynamo.client().describe_table().table_name(APP).send().await.unwrap();
        let table = reply.table().unwrap();
        let capacity = table.provisioned_throughput().unwrap();
        assert_eq!((capacity.read_capacity_units(), capacity.write_capacity_units()), (Some(5), Some(7)));
        assert_eq!(table.deletion_protection_enabled(), Some(true));
    }
    let writes = world.dynamo.writes();
    let of = |name: &str| writes.iter().filter(|(operation, _)| operation == name).collect::<Vec<_>>();
    assert_eq!(of("CreateTable").len(), 1);
    assert_eq!(of("CreateTable")[0].1["Tags"], serde_json::json!([{"Key": "team", "Value": "orders"}]));
    let backups = of("UpdateContinuousBackups");
    assert_eq!(backups.len(), 1, "asked for once, by who made the table");
    assert_eq!(backups[0].1["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
}

#[tokio::test(start_paused = true)]
async fn a_new_table_is_paid_by_the_request_unless_the_options_say_otherwise() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Never);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    let writes = world.dynamo.writes();
    let (_, create) = writes.iter().find(|(operation, _)| operation == "CreateTable").unwrap();
    assert_eq!(create["BillingMode"], "PAY_PER_REQUEST");
    assert!(["ProvisionedThroughput", "DeletionProtectionEnabled", "Tags"].iter().all(|key| create.get(key).is_none()));
    assert!(!writes.iter().any(|(operation, _)| operation == "UpdateContinuousBackups"));
}

#[tokio::test(start_paused = true)]
async fn settings_that_leave_nothing_to_do_are_refused() {
    let world = World::new(1).await;
    let refused = |settings: fn(ConsumerBuilder) -> ConsumerBuilder| {
        settings(world.consumer("one")).build(&mut Registry::default()).unwrap_err().to_string()
    };
    for (said, settings) in [
        ("10001 records", (|consumer| consumer.max_records(10_001)) as fn(ConsumerBuilder) -> ConsumerBuilder),
        ("0 records", |consumer| consumer.max_records(0)),
        ("steals no lease", |consumer| consumer.max_steals(0)),
        ("never listed", |consumer| consumer.list_shards(0, FAILOVER)),
        ("cleanup is zero", |consumer| consumer.cleanup(Some(Duration::ZERO))),
        ("shard sync", |consumer| consumer.shard_sync(Duration::ZERO)),
    ] {
        assert!(refused(settings).contains(said), "{said}: {}", refused(settings));
    }
}
