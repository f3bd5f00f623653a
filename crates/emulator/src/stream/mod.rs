//! Streams and what can happen to them.
//!
//! Every change is an [`Event`](event::Event). An operation checks its request, makes the event, and hands it to
//! [`Streams::apply`]; a restart applies the same events again, so that what was and what is restored cannot differ.

pub(crate) mod claims;
pub(crate) mod consumer;
pub(crate) mod event;
pub(crate) mod hash_key;
pub(crate) mod reading;
mod resharding;
pub(crate) mod sequence_number;
pub(crate) mod shard;
pub(crate) mod snapshot;
mod streams;
pub(crate) mod transition;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::consumer::Consumers;
use self::event::{Creation, Distribution, Placement, Setting};
use self::hash_key::HashKeyRange;
use self::shard::{Shard, seconds};
pub(crate) use self::streams::Streams;
use self::transition::{Change, Transition};
use crate::limits::Calls;

/// The service's default retention.
pub(crate) const RETENTION_HOURS_DEFAULT: u32 = 24;
/// The service's default for the largest record, which is also the least that can be set.
pub(crate) const RECORD_KIB_DEFAULT: u32 = 1024;
/// 2^128 divided by the golden ratio, made odd: its multiples are spread evenly, however many of them there are.
const HASH_KEY_STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// Open shards of all streams together. It keeps a mistaken request, or a log, from filling the memory.
pub(crate) const OPEN_SHARDS_MAX: u32 = 100_000;

/// How a stream's capacity is billed. Only one on demand may place records itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum StreamMode {
    Provisioned,
    OnDemand,
}

/// Tells a stream from those of the same name before and after it, also where all were made in one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamId {
    created_ms: i64,
    number: u64,
}

/// A stream and its shards, also those that were closed and still have something inside the retention.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) mode: StreamMode,
    pub(crate) created_ms: i64,
    /// See [`StreamId`].
    number: u64,
    pub(crate) retention_hours: u32,
    pub(crate) record_kib_max: u32,
    pub(crate) distribution: Distribution,
    pub(crate) tags: BTreeMap<String, String>,
    /// Where the last record without a key of its own went.
    last_hash_key: u128,
    /// What the stream is in the middle of, unless it is `ACTIVE`.
    pub(crate) transition: Option<Transition>,
    /// Calls about this stream in the last second.
    #[serde(skip)]
    pub(crate) calls: Calls,
    pub(crate) consumers: Consumers,
    shards: BTreeMap<u32, Shard>,
    /// The next shard's number. None is used twice.
    next_number: u32,
    /// Open shards by the first hash key of their range. The ranges tile the whole space.
    #[serde(skip)]
    open: BTreeMap<u128, u32>,
}

/// An event does not fit the state it was applied to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Inconsistent(&'static str);

impl Stream {
    fn new(creation: Creation) -> Result<Self, Inconsistent> {
        if creation.shard_count > OPEN_SHARDS_MAX {
            return Err(Inconsistent("more shards than there may be"));
        }
        let at_ms = creation.at_ms;
        let mut stream = Self {
            mode: creation.mode,
            created_ms: at_ms,
            number: creation.number,
            retention_hours: RETENTION_HOURS_DEFAULT,
            record_kib_max: RECORD_KIB_DEFAULT,
            distribution: Distribution::default(),
            tags: creation.tags,
            last_hash_key: 0,
            transition: creation.active_at_ms.map(|at_ms| Transition { change: Change::Create, done_at_ms: at_ms }),
            calls: Calls::default(),
            consumers: Consumers::default(),
            shards: BTreeMap::new(),
            next_number: 0,
            open: BTreeMap::new(),
        };
        creation.settings.iter().for_each(|setting| stream.set(setting));
        let epoch_s = seconds(at_ms).max(creation.epoch_s_min);
        for (number, range) in (0..).zip(HashKeyRange::even(creation.shard_count)) {
            stream.open_shard(Shard::new(number, range, at_ms, epoch_s));
        }
        Ok(stream)
    }

    pub(crate) fn id(&self) -> StreamId {
        StreamId { created_ms: self.created_ms, number: self.number }
    }

    fn open_shard(&mut self, shard: Shard) {
        self.open.insert(shard.range.start, shard.number);
        self.next_number = shard.number.saturating_add(1);
        self.shards.insert(shard.number, shard);
    }

