//! A local Kinesis: in process, or on a loopback port for any AWS SDK.

mod clock;
#[cfg(feature = "connector")]
mod connector;
mod emulator;
mod error;
mod faults;
mod log;
mod operations;
mod stream;
mod wire;

pub use clock::{Clock, ManualClock, SystemClock};
pub use emulator::{Builder, Emulator};
pub use error::Error;
pub use faults::{Fault, FaultKind, Faults};
