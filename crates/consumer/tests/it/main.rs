//! Whole consumers on the local Kinesis and the local DynamoDB, both in process, on a paused clock.
//!
//! - `world`: a stream, a lease table, clients, and a clock that all of them share
//! - `dynamo`: the lease table's HTTP client, with faults and a log
//! - `dumps`: lease tables that Java wrote
//! - `recorder`: a handler that notes what it was given
//! - `retrieval`: what both ways to fetch promise
//! - the rest are tests, a file a subject

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails as a test does")]

mod clocks;
mod costs;
mod delivery;
mod denied;
mod dumps;
mod dynamo;
mod earlier_stream;
mod editing;
mod faults;
mod fleet;
mod foreign_rows;
mod kcl3;
mod leases;
mod leaving;
mod odd_rows;
mod recorder;
mod resharding;
mod restart;
mod retention;
mod retrieval;
mod settings;
mod settling;
mod shard_sync;
mod world;
