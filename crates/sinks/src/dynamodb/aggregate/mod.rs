//! Records that count up to an item for each key and time window, each record once.
//!
//! ```text
//! emit(window of a shard):
//!     for each record: its item's key, the time window that its time falls in, its numbers
//!     for each key and time window: how many, their sums, the lowest and the highest      // one fold, in exact decimals
//!     for each of those, one transaction:
//!         its item:  ADD how many and the sums; SET a lowest or highest that is one       // on the condition that it is
//!         its guard: this far, this shard is counted                                      // on the condition that it was not
//! ```
//!
//! A guard is an item of a second table, for each key, time window and shard: the place of the last record that the item counts.
//! It is written with the item or not at all. So whoever sends a window again, finds out by the guard alone what of it is counted:
//! the next owner of the shard, one that woke up late, or this one, whose answer was lost. A shard and its children have guards of
//! their own, which expire; the item has nothing of any shard. Windows are announced, so that one that is sent again has the keys and
//! numbers that it had, by whatever settings.
//!
//! What the table refuses has its guard say so before it becomes a dead letter, so that whoever sends the window again refuses it too. A
//! dead letter that is sent again is behind what that guard says, or will be: it has one of its own, and counts by itself.
//!
//! DynamoDB adds by itself, and compares by a condition alone. A lowest number only ever falls: where the condition shows that it is
//! below ours, it stays so, and the transaction is sent again without it. So each of them costs one more request at most.
//!
//! Limits: a transaction has one item and its guard. With more of them, one item that others write at the same time would hold up the
//! rest, and nothing were saved, as DynamoDB counts each item.

mod config;
mod counting;
mod fold;
mod guard;
mod patience;
mod refusals;
mod sending;
mod share;
mod transaction;
mod turns;

pub use config::Aggregate;
pub(super) use config::contradiction;
pub(super) use guard::guards;
pub(super) use turns::Turns;