    /// The stream's status, as the service names it.
    pub(crate) fn status(&self) -> &'static str {
        self.transition.as_ref().map_or("ACTIVE", |transition| transition.change.status())
    }

    pub(crate) fn is_creating(&self) -> bool {
        self.transition.as_ref().is_some_and(|transition| transition.change == Change::Create)
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.transition.as_ref().is_some_and(|transition| transition.change == Change::Delete)
    }

    pub(crate) fn shard(&self, number: u32) -> Option<&Shard> {
        self.shards.get(&number)
    }

    pub(crate) fn shard_mut(&mut self, number: u32) -> Option<&mut Shard> {
        self.shards.get_mut(&number)
    }

    /// The open shard that owns the hash key.
    pub(crate) fn shard_for(&self, hash_key: u128) -> Option<&Shard> {
        let (_, number) = self.open.range(..=hash_key).next_back()?;
        self.shard(*number)
    }

    /// A hash key for a record that goes wherever the stream wants.
    pub(crate) fn any_hash_key(&mut self) -> u128 {
        self.last_hash_key = self.last_hash_key.wrapping_add(HASH_KEY_STEP);
        self.last_hash_key
    }

    /// Where the last record went that the stream placed by itself; nothing of a stream that goes by the keys.
    pub(crate) fn last_hash_key(&self) -> Option<u128> {
        (self.distribution == Distribution::Auto).then_some(self.last_hash_key)
    }

    /// The mode, and what only the other one has is gone.
    fn set_mode(&mut self, mode: StreamMode) {
        self.mode = mode;
        if mode == StreamMode::Provisioned {
            self.distribution = Distribution::default();
        }
    }

    fn set(&mut self, setting: &Setting) {
        match *setting {
            Setting::MaxRecordSize { kib } => self.record_kib_max = kib,
            Setting::Distribution { strategy } => self.distribution = strategy,
        }
    }

    pub(crate) fn shard_for_mut(&mut self, hash_key: u128) -> Option<&mut Shard> {
        let number = self.shard_for(hash_key)?.number;
        self.shard_mut(number)
    }

    pub(crate) fn open_shard_count(&self) -> usize {
        self.open.len()
    }

    /// What arrived before this moment is gone.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.retention_hours) * 3_600_000)
    }

    /// Shards with something inside the retention, in the order of their ids, behind one of them if given.
    pub(crate) fn live_shards(&self, after: Option<u32>, now_ms: i64) -> impl Iterator<Item = &Shard> {
        let horizon_ms = self.horizon_ms(now_ms);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shards = (!self.is_creating()).then(|| self.shards.range((from, Bound::Unbounded)));
        shards.into_iter().flatten().map(|(_, shard)| shard).filter(move |shard| !shard.is_expired(horizon_ms))
    }

    /// Forgets records of these shards that retention no longer keeps.
    pub(crate) fn trim_shards(&mut self, numbers: &[u32], now_ms: i64) {
        let horizon_ms = self.horizon_ms(now_ms);
        for number in numbers {
            if let Some(shard) = self.shard_mut(*number) {
                shard.trim(horizon_ms);
            }
        }
    }

    /// Forgets all that retention no longer keeps: records, and closed shards as a whole.
    fn trim(&mut self, now_ms: i64) {
        let horizon_ms = self.horizon_ms(now_ms);
        self.shards.retain(|_, shard| {
            shard.trim(horizon_ms);
            !shard.is_expired(horizon_ms)
        });
        self.consumers.forget_claims(&self.shards);
    }

    fn set_retention(&mut self, hours: u32, at_ms: i64) {
        self.trim(at_ms);
        self.retention_hours = hours;
    }

    /// The next shard's number, behind which there is one more.
    fn next_number(&self) -> Result<u32, Inconsistent> {
        let number = Some(self.next_number).filter(|number| *number < u32::MAX - 1);
        number.ok_or(Inconsistent("more shards than a shard number can count"))
    }

    fn open_mut(&mut self, number: u32) -> Result<&mut Shard, Inconsistent> {
        let shard = self.shard_mut(number).ok_or(Inconsistent("a shard that does not exist"))?;
        if shard.closed.is_some() { Err(Inconsistent("a shard that is closed")) } else { Ok(shard) }
    }

    fn put(&mut self, records: &[Placement], mut json: Bytes) -> Result<(), Inconsistent> {
        for put in records {
            let record = put.record(&mut json)?;
            let shard = self.open_mut(put.shard)?;
            if record.index < shard.latest_index() {
                return Err(Inconsistent("a record before its predecessor"));
            }
            shard.push(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
