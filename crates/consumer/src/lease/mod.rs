//! Leases: rows of a DynamoDB table that Java KCL reads and writes too.
//!
//! - `row`: what a row says
//! - `table`: reads and conditional writes
//! - `assigned`: what a leader of KCL 3.x writes, and how its workers find it
//! - `edited`: a write of somebody who does not hold the lease
//! - `purpose`: what the table is asked for, counted
//! - `creation`: how a new table is made, and with what
//! - `rhythm`: how often others renew
//! - `view`: what one worker has seen of the table, and for how long
//! - `assignment`: which leases to take beside Java workers, a pure function of the view
//! - `fleet`: the same among workers of ours
//! - `division`: how many each of them is to hold, and which
//! - `term`: how long a lease lasts
//! - `held`: a lease that this worker holds; the one owner of its renewals and checkpoints

mod assigned;
pub(crate) mod assignment;
mod creation;
mod division;
mod edited;
pub(crate) mod fleet;
mod held;
mod purpose;
mod rhythm;
mod row;
mod table;
mod term;
#[cfg(test)]
mod tests;
mod view;

pub use creation::{Billing, TableOptions};
pub(crate) use held::{HeldLease, LeaseError};
pub(crate) use purpose::Purpose;
pub(crate) use rhythm::Rhythm;
pub(crate) use row::{HashRange, Item, KEY, LeaseRow, Pending, THROUGHPUT, Wish, child_ids, number, text};
pub(crate) use table::{Change, LeaseTable, Scan};
pub(crate) use term::Term;
pub(crate) use view::View;
