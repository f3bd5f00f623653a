//! Bytes that are written one after the other, kept in blocks: a vector that grows would be copied, and be twice as large.

use std::io::{self, Write};

use bytes::Bytes;

const BLOCK_BYTES: usize = 256 * 1024;

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Blocks {
    pub(super) fn close(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.open.shrink_to_fit();
            self.full.push(self.open.into());
        }
        self.full
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.len() == BLOCK_BYTES {
            self.full.push(std::mem::take(&mut self.open).into());
        }
        if self.open.capacity() == 0 {
            self.open.reserve_exact(BLOCK_BYTES);
        }
        let count = bytes.len().min(BLOCK_BYTES - self.open.len());
        self.open.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
