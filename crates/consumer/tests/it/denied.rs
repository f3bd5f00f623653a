//! A lease table that refuses for an hour, and permissions that are missing one by one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{ConsumerBuilder, Coordination, Error, Finished, Retrieval, Shard, ShardHandler};
use kinesink_core::{Class, Failure, Read};
use kinesink_emulator::{Fault as KinesisFault, FaultKind};

use crate::dynamo::Fault;
use crate::recorder::{Commit, Event, Recorder};
use crate::resharding::QUARTER;
use crate::world::{FAILOVER, STREAM, World, run, until};

const OPERATIONS: [&str; 5] = ["Scan", "GetItem", "PutItem", "UpdateItem", "DeleteItem"];

/// Every text once at least, and no checkpoint that went back.
fn complete(recorder: &Recorder, all: &[String]) {
    let mut texts = recorder.texts();
    texts.dedup();
    assert_eq!(texts, all);
    let mut committed = BTreeMap::new();
    for event in recorder.events() {
        if let Event::Committed(shard, to) = event {
            let from = committed.insert(shard.clone(), to);
            assert!(from.is_none_or(|from| from <= to), "{shard} went back from {from:?} to {to}");
        }
    }
}

async fn split(world: &World) {
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
}

/// Reads while `during` lasts and after it, over a split.
async fn survives(what: &str, during: impl AsyncFn(&World)) {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    let mut all = Vec::new();
    for key in 0..4 {
        let texts: Vec<_> = (0..50).map(|number| format!("a-{key}-{number:02}")).collect();
        world.put(&format!("key{key}"), &texts).await;
        all.extend(texts);
    }
    until("reading has begun", async || recorder.texts().len() == all.len()).await;
    let before = async {
        for key in 0..4 {
            let texts: Vec<_> = (0..50).map(|number| format!("b-{key}-{number:02}")).collect();
            world.put(&format!("key{key}"), &texts).await;
            all.extend(texts);
        }
        split(&world).await;
        for key in 0..4 {
            let texts: Vec<_> = (0..50).map(|number| format!("c-{key}-{number:02}")).collect();
            world.put(&format!("key{key}"), &texts).await;
            all.extend(texts);
        }
    };
    tokio::join!(during(&world), before);
    let ended =
        async || world.texts("checkpoint").await.get("shardId-000000000000").is_some_and(|at| at == "SHARD_END");
    until(&format!("the parent is finished after {what}"), async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ended().await
    })
    .await;
    let newest = |recorder: &Recorder| recorder.texts().iter().filter(|text| text.starts_with("c-")).count();
    until(&format!("the children are read after {what}"), async || newest(&recorder) >= 200).await;
    tokio::time::sleep(FAILOVER * 3).await;
    running.drained().await;
    complete(&recorder, &all);
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_that_throttles_for_an_hour_loses_no_record() {
    let hour = async |world: &World| {
        OPERATIONS.iter().for_each(|operation| world.dynamo.every(operation, Some(Fault::Throttle)));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        OPERATIONS.iter().for_each(|operation| world.dynamo.every(operation, None));
    };
    survives("an hour of throttles", hour).await;
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_for_a_while_loses_no_record() {
    for operation in ["Scan", "GetItem", "PutItem", "UpdateItem"] {
        let denied = async |world: &World| {
            world.dynamo.every(operation, Some(Fault::Deny));
            tokio::time::sleep(FAILOVER * 6).await;
            world.dynamo.every(operation, None);
        };
        survives(operation, denied).await;
    }
}

/// Counts what the log says, by level.
#[derive(Debug, Clone, Default)]
struct Said {
    errors: Arc<AtomicUsize>,
    warnings: Arc<AtomicUsize>,
}

impl tracing::Subscriber for Said {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.is_event()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let is_error = *event.metadata().level() == tracing::Level::ERROR;
        let count = if is_error { &self.errors } else { &self.warnings };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Every call fails like this from now on, or none.
fn every_call(world: &World, fault: Option<Fault>) {
    OPERATIONS.iter().chain(&["Query", "DescribeTable"]).for_each(|operation| world.dynamo.every(operation, fault));
}

fn is_of_a_table_that_is_gone(ended: Result<(), Error>) {
    let Err(Error::Running(failure)) = ended else { panic!("it ends as if all were well: {ended:?}") };
    assert_eq!(failure.class, Class::Configuration);
    assert!(failure.message.contains("lease table orders-to-s3 is gone"), "{failure}");
    assert!(failure.message.contains("restore it from a backup"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_that_was_deleted_filled_the_log_and_a_drain_ended_as_if_all_were_well() {
    for coordination in [Coordination::Auto, Coordination::Kcl3] {
        let world = World::new(1).await;
        let recorder = Recorder::new(Commit::Each);
        // What fails, and whether it does until the end.
        for (fault, lasts) in [(Fault::NoTable, true), (Fault::NoTable, false), (Fault::Throttle, true)] {
            let starts = recorder.starts().len();
            let running = run(world.consumer("one").coordination(coordination), &recorder);
            until("reading has begun", async || recorder.starts().len() > starts).await;
            let said = Said::default();
            let until_the_end = tracing::subscriber::set_default(said.clone());
            every_call(&world, Some(fault));
            tokio::time::sleep(Duration::from_secs(150)).await;
            drop(until_the_end);
            let what = format!("{coordination:?} {fault:?} {said:?}");
            assert_eq!(said.errors.load(Ordering::Relaxed), 3, "one at once, then one a minute: {what}");
            assert!(said.warnings.load(Ordering::Relaxed) <= 20, "{what}");
            if !lasts {
                every_call(&world, None);
                until("it goes on", async || recorder.starts().len() > starts + 1).await;
            }
            running.drain.cancel();
            let ended = running.ended().await;
            match (fault, lasts) {
                (Fault::NoTable, true) => is_of_a_table_that_is_gone(ended),
                _ => ended.unwrap(),
            }
            every_call(&world, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_with_the_table_ended_well_where_the_next_look_was_late() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("reading has begun", async || !recorder.starts().is_empty()).await;
    // The looks hang; the renewals are answered.
    world.dynamo.every("Scan", Some(Fault::Hang));
    world.dynamo.every("UpdateItem", Some(Fault::NoTable));
    let is_lost = |event: &Event| matches!(event, Event::Stopped(..));
    until("the lease is lost", async || recorder.events().iter().any(is_lost)).await;
    world.dynamo.every("Scan", Some(Fault::NoTable));
    running.drain.cancel();
    is_of_a_table_that_is_gone(running.ended().await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_may_not_be_deleted_stays_until_it_may() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let patient = world.consumer("one").idle(Duration::from_secs(20)).failover(FAILOVER * 6);
    let running = run(patient, &recorder);
    until("reading has begun", async || !recorder.starts().is_empty()).await;
    split(&world).await;
    until("the children are read", async || recorder.starts().len() == 3).await;
    for key in 0..4 {
        world.put(&format!("key{key}"), &["a".to_owned()]).await;
    }
    until("all came", async || recorder.texts().len() == 4).await;
    world.dynamo.every("DeleteItem", Some(Fault::Deny));
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert!(world.rows().await.contains_key("shardId-000000000000"));
    world.dynamo.every("DeleteItem", None);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert!(!world.rows().await.contains_key("shardId-000000000000"), "it was not tried again");
    running.drained().await;
}

fn no_permission(operation: &str) -> KinesisFault {
    let kind = FaultKind::Error { code: "AccessDeniedException".into(), message: "not authorized".into() };
    KinesisFault::on(operation, kind)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_may_not_be_read_for_a_while_loses_no_record() {
    for operation in ["GetRecords", "GetShardIterator", "ListShards"] {
        let denied = async |world: &World| world.emulator.faults().push(no_permission(operation).times(20)).unwrap();
        survives(operation, denied).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_at_the_start_is_named() {
    for (operation, said) in [
        ("DescribeTable", "describe lease table"),
        ("CreateTable", "create lease table"),
        ("Scan", "scan lease table"),
        ("PutItem", "create lease shardId-000000000000"),
    ] {
        let world = World::new(1).await;
        world.dynamo.every(operation, Some(Fault::Deny));
        let error = run(world.consumer("one"), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
        assert!(matches!(error, Error::Start(_)), "{operation}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("AccessDeniedException"), "{operation}: {text}");
        assert!(text.contains("grant the permission"), "{operation}: {text}");
    }
    let world = World::new(1).await;
    world.emulator.faults().push(no_permission("ListShards")).unwrap();
    let error = run(world.consumer("one"), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(&error, Error::Start(failure) if failure.message.contains("AccessDeniedException")), "{error:?}");
    for (operation, said) in [
        ("DescribeStreamSummary", "describe stream orders"),
        ("DescribeStreamConsumer", "describe consumer orders-to-s3 of stream orders"),
        ("RegisterStreamConsumer", "register consumer orders-to-s3 of stream orders"),
    ] {
        let world = World::new(1).await;
        world.emulator.faults().push(no_permission(operation)).unwrap();
        let error = run(fans_out(&world), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
        let Error::Start(failure) = &error else { panic!("{operation}: {error:?}") };
        let text = &failure.message;
        assert!(text.contains(said) && text.contains("AccessDeniedException"), "{operation}: {text}");
        assert!(text.contains("grant the permission"), "{operation}: {text}");
    }
}

fn fans_out(world: &World) -> ConsumerBuilder {
    world.consumer("one").retrieval(Retrieval::FanOut { consumer: None })
}

/// Gives up at once, and says why.
#[derive(Default)]
struct Complaining {
    failures: Mutex<Vec<Failure>>,
    texts: Mutex<Vec<String>>,
}

#[async_trait]
impl ShardHandler for Complaining {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        loop {
            let read = tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = shard.reader.next() => read,
            };
            match read {
                Ok(Read::Records(read)) => {
                    let texts = read.records.iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap());
                    self.texts.lock().unwrap().extend(texts);
                }
                Ok(Read::ShardEnd) => panic!("no shard ends"),
                Err(failure) => {
                    self.failures.lock().unwrap().push(failure.clone());
                    return Err(failure);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_subscribe_is_told_and_subscribes_once_it_may() {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    world.emulator.faults().push(no_permission("SubscribeToShard").times(3)).unwrap();
    let handler = Arc::new(Complaining::default());
    let running = run(fans_out(&world), &handler);
    until("it came", async || *handler.texts.lock().unwrap() == ["a"]).await;
    running.drained().await;
    let failures = handler.failures.lock().unwrap();
    assert_eq!(failures.len(), 3);
    for Failure { class, message, .. } in failures.iter() {
        assert_eq!(*class, Class::Configuration);
        assert!(message.contains("subscribe to shard shardId-000000000000 of stream orders"), "{message}");
        assert!(message.contains("AccessDeniedException") && message.contains("grant the permission"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_take_leases_waits_until_it_may() {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    world.dynamo.every("UpdateItem", Some(Fault::Deny));
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(recorder.starts().is_empty());
    world.dynamo.every("UpdateItem", None);
    until("it came", async || recorder.texts() == ["a"]).await;
    running.drained().await;
}
