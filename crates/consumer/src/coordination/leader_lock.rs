//! Who leads: row `Leader`, a lock of AWS' DynamoDB lock client. Nobody's clock is trusted: a lock is given up for dead
//! once its version has been the same before the observer's eyes for as long as the row says.

use std::time::Duration;

use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::Failure;
use tokio::time::Instant;
use uuid::Uuid;

use super::tables::{Condition, Found, Home, Tables};
use crate::lease::{Item, text};

const LEADER: &str = "Leader";
const OWNER: &str = "ownerName";
const DURATION: &str = "leaseDuration";
const VERSION: &str = "recordVersionNumber";
const RELEASED: &str = "isReleased";
/// KCL's, for a row that does not say.
const DURATION_DEFAULT: Duration = Duration::from_secs(120);

/// KCL beats four times in its lock's duration: by then at least one beat is missing.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// What a worker is beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Another worker leads.
    Follower,
    /// The leader has missed heartbeats. A worker that is alone need not wait until its lock is over.
    Doubter,
    /// This worker assigns.
    Leader,
}

/// The lock as one worker sees it.
#[derive(Debug)]
pub(super) struct LeaderLock {
    tables: Tables,
    home: Home,
    me: String,
    duration: Duration,
    /// This worker's lock.
    mine: Option<Sent>,
    /// Writes without an answer since the last one that had one. One of them may have set the version.
    unanswered: Vec<Sent>,
    /// Another's version, and since when it has been the same.
    seen: Option<(String, Instant)>,
}

/// A write of ours: the version that it sets, and when it was sent. From then on others count.
#[derive(Debug, Clone)]
struct Sent {
    version: String,
    at: Instant,
}

/// More than are sent while the lock lasts.
const UNANSWERED_MAX: usize = 8;

impl LeaderLock {
    pub(super) fn new(tables: Tables, home: Home, me: String, duration: Duration) -> Self {
        Self { tables, home, me, duration, mine: None, unanswered: Vec::new(), seen: None }
    }

    pub(super) fn home(&self) -> Home {
        self.home
    }

    /// Whether this worker leads, without another beat.
    pub(super) fn is_mine(&self) -> bool {
        self.mine.as_ref().is_some_and(|mine| mine.at.elapsed() < self.duration)
    }

    /// Keeps the lock, or gets it where the rules allow. Cancel safe: the next beat finds out what was written.
    pub(super) async fn beat(&mut self) -> Result<Role, Failure> {
        if !self.is_mine() {
            self.mine = None;
        }
        let Some(mine) = self.mine.clone() else { return self.contend().await };
        let next = self.next();
        let is_mine = [(VERSION, text(mine.version)), (OWNER, text(self.me.as_str()))];
        let set = vec![(DURATION.to_owned(), self.duration_text()), (VERSION.to_owned(), text(next.version.as_str()))];
        if self.tables.set(self.home, LEADER, set, Some(&Condition::Has(&is_mine))).await? {
            return Ok(self.own(next));
        }
        self.mine = None;
        self.contend().await
    }

    async fn contend(&mut self) -> Result<Role, Failure> {
        let row = match self.tables.get(self.home, LEADER).await? {
            Found::Row(row) => row,
            Found::NoRow | Found::NoTable | Found::Denied => return self.acquire(&Condition::Absent).await,
        };
        let said = |name| row.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str);
        let version = said(VERSION);
        let ours = self.unanswered.iter().find(|sent| sent.version == version && sent.at.elapsed() < self.duration);
        if let Some(sent) = ours.cloned() {
            return Ok(self.own(sent));
        }
        if said(RELEASED) == "1" {
            return self.acquire(&Condition::Has(&[(RELEASED, text("1"))])).await;
        }
        let now = Instant::now();
        let since = self.seen.take().filter(|(seen, _)| seen == version).map_or(now, |(_, since)| since);
        self.seen = Some((version.to_owned(), since));
        let duration = said(DURATION).parse().map_or(DURATION_DEFAULT, Duration::from_millis);
        let still = now.saturating_duration_since(since);
        if still >= duration {
            return self.acquire(&Condition::Has(&[(VERSION, text(version))])).await;
        }
        Ok(if still >= duration / HEARTBEATS_MISSED_MAX { Role::Doubter } else { Role::Follower })
    }

    async fn acquire(&mut self, condition: &Condition<'_>) -> Result<Role, Failure> {
        let next = self.next();
        let mut row: Item = self.home.identity(LEADER, "LEADER").into_iter().collect();
        row.insert(OWNER.to_owned(), text(self.me.as_str()));
        row.insert(DURATION.to_owned(), self.duration_text());
        row.insert(VERSION.to_owned(), text(next.version.as_str()));
        let acquired = self.tables.put(self.home, row, condition).await?;
        Ok(if acquired { self.own(next) } else { Role::Follower })
    }

    /// Gives the lock up, so that nobody has to wait until it is over.
    pub(super) async fn release(self) -> Result<(), Failure> {
        let Some(mine) = self.mine else { return Ok(()) };
        let is_mine = [(VERSION, text(mine.version)), (OWNER, text(self.me.as_str()))];
        self.tables.delete(self.home, LEADER, &Condition::Has(&is_mine)).await
    }

    fn next(&mut self) -> Sent {
        let next = Sent { version: Uuid::new_v4().to_string(), at: Instant::now() };
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.remove(0);
        }
        self.unanswered.push(next.clone());
        next
    }

    fn own(&mut self, sent: Sent) -> Role {
        self.mine = Some(sent);
        self.unanswered.clear();
        self.seen = None;
        Role::Leader
    }

    /// Text and not a number: so the lock client stores it.
    fn duration_text(&self) -> AttributeValue {
        text(self.duration.as_millis().to_string())
    }
}
