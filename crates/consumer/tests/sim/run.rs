//! One run: everything that happens follows from its seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::primitives::Blob;
use kinesink_aws::kinesis::types::{PutRecordsRequestEntry, ScalingType, Shard};
use kinesink_consumer::{Retrieval, Start};
use kinesink_emulator::{Emulator, Fault, FaultKind, Limits};
use tokio::runtime::Runtime;

use crate::clock::{SimClock, wall};
use crate::java::Java;
use crate::network::{Cut, Network, QUANTUM, Service, Weather};
use crate::pipeline::Habits;
use crate::process::{APP, Process, STREAM, Settings, clients, runtime};
use crate::store::Store;
use crate::witness::Witness;

const FAILOVER: Duration = Duration::from_secs(10);
/// Once nothing goes wrong any more, so much time at most passes without anything getting nearer to its end.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// So long may a drain take while nothing goes wrong.
const DRAINED_IN: Duration = Duration::from_secs(60);
/// Leases of finished shards are deleted after five minutes.
const LINGERS: Duration = Duration::from_secs(400);
/// A record of the usual size, at most.
const SMALL_BYTES: usize = 40;
const SETUP: Duration = Duration::from_millis(1);

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) failure: Option<String>,
    /// Of everything that was seen, in order.
    pub(crate) hash: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) lasted: Duration,
    pub(crate) writes: usize,
}

/// What a seed decides before anything runs.
struct Scenario {
    workers: usize,
    shards: i32,
    settings: Settings,
    weather: Weather,
    transitions: Duration,
    limits: Limits,
    /// How many processes use enhanced fan-out, from 0 to 1.
    fan_out: f64,
    java: bool,
    /// Whether it goes on until leases of finished shards are deleted.
    lingers: bool,
    record_bytes_max: usize,
    /// From here on nothing goes wrong.
    calm_at: Duration,
    /// A disturbance every so many milliseconds at most.
    disturbed_ms: u64,
}

impl Scenario {
    fn draw(seed: u64, rng: &mut Rng) -> Self {
        let share = |rng: &mut Rng, max: f64| if rng.bool() { rng.f64() * max } else { 0.0 };
        let weather = Weather {
            lost: share(rng, 0.03),
            answer_lost: share(rng, 0.05),
            twice: share(rng, 0.03),
            throttled: share(rng, 0.08),
            slow: share(rng, 0.04),
        };
        let mut habits = Habits {
            window_records_max: rng.usize(1..8),
            window_age_ms: rng.u64(200..4_000),
            sink_ms_max: rng.u64(1..3_000),
            prepared: share(rng, 0.5),
            failing: share(rng, 0.1),
        };
        let java = rng.u8(0..8) == 0;
        let start = match rng.u8(0..4) {
            0 if !java => Start::Latest,
            1 => Start::AtTimestamp(wall(Duration::from_secs(5))),
            _ => Start::TrimHorizon,
        };
        let is_tight = rng.u8(0..4) == 0;
        if is_tight {
            // Much is held at once, and what comes next is larger than what came before.
            habits.window_records_max *= 8;
        }
        let settings = Settings {
            seed,
            failover: FAILOVER,
            start,
            idle: Duration::from_millis(rng.u64(500..3_000)),
            shard_sync: Duration::from_secs(rng.u64(5..60)),
            budget_bytes: if is_tight { 512 * 1024 } else { 64 * 1024 * 1024 },
            habits,
        };
        Self {
            workers: rng.usize(1..=4),
            shards: rng.i32(1..=5),
            settings,
            weather,
            transitions: Duration::from_millis(if rng.bool() { rng.u64(0..8_000) } else { 0 }),
            limits: if rng.bool() { Limits::default() } else { Limits::none() },
            fan_out: [0.0, 0.0, 0.5, 1.0][rng.usize(0..4)],
            java,
            lingers: rng.u8(0..24) == 0,
            record_bytes_max: if is_tight { 3_000 } else { SMALL_BYTES },
            calm_at: Duration::from_secs(rng.u64(30..70)),
            disturbed_ms: rng.u64(2_000..12_000),
        }
    }
}

/// The services, and what happens to them, in a runtime of their own.
struct World {
    runtime: Runtime,
    clock: SimClock,
    emulator: Emulator,
    client: Client,
    store: Arc<Mutex<Store>>,
    network: Network,
    witness: Arc<Mutex<Witness>>,
}

