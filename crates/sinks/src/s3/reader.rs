//! Objects back: what a sink with the usual key wrote, window by window.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use kinesink_core::{Failure, Position, ShardId, StreamName};

use super::S3Config;
use super::store::{Listed, Store};
use crate::{Error, Location};

/// Objects that are listed at most.
const OBJECTS_MAX: usize = 1_000_000;

/// Whose records an object holds. Ordered by stream and shard, then as the windows are in their shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The stream.
    pub stream: StreamName,
    /// The shard.
    pub shard: ShardId,
    /// Position of the window's first record.
    pub first: Position,
    /// Position of the window's last record.
    pub last: Position,
}

/// Reads what an [`S3Emitter`](super::S3Emitter) with the usual key, `{stream}/{shard}/{first}-{last}`, left in a place.
#[derive(Debug)]
pub struct S3Reader {
    store: Store,
    prefix: String,
    location: Location,
}

impl S3Reader {
    /// Prepares reading. Sends nothing yet.
    ///
    /// # Errors
    /// [`Error::Setting`] where a bucket has no client.
    pub fn open(config: &S3Config) -> Result<Self, Error> {
        let (store, prefix) = config.open()?;
        Ok(Self { store, prefix, location: config.location.clone() })
    }

    /// The objects of each window, by key: several, where their names have something random behind. What is no object of
    /// a window is left out.
    ///
    /// # Errors
    /// A [`Failure`] where the place cannot be listed, or has more than a million objects.
    pub async fn windows(&self) -> Result<BTreeMap<Window, Vec<Listed>>, Failure> {
        let mut windows = BTreeMap::<Window, Vec<Listed>>::new();
        for object in self.store.list(OBJECTS_MAX).await? {
            let key = &object.key;
            if let Some(window) = window(key.strip_prefix(&self.prefix).unwrap_or(key).trim_start_matches('/')) {
                windows.entry(window).or_default().push(object);
            }
        }
        Ok(windows)
    }

    /// Some bytes of the object at the key: fewer, where it ends before them. It has more than those before the range.
    ///
    /// # Errors
    /// A [`Failure`] where it cannot be read.
    pub async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.store.read(key, range).await
    }

    /// What stands in the note of this name about the windows that begin where the one of the object at `key` does, if there
    /// is one.
    ///
    /// # Errors
    /// A [`Failure`] where it cannot be read.
    pub async fn note(&self, key: &str, name: &str) -> Result<Option<Bytes>, Failure> {
        self.store.note(&note_key(key, name)).await
    }

    /// Where that note stands, for a message.
    #[must_use]
    pub fn note_url(&self, key: &str, name: &str) -> String {
        self.location.object(&note_key(key, name))
    }

    /// Writes the note, unless there is one of this name: whether it did. Not cancel safe: dropped, it may or may not have.
    ///
    /// # Errors
    /// A [`Failure`] where it cannot be written.
    pub async fn take_note(&self, key: &str, name: &str, note: Bytes) -> Result<bool, Failure> {
        self.store.take_note(&note_key(key, name), note).await
    }
}

/// Beside the object at `key`, by the position that its window begins with; hidden from who reads letters.
fn note_key(key: &str, name: &str) -> String {
    let (folder, file) = key.split_at(key.rfind('/').map_or(0, |slash| slash + 1));
    let first = file.split_once('-').map_or(file, |(first, _)| first);
    format!("{folder}.{first}-{name}.json")
}

/// Whose the object is, by its key below the prefix.
fn window(key: &str) -> Option<Window> {
    let mut parts = key.split('/');
    let (stream, shard, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || name.starts_with('.') {
        return None;
    }
    let (positions, _extension) = name.rsplit_once(".ndjson")?;
    let mut positions = positions.splitn(3, '-').map(position);
    let (first, last) = (positions.next()??, positions.next()??);
    Some(Window { stream: stream.parse().ok()?, shard: shard.parse().ok()?, first, last })
}

/// A position as keys have it, padded with zeros.
fn position(text: &str) -> Option<Position> {
    let (sequence, sub_sequence) = text.split_once('.')?;
    let sequence = sequence.trim_start_matches('0');
    let sequence = if sequence.is_empty() { "0" } else { sequence };
    Some(Position { sequence: sequence.parse().ok()?, sub_sequence: sub_sequence.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_window_it_is() {
        let digits = "0".repeat(54);
        let key = format!("orders/shardId-000000000003/{digits}07.00000000-{digits}10.00000003-0f9c.ndjson");
        let window = window(&key).unwrap();
        assert_eq!((window.stream.as_str(), window.shard.as_str()), ("orders", "shardId-000000000003"));
        assert_eq!((window.first.to_string(), window.last.to_string()), ("7.0".into(), "10.3".into()));
        let note = note_key(&key, "replay-1");
        assert_eq!(note, format!("orders/shardId-000000000003/.{digits}07.00000000-replay-1.json"));
        for other in [
            note.as_str(),
            "orders/shardId-000000000003/.07.0-10.3.ndjson.json",
            "orders/shardId-000000000003/readme.md",
            "orders/shardId-000000000003/a.0-b.0.ndjson",
            "orders/07.0-10.0.ndjson",
            "x/orders/shardId-000000000003/07.0-10.0.ndjson",
            "",
        ] {
            assert_eq!(super::window(other), None, "{other}");
        }
    }
}
