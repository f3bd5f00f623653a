//! Records of one shard.
//!
//! - `cursor`: where to read next, and which iterator asks for it
//! - `reply`: a GetRecords reply as records, from `wire`, its JSON
//! - `polling`: the reader over GetRecords

mod cursor;
mod polling;
mod reply;
mod wire;

pub(crate) use cursor::Cursor;
pub(crate) use polling::{PollingReader, ReaderSettings};
pub(crate) use reply::Child;