impl World {
    fn new(scenario: &Scenario, rng: &mut Rng, traced: bool) -> Self {
        let runtime = runtime();
        let entered = runtime.enter();
        let clock = SimClock::new(Duration::ZERO);
        let settings = &scenario.settings;
        let witness = Arc::new(Mutex::new(Witness::new(settings.failover, settings.budget_bytes, traced)));
        let store = Arc::new(Mutex::new(Store::default()));
        let emulator = Emulator::builder().clock(Arc::new(clock.clone())).limits(scenario.limits);
        let emulator = emulator.transitions(scenario.transitions).build().expect("an emulator in memory");
        let (network, carry) = Network::new(
            clock.clone(),
            Rng::with_seed(rng.u64(..)),
            scenario.weather,
            Arc::clone(&store),
            Arc::clone(&witness),
        );
        let client = clients(&clock, emulator.http_client(), emulator.http_client()).kinesis;
        drop(runtime.spawn(carry));
        drop(entered);
        Self { runtime, clock, emulator, client, store, network, witness }
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().expect("no panic")
    }

    fn create_stream(&self, shards: i32) {
        self.runtime.block_on(async {
            self.client.create_stream().stream_name(STREAM).shard_count(shards).send().await.expect("a stream");
            self.clock.sleep_until(self.clock.elapsed() + Duration::from_secs(10)).await;
        });
    }

    /// The shards as they are. The faults that wait for a consumer's call are not for this one.
    fn shards(&self) -> Vec<Shard> {
        let waiting = self.emulator.faults().list();
        self.emulator.faults().clear();
        let listed = self.runtime.block_on(self.client.list_shards().stream_name(STREAM).send());
        for fault in waiting {
            self.emulator.faults().push(fault).unwrap();
        }
        listed.expect("a listing").shards.unwrap_or_default()
    }

    fn survey(&self, now: Duration) {
        for shard in &self.shards() {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let parents = parents.into_iter().flatten().map(str::to_owned).collect();
            let range = shard.sequence_number_range().expect("a range");
            self.witness().listed(now, shard.shard_id(), parents, range.ending_sequence_number().is_some());
        }
    }

    /// Puts records until `until`.
    fn produce(&self, mut rng: Rng, until: Duration, pause_ms_max: u64, bytes_max: usize) {
        let (client, clock, witness) = (self.client.clone(), self.clock.clone(), Arc::clone(&self.witness));
        let produce = async move {
            while clock.elapsed() < until {
                let is_large = bytes_max > SMALL_BYTES && clock.elapsed().as_secs() % 16 > 8;
                let (count, bytes_max) = if is_large { (30, bytes_max) } else { (8, SMALL_BYTES) };
                let entries = (0..rng.usize(1..=count)).map(|_| {
                    let data = vec![b'x'; rng.usize(1..=bytes_max)];
                    let entry = PutRecordsRequestEntry::builder().partition_key(rng.u32(..).to_string());
                    entry.data(Blob::new(data)).build().expect("an entry")
                });
                let entries = Some(entries.collect());
                let put = client.put_records().stream_name(STREAM).set_records(entries).send().await;
                for put in put.expect("an answer").records() {
                    if let (Some(shard), Some(sequence)) = (put.shard_id(), put.sequence_number()) {
                        witness.lock().expect("no panic").put(clock.elapsed(), shard, sequence);
                    }
                }
                let pause = Duration::from_millis(rng.u64(20..pause_ms_max));
                clock.sleep_until(clock.elapsed() + pause).await;
            }
        };
        drop(self.runtime.spawn(produce));
    }

    fn step(&self, until: Duration) {
        self.runtime.block_on(self.clock.sleep_until(until));
    }

