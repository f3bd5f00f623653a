//! Records of one shard.
//!
//! - `cursor`: where to read next, and which iterator asks for it
//! - `gap`: what to do about a checkpoint whose record has left the stream
//! - `reader`: what a handler is given: fetches ahead, again and again until it succeeds
//! - `polling`: a fetch by GetRecords, at a `pace` that the shard takes
//! - `fan_out`: a fetch by SubscribeToShard, for the consumer of `registration`
//! - `reply`: a GetRecords reply as records, from `wire`, its JSON, in one of a few `texts`, to their `contents`
//! - `event`: an event of a subscription as records
//! - `stored`: a Kinesis record as user records

mod contents;
mod cursor;
mod event;
mod fan_out;
mod gap;
mod pace;
mod polling;
mod reader;
mod registration;
mod reply;
mod stored;
mod texts;
mod wire;

pub(crate) use cursor::Cursor;
pub use gap::BeyondRetention;
pub(crate) use reader::{Reader, ReaderSettings};
pub(crate) use registration::Registration;
pub(crate) use reply::Child;
pub(crate) use texts::Texts;
