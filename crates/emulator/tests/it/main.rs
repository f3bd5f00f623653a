//! The emulator seen by a stock SDK client, in process and over a socket, and by clients that make mistakes.
#![expect(clippy::unwrap_used, reason = "helpers of tests may stop the test")]

/// Starting an emulator and talking to it.
mod client;
/// The life of records: put, read, limits, time.
mod records;
