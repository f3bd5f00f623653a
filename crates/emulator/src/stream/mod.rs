//! Streams and what can happen to them.
//!
//! Every change is an [`Event`]. An operation checks its request, makes the event, and hands it to
//! [`Streams::apply`]; a restart applies the same events again, so that what was and what is restored cannot differ.

pub(crate) mod event;
pub(crate) mod hash_key;
pub(crate) mod sequence_number;
pub(crate) mod shard;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::event::{Event, PutRecord};
use self::hash_key::HashKeyRange;
use self::shard::{Record, Shard, seconds};

/// The service's default retention.
pub(crate) const RETENTION_HOURS_DEFAULT: u32 = 24;

/// How a stream's capacity is billed. Nothing here depends on it, but clients ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum StreamMode {
    Provisioned,
    OnDemand,
}

/// A stream and its shards, also those that were closed.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) mode: StreamMode,
    pub(crate) created_ms: i64,
    pub(crate) retention_hours: u32,
    /// Where a shard's number is its place.
    shards: Vec<Shard>,
    /// Open shards by the first hash key of their range. The ranges tile the whole space.
    open: BTreeMap<u128, u32>,
}

/// All streams of the emulator, by name.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<String, Stream>);

/// An event does not fit the state it was applied to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Inconsistent(&'static str);

impl Stream {
    fn new(mode: StreamMode, shard_count: u32, created_ms: i64) -> Self {
        let mut stream = Self {
            mode,
            created_ms,
            retention_hours: RETENTION_HOURS_DEFAULT,
            shards: Vec::new(),
            open: BTreeMap::new(),
        };
        for (number, range) in (0..).zip(HashKeyRange::even(shard_count)) {
            stream.open_shard(Shard::new(number, range, created_ms));
        }
        stream
    }

    fn open_shard(&mut self, shard: Shard) {
        self.open.insert(shard.range.start, shard.number);
        self.shards.push(shard);
    }

    pub(crate) fn shard(&self, number: u32) -> Option<&Shard> {
        self.shards.get(usize::try_from(number).ok()?)
    }

    fn shard_mut(&mut self, number: u32) -> Option<&mut Shard> {
        self.shards.get_mut(usize::try_from(number).ok()?)
    }

    /// The open shard that owns the hash key.
    pub(crate) fn shard_for(&self, hash_key: u128) -> Option<&Shard> {
        let (_, number) = self.open.range(..=hash_key).next_back()?;
        self.shard(*number)
    }

    pub(crate) fn open_shard_count(&self) -> usize {
        self.open.len()
    }

    /// What arrived before this moment is gone.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(i64::from(self.retention_hours) * 3_600_000)
    }

    /// Shards with something inside the retention, in the order of their ids.
    pub(crate) fn live_shards(&self, now_ms: i64) -> impl Iterator<Item = &Shard> {
        let horizon_ms = self.horizon_ms(now_ms);
        self.shards.iter().filter(move |shard| !shard.is_expired(horizon_ms))
    }

    /// Forgets what retention no longer keeps in these shards.
    pub(crate) fn trim_shards(&mut self, numbers: &[u32], now_ms: i64) {
        let horizon_ms = self.horizon_ms(now_ms);
        for number in numbers {
            if let Some(shard) = self.shard_mut(*number) {
                shard.trim(horizon_ms);
            }
        }
    }

    fn next_number(&self) -> Result<u32, Inconsistent> {
        u32::try_from(self.shards.len()).map_err(|_| Inconsistent("more shards than a shard number can count"))
    }

    fn split(&mut self, number: u32, new_start: u128, at_ms: i64) -> Result<(), Inconsistent> {
        let left = self.next_number()?;
        let parent = self.open_mut(number)?;
        let HashKeyRange { start, end } = parent.range;
        if new_start <= start || new_start > end {
            return Err(Inconsistent("a split outside of the shard's range"));
        }
        let at_ms = parent.close(at_ms, vec![left, left + 1]);
        let epoch_s = seconds(at_ms).max(parent.epoch_s + 1);
        self.open.remove(&start);
        for (number_of_child, range) in
            [(left, HashKeyRange { start, end: new_start - 1 }), (left + 1, HashKeyRange { start: new_start, end })]
        {
            let mut child = Shard::new(number_of_child, range, at_ms);
            (child.epoch_s, child.parent) = (epoch_s, Some(number));
            self.open_shard(child);
        }
        Ok(())
    }

    fn merge(&mut self, number: u32, adjacent: u32, mut at_ms: i64) -> Result<(), Inconsistent> {
        let child = self.next_number()?;
        if number == adjacent {
            return Err(Inconsistent("a merge of a shard with itself"));
        }
        let (first, second) = (self.open_mut(number)?.range, self.open_mut(adjacent)?.range);
        let range = HashKeyRange { start: first.start.min(second.start), end: first.end.max(second.end) };
        if first.start.checked_sub(1) != Some(second.end) && second.start.checked_sub(1) != Some(first.end) {
            return Err(Inconsistent("a merge of shards that do not touch"));
        }
        let mut epoch_s = 0;
        for parent in [number, adjacent] {
            let parent = self.open_mut(parent)?;
            at_ms = parent.close(at_ms, vec![child]);
            epoch_s = epoch_s.max(parent.epoch_s + 1).max(seconds(at_ms));
        }
        self.open.remove(&first.start);
        self.open.remove(&second.start);
        let mut child = Shard::new(child, range, at_ms);
        (child.epoch_s, child.parent, child.adjacent_parent) = (epoch_s, Some(number), Some(adjacent));
        self.open_shard(child);
        Ok(())
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
        self.0.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Stream> {
        self.0.get_mut(name)
    }

    /// Streams in the order of their names, after `name` if one is given.
    pub(crate) fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&String, &Stream)> {
        use std::ops::Bound;
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((from, Bound::Unbounded))
    }

    pub(crate) fn open_shard_count(&self) -> usize {
        self.0.values().map(Stream::open_shard_count).sum()
    }

    /// Forgets what retention no longer keeps, in every stream.
    pub(crate) fn trim(&mut self, now_ms: i64) {
        for stream in self.0.values_mut() {
            let horizon_ms = stream.horizon_ms(now_ms);
            stream.shards.iter_mut().for_each(|shard| shard.trim(horizon_ms));
        }
    }

    /// Makes the event true. The only way in which streams change, apart from trimming.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), Inconsistent> {
        match event {
            Event::CreateStream { stream, mode, shard_count, at_ms } => {
                if self.0.contains_key(&stream) {
                    return Err(Inconsistent("a stream that exists"));
                }
                self.0.insert(stream, Stream::new(mode, shard_count, at_ms));
            }
            Event::DeleteStream { stream } => {
                self.0.remove(&stream).ok_or(Inconsistent("a stream that does not exist"))?;
            }
            Event::PutRecords { stream, records, json } => self.existing(&stream)?.put(&records, &json)?,
            Event::SplitShard { stream, shard, new_start, at_ms } => {
                self.existing(&stream)?.split(shard, new_start, at_ms)?;
            }
            Event::MergeShards { stream, shard, adjacent, at_ms } => {
                self.existing(&stream)?.merge(shard, adjacent, at_ms)?;
            }
            Event::SetRetention { stream, hours } => self.existing(&stream)?.retention_hours = hours,
        }
        Ok(())
    }

    fn existing(&mut self, name: &str) -> Result<&mut Stream, Inconsistent> {
        self.0.get_mut(name).ok_or(Inconsistent("a stream that does not exist"))
    }
}

#[cfg(test)]
mod tests;
