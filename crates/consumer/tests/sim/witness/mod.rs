//! Judges what can be seen from outside: what was put, delivered, made durable, and what reached the lease table. It
//! shares no code with the consumer, and knows only what the protocol and the invariants of `ARCHITECTURE.md` say.

mod rows;
mod sessions;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use self::values::{Mark, Sequence, brief, text};
use crate::expression::Row;

/// A shard as the stream has it.
#[derive(Debug, Default)]
struct Shard {
    parents: Vec<String>,
    born: Duration,
    closed: bool,
    /// In order: sequence number and arrival.
    records: Vec<(Sequence, Duration)>,
    durable: BTreeSet<Sequence>,
    /// What arrived before may be skipped: the application began later.
    since: Duration,
    /// Somebody has asked for the newest.
    began_at_latest: bool,
}

impl Shard {
    fn required(&self) -> impl Iterator<Item = &Sequence> {
        self.records.iter().filter(|(_, arrival)| *arrival >= self.since).map(|(sequence, _)| sequence)
    }

    /// The first record before `end` that is owed and not durable.
    fn owed_before(&self, end: Option<&Sequence>) -> Option<&Sequence> {
        self.required().take_while(|sequence| end.is_none_or(|end| *sequence < end)).find(|r| !self.durable.contains(r))
    }
}

/// A lease as its writes show it.
#[derive(Debug, Default)]
struct Lease {
    /// The process whose take or renewal was the last to succeed, until it gave the lease away.
    holder: Option<usize>,
    /// When its last successful counter write was sent.
    sent: Duration,
    /// When the counter moved last.
    moved: Duration,
    began: Option<&'static str>,
    ended: bool,
    deleted: bool,
}

#[derive(Debug)]
struct Process {
    worker: String,
    alive: bool,
    /// Since when it is paused.
    paused: Option<Duration>,
    /// When its last pause ended.
    resumed: Option<Duration>,
    /// When its clock was set last, which may look as if it had slept.
    clock_set: Option<Duration>,
    ahead_ms: i64,
    /// A Java worker: it takes leases from the living, and has no handler here.
    java: bool,
    /// Leases by what this process has written: when its last successful counter write was sent.
    sent: BTreeMap<String, Duration>,
    /// The same for those whose answers come in good time, each after when they come.
    answered: BTreeMap<String, Vec<(Duration, Duration)>>,
}

/// What a Java worker has read of a shard: its last record, and the children with their parents, if it is closed.
pub(crate) struct Read {
    pub(crate) last: Option<String>,
    pub(crate) children: Vec<(String, Vec<String>)>,
}

/// One run of a handler.
#[derive(Debug)]
struct Session {
    process: usize,
    shard: String,
    last: Option<Sequence>,
    held_bytes: usize,
    open: bool,
    /// The handler has read to the shard's end.
    at_end: bool,
    /// The handler came to its own end.
    returned: bool,
}

/// What was seen, and the first thing that must not be.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    failover: Duration,
    budget_bytes: usize,
    /// Somebody takes part who takes leases from the living.
    pub(crate) steals: bool,
    pub(crate) failure: Option<String>,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) writes: usize,
    hasher: DefaultHasher,
    shards: BTreeMap<String, Shard>,
    leases: BTreeMap<String, Lease>,
    processes: Vec<Process>,
    sessions: Vec<Session>,
    /// Wishes that stand, by lease.
    wishes: BTreeMap<String, String>,
    /// When a wish of a worker stood last.
    wished: BTreeMap<String, Duration>,
    /// When every open shard had a lease for the first time.
    complete: Option<Duration>,
}

impl Witness {
    pub(crate) fn new(failover: Duration, budget_bytes: usize, traced: bool) -> Self {
        Self { failover, budget_bytes, trace: traced.then(Vec::new), ..Self::default() }
    }

