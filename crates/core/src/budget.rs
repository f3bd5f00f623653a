//! One byte budget for the whole process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The unit a budget is counted in: semaphores count to `u32`, memory does not.
const UNIT_BYTES: usize = 1024;

/// How often a reservation that still waits asks for another window.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The memory that records may hold, shared by every shard. Cheap to clone. First come, first served, so no shard
/// starves; while a reservation waits, the largest open window is asked to close.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total_bytes: usize,
    open: Open,
}

/// Those that hold anything, by their addresses: thousands of idle shards cost nothing.
type Open = Arc<Mutex<BTreeMap<usize, Weak<Holder>>>>;

/// A shard's window as the budget sees it.
#[derive(Debug)]
pub struct Holder {
    bytes: AtomicUsize,
    asked: Notify,
    open: Open,
    me: Weak<Self>,
}

/// A share of the budget. Dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`, rounded up to whole KiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, u32::MAX as usize);
        Self { units: Arc::new(Semaphore::new(units)), total_bytes: units * UNIT_BYTES, open: Arc::default() }
    }

    /// The whole budget.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// What is not reserved now.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }

    /// Waits until `bytes` are free and reserves them; more than the whole budget is taken as the whole. Cancel safe.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.total_bytes / UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let acquire = Arc::clone(&self.units).acquire_many_owned(units);
        tokio::pin!(acquire);
        loop {
            match timeout(Duration::ZERO, acquire.as_mut()).await {
                // The semaphore is never closed, so there is always a permit.
                Ok(permit) => return Reservation { permit: permit.ok() },
                Err(_) => self.ask_largest(),
            }
            if let Ok(permit) = timeout(ASK_AGAIN, acquire.as_mut()).await {
                return Reservation { permit: permit.ok() };
            }
        }
    }

    /// Reserves `bytes` if they are free now and nobody waits for some.
    #[must_use]
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units).ok()?;
        Some(Reservation { permit: Some(permit) })
    }

    /// A window, which is closed.
    #[must_use]
    pub fn holder(&self) -> Arc<Holder> {
        let open = Arc::clone(&self.open);
        Arc::new_cyclic(|me| Holder { bytes: AtomicUsize::new(0), asked: Notify::new(), open, me: Weak::clone(me) })
    }

    fn ask_largest(&self) {
        let list = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<Arc<Holder>> = list.values().filter_map(Weak::upgrade).collect();
        // One of these may be the last of its window by now, which takes the list when it is dropped.
        drop(list);
        if let Some(holder) = open.iter().max_by_key(|holder| holder.bytes.load(Ordering::Relaxed)) {
            holder.asked.notify_one();
        }
    }
}

impl Holder {
    /// Says how much the open window holds now: 0 once it is closed.
    pub fn set_bytes(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if (before > 0) != (bytes > 0) {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match bytes {
                0 => drop(open.remove(&self.me.as_ptr().addr())),
                _ => drop(open.insert(self.me.as_ptr().addr(), Weak::clone(&self.me))),
            }
        }
    }

    /// Resolves when the window should close because its memory is needed. Cancel safe.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

impl Reservation {
    /// Holds nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { permit: None }
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let keep = bytes.div_ceil(UNIT_BYTES);
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(keep);
            drop(permit.split(surplus));
        }
    }

    /// Adds another share to this one.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.permit, other.permit) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }

    /// How much is held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_reservation_gives_its_bytes_back() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let mut held = budget.reserve(8 * UNIT_BYTES).await;
        assert_eq!(budget.free_bytes(), 2 * UNIT_BYTES);
        held.shrink_to(3 * UNIT_BYTES);
        assert_eq!((held.bytes(), budget.free_bytes()), (3 * UNIT_BYTES, 7 * UNIT_BYTES));
        held.merge(budget.reserve(UNIT_BYTES).await);
        assert_eq!(held.bytes(), 4 * UNIT_BYTES);
        drop(held);
        assert_eq!(budget.free_bytes(), budget.total_bytes());
    }

    #[tokio::test]
    async fn what_is_tried_neither_waits_nor_holds_anything_where_there_is_not_enough() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let held = budget.try_reserve(3 * UNIT_BYTES);
        assert_eq!(held.as_ref().map(Reservation::bytes), Some(3 * UNIT_BYTES));
        assert!(budget.try_reserve(2 * UNIT_BYTES).is_none() && budget.try_reserve(9 * UNIT_BYTES).is_none());
        assert_eq!(budget.free_bytes(), UNIT_BYTES);
        assert!(budget.try_reserve(UNIT_BYTES).is_some(), "what was refused keeps nothing from others");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reservation_asks_the_largest_window_to_close() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let (small, large) = (budget.holder(), budget.holder());
        let held = budget.reserve(4 * UNIT_BYTES).await;
        small.set_bytes(1);
        large.set_bytes(2);
        let close = async {
            large.asked().await;
            drop(held);
        };
        let (reservation, ()) = tokio::join!(budget.reserve(1), close);
        assert_eq!(reservation.bytes(), UNIT_BYTES);
        assert!(timeout(Duration::from_secs(60), small.asked()).await.is_err(), "the small window was asked too");
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_was_closed_is_asked_once_it_is_open_again_and_is_known_once() {
        let budget = Budget::new(UNIT_BYTES);
        let (window, gone) = (budget.holder(), budget.holder());
        gone.set_bytes(7);
        drop(gone);
        for bytes in [1, 0, 2, 3, 0, 4] {
            window.set_bytes(bytes);
        }
        assert_eq!(budget.open.lock().unwrap().len(), 1);
        budget.ask_largest();
        window.asked().await;
        window.set_bytes(0);
        budget.ask_largest();
        assert!(timeout(Duration::from_secs(60), window.asked()).await.is_err(), "it holds nothing");
        assert!(budget.open.lock().unwrap().is_empty());
        window.set_bytes(5);
        budget.ask_largest();
        window.asked().await;
    }
}
