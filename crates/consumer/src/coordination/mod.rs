//! KCL 3.x: leases are not taken but assigned, by a worker that the others elect.
//!
//! - `version`: which algorithm an application uses, by its row `Migration3.0`
//! - `tables`: where rows of KCL 3.x are, and how they are read and written
//! - `report`: that a worker is alive, `WORKER_METRIC_STATS`
//! - `leader_lock`: who leads
//! - `assignment`: what a leader does in one round, a pure function
//! - `keeper`: the task that keeps all of that up to date beside the worker's loop
//!
//! An application without these rows is left without them, unless the setting says otherwise: workers of KCL 1.x and
//! 2.x take them for broken leases.

mod assignment;
mod keeper;
mod leader_lock;
mod report;
mod tables;
mod version;

pub(crate) use self::assignment::{HANDOFF_TIMEOUT, Leading, Moves, Round};
pub(crate) use self::keeper::{Coordinator, Keeper, Standing};
pub(crate) use self::leader_lock::Role;
pub(crate) use self::report::Report;

/// Who decides which worker holds which lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Coordination {
    /// As the application's rows say. A new application gets lease rows only, and its workers divide the leases among
    /// themselves; one of KCL 3.x stays one.
    #[default]
    Auto,
    /// A new application becomes one of KCL 3.x: a leader assigns. From the first start on, workers of KCL 1.x and 2.x
    /// cannot take leases of its table any more.
    Kcl3,
}
