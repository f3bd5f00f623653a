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
pub(crate) mod transition;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::consumer::Consumers;
use self::event::{Distribution, Event, PutRecord, Setting};
use self::hash_key::HashKeyRange;
use self::shard::{Record, Shard};
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

/// A stream and its shards, also those that were closed.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) mode: StreamMode,
    pub(crate) created_ms: i64,
    /// See [`StreamId`].
    number: u64,
    pub(crate) retention_hours: u32,
    pub(crate) record_kib_max: u32,
    pub(crate) distribution: Distribution,
    pub(crate) tags: BTreeMap<String, String>,
    /// The shard that was trimmed last without being used.
    last_trimmed: u32,
    /// Where the last record without a key of its own went.
    last_hash_key: u128,
    /// What the stream is in the middle of, unless it is `ACTIVE`.
    pub(crate) transition: Option<Transition>,
    /// Calls about this stream in the last second. Not part of what is stored.
    pub(crate) calls: Calls,
    pub(crate) consumers: Consumers,
    /// Where a shard's number is its place.
    shards: Vec<Shard>,
    /// Open shards by the first hash key of their range. The ranges tile the whole space.
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
            last_trimmed: 0,
            last_hash_key: 0,
            transition: None,
            calls: Calls::default(),
            consumers: Consumers::default(),
            shards: Vec::new(),
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
        self.shards.push(shard);
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
        self.shards.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn shard_mut(&mut self, number: u32) -> Option<&mut Shard> {
        self.shards.get_mut(usize::try_from(number).ok()?)
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
        let skipped = after.map_or(0, |after| (after as usize).saturating_add(1));
        let shards = if self.is_creating() { &[] } else { self.shards.get(skipped..).unwrap_or_default() };
        shards.iter().filter(move |shard| !shard.is_expired(horizon_ms))
    }

    /// Forgets what retention no longer keeps in these shards, and in one more, so that in the end all have their turn,
    /// also those that nobody uses any longer.
    pub(crate) fn trim_shards(&mut self, numbers: &[u32], now_ms: i64) {
        let horizon_ms = self.horizon_ms(now_ms);
        self.last_trimmed = self.last_trimmed.checked_add(1).filter(|next| self.shard(*next).is_some()).unwrap_or(0);
        for number in numbers.iter().copied().chain([self.last_trimmed]) {
            if let Some(shard) = self.shard_mut(number) {
                shard.trim(horizon_ms);
            }
        }
    }

    fn set_retention(&mut self, hours: u32, at_ms: i64) {
        let horizon_ms = self.horizon_ms(at_ms);
        self.shards.iter_mut().for_each(|shard| shard.trim(horizon_ms));
        self.retention_hours = hours;
    }

    fn next_number(&self) -> Result<u32, Inconsistent> {
        u32::try_from(self.shards.len()).map_err(|_| Inconsistent("more shards than a shard number can count"))
    }

    fn open_mut(&mut self, number: u32) -> Result<&mut Shard, Inconsistent> {
        let shard = self.shard_mut(number).ok_or(Inconsistent("a shard that does not exist"))?;
        if shard.closed.is_some() { Err(Inconsistent("a shard that is closed")) } else { Ok(shard) }
    }

    fn put(&mut self, records: &[PutRecord], json: &bytes::Bytes) -> Result<(), Inconsistent> {
        let mut start = 0_usize;
        for record in records {
            let end = start.saturating_add(record.json_bytes as usize);
            if end > json.len() {
                return Err(Inconsistent("records longer than what was stored"));
            }
            let shard = self.open_mut(record.shard)?;
            if record.index < shard.latest_index() {
                return Err(Inconsistent("a record before its predecessor"));
            }
            shard.push(Record {
                index: record.index,
                arrival_ms: record.arrival_ms,
                size_bytes: record.size_bytes,
                json: json.slice(start..end),
            });
            start = end;
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
        use std::ops::Bound;
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
        for stream in self.by_name.values_mut() {
            let horizon_ms = stream.horizon_ms(now_ms);
            stream.shards.iter_mut().for_each(|shard| shard.trim(horizon_ms));
        }
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
            Event::CreateStream { stream, mode, shard_count, at_ms, number } => {
                if self.by_name.contains_key(&stream) {
                    return Err(Inconsistent("a stream that exists"));
                }
                self.last_number = self.last_number.max(number);
                self.by_name.insert(stream, Stream::new(mode, shard_count, at_ms, number));
            }
            Event::DeleteStream { stream } => {
                self.changed(&stream)?;
                self.by_name.remove(&stream);
            }
            Event::PutRecords { stream, records, json } => self.existing(&stream)?.put(&records, &json)?,
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
                // A deletion may begin while something else goes on, which is then never done.
                self.changed(&stream)?.transition = Some(Transition { change, done_at_ms });
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
