//! Objects in S3, or files in a directory, through one code path.
//!
//! ```text
//! emit(batch):
//!     for each partition of the batch's items:            // one, where the key has no fields or times
//!         body = compress(encode(items))                  // what the format cannot hold is rejected
//!         create(key(partition, window), body, contents)  // in parts where it is large; create-only either way
//!         if something is there: the same contents count as delivered, others are an error
//! ```
//!
//! The usual key is `PREFIX/STREAM/SHARD/FIRST-LAST.ndjson`, each position as `SEQUENCE.SUBSEQUENCE` padded with zeros, so
//! that a listing gives a shard's objects in stream order. What an object holds, it says in its metadata; in a directory, a
//! hidden file beside it says so.
//!
//! Limits: an object holds one window or a part of it; at most 16 MiB of records are being encoded at a time, or one larger
//! object alone. One that memory does not hold is read a piece at a time, and goes on in a file that nobody sees.

mod blocks;
mod bucket;
mod compressor;
mod config;
mod contents;
mod directory;
mod emitter;
mod encoding;
mod error;
mod format;
mod key;
mod lifecycle;
pub mod parquet;
mod pieces;
mod reader;
mod sifting;
mod store;
#[cfg(test)]
mod tests;
mod unknown_fields;
mod upload;

pub use config::{BucketSettings, Compression, Format, Naming, S3Config};
pub use emitter::S3Emitter;
pub use encoding::Encoding;
pub use key::{KeySettings, KeyTemplate, Late, LateTo};
pub use lifecycle::LeftUploads;
pub use reader::{S3Reader, Window};
pub use store::Listed;
