//! Leases: rows of a DynamoDB table that Java KCL reads and writes too.
//!
//! - `row`: what a row says
//! - `table`: reads and conditional writes
//! - `view`: what one worker has seen of the table, and for how long
//! - `assignment`: which leases to take beside Java workers, a pure function of the view
//! - `fleet`: the same among workers of ours
//! - `held`: a lease that this worker holds; the one owner of its renewals and checkpoints

pub(crate) mod assignment;
pub(crate) mod fleet;
mod held;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use held::{HeldLease, LeaseError};
pub(crate) use row::{HashRange, LeaseRow, Wish, child_ids};
pub(crate) use table::{Change, LeaseTable};
pub(crate) use view::View;
