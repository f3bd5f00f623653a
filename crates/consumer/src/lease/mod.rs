//! Leases: rows of a DynamoDB table that Java KCL reads and writes too.
//!
//! - `row`: what a row says
//! - `table`: reads and conditional writes
//! - `assignment`: which leases to take, a pure function of what was observed
//! - `held`: a lease that this worker holds; the one owner of its renewals and checkpoints

pub(crate) mod assignment;
mod held;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use held::{HeldLease, LeaseError};
pub(crate) use row::{HashRange, LeaseRow, child_ids};
pub(crate) use table::{Change, LeaseTable};