    /// Splits a shard, merges two, or scales the stream. What cannot be done now is not done.
    fn reshard(&self, rng: &mut Rng) -> String {
        let is_open =
            |shard: &Shard| shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none());
        let key = |text: &str| text.parse::<u128>().expect("a hash key");
        let mut open = Vec::new();
        for shard in self.shards().iter().filter(|shard| is_open(shard)) {
            let range = shard.hash_key_range().expect("a range");
            open.push((key(range.starting_hash_key()), key(range.ending_hash_key()), shard.shard_id().to_owned()));
        }
        open.sort();
        let (start, end, id) = open[rng.usize(..open.len())].clone();
        self.runtime.block_on(async {
            match rng.u8(0..5) {
                0 | 1 if open.len() < 8 => {
                    let middle = start + (end - start) / 2;
                    let split = self.client.split_shard().stream_name(STREAM).shard_to_split(&id);
                    let done = split.new_starting_hash_key(middle.to_string()).send().await;
                    format!("split of {id}: {}", done.is_ok())
                }
                2 | 3 if open.len() > 1 => {
                    let at = rng.usize(..open.len() - 1);
                    let (first, second) = (&open[at].2, &open[at + 1].2);
                    let merge = self.client.merge_shards().stream_name(STREAM).shard_to_merge(first);
                    let done = merge.adjacent_shard_to_merge(second).send().await;
                    format!("merge of {first} and {second}: {}", done.is_ok())
                }
                _ => {
                    let target = rng.i32(1..=6);
                    let update = self.client.update_shard_count().stream_name(STREAM).target_shard_count(target);
                    let done = update.scaling_type(ScalingType::UniformScaling).send().await;
                    format!("update to {target} shards: {}", done.is_ok())
                }
            }
        })
    }
}

/// A run under way.
struct Run {
    scenario: Scenario,
    rng: Rng,
    now: Duration,
    world: World,
    processes: Vec<Process>,
    /// Workers that are to be started again, and when.
    restarts: Vec<(Duration, String)>,
    /// What ends, and when.
    ends: Vec<(Duration, End)>,
    named: usize,
    /// When the stream has other shards.
    surveys: Vec<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Cut(usize, Service),
    BrownOut(Service),
    /// Of a process that was replaced while it was paused.
    Replaced(usize),
}

impl Run {
    fn start(&mut self, worker: &str) {
        let (settings, network) = (&self.scenario.settings, &self.world.network);
        let upstream = self.world.emulator.http_client();
        let fans_out = self.rng.f64() < self.scenario.fan_out;
        let retrieval = if fans_out { Retrieval::FanOut { consumer: None } } else { Retrieval::Polling };
        let witness = &self.world.witness;
        self.processes.push(Process::start(settings, worker, self.now, network, upstream, witness, retrieval));
    }

    fn start_java(&mut self) {
        let number = self.world.witness().java(self.now);
        let until = if self.rng.bool() { Duration::MAX } else { self.within(20..80) };
        let java = Java {
            number,
            clock: self.world.clock.clone(),
            store: Arc::clone(&self.world.store),
            witness: Arc::clone(&self.world.witness),
            rng: Rng::with_seed(self.rng.u64(..)),
            failover: FAILOVER,
            until,
        };
        drop(self.world.runtime.spawn(java.run()));
    }

    fn fresh_name(&mut self) -> String {
        self.named += 1;
        format!("worker-{}", self.named)
    }

    fn note(&self, what: &str) {
        self.world.witness().note(self.now, format_args!("{what}"));
    }

    fn within(&mut self, seconds: std::ops::Range<u64>) -> Duration {
        let ms = self.rng.u64(seconds.start * 1_000..seconds.end * 1_000);
        self.now + Duration::from_millis(ms)
    }

    /// One thing that goes wrong, or is done on purpose.
    fn disturb(&mut self) {
        if self.rng.u8(0..3) == 0 {
            let what = self.world.reshard(&mut self.rng);
            self.surveys.push(self.now + self.scenario.transitions);
            return self.note(&what);
        }
        if self.rng.u8(0..12) == 0 {
            let service = if self.rng.bool() { Service::Table } else { Service::Stream };
            let until = self.within(1..25);
            self.world.network.brown_out(service, true);
            self.ends.push((until, End::BrownOut(service)));
            return self.note(&format!("{service:?} has no room until {until:?}"));
        }
        if self.rng.u8(0..12) == 0 {
            for operation in ["GetRecords", "ListShards"] {
                let times = self.rng.u32(0..4);
                if times > 0 {
                    self.world.emulator.faults().push(Fault::on(operation, FaultKind::Expire).times(times)).unwrap();
                }
            }
            let stale = FaultKind::StaleShardsMs(self.rng.u64(0..5_000));
            self.world.emulator.faults().push(Fault::on("ListShards", stale)).unwrap();
            return self.note("iterators expire, and a listing is old");
        }
        if self.rng.u8(0..10) == 0 && self.processes.len() < 5 {
            let name = self.fresh_name();
            return self.start(&name);
        }
        if self.processes.is_empty() {
            return;
        }
        let index = self.rng.usize(..self.processes.len());
        match self.rng.u8(0..10) {
            0..3 => self.kill(index, "is killed"),
            3..6 => self.pause(index),
            6..8 => {
                let number = self.processes[index].number;
                let cut = if self.rng.bool() { Cut::Refuses } else { Cut::Swallows };
                let until = self.within(1..30);
                let services = match self.rng.u8(0..3) {
                    0 => vec![Service::Table],
                    1 => vec![Service::Stream],
                    _ => vec![Service::Table, Service::Stream],
                };
                for service in services {
                    self.world.network.cut(number, service, Some(cut));
                    self.ends.push((until, End::Cut(number, service)));
                    self.note(&format!("p{number} is cut off {service:?} until {until:?}: {cut:?}"));
                }
            }
            8 => {
                let ahead_ms = self.rng.i64(-8_000..8_000);
                self.processes[index].clock.set_ahead_ms(ahead_ms);
                self.world.witness().clock_set(self.now, self.processes[index].number, ahead_ms);
            }
            _ => {
                self.processes[index].drain.cancel();
                self.note(&format!("p{} drains", self.processes[index].number));
            }
        }
    }

