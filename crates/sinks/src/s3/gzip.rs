//! gzip beside the encoding, piece by piece: neither the content nor the object is ever one piece of memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression as Level, GzBuilder};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// How many chunks may wait for the compressor.
const CHUNKS_AHEAD_MAX: usize = 2;
/// The object's bytes are kept in blocks of this size: a vector that grows would be copied, and be twice as large.
const BLOCK_BYTES: usize = 256 * 1024;

/// A compressor on a thread of its own, since a MiB takes tens of milliseconds. Dropped, it ends after the chunk that it
/// is at.
#[derive(Debug)]
pub(super) struct Gzip {
    chunks: mpsc::Sender<Bytes>,
    blocks: JoinHandle<io::Result<Vec<Bytes>>>,
}

impl Gzip {
    pub(super) fn start() -> Self {
        let (chunks, mut received) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let blocks = spawn_blocking(move || compress(std::iter::from_fn(|| received.blocking_recv())));
        Self { chunks, blocks }
    }

    /// Takes the next chunk once there is room.
    pub(super) async fn write(&self, chunk: Bytes) {
        // A compressor that has ended says why when it is finished.
        let _ended = self.chunks.send(chunk).await;
    }

    /// The object, in blocks.
    ///
    /// # Errors
    /// What ended the compressor.
    pub(super) async fn finish(self) -> io::Result<Vec<Bytes>> {
        drop(self.chunks);
        self.blocks.await.map_err(io::Error::other)?
    }
}

/// Compresses the chunks to one gzip member. Blocking.
pub(super) fn compress(chunks: impl Iterator<Item = Bytes>) -> io::Result<Vec<Bytes>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Blocks::default(), Level::default());
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    Ok(encoder.finish()?.close())
}

#[derive(Debug, Default)]
struct Blocks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Blocks {
    fn close(mut self) -> Vec<Bytes> {
        self.open.shrink_to_fit();
        self.full.push(self.open.into());
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
