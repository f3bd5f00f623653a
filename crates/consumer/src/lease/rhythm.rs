//! How often others renew, held against our own failover: the table does not store it, and workers whose failovers differ
//! rob each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_core::{Checkpoint, ShardId};
use tokio::time::Instant;

use super::row::LeaseRow;

/// In failovers: how long a lease is watched before it is judged. Six renewals are expected in it.
const WATCHED_MIN: u32 = 2;
/// Renewals come late and scans too; beyond this it is another setting.
const FACTOR_MAX: f64 = 1.6;
/// In a row, of one owner: one may be a restart.
const CONTRADICTIONS_MIN: u32 = 2;

/// What the renewals of other workers say of their failover.
#[derive(Debug)]
pub(crate) struct Rhythm {
    failover: Duration,
    watched: BTreeMap<ShardId, Watched>,
    /// Of each owner: how often in a row it contradicted.
    contradictions: BTreeMap<String, u32>,
    told: BTreeSet<String>,
}

/// A lease whose counter is moved by renewals alone: its owner and its checkpoint stay.
#[derive(Debug)]
struct Watched {
    owner: String,
    checkpoint: Checkpoint,
    counter: u64,
    since: Instant,
    /// As of the last scan.
    seen: u64,
}

/// An owner that renews at another pace than this worker's setting gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contradiction {
    pub(crate) owner: String,
    /// Three of its periods, as KCL and we renew.
    pub(crate) failover: Duration,
}

impl Rhythm {
    pub(crate) fn new(failover: Duration) -> Self {
        let (watched, contradictions, told) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { failover, watched, contradictions, told }
    }

    /// Takes in a scan; tells of each owner once.
    pub(crate) fn note(&mut self, leases: &[LeaseRow], me: &str, now: Instant) -> Vec<Contradiction> {
        let mut before = std::mem::take(&mut self.watched);
        let mut news = Vec::new();
        for lease in leases {
            let Some(owner) = lease.owner.as_deref().filter(|owner| *owner != me) else { continue };
            let (checkpoint, counter) = (lease.checkpoint, lease.counter);
            let fresh = || Watched { owner: owner.to_owned(), checkpoint, counter, since: now, seen: counter };
            let same = |watched: &Watched| watched.owner == owner && watched.checkpoint == checkpoint;
            let mut watched = before.remove(&lease.shard).filter(same).unwrap_or_else(fresh);
            let moved = counter > std::mem::replace(&mut watched.seen, counter);
            let watched_for = now.duration_since(watched.since);
            // One that has stopped says nothing of its pace.
            if moved && watched_for >= self.failover * WATCHED_MIN {
                let renewals = u32::try_from(counter.saturating_sub(watched.counter)).unwrap_or(u32::MAX);
                news.extend(self.judge(owner, watched_for * 3 / renewals.max(1)));
                watched = fresh();
            }
            self.watched.insert(lease.shard.clone(), watched);
        }
        news
    }

    fn judge(&mut self, owner: &str, failover: Duration) -> Option<Contradiction> {
        let factor = failover.as_secs_f64() / self.failover.as_secs_f64();
        if (FACTOR_MAX.recip()..FACTOR_MAX).contains(&factor) {
            self.contradictions.remove(owner);
            return None;
        }
        let contradictions = self.contradictions.entry(owner.to_owned()).or_default();
        *contradictions += 1;
        (*contradictions >= CONTRADICTIONS_MIN && self.told.insert(owner.to_owned()))
            .then(|| Contradiction { owner: owner.to_owned(), failover })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILOVER: Duration = Duration::from_secs(10);

    /// What is told in five minutes of scans, a second and a half apart, of an owner that renews at `period` until
    /// `stops`; with `busy`, it checkpoints too.
    fn told(period: Duration, stops: Duration, busy: bool) -> Vec<u64> {
        let (mut rhythm, start) = (Rhythm::new(FAILOVER), Instant::now());
        let mut told = Vec::new();
        for step in 0..200 {
            let elapsed = Duration::from_millis(1_500) * step;
            let renewals = u64::try_from(elapsed.min(stops).as_millis() / period.as_millis()).unwrap();
            let mut row = LeaseRow::new("a".parse().unwrap(), Checkpoint::TrimHorizon, Vec::new(), None);
            (row.owner, row.counter) = (Some("java".into()), renewals);
            if busy {
                row.counter += u64::from(step) * 7;
                let sequence = (step + 1).to_string().parse().unwrap();
                row.checkpoint = Checkpoint::At(kinesink_core::Position { sequence, sub_sequence: 0 });
            }
            let news = rhythm.note(&[row], "me", start + elapsed);
            told.extend(news.into_iter().map(|contradiction| contradiction.failover.as_secs()));
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_of_another_failover_is_told_once() {
        let ever = Duration::from_secs(1_000);
        assert_eq!(told(FAILOVER / 3, ever, false), Vec::<u64>::new());
        assert_eq!(told(FAILOVER / 3 - Duration::from_millis(25), ever, false), Vec::<u64>::new());
        let slow = told(FAILOVER, ever, false);
        assert!(matches!(slow[..], [28..=33]), "{slow:?}");
        let fast = told(FAILOVER / 10, ever, false);
        assert!(matches!(fast[..], [2..=3]), "{fast:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_dies_or_checkpoints_contradicts_nothing() {
        assert_eq!(told(FAILOVER / 3, Duration::from_secs(31), false), Vec::<u64>::new());
        assert_eq!(told(FAILOVER / 3, Duration::from_secs(1_000), true), Vec::<u64>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn ones_own_leases_are_not_held_against_oneself() {
        let mut rhythm = Rhythm::new(FAILOVER);
        for step in 0..100 {
            let mut row = LeaseRow::new("a".parse().unwrap(), Checkpoint::TrimHorizon, Vec::new(), None);
            (row.owner, row.counter) = (Some("me".into()), step);
            let now = Instant::now() + FAILOVER * u32::try_from(step).unwrap();
            assert_eq!(rhythm.note(&[row], "me", now), []);
        }
    }
}
