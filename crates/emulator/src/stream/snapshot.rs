//! The streams as events that make them again, for a log that is written anew.

use std::io;

use bytes::Bytes;
use serde::Serialize;

use super::event::PutRecord;
use super::shard::Shard;
use super::{Inconsistent, Stream, Streams};

/// Records are written together until they have this many bytes of JSON.
const RECORDS_BYTES: usize = 1024 * 1024;

/// The events of the same names, of what is only borrowed; their JSON is the same.
#[derive(Debug, Serialize)]
#[expect(clippy::enum_variant_names, reason = "their names are those of the events")]
pub(crate) enum Restore<'a> {
    RestoreCount { last_number: u64 },
    RestoreStream { stream: &'a str, state: &'a Stream },
    RestoreRecords { stream: &'a str, records: Vec<PutRecord> },
}

/// Takes an event, and the JSON of its records.
type Write<'a> = dyn FnMut(&Restore<'_>, &[u8]) -> io::Result<()> + 'a;

impl Streams {
    /// About the bytes that a snapshot takes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let shards = self.by_name.values().flat_map(|stream| stream.shards.values());
        shards.map(Shard::stored_bytes).sum()
    }

    /// Hands out the events that make these streams from none, up to the first that is not taken.
    pub(crate) fn snapshot(&self, write: &mut Write<'_>) -> io::Result<()> {
        write(&Restore::RestoreCount { last_number: self.last_number }, &[])?;
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
        json.extend_from_slice(&record.json);
        records.push(PutRecord::of(shard.number, record));
        if json.len() >= RECORDS_BYTES || stored.peek().is_none() {
            write(&Restore::RestoreRecords { stream, records: std::mem::take(&mut records) }, &json)?;
            json.clear();
        }
    }
    Ok(())
}

impl Stream {
    /// A stream that was read, with what follows from the rest of it.
    pub(super) fn restored(mut self) -> Self {
        let open = self.shards.values().filter(|shard| shard.closed.is_none());
        self.open = open.map(|shard| (shard.range.start, shard.number)).collect();
        self
    }

    /// Gives shards of a stream that was read their records.
    pub(super) fn restore(&mut self, records: &[PutRecord], mut json: Bytes) -> Result<(), Inconsistent> {
        for put in records {
            let record = put.record(&mut json)?;
            let shard = self.shard_mut(put.shard).ok_or(Inconsistent("a shard that does not exist"))?;
            shard.restore(record);
        }
        Ok(())
    }
}
