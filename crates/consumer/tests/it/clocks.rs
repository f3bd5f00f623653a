//! A machine that sleeps, and clocks that are set.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use crate::recorder::{Commit, Event, Recorder};
use crate::world::{FAILOVER, World, run, until};

const SHARD: &str = "shardId-000000000000";

async fn started(world: &World) -> (crate::world::Running, Arc<Recorder>) {
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the shard is started", async || !recorder.starts().is_empty()).await;
    (running, recorder)
}

fn dropped(recorder: &Recorder) -> bool {
    recorder.events().iter().any(|event| matches!(event, Event::Stopped(_, None)))
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_wakes_does_not_believe_in_its_leases() {
    let world = World::new(1).await;
    let (running, recorder) = started(&world).await;
    tokio::time::sleep(FAILOVER).await;
    let counter = world.rows().await[SHARD]["leaseCounter"].clone();
    // Before the next tick of anything.
    world.clock.jump(SignedDuration::from_mins(5));
    let woke = Instant::now();
    until("the handler is dropped", async || dropped(&recorder)).await;
    assert!(woke.elapsed() <= Duration::from_secs(1), "after {:?}", woke.elapsed());
    assert_eq!(world.rows().await[SHARD]["leaseCounter"], counter, "a lease was renewed that had expired");
    // Nobody took it, and others would wait as long.
    until("it is started again", async || recorder.starts().len() == 2).await;
    assert!(woke.elapsed() <= FAILOVER + Duration::from_secs(2), "after {:?}", woke.elapsed());
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_or_a_little_forward_costs_no_lease() {
    let world = World::new(1).await;
    let (running, recorder) = started(&world).await;
    for jump in [-SignedDuration::from_hours(1), SignedDuration::from_secs(2), -SignedDuration::from_secs(2)] {
        world.clock.jump(jump);
        tokio::time::sleep(FAILOVER * 3).await;
    }
    running.drained().await;
    assert_eq!(recorder.starts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wild_loses_no_record() {
    let world = World::new(1).await;
    let (running, recorder) = started(&world).await;
    let mut all = Vec::new();
    for round in 0..12 {
        all.push(format!("{round:02}"));
        world.put("key", &all[round..]).await;
        let hours = SignedDuration::from_hours(20);
        world.clock.jump(if round % 2 == 0 { hours } else { -hours });
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    until("all came", async || world.texts("checkpoint").await[SHARD] != "TRIM_HORIZON").await;
    tokio::time::sleep(FAILOVER * 3).await;
    running.drained().await;
    let mut texts = recorder.texts();
    texts.dedup();
    assert_eq!(texts, all);
}
