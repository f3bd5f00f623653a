//! End to end: the real binary, real sockets, real files.
//!
//! - `help`: every `--help` against its golden file
//! - `demo`: the main job, and its verification of tampered objects
//! - `dynamodb`: the latest state of keys in a table
//! - `fan_out`: enhanced fan-out, and back to polling
//! - `fleet`: several workers of one application
//! - `commit_faults`: a crash, a lost answer and a pause after each step of a commit
//! - `determinism`: the same stream gives the same objects, whoever reads it
//! - `run`: drain, restart, resharding, signals, exit codes
//! - `aggregates`: numbers of each key and minute in a table
//! - `bad_input`: what a person mistypes or forgets
//! - `unmet`: settings that are allowed and that no record meets
//! - `bucket`: objects in a bucket instead of a directory
//! - `files_closed`: why files are not larger
//! - `faults`: throttles, expired iterators, cut connections; full and read-only disks have a target of their own
//! - `leases`: the lease table, shown and edited
//! - `kills`: kill -9 at seeded times under load
//! - `local_kills`: the same of `kinesink local DIR`
//! - `local_disk`: a `kinesink local DIR` that is killed inside the rewrite of its log
//! - `throttled_table`: a lease table without capacity
//! - `table_pages`: the files of `docs/dynamodb.md`
//! - `spills`: windows that are larger than memory
//! - `spilled_letters`: more of them refused than is kept in mind, and what fails between the object and its letters
//! - `replay`, `replay_bucket`, `replay_rounds`: dead letters and time ranges again, once
//! - `put`, `tail`: the sample producer and the reader
//! - `tools`: `local`, `check`, completions, readers that leave, the examples
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what broke by panicking")]

#[cfg(feature = "planted-faults")]
mod aggregates;
mod bad_input;
mod bucket;
#[cfg(feature = "planted-faults")]
mod commit_faults;
mod demo;
mod determinism;
mod dynamodb;
mod fan_out;
mod faults;
mod files_closed;
mod fleet;
mod harness;
mod help;
mod kills;
mod leases;
mod local_disk;
mod local_kills;
mod local_s3;
mod local_s3_kills;
mod partitions;
mod proxy;
mod put;
mod replay;
mod replay_bucket;
mod replay_rounds;
mod run;
#[cfg(feature = "planted-faults")]
mod spilled_letters;
mod spills;
mod table_pages;
mod tail;
mod throttled_table;
mod tools;
mod unmet;
