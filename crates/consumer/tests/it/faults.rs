use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{Error, Finished, Shard, ShardHandler};
use kinesink_core::Failure;
use kinesink_emulator::{Fault, FaultKind};
use tokio_util::sync::CancellationToken;

use crate::dynamo;
use crate::recorder::{Commit, Event, Recorder};
use crate::world::{FAILOVER, STREAM, World, run, until};

fn error(code: &str) -> FaultKind {
    FaultKind::Error { code: code.into(), message: "made up".into() }
}

/// Puts, reads under the faults, and wants every record exactly once and in order.
async fn survives(operation: &str, kind: &FaultKind) {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    let mut all = Vec::new();
    for round in 0..6 {
        world.emulator.faults().push(Fault::on(operation, kind.clone()).times(3)).unwrap();
        let texts: Vec<_> = (0..100).map(|number| format!("{round}-{number:03}")).collect();
        world.put("key", &texts).await;
        all.extend(texts);
        until("they came", async || recorder.texts().len() >= all.len()).await;
    }
    running.drained().await;
    assert_eq!(recorder.records()["shardId-000000000000"], all, "{operation} {kind:?}");
    assert_eq!(recorder.starts().len(), 1, "{operation} {kind:?}: the handler saw it");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_for_a_while_loses_and_doubles_nothing() {
    for kind in [
        error("ProvisionedThroughputExceededException"),
        error("ExpiredIteratorException"),
        error("InternalFailure"),
        error("LimitExceededException"),
        FaultKind::Cut,
        FaultKind::Truncate,
        FaultKind::DelayMs(4_000),
    ] {
        survives("GetRecords", &kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_is_not_given_is_asked_for_again() {
    for kind in [error("ProvisionedThroughputExceededException"), error("InternalFailure"), FaultKind::Cut] {
        survives("GetShardIterator", &kind).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_is_refused_as_an_argument_is_made_anew() {
    survives("GetRecords", &error("InvalidArgumentException")).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_is_repeated() {
    let world = World::new(2).await;
    for kind in [error("LimitExceededException"), error("ResourceInUseException"), FaultKind::Cut] {
        world.emulator.faults().push(Fault::on("ListShards", kind)).unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("both shards are started", async || recorder.starts().len() >= 2).await;
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_stream_is_named_before_anything_is_read() {
    let world = World::new(1).await;
    world.kinesis.delete_stream().stream_name(STREAM).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let error = run(world.consumer("one"), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(error, Error::Start(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("stream orders") && said.contains("ResourceNotFoundException"), "{said}");
}

/// A recorder whose first shard fails for good when it is told to.
struct Failing {
    recorder: Arc<Recorder>,
    fail: CancellationToken,
    panics: bool,
}

#[async_trait]
impl ShardHandler for Failing {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        if shard.id.as_str() == "shardId-000000000000" {
            self.fail.cancelled().await;
            assert!(!self.panics, "made up");
            return Err(Failure::fatal("made up"));
        }
        self.recorder.run(shard).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_fails_for_good_lets_the_others_finish() {
    let world = World::new(3).await;
    let (recorder, fail) = (Recorder::new(Commit::Each), CancellationToken::new());
    let handler = Arc::new(Failing { recorder, fail, panics: false });
    let running = run(world.consumer("one"), &handler);
    until("the others are started", async || handler.recorder.starts().len() >= 2).await;
    handler.fail.cancel();
    let error = running.ended().await.unwrap_err();
    assert!(matches!(&error, Error::Running(failure) if failure.message == "made up"), "{error:?}");
    let drained = |event: &&Event| matches!(event, Event::Stopped(_, Some(Finished::Drained)));
    assert_eq!(handler.recorder.events().iter().filter(drained).count(), 2, "a handler was dropped");
    let owners = world.texts("leaseOwner").await;
    assert_eq!(owners.keys().collect::<Vec<_>>(), ["shardId-000000000000"], "a drained lease was not released");
}

/// As a [`Failing`], whose other shards take long to drain.
struct Panicking(Failing);

#[async_trait]
impl ShardHandler for Panicking {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        let drain = shard.drain.clone();
        let finished = self.0.run(shard).await?;
        drain.cancelled().await;
        tokio::time::sleep(FAILOVER * 10).await;
        Ok(finished)
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_leaves_its_lease_to_others_while_the_rest_drain() {
    let world = World::new(2).await;
    let (recorder, fail) = (Recorder::new(Commit::Each), CancellationToken::new());
    let handler = Arc::new(Panicking(Failing { recorder, fail, panics: true }));
    let running = run(world.consumer("one"), &handler);
    until("the other is started", async || !handler.0.recorder.starts().is_empty()).await;
    handler.0.fail.cancel();
    let other = Recorder::new(Commit::Each);
    let began = tokio::time::Instant::now();
    let running_on = run(world.consumer("two"), &other);
    until("another worker runs the shard", async || !other.starts().is_empty()).await;
    assert_eq!(other.starts()[0].0, "shardId-000000000000");
    assert!(began.elapsed() < FAILOVER * 2, "stranded for {:?}", began.elapsed());
    let error = running.ended().await.unwrap_err();
    assert!(matches!(&error, Error::Running(_)) && error.to_string().contains("shardId-000000000000"), "{error:?}");
    running_on.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_renewer_that_panics_ends_the_consumer() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    // Nothing is read, so the next write is a renewal.
    world.dynamo.fail("UpdateItem", dynamo::Fault::Panic);
    let error = running.ended().await.unwrap_err();
    assert!(matches!(error, Error::Running(_)) && error.to_string().contains("renews"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_scan_or_a_listing_that_hangs() {
    let hangs: [fn(&World); 2] = [
        |world| world.dynamo.fail("Scan", dynamo::Fault::Hang),
        |world| {
            world.emulator.faults().push(Fault::on("ListShards", FaultKind::DelayMs(1_000_000))).unwrap();
        },
    ];
    for hang in hangs {
        let world = World::new(1).await;
        let recorder = Recorder::new(Commit::Each);
        let sync = Duration::from_secs(20);
        let running = run(world.consumer("one").shard_sync(sync), &recorder);
        until("the shard is started", async || !recorder.starts().is_empty()).await;
        hang(&world);
        tokio::time::sleep(sync + Duration::from_secs(1)).await;
        assert_eq!(world.dynamo.faults_left(), 0);
        let began = tokio::time::Instant::now();
        running.drained().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
