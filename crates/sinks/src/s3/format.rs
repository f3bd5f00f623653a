//! Items to the content of an object.

use bytes::Bytes;
use kinesink_core::Reject;
use memchr::memchr;
use serde::de::IgnoredAny;

use super::config::Format;

/// Values from this size on are handed on as they are; smaller ones are copied together, because each chunk, and the
/// newline between two, costs a system call.
const SHARED_BYTES_MIN: usize = 64 * 1024;
/// How much is copied together.
const BLOCK_BYTES: usize = 256 * 1024;

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

    /// Adds the next item.
    ///
    /// # Errors
    /// The format cannot hold it.
    pub(super) fn push(&mut self, value: &Bytes) -> Result<(), Reject> {
        match self.format {
            Format::Ndjson => self.push_line(value)?,
            Format::Raw => self.append(value),
            Format::LengthDelimited => {
                let length = u32::try_from(value.len()).map_err(|_| Reject::new("a record of more than 4 GiB"))?;
                self.copy(&length.to_be_bytes());
                self.append(value);
            }
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

    /// What became complete since the last call.
    pub(super) fn take_chunks(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.chunks)
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
