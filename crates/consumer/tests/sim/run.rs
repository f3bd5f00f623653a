//! One run: everything that happens follows from its seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use kinesink_consumer::{Retrieval, Start};
use kinesink_emulator::{Fault, FaultKind};

use crate::java::Java;
use crate::network::{Cut, QUANTUM, Service, Weather};
use crate::process::{APP, Process};
use crate::scenario::{FAILOVER, SMALL_BYTES, Scenario};
use crate::world::World;

/// Once nothing goes wrong any more, so much time at most passes without anything getting nearer to its end.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// So long may a drain take while nothing goes wrong.
const DRAINED_IN: Duration = Duration::from_secs(60);
/// Leases of finished shards are deleted after five minutes.
const LINGERS: Duration = Duration::from_secs(400);
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
        self.world.witness().paused(self.now, number);
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
