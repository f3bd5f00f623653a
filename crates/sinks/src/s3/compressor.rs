//! Compression beside the encoding, piece by piece: neither the content nor the object is ever one piece of memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{Compression as GzipLevel, GzBuilder};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::blocks::{Blocks, Encoded, Overflow};
use super::config::Compression;

/// How many chunks may wait for the compressor.
const CHUNKS_AHEAD_MAX: usize = 2;

/// A compressor on a thread of its own, since a MiB takes tens of milliseconds. Dropped, it ends after the chunk that it
/// is at.
#[derive(Debug)]
pub(super) struct Compressor {
    chunks: mpsc::Sender<Bytes>,
    encoded: JoinHandle<io::Result<Encoded>>,
}

impl Compressor {
    /// None where nothing is compressed and memory takes it all.
    pub(super) fn start(compression: Compression, overflow: Option<Overflow>) -> Option<Self> {
        let compress = match compression {
            Compression::None if overflow.is_none() => return None,
            Compression::None => plain,
            Compression::Gzip => gzip,
            Compression::Zstd => zstd,
        };
        let (chunks, mut received) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let blocks = Blocks::new(overflow);
        let encoded = spawn_blocking(move || compress(&mut std::iter::from_fn(|| received.blocking_recv()), blocks));
        Some(Self { chunks, encoded })
    }

    /// Takes the next chunk once there is room.
    pub(super) async fn write(&self, chunk: Bytes) {
        // A compressor that has ended says why when it is finished.
        let _ended = self.chunks.send(chunk).await;
    }

    /// The object.
    ///
    /// # Errors
    /// What ended the compressor.
    pub(super) async fn finish(self) -> io::Result<Encoded> {
        drop(self.chunks);
        self.encoded.await.map_err(io::Error::other)?
    }
}

/// The chunks as they are. Blocking.
fn plain(chunks: &mut dyn Iterator<Item = Bytes>, mut out: Blocks) -> io::Result<Encoded> {
    for chunk in chunks {
        out.write_all(&chunk)?;
    }
    Ok(out.close())
}

/// One gzip member, with nothing in its header that differs from one run to the next. Blocking.
pub(super) fn gzip(chunks: &mut dyn Iterator<Item = Bytes>, out: Blocks) -> io::Result<Encoded> {
    let mut encoder = GzBuilder::new().mtime(0).write(out, GzipLevel::default());
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    Ok(encoder.finish()?.close())
}

/// One zstd frame, with a checksum. Blocking.
pub(super) fn zstd(chunks: &mut dyn Iterator<Item = Bytes>, out: Blocks) -> io::Result<Encoded> {
    let mut encoder = zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    Ok(encoder.finish()?.close())
}
