//! Streams and what can happen to them.
//!
//! Every change is an [`Event`]. An operation checks its request, makes the event, and hands it to
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
pub(crate) mod transition;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::consumer::Consumers;
use self::event::{Distribution, Event, PutRecord, Setting};
use self::hash_key::HashKeyRange;
use self::shard::Shard;
use self::transition::{Change, Deadline, Transition};
use crate::limits::Calls;

/// The service's default retention.
pub(crate) const RETENTION_HOURS_DEFAULT: u32 = 24;
/// The service's default for the largest record, which is also the least that can be set.
pub(crate) const RECORD_KIB_DEFAULT: u32 = 1024;
/// 2^128 divided by the golden ratio, made odd: its multiples are spread evenly, however many of them there are.
const HASH_KEY_STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// How a stream's capacity is billed. Nothing here depends on it, but clients ask.
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

/// All streams of the emulator.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_name: BTreeMap<String, Stream>,
    /// The number of the stream that was made last.
    last_number: u64,
    /// When which transition is done.
    deadlines: BTreeSet<(i64, Deadline)>,
}

/// An event does not fit the state it was applied to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Inconsistent(&'static str);

impl Stream {
    fn new(mode: StreamMode, shard_count: u32, created_ms: i64, number: u64) -> Self {
        let mut stream = Self {
            mode,
            created_ms,
            number,
            retention_hours: RETENTION_HOURS_DEFAULT,
            record_kib_max: RECORD_KIB_DEFAULT,
            distribution: Distribution::default(),
            tags: BTreeMap::new(),
            last_hash_key: 0,
            transition: None,
            calls: Calls::default(),
            consumers: Consumers::default(),
            shards: BTreeMap::new(),
            next_number: 0,
            open: BTreeMap::new(),
        };
        for (number, range) in (0..).zip(HashKeyRange::even(shard_count)) {
            stream.open_shard(Shard::new(number, range, created_ms));
        }
        stream
    }

    pub(crate) fn id(&self) -> StreamId {
        StreamId { created_ms: self.created_ms, number: self.number }
    }

