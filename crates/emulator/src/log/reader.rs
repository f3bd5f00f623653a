//! Reading a log from its start. What a killed process or a machine without power leaves at the end is told apart from
//! damage, behind which there may be acknowledged changes: that is never cut off.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use bytes::Bytes;

use super::entry::{FORMAT, FORMAT_WITH_COMMAS, Head, head_bytes};
use super::{MAGIC, header};
use crate::error::Error;
use crate::stream::Streams;
use crate::stream::event::Event;

/// No entry is longer: a request is at most 16 MiB, and some hundred bytes are added to each of its 500 records.
const ENTRY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Reads a file from its start, and knows how much of it was whole.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: &'a File,
    input: BufReader<&'a File>,
    file_bytes: u64,
    pub(super) at_byte: u64,
    pub(super) format: u16,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &'a Path, file: &'a File) -> Result<Self, Error> {
        let file_bytes = file.metadata().map_err(|source| read_failed(path, source))?.len();
        Ok(Self { path, file, input: BufReader::new(file), file_bytes, at_byte: 0, format: FORMAT })
    }

    /// Reads the header. A new file, or one whose first write was cut short, has none: then nothing was read.
    pub(super) fn header(&mut self) -> Result<(), Error> {
        let known = MAGIC.len() + 3;
        let Some(start) = self.bytes(known as u64)? else {
            let all = self.bytes(self.file_bytes)?.unwrap_or_default();
            self.at_byte = 0;
            return if header().starts_with(&all) { Ok(()) } else { Err(self.damaged("it is something else")) };
        };
        let (magic, rest) = start.split_at(MAGIC.len());
        let &[low, high, version_bytes] = rest else { return Err(self.damaged("it is something else")) };
        if magic != MAGIC {
            return Err(self.damaged("it is something else"));
        }
        let Some(version) = self.bytes(u64::from(version_bytes))? else {
            self.at_byte = 0;
            return Ok(());
        };
        self.format = u16::from_le_bytes([low, high]);
        if self.format > FORMAT {
            let (path, written_by) = (self.path.to_owned(), String::from_utf8_lossy(&version).into_owned());
            return Err(Error::NewerFormat { path, format: self.format, readable: FORMAT, written_by });
        }
        Ok(())
    }

    /// Applies entry after entry, up to the end or to one that was not finished.
    pub(super) fn events(&mut self, streams: &mut Streams) -> Result<(), Error> {
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
        let Some(head) = self.bytes(head_bytes(self.format) as u64)? else { return Ok(None) };
        let Some(head) = Head::from_bytes(&head) else { return self.unfinished_if_unwritten(start) };
        if self.file_bytes - self.at_byte < head.body_bytes() {
            let is_damaged = self.format == 1 && self.is_followed(start)?;
            return if is_damaged { Err(self.damaged_entry(start)) } else { Ok(None) };
        }
        let event = self.bytes(u64::from(head.event_bytes))?.unwrap_or_default();
        let json = self.bytes(u64::from(head.json_bytes))?.unwrap_or_default();
        if !head.fits(&event, &json) {
            return self.unfinished_if_unwritten(start);
        }
        let mut event: Event = serde_json::from_slice(&event)
            .map_err(|error| self.damaged(format!("its entry at byte {start} cannot be read: {error}")))?;
        if self.format < FORMAT_WITH_COMMAS {
            event.set_json_without_commas(&json);
        } else {
            event.set_json(Bytes::from(json));
        }
        Ok(Some(event))
    }

    /// Nothing, if the entry that was just read is in pages that never reached the disk: these are zeros, up to the end
    /// of the file. No entry ends with a zero.
    fn unfinished_if_unwritten(&mut self, start: u64) -> Result<Option<Event>, Error> {
        let zeros_from = self.zeros_from(start).map_err(|source| read_failed(self.path, source))?;
        if zeros_from < self.at_byte { Ok(None) } else { Err(self.damaged_entry(start)) }
    }

    /// Where the zeros begin that the file ends with.
    fn zeros_from(&self, start: u64) -> io::Result<u64> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(start))?;
        let mut input = BufReader::new(file);
        let (mut at_byte, mut zeros_from) = (start, start);
        loop {
            let bytes = input.fill_buf()?;
            let count = bytes.len();
            if count == 0 {
                return Ok(zeros_from);
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                zeros_from = at_byte + last as u64 + 1;
            }
            at_byte += count as u64;
            input.consume(count);
        }
    }

    /// Whether there is a whole entry of format 1 somewhere behind this byte: then what is here was damaged, and is not
    /// the last, unfinished one.
    fn is_followed(&self, start: u64) -> Result<bool, Error> {
        let left = self.file_bytes - start;
        if left > ENTRY_BYTES_MAX {
            return Ok(true);
        }
        let mut file = self.file;
        let mut rest = Vec::new();
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.take(left).read_to_end(&mut rest))
            .map_err(|source| read_failed(self.path, source))?;
        Ok((1..rest.len()).any(|from| rest.get(from..).is_some_and(begins_with_an_entry)))
    }

    /// The next bytes, or nothing if the file ends before.
    fn bytes(&mut self, count: u64) -> Result<Option<Vec<u8>>, Error> {
        let Ok(length) = usize::try_from(count) else { return Ok(None) };
        if self.file_bytes - self.at_byte < count {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).map_err(|source| read_failed(self.path, source))?;
        self.at_byte += count;
        Ok(Some(bytes))
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.to_owned(), reason: reason.into() }
    }

    fn damaged_entry(&self, at_byte: u64) -> Error {
        Error::DamagedEntry { path: self.path.to_owned(), at_byte }
    }
}

/// Whether a whole entry of format 1 is at the start of the bytes.
fn begins_with_an_entry(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_at_checked(head_bytes(1)) else { return false };
    let Some(head) = Head::from_bytes(head) else { return false };
    let body = rest.split_at_checked(head.event_bytes as usize);
    body.is_some_and(|(event, rest)| {
        let json = rest.get(..head.json_bytes as usize);
        event.starts_with(b"{") && json.is_some_and(|json| head.fits(event, json))
    })
}

fn read_failed(path: &Path, source: io::Error) -> Error {
    Error::Io { action: "read", path: path.to_owned(), source }
}
