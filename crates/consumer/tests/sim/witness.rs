//! Judges what can be seen from outside: what was put, delivered, made durable, and what reached the lease table. It
//! shares no code with the consumer, and knows only what the protocol and the invariants of `ARCHITECTURE.md` say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use kinesink_core::{Checkpoint, Position};

use crate::expression::Row;
use crate::store::Write;

/// A sequence number, ordered as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequence(String);

impl Sequence {
    pub(crate) fn new(digits: &str) -> Self {
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{digits}");
        Self(digits.trim_start_matches('0').to_owned())
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

/// A checkpoint as a row has it, in KCL's order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    AtTimestamp,
    TrimHorizon,
    Latest,
    At(Sequence, u64),
    ShardEnd,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtTimestamp => f.write_str("AT_TIMESTAMP"),
            Self::TrimHorizon => f.write_str("TRIM_HORIZON"),
            Self::Latest => f.write_str("LATEST"),
            Self::At(sequence, sub) => write!(f, "{}.{sub}", brief(sequence)),
            Self::ShardEnd => f.write_str("SHARD_END"),
        }
    }
}

impl Mark {
    fn of(row: &Row) -> Self {
        match row["checkpoint"]["S"].as_str().expect("a checkpoint") {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At(Sequence::new(digits), number(row, "checkpointSubSequenceNumber").unwrap_or(0)),
        }
    }
}

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
    /// When its last pause ended.
    resumed: Option<Duration>,
    /// When its clock was set last, which may look as if it had slept.
    clock_set: Option<Duration>,
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

/// Attributes that KCL and this consumer change on a lease.
const CHANGING: [&str; 13] = [
    "leaseOwner",
    "leaseCounter",
    "ownerSwitchesSinceCheckpoint",
    "checkpoint",
    "checkpointSubSequenceNumber",
    "checkpointOwner",
    "pendingCheckpoint",
    "pendingCheckpointSubSequenceNumber",
    "pendingCheckpointState",
    "childShardIds",
    "kinesink_token",
    "kinesink_owner",
    "kinesink_wanted_by",
];

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?["S"].as_str()
}

fn number(row: &Row, name: &str) -> Option<u64> {
    row.get(name)?["N"].as_str()?.parse().ok()
}

