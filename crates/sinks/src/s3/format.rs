//! Items to the content of an object, and back to see whether two are the same.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use kinesink_core::{Item, Reject};
use memchr::memchr;
use serde::de::IgnoredAny;

use super::config::{Compression, Format};

/// Values from this size on are handed on as they are; smaller ones are copied together, because each chunk, and the
/// newline between two, costs a system call.
const SHARED_BYTES_MIN: usize = 64 * 1024;
/// How much is copied together.
const BLOCK_BYTES: usize = 256 * 1024;
/// A foreign gzip member adds at most this much to content that does not compress: 5 bytes in each 16 KiB, and a header.
const GZIP_OVERHEAD_BYTES: u64 = 4096;
/// How much is compared at a time.
const COMPARED_BYTES: usize = 16 * 1024;

/// The content of an object before compression, in chunks.
#[derive(Debug)]
pub(super) struct Body {
    format: Format,
    chunks: Vec<Bytes>,
    block: Vec<u8>,
}

impl Body {
    pub(super) fn new(format: Format) -> Self {
        Self { format, chunks: Vec::new(), block: Vec::new() }
    }

    /// The items in order, but for those that the format cannot hold.
    pub(super) fn of(format: Format, items: &[&Item<Bytes>]) -> Self {
        let mut body = Self::new(format);
        for item in items {
            let _left_out = body.push(&item.value);
        }
        body.close();
        body
    }

    /// Adds the next item.
    ///
    /// # Errors
    /// The format cannot hold it.
    pub(super) fn push(&mut self, value: &Bytes) -> Result<(), Reject> {
        match self.format {
            Format::Ndjson => self.push_line(value)?,
            Format::Raw => self.append(value),
        }
        Ok(())
    }

    /// Nothing more comes: the last chunk is complete too.
    pub(super) fn close(&mut self) {
        if !self.block.is_empty() {
            let mut block = std::mem::take(&mut self.block);
            if block.len() < BLOCK_BYTES / 2 {
                block.shrink_to_fit();
            }
            self.chunks.push(block.into());
        }
    }

    /// What is complete.
    pub(super) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// What became complete since the last call.
    pub(super) fn take_chunks(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.chunks)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    fn push_line(&mut self, value: &Bytes) -> Result<(), Reject> {
        let line = value.strip_suffix(b"\n").unwrap_or(value);
        if memchr(b'\n', line).is_some() {
            let mut compacted = compact(line)?;
            compacted.push(b'\n');
            self.append(&compacted.into());
        } else {
            self.append(value);
            if line.len() == value.len() {
                self.newline();
            }
        }
        Ok(())
    }

    fn append(&mut self, value: &Bytes) {
        if value.len() < SHARED_BYTES_MIN {
            self.copy(value);
        } else {
            self.close();
            self.chunks.push(value.clone());
        }
    }

    /// After a shared value it is a chunk of its own: a block for one byte would cost a block's memory.
    fn newline(&mut self) {
        if self.block.is_empty() {
            self.chunks.push(Bytes::from_static(b"\n"));
        } else {
            self.copy(b"\n");
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.block.len() + bytes.len() > BLOCK_BYTES {
            self.close();
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK_BYTES.max(bytes.len()));
        }
        self.block.extend_from_slice(bytes);
    }
}

/// JSON without the white space between its tokens, everything else byte by byte as it was.
fn compact(json: &[u8]) -> Result<Vec<u8>, Reject> {
    serde_json::from_slice::<IgnoredAny>(json)
        .map_err(|_| Reject::new("a newline inside a record that is not JSON"))?;
    let mut compacted = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string || !byte.is_ascii_whitespace() {
            compacted.push(byte);
        }
        if in_string && !escaped && byte == b'\\' {
            escaped = true;
            continue;
        }
        in_string ^= byte == b'"' && !escaped;
        escaped = false;
    }
    Ok(compacted)
}

/// Whether an object of this size could hold `body`: tells without reading it.
pub(super) fn may_hold(body: &Body, object_bytes: u64, compression: Compression) -> bool {
    match compression {
        Compression::None => object_bytes == body.bytes(),
        Compression::Gzip => object_bytes <= body.bytes() + body.bytes() / 1024 + GZIP_OVERHEAD_BYTES,
    }
}

/// Whether an object's bytes decode to exactly the chunks. Blocking where it is compressed.
pub(super) fn holds(object: &[u8], chunks: &[Bytes], compression: Compression) -> bool {
    match compression {
        Compression::None => reads_as(object, chunks),
        Compression::Gzip => reads_as(MultiGzDecoder::new(object), chunks),
    }
}

/// Reads no further than the first difference, so that a small object that decodes to a large one does no harm.
fn reads_as(mut content: impl Read, chunks: &[Bytes]) -> bool {
    let mut buffer = [0; COMPARED_BYTES];
    for expected in chunks.iter().flat_map(|chunk| chunk.chunks(COMPARED_BYTES)) {
        let Some(read) = buffer.get_mut(..expected.len()) else { return false };
        if content.read_exact(read).is_err() || read != expected {
            return false;
        }
    }
    matches!(content.read(&mut buffer), Ok(0))
}
