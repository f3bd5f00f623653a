//! What may be changed in a lease from outside, and what undoes it. Pure.

use bytes::Bytes;

use super::{Lease, Place};
use crate::lease::{Change, LeaseRow, Pending};

/// A change of one lease by somebody who does not hold it. Each takes the lease off its owner, who is fenced: Java's
/// owner takes a counter that is one ahead for its own write as long as the owner is still its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEdit {
    /// The lease stands elsewhere, and is nobody's: who takes it resumes there. A plan is dropped.
    Move(Place),
    /// The lease is this worker's no more, but nobody's; or its next owner's where KCL 3.x is handing it over.
    Release(String),
    /// The announced window stays so, with another state beside it; the lease is nobody's: who takes it finds that.
    Announce(Bytes),
    /// The lease is this worker's, which has not asked for it: undoes a release.
    Assign(String),
}

impl LeaseEdit {
    /// What leads back from `before`, if the state that was announced there does not matter or is known. The owner that
    /// a move has taken the lease off takes it again by itself.
    #[must_use]
    pub fn undo(&self, before: &Lease) -> Option<Self> {
        Some(match self {
            Self::Move(_) => Self::Move(before.place()),
            Self::Announce(_) => Self::Announce(before.plan()?.state?),
            Self::Release(worker) => Self::Assign(worker.clone()),
            Self::Assign(worker) => Self::Release(worker.clone()),
        })
    }

    pub(super) fn row_after(&self, before: &LeaseRow) -> LeaseRow {
        let free = LeaseRow {
            owner: None,
            checkpoint_owner: None,
            mark: None,
            wish: None,
            counter: before.counter + 1,
            ..before.clone()
        };
        match self {
            Self::Move(Place { checkpoint, start }) => {
                LeaseRow { checkpoint: *checkpoint, start: *start, switches: 0, pending: None, ..free }
            }
            Self::Announce(state) => {
                let pending = before.pending.clone().map(|pending| Pending { state: Some(state.clone()), ..pending });
                LeaseRow { pending, ..free }
            }
            Self::Release(_) => {
                let next = before.checkpoint_owner.as_ref().and(before.owner.clone());
                LeaseRow { owner: next, ..free }
            }
            Self::Assign(worker) => {
                let switches = before.switches + u64::from(before.owner.as_ref().is_some_and(|owner| owner != worker));
                LeaseRow { owner: Some(worker.clone()), switches, ..free }
            }
        }
    }

    pub(super) fn change(&self, before: &LeaseRow) -> Change {
        Change::rewriting(&self.row_after(before))
    }
}
