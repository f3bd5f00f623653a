use std::time::Duration;

use kinesink_core::Budget;
use kinesink_emulator::{Limit, Limits};
use prometheus_client::registry::Registry;
use tokio::time::sleep;

use crate::recorder::{Commit, Recorder};
use crate::world::{Running, World, metric, run_counted};

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
