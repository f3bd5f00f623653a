//! What was delivered or refused before, again.
//!
//! - `letters`: dead letters, into the sinks that refused them
//! - `range`: a time range of the stream, into another place

mod letters;
mod range;

pub use letters::{ReplayReport, replay};
pub use range::{TimeRange, replay_range};