    pub(crate) fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>8.3} {what}", now.as_secs_f64());
        self.hasher.write(line.as_bytes());
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    fn fail(&mut self, now: Duration, what: impl fmt::Display) {
        self.note(now, format_args!("VIOLATION {what}"));
        self.failure.get_or_insert_with(|| format!("at {:.3} s: {what}", now.as_secs_f64()));
    }

    // ---- the stream

    pub(crate) fn listed(&mut self, now: Duration, id: &str, parents: Vec<String>, closed: bool) {
        let born = !self.shards.contains_key(id);
        let shard = self.shards.entry(id.to_owned()).or_default();
        if born {
            shard.born = now;
        }
        shard.parents = parents;
        if born || shard.closed != closed {
            shard.closed = closed;
            self.note(now, format_args!("shard {id} closed {closed}"));
        }
    }

    pub(crate) fn put(&mut self, now: Duration, id: &str, sequence: &str) {
        let shard = self.shards.entry(id.to_owned()).or_insert_with(|| Shard { born: now, ..Shard::default() });
        shard.records.push((Sequence::new(sequence), now));
    }

    /// Where the application begins by its setting, for shards that are there now.
    pub(crate) fn begins_at(&mut self, since: Duration) {
        self.shards.values_mut().for_each(|shard| shard.since = since);
    }

    /// An iterator or a subscription is asked for: it begins now, if it begins at the newest.
    pub(crate) fn asked_from(&mut self, now: Duration, process: usize, id: &str, from: &str) {
        self.note(now, format_args!("p{process} asks for {id} from {from}"));
        let began = self.leases.get(id).and_then(|lease| lease.began);
        if let ("LATEST", Some("LATEST"), Some(shard)) = (from, began, self.shards.get_mut(id)) {
            // Only the first time: from then on what arrives is owed. What came in the same millisecond came before, perhaps.
            if !std::mem::replace(&mut shard.began_at_latest, true) {
                shard.since = shard.since.max(now + Duration::from_millis(1));
            }
        }
    }

    // ---- processes

    pub(crate) fn process(&mut self, now: Duration, worker: &str) -> usize {
        self.processes.push(Process {
            worker: worker.to_owned(),
            alive: true,
            resumed: None,
            paused: None,
            clock_set: None,
            ahead_ms: 0,
            java: false,
            sent: BTreeMap::new(),
            answered: BTreeMap::new(),
        });
        let number = self.processes.len() - 1;
        self.note(now, format_args!("p{number} starts as {worker}"));
        number
    }

    /// As [`process`](Self::process), for a Java worker.
    pub(crate) fn java(&mut self, now: Duration) -> usize {
        let number = self.process(now, "java");
        self.processes[number].java = true;
        self.steals = true;
        number
    }

    pub(crate) fn died(&mut self, now: Duration, process: usize, how: &str) {
        self.note(now, format_args!("p{process} {how}"));
        self.processes[process].alive = false;
    }

    pub(crate) fn paused(&mut self, now: Duration, process: usize) {
        self.processes[process].paused.get_or_insert(now);
    }

    pub(crate) fn resumed(&mut self, now: Duration, process: usize) {
        self.note(now, format_args!("p{process} goes on"));
        let failover = self.failover;
        let process = &mut self.processes[process];
        process.resumed = Some(now);
        let Some(paused) = process.paused.take() else { return };
        // An answer that came meanwhile is too late for a lease that has expired before it is read.
        for answers in process.answered.values_mut() {
            while let [.., (_, before), (at, _)] = answers[..]
                && paused < at
                && before + failover <= now
            {
                answers.pop();
            }
        }
    }

    pub(crate) fn clock_set(&mut self, now: Duration, process: usize, ahead_ms: i64) {
        self.note(now, format_args!("p{process} has its clock {ahead_ms} ms ahead"));
        let process = &mut self.processes[process];
        let slept = Duration::from_millis(u64::try_from(ahead_ms - process.ahead_ms).unwrap_or_default());
        (process.clock_set, process.ahead_ms) = (Some(now), ahead_ms);
        // It takes the leases that it held to end so much earlier.
        for (_, sent) in process.answered.values_mut().flatten() {
            *sent = sent.saturating_sub(slept);
        }
    }

    pub(crate) fn should_not_have_ended(&mut self, now: Duration, process: usize, error: &str) {
        self.fail(now, format!("p{process} ended: {error}"));
    }

    /// Whether the process may still work on the lease: nobody else can have taken it.
    fn is_expired(&self, now: Duration, process: usize, shard: &str) -> bool {
        self.processes[process].sent.get(shard).is_none_or(|sent| now >= *sent + self.failover)
    }

    /// A write of the process is answered at `at`. One that takes longer than a renewal is given up, and one that
    /// comes when the lease has expired here changes nothing.
    pub(crate) fn answered(&mut self, at: Duration, process: usize, sent: Duration, key: &str) {
        let failover = self.failover;
        let is_counter_write = self.processes[process].sent.get(key) == Some(&sent)
            && self.processes[process].clock_set.is_none_or(|set| set < sent);
        let answered = self.processes[process].answered.entry(key.to_owned()).or_default();
        let is_held = answered.last().is_none_or(|(_, sent)| at < *sent + failover);
        if is_counter_write && is_held && at < sent + failover / 3 {
            answered.push((at, sent));
        }
    }

    /// Whether the process knows that it holds the lease.
    fn is_known_to_be_held(&self, now: Duration, process: usize, key: &str) -> bool {
        let answered = self.processes[process].answered.get(key).map_or(&[][..], Vec::as_slice);
        let is_holder = self.leases.get(key).is_some_and(|lease| lease.holder == Some(process) && !lease.deleted);
        is_holder && answered.iter().any(|(at, sent)| *at < now && now < *sent + self.failover)
    }
    /// A lease that a process held at that time, drained while nothing went wrong, and has left to expire.
    pub(crate) fn not_released(&self, at: Duration, process: usize) -> Option<&String> {
        self.leases.keys().find(|key| self.is_known_to_be_held(at, process, key))
    }

    /// Shards that a process which is alive reads now.
    pub(crate) fn running(&self) -> BTreeSet<String> {
        let open = self.sessions.iter().filter(|session| session.open && self.processes[session.process].alive);
        open.map(|session| session.shard.clone()).collect()
    }

    /// How much is done: records, and shards that ended.
    pub(crate) fn done(&self) -> usize {
        let ended = self.leases.values().filter(|lease| lease.ended || lease.deleted).count();
        self.shards.values().map(|shard| shard.durable.len()).sum::<usize>() + ended
    }

    /// What is still to be done once nothing goes wrong any more; nothing if all is as it should be.
    pub(crate) fn unsettled(&self, rows: &BTreeMap<String, Row>) -> Option<String> {
        for (id, shard) in &self.shards {
            if let Some(owed) = shard.owed_before(None) {
                return Some(format!("record {} of {id} is not durable", brief(owed)));
            }
            let deleted = self.leases.get(id).is_some_and(|lease| lease.deleted);
            // One that ended before the application began is never read.
            let needed = !shard.closed || shard.required().next().is_some();
            match rows.get(id) {
                None if needed && !deleted => return Some(format!("{id} has no lease")),
                Some(row) if shard.closed && Mark::of(row) != Mark::ShardEnd => {
                    return Some(format!("the lease of {id} does not stand at its end"));
                }
                _ => {}
            }
        }
        let mut loads = BTreeMap::new();
        for process in self.processes.iter().filter(|process| process.alive) {
            loads.insert(process.worker.as_str(), 0_usize);
        }
        for (id, row) in rows.iter().filter(|(_, row)| Mark::of(row) != Mark::ShardEnd) {
            let runs = |session: &&Session| session.open && session.shard == *id;
            let running: Vec<_> = self.sessions.iter().filter(runs).map(|session| session.process).collect();
            let owner = text(row, "leaseOwner").unwrap_or("nobody");
            if owner == "java" && loads.contains_key("java") {
                continue;
            }
            let Some(load) = loads.get_mut(owner) else { return Some(format!("{id} is {owner}'s, who is not alive")) };
            *load += 1;
            match running[..] {
                [process] if self.processes[process].worker == owner => {}
                _ => return Some(format!("{id} is {owner}'s and is run by {running:?}")),
            }
        }
        let (least, most) = (loads.values().min()?, loads.values().max()?);
        (!self.steals && most - least > 1).then(|| format!("the leases are not balanced: {loads:?}"))
    }
}
