//! Records: what handlers are given, hold and make durable, and what a Java worker does of that in one step.

use std::time::Duration;

use kinesink_core::{Checkpoint, Position};

use super::values::{Sequence, brief};
use super::{Read, Session, Witness};

impl Witness {
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
}
