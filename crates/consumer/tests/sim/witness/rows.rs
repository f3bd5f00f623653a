//! Leases: what reaches their table.

use std::time::Duration;

use super::values::{Mark, brief, number, text};
use super::{Lease, Shard, Witness};
use crate::expression::Row;
use crate::store::Write;

/// Attributes that KCL and this consumer change on a lease.
const CHANGING: [&str; 14] = [
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
    "kinesink_announced",
];

impl Witness {
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
}
