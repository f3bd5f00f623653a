use std::time::Duration;

use kinesink_core::Budget;
use kinesink_emulator::{Fault, FaultKind, Limit, Limits};
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use crate::recorder::{Commit, Recorder};
use crate::world::{Running, World, metric, run, run_counted, until};

/// Replies of a few records, so that a backlog takes many calls.
const BUDGET_BYTES: usize = 64 * 1024;

struct Poller {
    running: Running,
    registry: Registry,
}

impl Poller {
    fn start(world: &World, app: &str, seed: u64) -> Self {
        let mut registry = Registry::default();
        let consumer = world.consumer("one").lease_table(app).seed(seed).budget(Budget::new(BUDGET_BYTES));
        let running = run_counted(consumer, &Recorder::new(Commit::Each), &mut registry);
        Self { running, registry }
    }

    /// Calls that were answered and that were throttled.
    fn calls(&self) -> (u64, u64) {
        (metric(&self.registry, "fetch_requests_total"), metric(&self.registry, "fetch_failures_total"))
    }
}

async fn backlog() -> World {
    let world = World::of(1, |emulator| emulator.limits(Limits::none().with(Limit::GetRecordsCalls))).await;
    world.put("key", &vec!["x".repeat(1_000); 12_000]).await;
    world
}

/// The shard gives five calls a second to all who poll it.
#[tokio::test(start_paused = true)]
async fn pollers_of_one_shard_come_to_equal_shares_and_the_last_one_to_all() {
    let world = backlog().await;
    let mut pollers: Vec<_> = (1..=3).map(|number| Poller::start(&world, &format!("app-{number}"), number)).collect();
    sleep(Duration::from_secs(30)).await;
    let before: Vec<_> = pollers.iter().map(Poller::calls).collect();
    sleep(Duration::from_secs(120)).await;
    let calls = pollers.iter().zip(&before).map(|(poller, before)| {
        let now = poller.calls();
        (now.0 - before.0, now.1 - before.1)
    });
    let (answered, throttled): (Vec<_>, Vec<_>) = calls.unzip();
    let (sum, refused) = (answered.iter().sum::<u64>(), throttled.iter().sum::<u64>());
    assert!(sum >= 120 * 5 * 6 / 10, "only {answered:?} calls of 600 were answered");
    assert!(refused * 4 < sum, "{refused} calls were throttled for {sum}");
    let (least, most) = (answered.iter().min().unwrap(), answered.iter().max().unwrap());
    assert!(most < &(least * 2), "shares of {answered:?}");

    let last = pollers.pop().unwrap();
    for poller in pollers {
        poller.running.killed().await;
    }
    sleep(Duration::from_secs(20)).await;
    let before = last.calls();
    sleep(Duration::from_secs(60)).await;
    let now = last.calls();
    let (answered, throttled) = (now.0 - before.0, now.1 - before.1);
    assert!(answered >= 60 * 5 * 6 / 10, "only {answered} calls of 300 were answered");
    assert!(throttled * 8 < answered, "{throttled} calls were throttled for {answered}");
    last.running.drained().await;
}

/// It waited until nobody else held any memory, and everybody who came later waited for it.
#[tokio::test(start_paused = true)]
async fn a_first_reply_that_is_larger_than_what_is_free_is_asked_for_in_parts() {
    let world = World::new(1).await;
    world.put("key", &vec!["x".repeat(100_000); 40]).await;
    let budget = Budget::new(4 * 1024 * 1024);
    let elsewhere = budget.reserve(budget.total_bytes() * 3 / 4).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one").budget(budget.clone()), &recorder);
    until("all came", async || recorder.texts().len() == 40).await;
    drop(elsewhere);
    running.drained().await;
}

/// Each reserved 10 MiB, or a quarter of the budget: four at once asked whether there is something new.
#[tokio::test(start_paused = true)]
async fn idle_shards_do_not_wait_for_memory_that_nothing_new_can_take() {
    const SHARDS: i32 = 40;
    let world = World::new(SHARDS).await;
    let budget = Budget::new(40 * 1024 * 1024);
    let mut registry = Registry::default();
    let slow = Fault::on("GetRecords", FaultKind::DelayMs(500));
    let consumer = world.consumer("one").budget(budget);
    let running = run_counted(consumer, &Recorder::new(Commit::Each), &mut registry);
    let polls = || metric(&registry, "fetch_requests_total");
    until("every shard was polled", async || polls() >= 2 * SHARDS as u64).await;
    world.emulator.faults().push(slow.times(u32::MAX)).unwrap();
    sleep(Duration::from_secs(10)).await;
    let before = polls();
    sleep(Duration::from_secs(30)).await;
    // A second's pause and half a second's answer: forty shards take 800 calls, and four at once would make 240.
    let made = polls() - before;
    assert!(made > 500, "{made} calls in 30 seconds");
    world.emulator.faults().clear();
    running.drained().await;
}
