//! The pipeline of one shard against a reader, a checkpointer and emitters that fail as they are told, on a paused clock.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper that cannot go on has found a bug")]

mod commits;
mod contracts;
mod fakes;
mod halts;
mod lives;
mod model;
mod plans;
mod replay;
mod spilled_letters;
mod spilled_plans;
mod spills;
mod windows;
