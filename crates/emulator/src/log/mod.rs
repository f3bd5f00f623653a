//! The state on disk: one append-only file of events.
//!
//! An event is in the file before its request is answered, so a process that is killed loses nothing acknowledged.
//! A machine that loses power may lose the last moments: the file is not synced per event.
//!
//! The file is a header (magic, format, the kinesink version that wrote it), then per event: length of the event,
//! length of its records' bytes, checksum of both, then both. All numbers are little-endian. Format 1.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::Error;
use crate::stream::Streams;
use crate::stream::event::Event;

const MAGIC: &[u8; 16] = b"kinesink-kinesis";
const FORMAT: u16 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");
const ENTRY_HEAD_BYTES: usize = 12;

/// The open log.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// Bytes of whole entries; whatever a failed write left behind this is overwritten.
    len_bytes: u64,
    /// Set when a failed write could not be undone.
    broken: bool,
}

/// What stands before an entry's bytes.
struct EntryHead {
    event_bytes: u32,
    json_bytes: u32,
    checksum: u32,
}

impl EntryHead {
    fn to_bytes(&self) -> [u8; ENTRY_HEAD_BYTES] {
        let mut bytes = [0; ENTRY_HEAD_BYTES];
        for (slot, number) in bytes.chunks_exact_mut(4).zip([self.event_bytes, self.json_bytes, self.checksum]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; ENTRY_HEAD_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            event_bytes: u32::from_le_bytes([a, b, c, d]),
            json_bytes: u32::from_le_bytes([e, f, g, h]),
            checksum: u32::from_le_bytes([i, j, k, l]),
        }
    }

    fn body_bytes(&self) -> u64 {
        u64::from(self.event_bytes) + u64::from(self.json_bytes)
    }
}

fn checksum(event: &[u8], json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(event);
    hasher.update(json);
    hasher.finalize()
}

impl Log {
    /// Opens the file, made if absent, applies its events, and cuts off an entry that a killed process left unfinished.
    pub(crate) fn open(directory: &Path, name: &str, streams: &mut Streams) -> Result<Self, Error> {
        std::fs::create_dir_all(directory).map_err(|source| Error::Io {
            action: "make the directory",
            path: directory.to_owned(),
            source,
        })?;
        let path = directory.join(name);
        let io = |action| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(io("open"))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse { path: path.clone() },
            TryLockError::Error(source) => Error::Io { action: "lock", path: path.clone(), source },
        })?;
        let file_bytes = file.metadata().map_err(io("read"))?.len();
        let mut reader = Reader { path: &path, input: BufReader::new(&file), file_bytes, at_byte: 0 };
        let header = header();
        if reader.header(&header)? {
            reader.events(streams)?;
        }
        let len_bytes = reader.at_byte;
        let mut log = Self { file, len_bytes, broken: false };
        log.cut().map_err(io("write"))?;
        if len_bytes == 0 {
            log.write(&[&header]).map_err(io("write"))?;
        }
        Ok(log)
    }

    /// Writes the event behind the others. After an error the file is as it was before.
    pub(crate) fn append(&mut self, event: &Event) -> io::Result<()> {
        let empty = Bytes::new();
        let json = if let Event::PutRecords { json, .. } = event { json } else { &empty };
        let event = serde_json::to_vec(event)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let head =
            EntryHead { event_bytes: length(&event)?, json_bytes: length(json)?, checksum: checksum(&event, json) };
        self.write(&[&head.to_bytes(), &event, json])
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed and could not be undone; restart"));
        }
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        if written.is_err() {
            self.broken = self.cut().is_err();
        } else {
            self.len_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        written
    }

    /// Cuts off whatever follows the last whole entry.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len_bytes)?;
        self.file.seek(SeekFrom::Start(self.len_bytes))?;
        Ok(())
    }
}

fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(FORMAT.to_le_bytes());
    header.extend(u8::try_from(VERSION.len()).unwrap_or(u8::MAX).to_le_bytes());
    header.extend(VERSION.bytes().take(usize::from(u8::MAX)));
    header
}