fn brief(sequence: &Sequence) -> &str {
    let digits = &sequence.0;
    digits.get(digits.len().saturating_sub(22)..).unwrap_or(digits)
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
            clock_set: None,
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

    pub(crate) fn resumed(&mut self, now: Duration, process: usize) {
        self.note(now, format_args!("p{process} goes on"));
        self.processes[process].resumed = Some(now);
    }

    pub(crate) fn clock_set(&mut self, now: Duration, process: usize, ahead_ms: i64) {
        self.note(now, format_args!("p{process} has its clock {ahead_ms} ms ahead"));
        self.processes[process].clock_set = Some(now);
        self.processes[process].answered.clear();
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

    // ---- handlers

    pub(crate) fn began(&mut self, now: Duration, process: usize, id: &str, start: Checkpoint) -> usize {
        let number = self.sessions.len();
        self.note(now, format_args!("p{process} begins {id} at {start}, session {number}"));
        let shard = id.to_owned();
        self.sessions.push(Session {
            process,
            shard,
            last: None,
            held_bytes: 0,
            open: true,
            at_end: false,
            returned: false,
        });
        let parents = self.shards.get(id).map(|shard| shard.parents.clone()).unwrap_or_default();
        for parent in parents {
            let owed =
                self.shards.get(&parent).and_then(|parent| parent.owed_before(None)).map(|o| brief(o).to_owned());
            if let Some(owed) = owed {
                self.fail(now, format!("{id} begins before record {owed} of its parent {parent} is durable"));
            }
        }
        number
    }

    pub(crate) fn delivered(
        &mut self,
        now: Duration,
        session: usize,
        positions: &[Position],
        bytes: usize,
        reserved: usize,
    ) {
        let (process, id) = (self.sessions[session].process, self.sessions[session].shard.clone());
        if !positions.is_empty() {
            self.note(now, format_args!("session {session} gets {} records of {id}", positions.len()));
        }
        // In the moment after a pause a task may be at work before its timers are.
        if self.is_expired(now, process, &id) && self.processes[process].resumed != Some(now) {
            self.fail(now, format!("p{process} works on {id}, whose lease has expired"));
        }
        if reserved < bytes.min(self.budget_bytes) {
            self.fail(now, format!("{bytes} bytes of {id} hold a reservation of {reserved}"));
        }
        let mut failures = Vec::new();
        let shard = self.shards.entry(id.clone()).or_default();
        for position in positions {
            let this = Sequence::new(&position.sequence.to_string());
            let Ok(index) = shard.records.binary_search_by(|(sequence, _)| sequence.cmp(&this)) else {
                failures.push(format!("{id} has no record {}", brief(&this)));
                continue;
            };
            match &self.sessions[session].last {
                Some(last) if index == 0 || shard.records[index - 1].0 != *last => {
                    failures.push(format!("{} of {id} is not followed by {}", brief(last), brief(&this)));
                }
                Some(_) => {}
                None => failures.extend(
                    shard
                        .owed_before(Some(&this))
                        .map(|owed| format!("{id} begins at {} while {} is not durable", brief(&this), brief(owed))),
                ),
            }
            self.sessions[session].last = Some(this);
        }
        for failure in failures {
            self.fail(now, failure);
        }
        // One reply may be larger than the whole budget, which it then has for itself.
        let held = self.sessions[session].held_bytes + bytes.min(self.budget_bytes);
        self.held(session, held);
        let all = self.sessions.iter().filter(|other| other.open && other.process == process);
        let all: usize = all.map(|session| session.held_bytes).sum();
        if all > self.budget_bytes {
            self.fail(now, format!("p{process} holds {all} bytes of a budget of {}", self.budget_bytes));
        }
    }

    pub(crate) fn held(&mut self, session: usize, bytes: usize) {
        self.sessions[session].held_bytes = bytes;
    }

    pub(crate) fn durable(&mut self, now: Duration, session: usize, positions: &[Position]) {
        let id = self.sessions[session].shard.clone();
        self.note(now, format_args!("session {session} has {} records of {id} durable", positions.len()));
        let sequences = positions.iter().map(|position| Sequence::new(&position.sequence.to_string()));
        self.shards.entry(id).or_default().durable.extend(sequences);
    }

    pub(crate) fn reached_the_end(&mut self, session: usize) {
        self.sessions[session].at_end = true;
    }

    pub(crate) fn returned(&mut self, session: usize) {
        self.sessions[session].returned = true;
    }

    pub(crate) fn is_alive(&self, process: usize) -> bool {
        self.processes[process].alive
    }

    /// The handler is gone. `now` is known of a process that is alive.
    pub(crate) fn ended(&mut self, now: Option<Duration>, session: usize) {
        let ended = &mut self.sessions[session];
        ended.open = false;
        let (process, shard, finished) = (ended.process, ended.shard.clone(), ended.returned || ended.at_end);
        let Some(now) = now else { return };
        self.note(now, format_args!("session {session} of p{process} for {shard} ends"));
        if !finished && self.is_known_to_be_held(now, process, &shard) {
            self.fail(now, format!("p{process} drops the handler of {shard}, whose lease it holds"));
        }
    }

    // ---- the lease table

    pub(crate) fn wrote(&mut self, now: Duration, process: usize, sent: Duration, write: &Write) {
        self.writes += 1;
        let key = write.key.clone();
        match (&write.before, &write.after) {
            (None, Some(row)) => self.created(now, process, &key, row),
            (Some(before), None) => self.deleted(now, process, &key, before),
            (Some(before), Some(after)) => self.updated(now, process, sent, write, before, after),
            (None, None) => {}
        }
        let wish = |row: &Option<Row>| row.as_ref().and_then(|row| text(row, "kinesink_wanted_by")).map(str::to_owned);
        if let Some((_, by)) = wish(&write.before).as_deref().and_then(|wish| wish.split_once(' ')) {
            self.wished.insert(by.to_owned(), now);
        }
        match wish(&write.after) {
            Some(wish) => drop(self.wishes.insert(key, wish)),
            None => drop(self.wishes.remove(&key)),
        }
    }

    fn created(&mut self, now: Duration, process: usize, key: &str, row: &Row) {
        self.note(now, format_args!("p{process} creates {key} at {:?}", Mark::of(row)));
        self.is_readable(now, key, row);
        let Some(shard) = self.shards.get_mut(key) else {
            return self.fail(now, format!("lease {key} is of no shard"));
        };
        let began = match Mark::of(row) {
            Mark::Latest => "LATEST",
            Mark::AtTimestamp => "AT_TIMESTAMP",
            Mark::TrimHorizon => {
                // Whatever the application's setting: this shard is read from its first record.
                shard.since = if shard.parents.is_empty() { shard.since } else { Duration::ZERO };
                "TRIM_HORIZON"
            }
            Mark::At(..) | Mark::ShardEnd => return self.fail(now, format!("lease {key} begins at its end")),
        };
        if began != "TRIM_HORIZON" && self.complete.is_some_and(|complete| shard.born > complete) {
            self.fail(now, format!("lease {key} of a new shard begins at {began}"));
        }
        if number(row, "leaseCounter") != Some(0) || text(row, "leaseOwner").is_some() {
            self.fail(now, format!("lease {key} is created as held"));
        }
        if self.leases.get(key).is_some_and(|lease| lease.deleted) {
            self.fail(now, format!("lease {key} is created again"));
        }
        let lease = Lease { began: Some(began), moved: now, ..Lease::default() };
        self.leases.insert(key.to_owned(), lease);
        if began == "LATEST" && self.complete.is_none() {
            // What had ended before the application began is nothing to it.
            let ended = self.shards.iter_mut().filter(|(id, shard)| shard.closed && !self.leases.contains_key(*id));
            ended.for_each(|(_, shard)| shard.since = Duration::MAX);
        }
        let open = self.shards.iter().filter(|(_, shard)| !shard.closed);
        if self.complete.is_none() && open.map(|(id, _)| id).all(|id| self.leases.contains_key(id)) {
            self.complete = Some(now);
        }
    }

    fn deleted(&mut self, now: Duration, process: usize, key: &str, before: &Row) {
        self.note(now, format_args!("p{process} deletes {key}"));
        if Mark::of(before) != Mark::ShardEnd {
            self.fail(now, format!("lease {key} is deleted before its end"));
        }
        let parents = self.shards.get(key).map(|shard| shard.parents.clone()).unwrap_or_default();
        let left = parents.into_iter().find(|parent| self.leases.get(parent).is_some_and(|lease| !lease.deleted));
        if let Some(parent) = left {
            self.fail(now, format!("lease {key} is deleted before that of its parent {parent}"));
        }
        self.children_have_leases(now, key);
        let lease = self.leases.entry(key.to_owned()).or_default();
        lease.deleted = true;
        if lease.holder != Some(process) {
            self.fail(now, format!("p{process} deletes lease {key}, which it does not hold"));
        }
    }

    fn children_have_leases(&mut self, now: Duration, key: &str) {
        let child_of = |shard: &Shard| shard.parents.iter().any(|parent| parent == key);
        let children: Vec<_> = self.shards.iter().filter(|(_, shard)| child_of(shard)).map(|(id, _)| id).collect();
        let missing = children.iter().find(|id| !self.leases.contains_key(**id)).map(|id| (*id).clone());
        if children.is_empty() {
            self.fail(now, format!("{key} ends without children"));
        } else if let Some(child) = missing {
            self.fail(now, format!("{key} ends before its child {child} has a lease"));
        }
    }

    /// As Java needs it.
    fn is_readable(&mut self, now: Duration, key: &str, row: &Row) {
        let numbers = ["leaseCounter", "ownerSwitchesSinceCheckpoint", "checkpointSubSequenceNumber"];
        let unreadable = numbers.iter().find(|name| number(row, name).is_none());
        let unreadable = unreadable.copied().or_else(|| text(row, "checkpoint").is_none().then_some("checkpoint"));
        let empty = row.iter().find(|(_, value)| value["S"] == "" || value["SS"] == serde_json::json!([]));
        if let Some(name) = unreadable.or(empty.map(|(name, _)| name.as_str())) {
            self.fail(now, format!("lease {key}: Java cannot read {name}"));
        }
    }

    fn updated(&mut self, now: Duration, process: usize, sent: Duration, write: &Write, before: &Row, after: &Row) {
        let key = write.key.as_str();
        let owner = |row| text(row, "leaseOwner").map(str::to_owned);
        let (was, is) = (owner(before), owner(after));
        let (from, to) = (Mark::of(before), Mark::of(after));
        let counter = |row| number(row, "leaseCounter").unwrap_or(0);
        self.note(now, format_args!(
            "p{process} writes {key}: counter {} to {}, owner {was:?} to {is:?}, checkpoint {from:?} to {to:?}, wish {:?} to {:?}",
            counter(before), counter(after), text(before, "kinesink_wanted_by"), text(after, "kinesink_wanted_by"),
        ));
        self.is_readable(now, key, after);
        let lost =
            before.iter().find(|(name, value)| !CHANGING.contains(&name.as_str()) && after.get(*name) != Some(value));
        // The start is stored once, where there was none.
        if let Some((name, _)) = lost {
            self.fail(now, format!("lease {key}: {name} did not survive"));
        }
        let pending = |row: &Row| text(row, "pendingCheckpoint").map(str::to_owned);
        match counter(after).checked_sub(counter(before)) {
            Some(0) if (&was, &from, pending(before)) == (&is, &to, pending(after)) => return,
            Some(1) => {}
            _ => self.fail(now, format!("lease {key} changes and its counter does not move by one")),
        }
        let me = self.processes[process].worker.clone();
        let lease = self.leases.entry(key.to_owned()).or_default();
        let takes = is.as_ref() == Some(&me) && write.set.iter().any(|name| name == "leaseOwner");
        let (holder, moved, last) = (lease.holder, lease.moved, lease.sent);
        if takes {
            self.processes[process].answered.remove(key);
            let began_at_latest = self.leases.get(key).is_some_and(|lease| lease.began == Some("LATEST"));
            if let (true, 0, Some(shard)) = (began_at_latest, counter(before), self.shards.get_mut(key)) {
                // The first to hold it says from when on its records are owed.
                shard.since = shard.since.max(now);
            }
            self.taken(now, key, was.as_deref(), &me, moved);
        } else if holder != Some(process) {
            self.fail(now, format!("p{process} writes lease {key}, which it does not hold"));
        } else if sent >= last + self.failover {
            self.fail(now, format!("p{process} writes lease {key}, which it has let expire"));
        }
        if from != to {
            self.checkpointed(now, process, key, takes, &from, &to);
        }
        let keeps = is.as_ref() == Some(&me);
        let session =
            self.sessions.iter().any(|session| session.open && session.process == process && session.shard == key);
        if !keeps && session && self.processes[process].alive {
            self.fail(now, format!("p{process} gives lease {key} away while its handler runs"));
        }
        let lease = self.leases.entry(key.to_owned()).or_default();
        lease.holder = keeps.then_some(process);
        lease.moved = now;
        lease.sent = if takes { sent } else { lease.sent.max(sent) };
        let known = self.processes[process].sent.entry(key.to_owned()).or_default();
        *known = (*known).max(sent);
    }

    /// A lease that its owner renews is taken by nobody who has not asked for one in vain.
    fn taken(&mut self, now: Duration, key: &str, was: Option<&str>, me: &str, moved: Duration) {
        let from_other = was.is_some_and(|was| was != me);
        let asks = self.wishes.values().any(|wish| wish.split_once(' ').is_some_and(|(_, by)| by == me));
        // Whoever saw the wish in a scan acts on it a moment later.
        let asked = asks || self.wished.get(me).is_some_and(|stood| now < *stood + self.failover / 2);
        if from_other && !self.steals && !asked && now <= moved + self.failover {
            let still = now.saturating_sub(moved);
            self.fail(now, format!("{me} takes lease {key} of {was:?}, which has stood still for {still:?}"));
        }
    }

    fn checkpointed(&mut self, now: Duration, process: usize, key: &str, takes: bool, from: &Mark, to: &Mark) {
        if takes {
            self.fail(now, format!("p{process} takes lease {key} and moves its checkpoint"));
        }
        if to < from {
            self.fail(now, format!("the checkpoint of {key} moves back from {from:?} to {to:?}"));
        }
        let Some(shard) = self.shards.get(key) else { return };
        let failure = match to {
            Mark::At(sequence, _) if !shard.records.iter().any(|(known, _)| known == sequence) => {
                Some(format!("{key} has no record {}, its checkpoint", brief(sequence)))
            }
            Mark::At(sequence, _) => {
                let here = (!shard.durable.contains(sequence)).then_some(sequence);
                let owed = shard.owed_before(Some(sequence)).or(here);
                owed.map(|owed| format!("the checkpoint of {key} passes {}, which is not durable", brief(owed)))
            }
            Mark::ShardEnd if !shard.closed => Some(format!("{key} is open and ends")),
            Mark::ShardEnd => {
                shard.owed_before(None).map(|owed| format!("{key} ends while {} is not durable", brief(owed)))
            }
            other => Some(format!("{key} is checkpointed at {other:?}")),
        };
        if let Some(failure) = failure {
            self.fail(now, failure);
        }
        if *to == Mark::ShardEnd {
            self.leases.entry(key.to_owned()).or_default().ended = true;
            self.children_have_leases(now, key);
        }
    }

    // ---- a Java worker, which does in one step what a handler does in many

    /// Makes durable whatever the shard has, if its parents are done. Its last record, and its children once it is
    /// closed and they are known.
    pub(crate) fn java_reads(&mut self, now: Duration, id: &str) -> Option<Read> {
        let parents = self.shards.get(id)?.parents.clone();
        let undone = |parent: &String| self.shards.get(parent).is_some_and(|parent| parent.owed_before(None).is_some());
        if parents.iter().any(undone) {
            return None;
        }
        let shard = self.shards.get_mut(id)?;
        shard.durable.extend(shard.records.iter().map(|(sequence, _)| sequence.clone()));
        let (last, closed) = (shard.records.last().map(|(sequence, _)| sequence.0.clone()), shard.closed);
        let children = self.shards.iter().filter(|(_, shard)| closed && shard.parents.iter().any(|p| p == id));
        let children = children.map(|(child, shard)| (child.clone(), shard.parents.clone())).collect();
        self.note(now, format_args!("java has all of {id} durable"));
        Some(Read { last, children })
    }

    // ---- the end

    /// A lease that a process held at that time, drained while nothing went wrong, and has left to expire.
    pub(crate) fn not_released(&self, at: Duration, process: usize) -> Option<&String> {
        self.leases.keys().find(|key| self.is_known_to_be_held(at, process, key))
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
