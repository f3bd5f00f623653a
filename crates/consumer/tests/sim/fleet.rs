//! A large fleet while nothing goes wrong but deaths: how long until every worker has its share, and by how many moves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use kinesink_consumer::{Retrieval, Start};
use kinesink_emulator::Limits;

use crate::network::{QUANTUM, Weather};
use crate::pipeline::Habits;
use crate::process::{APP, Process, Settings};
use crate::scenario::{FAILOVER, SMALL_BYTES, Scenario};
use crate::world::World;

/// Workers of a deployment begin within so much of each other.
const START_WITHIN_MS: u64 = 1_500;
/// A table's rows of this size fit on two pages of a megabyte.
const PAGE_ROWS: usize = 2_000;

/// A fleet under way.
pub(crate) struct Fleet {
    world: World,
    settings: Settings,
    rng: Rng,
    now: Duration,
    /// Processes that have been started and those that are to be, and when.
    processes: Vec<Process>,
    starts: Vec<(Duration, String)>,
    named: usize,
    shards: usize,
    owners: BTreeMap<String, String>,
    /// Shards that the dead read and nobody has read since.
    orphans: BTreeSet<String>,
    /// Leases that one worker had and then another, both alive.
    moved: usize,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (loads, nobodys) = self.loads();
        write!(f, "{loads:?}, {nobodys} of nobody, {} run", self.world.witness().running().len())
    }
}

impl Fleet {
    /// So many leases of nobody.
    pub(crate) fn new(shards: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let habits =
            Habits { window_records_max: 8, window_age_ms: 500, sink_ms_max: 200, prepared: 0.0, failing: 0.0 };
        let settings = Settings {
            seed,
            failover: FAILOVER,
            start: Start::TrimHorizon,
            idle: Duration::from_secs(1),
            shard_sync: Duration::from_secs(120),
            budget_bytes: 64 * 1024 * 1024,
            habits,
        };
        let scenario = Scenario {
            workers: 0,
            shards: i32::try_from(shards).unwrap(),
            settings,
            weather: Weather::default(),
            transitions: Duration::ZERO,
            limits: Limits::none(),
            fan_out: 0.0,
            java: false,
            lingers: false,
            record_bytes_max: SMALL_BYTES,
            calm_at: Duration::ZERO,
            disturbed_ms: 0,
        };
        let world = World::new(&scenario, &mut rng, false);
        world.store.lock().unwrap().set_page_rows(PAGE_ROWS);
        world.create_stream(scenario.shards);
        let now = Duration::from_secs(world.runtime.block_on(async { world.clock.elapsed() }).as_secs() + 1);
        world.step(now);
        world.survey(now);
        let (processes, starts, owners, orphans) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut fleet =
            Self { world, settings, rng, now, processes, starts, named: 0, shards, owners, orphans, moved: 0 };
        // Who makes the table, and dies before it takes a lease: it has not been told yet that the last one is there.
        fleet.start(1);
        fleet.run(Duration::from_secs(300), |fleet| fleet.world.store.lock().unwrap().owners(APP).count() == shards);
        fleet.kill(1);
        assert_eq!(fleet.owners.len(), 0, "leases of nobody");
        fleet.world.produce(Rng::with_seed(seed), Duration::MAX, 200, SMALL_BYTES);
        fleet
    }

    /// Starts so many workers.
    pub(crate) fn start(&mut self, workers: usize) {
        for _ in 0..workers {
            self.named += 1;
            let at = self.now + Duration::from_millis(self.rng.u64(0..START_WITHIN_MS));
            self.starts.push((at, format!("worker-{:03}", self.named)));
        }
    }

    /// Ends so many, as by a signal that cannot be caught.
    pub(crate) fn kill(&mut self, workers: usize) {
        for _ in 0..workers {
            let process = self.processes.remove(self.rng.usize(..self.processes.len()));
            self.world.witness().died(self.now, process.number, "is killed");
            let had = self.owners.iter().filter(|(_, owner)| **owner == process.worker);
            self.orphans.extend(had.map(|(lease, _)| lease.clone()));
        }
    }

    /// Goes on until it is done or the time is over; how long it was.
    pub(crate) fn run(&mut self, at_most: Duration, is_done: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while self.now < began + at_most && !(self.starts.is_empty() && is_done(self)) {
            self.step();
        }
        self.now - began
    }

    fn step(&mut self) {
        let until = self.now + QUANTUM;
        for (_, name) in self.starts.extract_if(.., |(at, _)| *at <= self.now) {
            let (network, upstream) = (&self.world.network, self.world.emulator.http_client());
            let (witness, retrieval) = (&self.world.witness, Retrieval::Polling);
            self.processes.push(Process::start(&self.settings, &name, self.now, network, upstream, witness, retrieval));
        }
        let world = &self.world;
        self.processes.retain_mut(|process| {
            let ended = process.step(until);
            if ended.is_some() {
                world.witness().died(until, process.number, "is drained");
            }
            ended.is_none()
        });
        self.world.step(until);
        self.now = until;
        let running = self.world.witness().running();
        self.orphans.retain(|shard| !running.contains(shard));
        let is_alive = |owner: &String| self.processes.iter().any(|process| process.worker == *owner);
        for (lease, owner) in self.world.store.lock().unwrap().owners(APP) {
            let before = owner.and_then(|owner| self.owners.insert(lease.to_owned(), owner.to_owned()));
            self.moved += usize::from(before.is_some_and(|before| Some(before.as_str()) != owner && is_alive(&before)));
        }
    }

    /// Leases of each worker that is alive, and how many have none that is.
    fn loads(&self) -> (BTreeMap<&str, usize>, usize) {
        let mut loads: BTreeMap<_, _> = self.processes.iter().map(|process| (process.worker.as_str(), 0)).collect();
        for owner in self.owners.values() {
            loads.entry(owner).and_modify(|load| *load += 1);
        }
        let nobodys = self.shards - loads.values().sum::<usize>();
        (loads, nobodys)
    }

    /// Whether every shard is read by somebody.
    pub(crate) fn all_run(&self) -> bool {
        self.world.witness().running().len() == self.shards
    }

    /// Whether each shard that the dead read has been read since.
    pub(crate) fn none_is_orphaned(&self) -> bool {
        self.orphans.is_empty()
    }

    /// Whether every shard is read, and by each worker as many as by any other, or one more.
    pub(crate) fn is_even(&self) -> bool {
        let (loads, nobodys) = self.loads();
        let (least, most) = (loads.values().min(), loads.values().max());
        nobodys == 0 && most.zip(least).is_some_and(|(most, least)| most - least <= 1) && self.all_run()
    }

    /// Moves since the last time that this was asked.
    pub(crate) fn moves(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.world.witness().failure.clone()
    }
}
