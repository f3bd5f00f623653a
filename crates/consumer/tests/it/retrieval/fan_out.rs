use std::sync::Arc;
use std::time::Duration;

use kinesink_consumer::{ConsumerBuilder, Error, Retrieval};
use kinesink_core::Budget;
use kinesink_emulator::{Fault, FaultKind, Limit, Limits};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};

use super::handlers::{Hoarder, Pausing};
use super::{Way, error, numbered};
use crate::recorder::{Commit, Recorder};
use crate::world::{APP, FAILOVER, STREAM, World, metric, run, run_counted, until};

/// Names and ARNs of the stream's consumers.
async fn registered(world: &World) -> Vec<(String, String)> {
    let stream = world.kinesis.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let arn = stream.stream_description_summary.unwrap().stream_arn;
    let listed = world.kinesis.list_stream_consumers().stream_arn(arn).send().await.unwrap();
    listed.consumers().iter().map(|consumer| (consumer.consumer_name.clone(), consumer.consumer_arn.clone())).collect()
}

fn named(world: &World, consumer: &str) -> ConsumerBuilder {
    world.consumer("one").retrieval(Retrieval::FanOut { consumer: Some(consumer.into()) })
}

#[tokio::test(start_paused = true)]
async fn the_consumer_is_registered_once_by_the_applications_name_and_stays() {
    let world = World::of(3, |emulator| emulator.transitions(Duration::from_secs(5))).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(registered(&world).await, []);
    let mut arns = Vec::new();
    for round in 0..2 {
        let recorder = Recorder::new(Commit::Each);
        let running = run(Way::FanOut.consumer(&world), &recorder);
        world.put("key", &[format!("{round}")]).await;
        until("it came", async || !recorder.texts().is_empty()).await;
        running.drained().await;
        let registered = registered(&world).await;
        assert_eq!(registered.len(), 1);
        assert_eq!(registered[0].0, APP);
        arns.push(registered[0].1.clone());
    }
    assert_eq!(arns[0], arns[1], "it was registered anew");
}