    fn pause(&mut self, index: usize) {
        let until = self.within(1..35);
        let process = &mut self.processes[index];
        process.paused_until = Some(until);
        let (number, name) = (process.number, process.worker.clone());
        self.note(&format!("p{number} is paused until {until:?}"));
        let replaced = self.processes.iter().filter(|process| process.worker == name).count() > 1;
        if self.rng.u8(0..3) == 0 && !replaced {
            // Whoever watches it takes it for dead, and later makes sure.
            let dead = until + Duration::from_millis(self.rng.u64(0..8_000));
            self.ends.push((dead, End::Replaced(number)));
            self.start(&name);
        }
    }

    fn kill(&mut self, index: usize, how: &str) {
        let process = self.processes.remove(index);
        self.world.witness().died(self.now, process.number, how);
        let at = self.within(0..25);
        let name = if self.rng.bool() { process.worker } else { self.fresh_name() };
        self.restarts.push((at, name));
    }

    fn due(&mut self) {
        for index in 0..self.processes.len() {
            if self.processes[index].paused_until.is_some_and(|until| until <= self.now) {
                self.world.witness().resumed(self.now, self.processes[index].number);
                self.processes[index].resume(self.now);
            }
        }
        let now = self.now;
        let ends: Vec<_> = self.ends.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, end) in ends {
            match end {
                End::Cut(number, service) => self.world.network.cut(number, service, None),
                End::BrownOut(service) => self.world.network.brown_out(service, false),
                End::Replaced(number) => {
                    let index = self.processes.iter().position(|process| process.number == number);
                    let killed = index.map(|index| self.processes.remove(index));
                    if killed.is_some() {
                        self.world.witness().died(self.now, number, "is killed for good");
                    }
                }
            }
        }
        let restarts: Vec<_> = self.restarts.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, name) in restarts {
            if !self.processes.iter().any(|process| process.worker == name) {
                self.start(&name);
            }
        }
    }

    fn survey(&mut self) {
        let now = self.now;
        if self.surveys.extract_if(.., |at| *at <= now).count() > 0 {
            self.world.survey(now);
        }
    }

    /// Everything goes on to `until`.
    fn step(&mut self, until: Duration) {
        let mut ended = Vec::new();
        for (index, process) in self.processes.iter_mut().enumerate() {
            if process.paused_until.is_none()
                && let Some(how) = process.step(until)
            {
                ended.push((index, how));
            }
        }
        for (index, how) in ended.into_iter().rev() {
            let number = self.processes[index].number;
            match how {
                Ok(()) => self.kill(index, "is drained"),
                Err(kinesink_consumer::Error::Start(failure)) => self.kill(index, &format!("did not start: {failure}")),
                Err(error) => self.world.witness().should_not_have_ended(until, number, &error.to_string()),
            }
        }
        self.world.step(until);
        self.now = until;
    }

    fn calm(&mut self) {
        self.note("nothing goes wrong from here on");
        self.world.network.set_weather(Weather::default());
        self.world.emulator.faults().clear();
        let now = self.now;
        self.ends.iter_mut().for_each(|(at, _)| *at = now);
        self.restarts.iter_mut().for_each(|(at, _)| *at = now);
        self.processes.iter_mut().for_each(|process| process.paused_until = process.paused_until.map(|_| now));
        self.scenario.settings.habits.failing = 0.0;
        self.due();
        if self.processes.iter().all(|process| process.drain.is_cancelled()) {
            let name = self.fresh_name();
            self.start(&name);
        }
        // The last ones, for what was begun meanwhile.
        let rng = Rng::with_seed(self.rng.u64(..));
        self.world.produce(rng, self.now + Duration::from_secs(2), 200, SMALL_BYTES);
    }

    fn rows(&self) -> BTreeMap<String, crate::expression::Row> {
        self.world.store.lock().expect("no panic").rows(APP)
    }

    fn go(&mut self) {
        let mut disturbed_at = self.within(1..8);
        let mut was_calm = false;
        let mut got_on = (0, Duration::ZERO);
        while self.world.witness().failure.is_none() {
            self.due();
            let calm = self.now >= self.scenario.calm_at;
            if calm && !was_calm {
                was_calm = true;
                self.calm();
            }
            if !calm && self.now >= disturbed_at {
                self.disturb();
                disturbed_at = self.now + Duration::from_millis(self.rng.u64(500..self.scenario.disturbed_ms));
            }
            self.step(self.now + QUANTUM);
            self.survey();
            if self.now < self.scenario.calm_at + Duration::from_secs(5) || self.now.subsec_millis() != 0 {
                continue;
            }
            let unsettled = self.world.witness().unsettled(&self.rows());
            let done = self.world.witness().done();
            if unsettled.is_none() || done > got_on.0 {
                got_on = (done, self.now);
            }
            let lingers = self.scenario.lingers && self.now < self.scenario.calm_at + LINGERS;
            match unsettled {
                None if lingers => {}
                None => return self.drain_all(),
                Some(why) if self.now > got_on.1 + STUCK_AFTER => {
                    let failure = format!("nothing gets on for {STUCK_AFTER:?}: {why}");
                    self.note(&failure);
                    self.world.witness().failure = Some(failure);
                }
                Some(_) => {}
            }
        }
    }
}

