//! The streams as events that make them again, for a log that is written anew.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use serde::Serialize;

use super::event::Placement;
use super::shard::Shard;
use super::{Inconsistent, Stream, Streams};

/// What a stream or a consumer takes in a file besides its shards and tags, and a tag besides its two texts, roughly.
const STREAM_BYTES: u64 = 300;
const CONSUMER_BYTES: u64 = 150;
const TAG_BYTES: u64 = 6;
/// Records are written together until they have this many bytes of JSON. They are read into one piece of memory, which
/// stays until retention has removed the last of them.
const RECORDS_BYTES: usize = 64 * 1024;

/// The events of the same names, of what is only borrowed; their JSON is the same.
#[derive(Debug, Serialize)]
#[expect(clippy::enum_variant_names, reason = "their names are those of the events")]
pub(crate) enum Restore<'a> {
    RestoreCount { last_number: u64, epoch_s_min: u64 },
    RestoreStream { stream: &'a str, state: &'a Stream },
    RestoreRecords { stream: &'a str, records: Vec<Placement> },
}

/// Takes an event, and the JSON of its records.
type Write<'a> = dyn FnMut(&Restore<'_>, &[u8]) -> io::Result<()> + 'a;

impl Streams {
    /// About the bytes that a snapshot takes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.by_name.iter().map(|(name, stream)| name.len() as u64 + stream.file_bytes()).sum()
    }

    /// Hands out the events that make these streams from none, up to the first that is not taken.
    pub(crate) fn snapshot(&self, write: &mut Write<'_>) -> io::Result<()> {
        let &Self { last_number, epoch_s_min, .. } = self;
        write(&Restore::RestoreCount { last_number, epoch_s_min }, &[])?;
        for (name, stream) in &self.by_name {
            write(&Restore::RestoreStream { stream: name, state: stream }, &[])?;
            for shard in stream.shards.values() {
                write_records(name, shard, write)?;
            }
        }
        Ok(())
    }
}

fn write_records(stream: &str, shard: &Shard, write: &mut Write<'_>) -> io::Result<()> {
    let (mut records, mut json) = (Vec::new(), Vec::new());
    let mut stored = shard.records_from(0).peekable();
    while let Some(record) = stored.next() {
        json.extend_from_slice(record.json_and_comma());
        records.push(Placement::of(shard.number, record));
        if json.len() >= RECORDS_BYTES || stored.peek().is_none() {
            write(&Restore::RestoreRecords { stream, records: std::mem::take(&mut records) }, &json)?;
            json.clear();
        }
    }
    Ok(())
}

fn tags_bytes(tags: &BTreeMap<String, String>) -> u64 {
    tags.iter().map(|(key, value)| TAG_BYTES + (key.len() + value.len()) as u64).sum()
}

impl Stream {
    fn file_bytes(&self) -> u64 {
        let shards: u64 = self.shards.values().map(Shard::file_bytes).sum();
        let consumers = self.consumers.all();
        let consumers = consumers.map(|(name, tags)| CONSUMER_BYTES + name.len() as u64 + tags_bytes(tags));
        STREAM_BYTES + tags_bytes(&self.tags) + consumers.sum::<u64>() + shards
    }

    /// A stream that was read, with what follows from the rest of it.
    pub(super) fn restored(mut self) -> Self {
        // Logs of formats 2 and 3 may have a stream of that mode with a setting that only the other has.
        self.set_mode(self.mode);
        let open = self.shards.values().filter(|shard| shard.closed.is_none());
        self.open = open.map(|shard| (shard.range.start, shard.number)).collect();
        self
    }

    /// Gives shards of a stream that was read their records.
    pub(super) fn restore(&mut self, records: &[Placement], mut json: Bytes) -> Result<(), Inconsistent> {
        for put in records {
            let record = put.record(&mut json)?;
            let shard = self.shard_mut(put.shard).ok_or(Inconsistent("a shard that does not exist"))?;
            shard.restore(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::StreamMode;
    use super::super::event::{Creation, Event};
    use super::*;

    /// A log whose own shortest form seemed too long would be written anew again and again.
    #[test]
    fn what_a_snapshot_takes_is_known_about_also_where_it_is_mostly_tags() {
        let tags = || (0..50).map(|tag| (format!("{tag:0>128}"), format!("{tag:0>256}"))).collect();
        let mut streams = Streams::default();
        for number in 1..=5 {
            let (stream, settings) = (format!("{number:0>128}"), Vec::new());
            let (mode, shard_count, at_ms, active_at_ms) = (StreamMode::Provisioned, 1, 0, None);
            let created = Event::CreateStream(Creation {
                stream: stream.clone(),
                mode,
                shard_count,
                at_ms,
                number,
                settings,
                tags: tags(),
                active_at_ms,
                epoch_s_min: 0,
            });
            streams.apply(created).unwrap();
            for consumer in 0..20 {
                let (stream, consumer) = (stream.clone(), format!("{consumer:0>128}"));
                let registered = Event::RegisterConsumer { stream, consumer, tags: tags(), at_ms, active_at_ms: 0 };
                streams.apply(registered).unwrap();
            }
        }
        let mut bytes = 0;
        let mut count = |event: &Restore<'_>, json: &[u8]| {
            bytes += (serde_json::to_vec(event)?.len() + json.len()) as u64;
            Ok(())
        };
        streams.snapshot(&mut count).unwrap();
        let known = streams.file_bytes();
        assert!(known < bytes * 5 / 4 && bytes < known * 5 / 4, "{known} bytes for {bytes}");
    }
}