#[tokio::test(start_paused = true)]
async fn a_name_or_an_arn_may_be_given_and_an_arn_is_not_looked_up() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(named(&world, "own-name"), &recorder);
    until("it is started", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    let arn = registered(&world).await.pop().unwrap();
    assert_eq!(arn.0, "own-name");

    for operation in ["DescribeStreamSummary", "DescribeStreamConsumer", "RegisterStreamConsumer"] {
        world.emulator.faults().push(Fault::on(operation, error("AccessDeniedException")).times(1_000)).unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(named(&world, &arn.1), &recorder);
    world.put("key", &numbered(3)).await;
    until("they came", async || recorder.texts().len() >= 3).await;
    running.drained().await;
    assert_eq!(world.emulator.faults().list().len(), 3);

    let error = named(&world, "no name").build(&mut Registry::default()).unwrap_err();
    assert!(matches!(&error, Error::Setting(said) if said.contains("no name")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_forbids_to_register_is_named_before_anything_is_read_and_a_throttle_passes() {
    let world = World::new(1).await;
    world.emulator.faults().push(Fault::on("RegisterStreamConsumer", error("AccessDeniedException"))).unwrap();
    let error_said = run(Way::FanOut.consumer(&world), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(error_said, Error::Start(_)), "{error_said:?}");
    let said = error_said.to_string();
    assert!(said.contains(&format!("consumer {APP} of stream {STREAM}")) && said.contains("AccessDenied"), "{said}");

    for operation in ["DescribeStreamConsumer", "RegisterStreamConsumer"] {
        world.emulator.faults().push(Fault::on(operation, error("LimitExceededException")).times(8)).unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let running = run(Way::FanOut.consumer(&world), &recorder);
    until("it is started", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    assert_eq!(world.emulator.faults().list(), []);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_never_becomes_active_is_not_waited_for_without_end() {
    let world = World::new(1).await;
    let refused = Fault::on("DescribeStreamConsumer", error("LimitExceededException")).times(10_000);
    world.emulator.faults().push(refused).unwrap();
    let began = Instant::now();
    let error = run(Way::FanOut.consumer(&world), &Recorder::new(Commit::Each)).ended().await.unwrap_err();
    assert!(matches!(error, Error::Start(_)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(600), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deregistered_is_registered_again() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(Way::FanOut.consumer(&world), &recorder);
    world.put("key", &numbered(3)).await;
    until("they came", async || recorder.texts().len() >= 3).await;
    let arn = registered(&world).await.pop().unwrap().1;
    world.kinesis.deregister_stream_consumer().consumer_arn(arn).send().await.unwrap();
    world.put("key", &["more".to_owned()]).await;
    until("more came", async || recorder.texts().len() >= 4).await;
    running.drained().await;
    assert_eq!(recorder.texts(), [numbered(3), vec!["more".to_owned()]].concat());
}

/// A killed owner's subscription is safe for five seconds, and calls are refused meanwhile.
#[tokio::test(start_paused = true)]
async fn a_lease_that_moved_is_subscribed_to_at_a_pace_that_the_service_takes() {
    let limits = Limits::none().with(Limit::SubscriptionTakeOver).with(Limit::SubscribeCalls);
    let world = World::of(1, |emulator| emulator.limits(limits)).await;
    let first = Recorder::new(Commit::Each);
    let running = run(Way::FanOut.consumer(&world), &first);
    world.put("key", &numbered(3)).await;
    until("they came", async || first.texts().len() >= 3).await;
    running.drained().await;

    world.put("key", &["more".to_owned()]).await;
    let began = Instant::now();
    let (second, mut registry) = (Recorder::new(Commit::Each), Registry::default());
    let running = run_counted(Way::FanOut.set(world.consumer("two")), &second, &mut registry);
    until("the rest came", async || !second.texts().is_empty()).await;
    let (refused, elapsed) = (metric(&registry, "fetch_failures_total"), began.elapsed());
    running.drained().await;
    assert_eq!(second.texts(), ["more"]);
    assert!((1..=5).contains(&refused), "refused {refused} times");
    assert!(elapsed < Duration::from_secs(11), "{elapsed:?}");
    assert!(Duration::from_secs(refused) <= elapsed, "refused {refused} times in {elapsed:?}");
}

/// The old owner does not know yet, and what it reads is taken from it.
#[tokio::test(start_paused = true)]
async fn two_that_fight_for_a_shard_do_not_lose_what_is_sent_to_the_other() {
    let limits = Limits::none().with(Limit::SubscriptionTakeOver);
    let world = World::of(1, |emulator| emulator.limits(limits)).await;
    let recorders = [Recorder::new(Commit::Each), Recorder::new(Commit::Each)];
    // Two applications use one consumer by mistake.
    let one = run(named(&world, "shared"), &recorders[0]);
    let two = run(named(&world, "shared").lease_table("another-table"), &recorders[1]);
    let all = numbered(60);
    for part in all.chunks(2) {
        world.put("key", part).await;
        sleep(Duration::from_secs(3)).await;
    }
    until("both have all", async || recorders.iter().all(|recorder| recorder.texts().len() >= all.len())).await;
    one.drained().await;
    two.drained().await;
    for recorder in recorders {
        assert_eq!(recorder.texts(), all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_falls_silent_is_given_up() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(Way::FanOut.consumer(&world), &recorder);
    world.put("key", &numbered(3)).await;
    until("they came", async || recorder.texts().len() >= 3).await;
    world.emulator.faults().push(Fault::on("SubscribeToShardEvent", FaultKind::DelayMs(100_000_000))).unwrap();
    world.put("key", &["more".to_owned()]).await;
    let began = Instant::now();
    until("more came", async || recorder.texts().len() >= 4).await;
    let waited = began.elapsed();
    running.drained().await;
    assert_eq!(recorder.texts(), [numbered(3), vec!["more".to_owned()]].concat());
    assert!((Duration::from_secs(35)..Duration::from_secs(40)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_is_not_taken_for_a_silent_one() {
    let world = World::new(1).await;
    let (recorder, mut registry) = (Recorder::new(Commit::Each), Registry::default());
    let running = run_counted(Way::FanOut.consumer(&world), &recorder, &mut registry);
    until("it is started", async || !recorder.starts().is_empty()).await;
    sleep(Duration::from_secs(900)).await;
    assert_eq!(metric(&registry, "fetch_failures_total"), 0);
    running.drained().await;
}

/// An owner that waits for memory holds its place, and goes on when there is some.
#[tokio::test(start_paused = true)]
async fn idle_shards_leave_the_budget_to_the_busy_one() {
    let world = World::new(16).await;
    let budget = Budget::new(1024 * 1024);
    let handler = Hoarder::new();
    let running = run(Way::FanOut.consumer(&world).budget(budget.clone()), &handler);
    sleep(FAILOVER * 6).await;
    assert!(budget.free_bytes() > budget.total_bytes() / 2, "idle shards hold all but {}", budget.free_bytes());
    handler.held.lock().unwrap().clear();
    let large = "x".repeat(200_000);
    world.put("key", &vec![large; 4]).await;
    let count = || handler.held.lock().unwrap().iter().map(|held| held.records.len()).sum::<usize>();
    let began = Instant::now();
    until("the busy shard's came", async || count() >= 4).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    running.drained().await;
    drop(Arc::clone(&handler));
    handler.held.lock().unwrap().clear();
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

/// A fault that an open subscription does not meet.
fn only_a_new_subscription() -> Fault {
    Fault::on("SubscribeToShard", error("InternalFailureException"))
}

/// All subscriptions share connections, and what one does not read holds up the others.
#[tokio::test(start_paused = true)]
async fn a_shard_that_nobody_reads_keeps_no_subscription_open() {
    let world = World::new(1).await;
    let handler = Arc::new(Pausing::default());
    let running = run(Way::FanOut.consumer(&world), &handler);
    world.put("key", &numbered(3)).await;
    until("they came", async || handler.texts.lock().unwrap().len() >= 3).await;
    handler.paused.send_replace(true);
    sleep(Duration::from_secs(30)).await;
    world.put("key", &["more".to_owned()]).await;
    world.emulator.faults().push(only_a_new_subscription()).unwrap();
    handler.paused.send_replace(false);
    until("more came", async || handler.texts.lock().unwrap().len() >= 4).await;
    assert_eq!(world.emulator.faults().list(), [], "the subscription was kept");
    running.drained().await;
    assert_eq!(*handler.texts.lock().unwrap(), [numbered(3), vec!["more".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_waits_for_memory_keeps_no_subscription_open() {
    let world = World::new(1).await;
    let budget = Budget::new(1024 * 1024);
    let handler = Hoarder::new();
    let running = run(Way::FanOut.consumer(&world).budget(budget.clone()), &handler);
    world.put("key", &numbered(3)).await;
    until("they came", async || !handler.held.lock().unwrap().is_empty()).await;
    let all = budget.reserve(budget.total_bytes());
    handler.held.lock().unwrap().clear();
    let all = all.await;
    sleep(Duration::from_secs(30)).await;
    world.emulator.faults().push(only_a_new_subscription()).unwrap();
    drop(all);
    world.put("key", &["more".to_owned()]).await;
    let has_more = |held: &kinesink_core::Records| held.records.iter().any(|record| *record.data == *b"more");
    until("more came", async || handler.held.lock().unwrap().iter().any(has_more)).await;
    assert_eq!(world.emulator.faults().list(), [], "the subscription was kept");
    running.drained().await;
}