impl Run {
    /// Everybody finishes, and leaves nothing that the next one would have to wait for.
    fn drain_all(&mut self) {
        self.note("everybody drains");
        let numbers: Vec<_> = self.processes.iter().map(|process| process.number).collect();
        self.processes.iter().for_each(|process| process.drain.cancel());
        let (began, until) = (self.now, self.now + DRAINED_IN);
        self.restarts.clear();
        while !self.processes.is_empty() && self.now < until && self.world.witness().failure.is_none() {
            self.step(self.now + QUANTUM);
        }
        let mut witness = self.world.witness();
        for number in numbers {
            let left = witness.not_released(began, number).cloned();
            let failure = match (self.processes.iter().any(|process| process.number == number), left) {
                (true, _) => format!("p{number} is not drained after {DRAINED_IN:?}"),
                (false, Some(lease)) => format!("p{number} has not released {lease}"),
                (false, None) => continue,
            };
            witness.failure.get_or_insert(failure);
        }
    }
}

/// Runs a seed to its end or to the first thing that must not be.
pub(crate) fn simulate(seed: u64, traced: bool) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let scenario = Scenario::draw(seed, &mut rng);
    let world = World::new(&scenario, &mut rng, traced);
    world.create_stream(scenario.shards);
    let now = world.runtime.block_on(async { world.clock.elapsed() });
    let now = Duration::from_secs(now.as_secs() + 1);
    world.step(now + SETUP);
    world.survey(now);
    world.produce(Rng::with_seed(rng.u64(..)), scenario.calm_at, 1_500, scenario.record_bytes_max);
    let workers = scenario.workers;
    if let Start::AtTimestamp(_) = scenario.settings.start {
        world.witness().begins_at(Duration::from_secs(5));
    }
    let mut run = Run {
        scenario,
        rng,
        now,
        world,
        processes: Vec::new(),
        restarts: Vec::new(),
        ends: Vec::new(),
        named: 0,
        surveys: Vec::new(),
    };
    run.scenario.calm_at += now;
    for _ in 0..workers {
        let at = run.within(0..10);
        let name = run.fresh_name();
        run.restarts.push((at, name));
    }
    if run.scenario.java {
        run.start_java();
    }
    run.go();
    let mut witness = run.world.witness();
    Outcome {
        seed,
        failure: witness.failure.clone(),
        hash: witness.hash(),
        trace: witness.trace.take().unwrap_or_default(),
        lasted: run.now,
        writes: witness.writes,
    }
}
