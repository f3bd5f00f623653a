//! All streams: which there are, what is due, and how an event becomes true.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::event::Event;
use super::shard::Shard;
use super::transition::{Deadline, Transition};
use super::{Inconsistent, Stream};

/// All streams of the emulator.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(super) by_name: BTreeMap<String, Stream>,
    /// The number of the stream that was made last.
    pub(super) last_number: u64,
    /// Above the epochs of all streams that are gone, so that one of the same name gives greater numbers out.
    pub(super) epoch_s_min: u64,
    /// When which transition is done.
    deadlines: BTreeSet<(i64, Deadline)>,
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

    /// What no epoch of a stream that will be made may be below.
    pub(crate) fn epoch_s_min(&self) -> u64 {
        self.epoch_s_min
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

    /// Makes the event true. The only way in which streams change, apart from trimming. Whatever the event says, it does
    /// not panic: it may be of a log, where it would stop every start.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), Inconsistent> {
        match event {
            Event::CreateStream(mut creation) => {
                let name = std::mem::take(&mut creation.stream);
                self.insert(name, Stream::new(creation)?)?;
            }
            Event::RestoreCount { last_number, epoch_s_min } => {
                (self.last_number, self.epoch_s_min) = (last_number, epoch_s_min);
            }
            Event::RestoreStream { stream, state } => self.insert(stream, state.restored())?,
            Event::RestoreRecords { stream, records, json } => self.existing(&stream)?.restore(&records, json)?,
            Event::DeleteStream { stream } => {
                // The newest shards have the greatest epochs, and are there.
                let greatest = self.changed(&stream)?.shards.values().map(|shard| shard.epoch_s).max();
                self.epoch_s_min = self.epoch_s_min.max(greatest.map_or(0, |epoch_s| epoch_s.saturating_add(1)));
                self.by_name.remove(&stream);
            }
            Event::PutRecords { stream, records, json, last_hash_key } => {
                let stream = self.existing(&stream)?;
                stream.put(&records, json)?;
                stream.last_hash_key = last_hash_key.unwrap_or(stream.last_hash_key);
            }
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
            Event::SetMode { stream, mode } => self.changed(&stream)?.set_mode(mode),
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
