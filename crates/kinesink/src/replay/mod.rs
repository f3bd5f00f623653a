//! What was delivered or refused before, again.
//!
//! - `letters`: dead letters, into the sinks that refused them
//! - `rounds`: what of them was sent before, as notes beside them
//! - `reading`: the letters, as many at a time as memory takes
//! - `range`: a time range of the stream, into another place

mod letters;
mod range;
mod reading;
mod report;
mod rounds;

pub use letters::replay;
pub use range::{TimeRange, replay_range};
pub use report::{FailedWindow, ReplayReport, Told};