/// Reads a file from its start, and knows how much of it was whole.
struct Reader<'a> {
    path: &'a PathBuf,
    input: BufReader<&'a File>,
    file_bytes: u64,
    at_byte: u64,
}

impl Reader<'_> {
    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    /// The next bytes, or nothing if the file ends before.
    fn bytes(&mut self, count: u64) -> Result<Option<Vec<u8>>, Error> {
        let Ok(length) = usize::try_from(count) else { return Ok(None) };
        if self.file_bytes - self.at_byte < count {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        let read = self.input.read_exact(&mut bytes);
        read.map_err(|source| Error::Io { action: "read", path: self.path.clone(), source })?;
        self.at_byte += count;
        Ok(Some(bytes))
    }

    /// Whether there is a header. A new file, or one whose first write was cut short, has none.
    fn header(&mut self, expected: &[u8]) -> Result<bool, Error> {
        let known = MAGIC.len() + 3;
        let Some(start) = self.bytes(known as u64)? else {
            let all = self.bytes(self.file_bytes)?.unwrap_or_default();
            self.at_byte = 0;
            return if expected.starts_with(&all) { Ok(false) } else { Err(self.damaged("it is something else")) };
        };
        let (magic, rest) = start.split_at(MAGIC.len());
        let &[low, high, version_bytes] = rest else { return Err(self.damaged("it is something else")) };
        if magic != MAGIC {
            return Err(self.damaged("it is something else"));
        }
        let Some(version) = self.bytes(u64::from(version_bytes))? else {
            self.at_byte = 0;
            return Ok(false);
        };
        let format = u16::from_le_bytes([low, high]);
        if format > FORMAT {
            let written_by = String::from_utf8_lossy(&version).into_owned();
            return Err(Error::NewerFormat { path: self.path.clone(), format, readable: FORMAT, written_by });
        }
        Ok(true)
    }

    /// Applies entry after entry, up to the end or to one that is not whole.
    fn events(&mut self, streams: &mut Streams) -> Result<(), Error> {
        loop {
            let start = self.at_byte;
            let Some(event) = self.event()? else {
                if start < self.file_bytes {
                    let lost_bytes = self.file_bytes - start;
                    tracing::warn!(path = %self.path.display(), lost_bytes, "cut off an unfinished entry of the log");
                }
                self.at_byte = start;
                return Ok(());
            };
            streams.apply(event).map_err(|error| self.damaged(format!("at byte {start}, it changes {error}")))?;
        }
    }

    /// The next event, or nothing if the file ends before it does.
    fn event(&mut self) -> Result<Option<Event>, Error> {
        let start = self.at_byte;
        let Some(head) = self.bytes(ENTRY_HEAD_BYTES as u64)? else { return Ok(None) };
        let head = EntryHead::from_bytes(<[u8; ENTRY_HEAD_BYTES]>::try_from(head).unwrap_or_default());
        if self.file_bytes - self.at_byte < head.body_bytes() {
            return Ok(None);
        }
        let event = self.bytes(u64::from(head.event_bytes))?.unwrap_or_default();
        let stored = self.bytes(u64::from(head.json_bytes))?.unwrap_or_default();
        if checksum(&event, &stored) != head.checksum {
            // A killed process leaves a short entry; only a lost page at the very end can look like this.
            let at_end = self.at_byte == self.file_bytes;
            return if at_end { Ok(None) } else { Err(self.damaged(format!("its entry at byte {start} was changed"))) };
        }
        let mut event = serde_json::from_slice(&event)
            .map_err(|error| self.damaged(format!("its entry at byte {start} cannot be read: {error}")))?;
        if let Event::PutRecords { json, .. } = &mut event {
            *json = Bytes::from(stored);
        }
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_cannot_be_undone_stops_all_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, header()).unwrap();
        // Opened for reading only, so that neither writing nor cutting works.
        let mut log = Log { file: File::open(&path).unwrap(), len_bytes: header().len() as u64, broken: false };
        let event = || Event::DeleteStream { stream: "s".to_owned() };
        assert!(log.append(&event()).is_err());
        assert!(log.append(&event()).unwrap_err().to_string().contains("restart"));
        assert_eq!(std::fs::read(&path).unwrap(), header());
    }
}
