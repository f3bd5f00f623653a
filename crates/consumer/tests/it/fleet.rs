//! Several workers of one application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_consumer::{ConsumerBuilder, Finished, Shard, ShardHandler};
use kinesink_core::Failure;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::dynamo::Fault;
use crate::recorder::{Commit, Event, Recorder};
use crate::resharding::{QUARTER, check, listed, put_all};
use crate::world::{APP, FAILOVER, STREAM, World, run, until};

/// Leases of each owner.
async fn loads(world: &World) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for owner in world.texts("leaseOwner").await.into_values() {
        *loads.entry(owner).or_default() += 1;
    }
    loads
}

pub(crate) async fn balanced(world: &World, workers: &[(&str, usize)]) {
    until("there is a table", async || !world.dynamo.writes().is_empty()).await;
    let wanted = workers.iter().map(|(worker, leases)| ((*worker).to_owned(), *leases)).collect();
    let is_balanced = async || {
        let is_balanced = loads(world).await == wanted;
        if !is_balanced {
            // A look costs real time.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        is_balanced
    };
    until("the leases are balanced", is_balanced).await;
}

/// At no time has a shard two runs. What runs at the end.
pub(crate) fn one_run_each(events: &[Event]) -> usize {
    let mut runs = BTreeMap::<_, i32>::new();
    for event in events {
        match event {
            Event::Started(shard, _) => *runs.entry(shard).or_default() += 1,
            Event::Stopped(shard, _) => *runs.entry(shard).or_default() -= 1,
            _ => {}
        }
        assert!(runs.values().all(|runs| *runs <= 1), "two workers run a shard at once: {event:?}");
    }
    runs.into_values().filter(|runs| *runs == 1).count()
}

/// A checkpoint never moves back.
pub(crate) fn forwards(events: &[Event]) {
    let mut committed = BTreeMap::new();
    for event in events {
        if let Event::Committed(shard, to) = event {
            let from = committed.insert(shard, *to);
            assert!(from.is_none_or(|from| from <= *to), "{shard} went back from {from:?} to {to}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn workers_join_and_leave_under_load_and_nothing_is_lost_or_doubled() {
    let world = World::new(12).await;
    let recorder = Recorder::new(Commit::Each);
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let a = run(world.consumer("a"), &recorder);
    balanced(&world, &[("a", 12)]).await;
    let (b, c) = (run(world.consumer("b"), &recorder), run(world.consumer("c"), &recorder));
    put_all(&world, "b", &mut all).await;
    let joined = Instant::now();
    balanced(&world, &[("a", 4), ("b", 4), ("c", 4)]).await;
    assert!(joined.elapsed() < FAILOVER * 2, "balanced after {:?}", joined.elapsed());
    put_all(&world, "c", &mut all).await;
    until("all are running", async || one_run_each(&recorder.events()) == 12).await;

    let left = Instant::now();
    b.drained().await;
    put_all(&world, "d", &mut all).await;
    balanced(&world, &[("a", 6), ("c", 6)]).await;
    assert!(left.elapsed() < FAILOVER / 2, "the leases of one that left were free for {:?}", left.elapsed());
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    tokio::time::sleep(FAILOVER * 3).await;
    a.drained().await;
    c.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);
    assert_eq!(one_run_each(&recorder.events()), 0);
    forwards(&recorder.events());
    assert_eq!(world.texts("kinesink_wanted_by").await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_killed_worker_run_again_within_failover_and_two_seconds() {
    for moment in 0..5 {
        let world = World::new(12).await;
        let recorder = Recorder::new(Commit::Each);
        let a = run(world.consumer("a"), &recorder);
        let b = run(world.consumer("b"), &recorder);
        let c = run(world.consumer("c"), &recorder);
        balanced(&world, &[("a", 4), ("b", 4), ("c", 4)]).await;
        until("all are running", async || one_run_each(&recorder.events()) == 12).await;
        // Anywhere between two renewals.
        tokio::time::sleep(FAILOVER * 2 + FAILOVER / 15 * moment).await;
        b.killed().await;
        let killed = Instant::now();
        until("all are running again", async || one_run_each(&recorder.events()) == 12).await;
        assert!(killed.elapsed() <= FAILOVER + Duration::from_secs(2), "after {:?}", killed.elapsed());
        balanced(&world, &[("a", 6), ("c", 6)]).await;
        a.drained().await;
        c.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_under_load_keep_parents_before_children_across_workers() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let workers = ["a", "b", "c"].map(|id| run(world.consumer(id), &recorder));
    until("reading has begun", async || recorder.starts().len() >= 2).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    put_all(&world, "b", &mut all).await;
    let merge = world.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000003");
    merge.adjacent_shard_to_merge("shardId-000000000001").send().await.unwrap();
    put_all(&world, "c", &mut all).await;
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    for worker in workers {
        worker.drained().await;
    }
    all.sort();
    assert_eq!(recorder.texts(), all);
    one_run_each(&recorder.events());
    forwards(&recorder.events());
    check(&recorder.events(), &world.dynamo.writes(), &listed(&world).await);
}

/// Renews what `owner` has of `leases`, as Java does.
async fn renew_for_ever(world: Arc<World>, leases: Vec<String>, owner: &'static str) {
    loop {
        for key in &leases {
            let key = AttributeValue::S(key.clone());
            let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", key);
            let request = request.update_expression("SET leaseCounter = leaseCounter + :one");
            let request = request.condition_expression("leaseOwner = :owner");
            let request = request.expression_attribute_values(":owner", AttributeValue::S(owner.into()));
            // Somebody else may have taken it.
            let _overtaken = request.expression_attribute_values(":one", AttributeValue::N("1".into())).send().await;
        }
        tokio::time::sleep(FAILOVER / 3).await;
    }
}

/// A world whose leases a Java worker has, and renews as long as the set lives.
async fn of_java(shards: i32) -> (Arc<World>, JoinSet<()>) {
    let world = Arc::new(World::new(shards).await);
    let recorder = Recorder::new(Commit::Each);
    let first = run(world.consumer("java"), &recorder);
    balanced(&world, &[("java", usize::try_from(shards).unwrap())]).await;
    first.killed().await;
    // As Java takes them: the mark of another worker stays.
    let leases: Vec<_> = world.rows().await.into_keys().collect();
    for key in leases.clone() {
        let request = world.dynamo.client().update_item().table_name(APP).key("leaseKey", AttributeValue::S(key));
        let request = request.update_expression("SET kinesink_owner = :other, leaseCounter = leaseCounter + :one");
        let request = request.expression_attribute_values(":one", AttributeValue::N("1".into()));
        request.expression_attribute_values(":other", AttributeValue::S("us".into())).send().await.unwrap();
    }
    let mut java = JoinSet::new();
    java.spawn(renew_for_ever(Arc::clone(&world), leases, "java"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    (world, java)
}

#[tokio::test(start_paused = true)]
async fn a_lease_to_steal_is_read_again_after_a_slow_scan() {
    let (world, mut java) = of_java(4).await;
    // One scan to sync the shards, one to take; the owner renews during each.
    for _ in 0..2 {
        world.dynamo.fail("Scan", Fault::Slow(FAILOVER / 2));
    }
    let us = run(world.consumer("us"), &Recorder::new(Commit::Each));
    tokio::time::sleep(FAILOVER + Duration::from_secs(1)).await;
    assert_eq!(loads(&world).await.get("us"), Some(&1));
    java.shutdown().await;
    us.drained().await;
}

#[tokio::test(start_paused = true)]
async fn beside_a_java_worker_one_lease_a_round_is_stolen_at_kcls_pace() {
    let (world, mut java) = of_java(6).await;
    let recorder = Recorder::new(Commit::Each);
    let us = run(world.consumer("us"), &recorder);
    let round = (FAILOVER + Duration::from_millis(25)) * 2;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for leases in 1..=3 {
        balanced(&world, &[("java", 6 - leases), ("us", leases)]).await;
        tokio::time::sleep(round - Duration::from_secs(2)).await;
        assert_eq!(loads(&world).await["us"], leases, "faster than KCL");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    tokio::time::sleep(round * 3).await;
    assert_eq!(loads(&world).await, BTreeMap::from([("java".to_owned(), 3), ("us".to_owned(), 3)]));
    assert!(world.texts("kinesink_wanted_by").await.is_empty(), "a Java worker was asked for a lease");
    java.shutdown().await;
    // Nobody renews them any more.
    until("all are ours", async || loads(&world).await.get("us") == Some(&6)).await;
    us.drained().await;
}

/// Never drains.
pub(crate) struct Stubborn(pub(crate) Arc<Recorder>);

#[async_trait]
impl ShardHandler for Stubborn {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        shard.drain = tokio_util::sync::CancellationToken::new();
        self.0.run(shard).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_given_is_stolen_at_last() {
    let world = World::new(4).await;
    let recorder = Recorder::new(Commit::Each);
    let stubborn = run(world.consumer("a"), &Arc::new(Stubborn(Arc::clone(&recorder))));
    balanced(&world, &[("a", 4)]).await;
    let other = run(world.consumer("b"), &recorder);
    let asked = Instant::now();
    balanced(&world, &[("a", 2), ("b", 2)]).await;
    assert!(asked.elapsed() > FAILOVER * 2, "a lease was stolen without patience");
    let dropped = |event: &&Event| matches!(event, Event::Stopped(_, None));
    until("the stolen runs are dropped", async || recorder.events().iter().filter(dropped).count() == 2).await;
    other.drained().await;
    stubborn.killed().await;
}

/// Takes long to drain, as one whose sink is slow.
pub(crate) struct Slow {
    recorder: Arc<Recorder>,
    drain: Duration,
    draining: AtomicUsize,
    /// Drains that were not let finish.
    dropped: AtomicUsize,
}

/// Ends with the drain, finished or not.
struct Draining<'a>(&'a AtomicUsize);

impl Drop for Draining<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slow {
    pub(crate) fn new(recorder: &Arc<Recorder>, drain: Duration) -> Arc<Self> {
        Arc::new(Self {
            recorder: Arc::clone(recorder),
            drain,
            draining: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl ShardHandler for Slow {
    async fn run(&self, shard: Shard) -> Result<Finished, Failure> {
        let finished = self.recorder.run(shard).await?;
        if finished == Finished::Drained {
            self.draining.fetch_add(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            let guard = Draining(&self.draining);
            tokio::time::sleep(self.drain).await;
            self.dropped.fetch_sub(1, Ordering::Relaxed);
            drop(guard);
        }
        Ok(finished)
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_drains_for_long_goes_to_who_asked_and_is_neither_stolen_nor_idle() {
    for failovers in [3, 8] {
        let world = World::new(4).await;
        let recorder = Recorder::new(Commit::Each);
        let slow = Slow::new(&recorder, FAILOVER * failovers);
        let a = run(world.consumer("a"), &slow);
        balanced(&world, &[("a", 4)]).await;
        let (b, c) = (run(world.consumer("b"), &recorder), run(world.consumer("c"), &recorder));
        until("a drain began", async || slow.draining.load(Ordering::Relaxed) > 0).await;
        until("it ended", async || slow.draining.load(Ordering::Relaxed) == 0).await;
        let moved = Instant::now();
        until("all are running", async || one_run_each(&recorder.events()) == 4).await;
        assert!(moved.elapsed() < FAILOVER, "a lease was idle for {:?}", moved.elapsed());
        assert!(loads(&world).await["a"] < 4, "a lease was drained in vain");
        assert_eq!(slow.dropped.load(Ordering::Relaxed), 0, "a drain was not let finish");
        b.drained().await;
        c.drained().await;
        a.drained().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_takes_its_wishes_back_and_what_it_asked_for_is_nobodys_at_once() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let a = run(world.consumer("a"), &Slow::new(&recorder, FAILOVER * 3));
    balanced(&world, &[("a", 2)]).await;
    let b = run(world.consumer("b"), &recorder);
    until("a lease is asked for", async || !world.texts("kinesink_wanted_by").await.is_empty()).await;
    let asked = Instant::now();
    tokio::time::sleep(FAILOVER).await;
    b.drained().await;
    assert!(world.texts("kinesink_wanted_by").await.is_empty(), "a wish outlives its worker");
    until("it is running again", async || one_run_each(&recorder.events()) == 2).await;
    // Given to the one that left, it would have to expire.
    assert!(asked.elapsed() < FAILOVER * 3 + FAILOVER / 2, "after {:?}", asked.elapsed());
    assert_eq!(loads(&world).await, BTreeMap::from([("a".to_owned(), 2)]));
    a.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_holds_no_more_leases_than_it_may() {
    let world = World::new(6).await;
    let recorder = Recorder::new(Commit::Each);
    let a = run(world.consumer("a").max_leases(2), &recorder);
    tokio::time::sleep(FAILOVER * 10).await;
    assert_eq!(loads(&world).await, BTreeMap::from([("a".to_owned(), 2)]));
    let b = run(world.consumer("b"), &recorder);
    balanced(&world, &[("a", 2), ("b", 4)]).await;
    a.drained().await;
    b.drained().await;
}

/// How often the leases of finished shards are looked at.
const CLEANUP_PERIOD: Duration = Duration::from_secs(300);

/// For tests of minutes.
fn patient(world: &World) -> ConsumerBuilder {
    world.consumer("a").idle(Duration::from_secs(20)).failover(FAILOVER * 6)
}

#[tokio::test(start_paused = true)]
async fn a_finished_lease_goes_once_its_children_have_begun() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(patient(&world), &recorder);
    until("reading has begun", async || !recorder.starts().is_empty()).await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(u128::MAX.div_ceil(2).to_string()).send().await.unwrap();
    until("the children are read", async || recorder.starts().len() == 3).await;
    tokio::time::sleep(CLEANUP_PERIOD * 3).await;
    assert_eq!(world.texts("checkpoint").await["shardId-000000000000"], "SHARD_END", "children have not begun");
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    tokio::time::sleep(CLEANUP_PERIOD).await;
    until("the lease is gone", async || !world.rows().await.contains_key("shardId-000000000000")).await;
    assert_eq!(world.rows().await.len(), 2);
    // The shard is still listed: its lease must not come back.
    tokio::time::sleep(CLEANUP_PERIOD * 2).await;
    assert_eq!(world.rows().await.len(), 2);
    running.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_left_the_stream_ends_and_its_children_are_read() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(patient(&world), &recorder);
    until("reading has begun", async || !recorder.starts().is_empty()).await;
    running.drained().await;
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(u128::MAX.div_ceil(2).to_string()).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    assert_eq!(listed(&world).await.len(), 2, "the parent is still there");
    let mut all = Vec::new();
    put_all(&world, "a", &mut all).await;
    let running = run(patient(&world), &recorder);
    until("everything is delivered", async || recorder.texts().len() >= all.len()).await;
    assert_eq!(world.texts("checkpoint").await["shardId-000000000000"], "SHARD_END");
    tokio::time::sleep(CLEANUP_PERIOD).await;
    until("the lease is gone", async || !world.rows().await.contains_key("shardId-000000000000")).await;
    running.drained().await;
    all.sort();
    assert_eq!(recorder.texts(), all);
}
