//! Objects in S3, or files in a directory, through one code path.
//!
//! ```text
//! emit(batch):
//!     body = encode(batch.items)                   // NDJSON or raw; what cannot be encoded is rejected
//!     put(key(batch), compress(body), create-only) // the key follows from the window's positions
//!     if it exists: the same content counts as delivered, other content is an error
//!     sync the file and its directories            // only a directory needs it
//! ```
//!
//! The key is `PREFIX/STREAM/SHARD/FIRST-LAST.ndjson`, each position as `SEQUENCE.SUBSEQUENCE` padded with zeros, so that
//! a listing gives a shard's objects in stream order.
//!
//! In a directory an object is written to `KEY#1` first and linked when it is complete. What a killed writer left there
//! goes when its window is sent again; of dead letters, whose names are never met again, it stays and may be deleted.
//!
//! Limits: one object holds one window and is put in one request (S3 takes 5 GB); at most 16 MiB of records are
//! being encoded at a time, or one larger window alone.

mod config;
mod credentials;
mod directory;
mod emitter;
mod error;
mod format;
mod gzip;
mod key;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(test)]
mod tests;

pub use config::{Compression, Format, Naming, S3Config};
pub use emitter::S3Emitter;
