//! An entry of the log: a head of fixed length, the event as JSON, and its records' bytes as they are.

use std::io;

use serde::Serialize;

/// The format that is written. Format 1 had no checksum of its own in an entry's head; formats 1 and 2 had no comma behind
/// a record; formats 1 to 3 did not say what a stream's numbers begin above, nor where its next record goes.
pub(super) const FORMAT: u16 = 4;
/// The first format with a comma behind each record.
pub(super) const FORMAT_WITH_COMMAS: u16 = 3;
const HEAD_BYTES: usize = 16;

/// What stands before an entry's bytes: both lengths, their bytes' checksum, and the checksum of these three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) event_bytes: u32,
    pub(super) json_bytes: u32,
    checksum: u32,
}

/// Bytes of a head in a file of that format.
pub(super) fn head_bytes(format: u16) -> usize {
    if format == 1 { HEAD_BYTES - 4 } else { HEAD_BYTES }
}

impl Head {
    pub(super) fn of(event: &[u8], json: &[u8]) -> io::Result<Self> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        Ok(Self { event_bytes: length(event)?, json_bytes: length(json)?, checksum: checksum(&[event, json]) })
    }

    pub(super) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let (numbers, own_checksum) = bytes.split_at_mut(HEAD_BYTES - 4);
        for (slot, number) in numbers.chunks_exact_mut(4).zip([self.event_bytes, self.json_bytes, self.checksum]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        own_checksum.copy_from_slice(&checksum(&[numbers]).to_le_bytes());
        bytes
    }

    /// The head that the bytes are, unless they were changed. In format 1 only a few changes show.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(4).map(|four| <[u8; 4]>::try_from(four).map_or(0, u32::from_le_bytes));
        let head = Self { event_bytes: numbers.next()?, json_bytes: numbers.next()?, checksum: numbers.next()? };
        let is_whole = numbers.next().is_none_or(|own| own == checksum(&[bytes.split_at(HEAD_BYTES - 4).0]));
        // No event is empty, but a page that was never written is.
        (is_whole && head.event_bytes > 0).then_some(head)
    }

    pub(super) fn body_bytes(self) -> u64 {
        u64::from(self.event_bytes) + u64::from(self.json_bytes)
    }

    pub(super) fn fits(self, event: &[u8], json: &[u8]) -> bool {
        self.checksum == checksum(&[event, json])
    }
}

/// An event as the log has it: the bytes of its entry, which go into the file one after the other.
pub(super) struct Entry<'a> {
    head: [u8; HEAD_BYTES],
    event: Vec<u8>,
    json: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry of an event and of its records' JSON.
    pub(super) fn new(event: &impl Serialize, json: &'a [u8]) -> io::Result<Self> {
        let event = serde_json::to_vec(event)?;
        Ok(Self { head: Head::of(&event, json)?.to_bytes(), event, json })
    }

    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [&self.head, &self.event, self.json]
    }
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}