    fn open_shard(&mut self, shard: Shard) {
        self.open.insert(shard.range.start, shard.number);
        self.next_number = shard.number + 1;
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

    fn put(&mut self, records: &[PutRecord], mut json: Bytes) -> Result<(), Inconsistent> {
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

impl Streams {
    pub(crate) fn get(&self, name: &str) -> Option<&Stream> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Stream> {
        self.by_name.get_mut(name)
    }

    /// Streams in the order of their names, after `name` if one is given.
    pub(crate) fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&String, &Stream)> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<str, _>((from, Bound::Unbounded))
    }

    /// The number of the stream that will be made next.
    pub(crate) fn next_number(&self) -> u64 {
        self.last_number.saturating_add(1)
    }

    pub(crate) fn open_shard_count(&self) -> usize {
        self.by_name.values().map(Stream::open_shard_count).sum()
    }

    /// Forgets what retention no longer keeps, in every stream.
    pub(crate) fn trim(&mut self, now_ms: i64) {
        self.by_name.values_mut().for_each(|stream| stream.trim(now_ms));
    }

    /// The event that is due: the earliest whose deadline has come. To be committed, which takes it off the list.
    pub(crate) fn due(&self, now_ms: i64) -> Option<Event> {
        let (at_ms, Deadline::Stream(name)) = self.deadlines.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        let transition = self.by_name.get(name)?.transition.clone()?;
        Some(Event::done(transition.change, name.clone(), *at_ms))
    }

    /// Streams in the state `CREATING`.
    pub(crate) fn creating_count(&self) -> usize {
        let is_creating = |Deadline::Stream(name): &Deadline| self.get(name).is_some_and(Stream::is_creating);
        self.deadlines.iter().filter(|(_, deadline)| is_creating(deadline)).count()
    }

    /// Makes the event true. The only way in which streams change, apart from trimming.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), Inconsistent> {
        match event {
            Event::CreateStream { stream: name, mode, shard_count, at_ms, number, settings, tags, active_at_ms } => {
                let mut stream = Stream::new(mode, shard_count, at_ms, number);
                settings.iter().for_each(|setting| stream.set(setting));
                stream.tags = tags;
                stream.transition = active_at_ms.map(|done_at_ms| Transition { change: Change::Create, done_at_ms });
                self.insert(name, stream)?;
            }
            Event::RestoreCount { last_number } => self.last_number = last_number,
            Event::RestoreStream { stream, state } => self.insert(stream, state.restored())?,
            Event::RestoreRecords { stream, records, json } => self.existing(&stream)?.restore(&records, json)?,
            Event::DeleteStream { stream } => {
                self.changed(&stream)?;
                self.by_name.remove(&stream);
            }
            Event::PutRecords { stream, records, json } => self.existing(&stream)?.put(&records, json)?,
            Event::SplitShard { stream, shard, new_start, at_ms } => {
                self.changed(&stream)?.split(shard, new_start, at_ms)?;
            }
            Event::MergeShards { stream, shard, adjacent, at_ms } => {
                self.changed(&stream)?.merge(shard, adjacent, at_ms)?;
            }
            Event::UpdateShardCount { stream, splits, merges, at_ms } => {
                self.changed(&stream)?.update_shard_count(&splits, &merges, at_ms)?;
            }
            Event::SetRetention { stream, hours, at_ms } => self.existing(&stream)?.set_retention(hours, at_ms),
            Event::Set { stream, setting } => self.existing(&stream)?.set(&setting),
            Event::Tag { stream, consumer, tags, removed } => {
                let stream = self.existing(&stream)?;
                let tagged = match &consumer {
                    Some(name) => {
                        stream.consumers.tags_mut(name).ok_or(Inconsistent("a consumer that does not exist"))?
                    }
                    None => &mut stream.tags,
                };
                tagged.extend(tags);
                tagged.retain(|key, _| !removed.contains(key));
            }
            Event::SetMode { stream, mode } => self.changed(&stream)?.mode = mode,
            Event::Begin { stream, change, done_at_ms } => {
                let changed = self.changed(&stream)?;
                changed.transition = Some(Transition { change, done_at_ms });
                // Who waits for news of a shard waits until then at the longest.
                changed.shards.values().for_each(Shard::tell);
                self.deadlines.insert((done_at_ms, Deadline::Stream(stream)));
            }
            Event::Activate { stream } => {
                self.changed(&stream)?;
            }
            Event::RegisterConsumer { stream, consumer, tags, at_ms, active_at_ms } => {
                self.existing(&stream)?.consumers.register(consumer, tags, at_ms, active_at_ms);
            }
            Event::DeregisterConsumer { stream, consumer, gone_at_ms } => {
                if !self.existing(&stream)?.consumers.deregister(&consumer, gone_at_ms) {
                    return Err(Inconsistent("a consumer that does not exist"));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, name: String, stream: Stream) -> Result<(), Inconsistent> {
        if self.by_name.contains_key(&name) {
            return Err(Inconsistent("a stream that exists"));
        }
        if let Some(transition) = &stream.transition {
            self.deadlines.insert((transition.done_at_ms, Deadline::Stream(name.clone())));
        }
        self.last_number = self.last_number.max(stream.number);
        self.by_name.insert(name, stream);
        Ok(())
    }

    fn existing(&mut self, name: &str) -> Result<&mut Stream, Inconsistent> {
        self.by_name.get_mut(name).ok_or(Inconsistent("a stream that does not exist"))
    }

    /// The stream, whose transition, if it is in one, is over.
    fn changed(&mut self, name: &str) -> Result<&mut Stream, Inconsistent> {
        let stream = self.by_name.get_mut(name).ok_or(Inconsistent("a stream that does not exist"))?;
        if let Some(transition) = stream.transition.take() {
            self.deadlines.remove(&(transition.done_at_ms, Deadline::Stream(name.to_owned())));
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests;
