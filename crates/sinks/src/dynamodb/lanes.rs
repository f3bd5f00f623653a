//! How many requests are on their way at a time: fewer once a table has no room, more while it has.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{Throttle, Verdict};

/// So many keys that there is no room for are hot, and not a sign that there is none for any.
const HOT_KEYS_MAX: usize = 1_000;

/// What an answer says of the requests beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// There was room.
    Taken,
    /// There was none, whichever keys were written.
    NoRoom,
    /// There was none for the key of this hash; whether for others, the service does not say.
    NoRoomForOne(u64),
    /// Nothing: there was none for its own keys, or it failed otherwise.
    OfItsOwn,
}

impl Answer {
    pub(super) fn of<T>(result: &Result<T, Verdict>) -> Self {
        match result {
            Ok(_) | Err(Verdict::Refused(_) | Verdict::Unclear { .. }) => Self::Taken,
            Err(Verdict::Throttled { limit: Throttle::KeyRange, .. }) => Self::OfItsOwn,
            Err(Verdict::Throttled { .. }) => Self::NoRoom,
            Err(Verdict::Changed(_) | Verdict::Failed(_)) => Self::OfItsOwn,
        }
    }

    /// The same of a transaction of one key.
    pub(super) fn of_key<T>(result: &Result<T, Verdict>, key: u64) -> Self {
        match result {
            Err(Verdict::Throttled { limit: Throttle::KeyOrTable, .. }) => Self::NoRoomForOne(key),
            result => Self::of(result),
        }
    }
}

/// Requests that may be on their way at a time. A round of them that is taken adds one, and one that is not halves them, once for all
/// that were sent beside it. There is no room for any key, where there is none for many in a round that were not hot before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Limit {
    requests: usize,
    /// Of a round, so many were taken.
    taken: usize,
    /// How often it was halved.
    halvings: u64,
    /// Of a round, there was no room for these keys, which are not hot.
    short_keys: BTreeSet<u64>,
    /// There was no room for these keys in the round before.
    hot_keys: BTreeSet<u64>,
    /// Nor in this one.
    still_hot_keys: BTreeSet<u64>,
}

impl Limit {
    /// After an answer to what was sent when it had been halved so often.
    fn note(&mut self, answer: Answer, halvings: u64, requests_max: usize) {
        match answer {
            Answer::Taken => {
                self.taken += 1;
                if self.taken >= self.requests {
                    self.requests = (self.requests + 1).min(requests_max);
                    self.taken = 0;
                    self.know();
                    self.hot_keys = mem::take(&mut self.still_hot_keys);
                }
            }
            Answer::OfItsOwn => {}
            Answer::NoRoomForOne(key) if self.hot_keys.contains(&key) => drop(self.still_hot_keys.insert(key)),
            Answer::NoRoom | Answer::NoRoomForOne(_) if halvings != self.halvings => {}
            Answer::NoRoom => self.halve(),
            Answer::NoRoomForOne(key) => {
                self.short_keys.insert(key);
                if self.short_keys.len() >= self.many() {
                    self.know();
                    self.halve();
                }
            }
        }
    }

    /// A quarter of a round, and more than one.
    fn many(&self) -> usize {
        (self.requests / 4).max(2)
    }

    fn halve(&mut self) {
        self.requests = (self.requests / 2).max(1);
        self.taken = 0;
        self.halvings += 1;
        self.short_keys.clear();
    }

    /// Whichever limit it was: what meets it again, until the next round is over, is hot.
    fn know(&mut self) {
        let room = HOT_KEYS_MAX.saturating_sub(self.hot_keys.len());
        for key in mem::take(&mut self.short_keys).into_iter().take(room) {
            self.hot_keys.insert(key);
            self.still_hot_keys.insert(key);
        }
    }
}

/// Permits to send.
#[derive(Debug)]
pub(super) struct Lanes {
    permits: Semaphore,
    state: Mutex<State>,
    requests_max: usize,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// Permits that there are, taken or not. What is too many goes as it comes back.
    permits: usize,
}

impl Lanes {
    /// Begins with the most.
    pub(super) fn new(requests_max: usize) -> Self {
        let requests_max = requests_max.clamp(1, Semaphore::MAX_PERMITS);
        let limit = Limit { requests: requests_max, ..Limit::default() };
        let state = Mutex::new(State { limit, permits: requests_max });
        Self { permits: Semaphore::new(requests_max), state, requests_max }
    }

    /// Waits until a request may be sent. Cancel safe.
    pub(super) async fn enter(&self) -> Lane<'_> {
        let permit = self.permits.acquire().await.ok();
        let halvings = self.state.lock().unwrap_or_else(PoisonError::into_inner).limit.halvings;
        Lane { lanes: self, permit, halvings }
    }

    /// Requests that may be on their way now.
    pub(super) fn requests(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).limit.requests
    }
}

/// A permit to send one request. Dropped, it says nothing of how that went.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    permit: Option<SemaphorePermit<'a>>,
    halvings: u64,
}

impl Lane<'_> {
    pub(super) fn answered(self, answer: Answer) {
        let Lanes { permits, state, requests_max } = self.lanes;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.limit.note(answer, self.halvings, *requests_max);
        let most = state.limit.requests;
        if most > state.permits {
            permits.add_permits(most - state.permits);
            state.permits = most;
        } else {
            state.permits -= permits.forget_permits(state.permits - most);
        }
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let mut state = self.lanes.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.permits > state.limit.requests
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            state.permits -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Limit {
        fn after(&self, answer: Answer, halvings: u64, requests_max: usize) -> Self {
            let mut limit = self.clone();
            limit.note(answer, halvings, requests_max);
            limit
        }
    }

    #[test]
    fn a_limit_falls_by_half_once_for_what_was_sent_together_and_rises_by_one_in_a_round() {
        let mut limit = Limit { requests: 9, ..Limit::default() };
        let mut requests = |answer, halvings| {
            limit = limit.after(answer, halvings, 9);
            limit.requests
        };
        // Two that were sent before the limit fell, one after it, and one of another kind.
        assert_eq!([0, 0, 1].map(|halvings| requests(Answer::NoRoom, halvings)), [4, 4, 2]);
        assert_eq!(requests(Answer::OfItsOwn, 2), 2);
        // Rounds of 2, 3 and 4.
        let risen: Vec<_> = (0..9).map(|_| requests(Answer::Taken, 2)).collect();
        assert_eq!(risen, [2, 3, 3, 3, 4, 4, 4, 4, 5]);
        // What falls begins its round anew, and never falls below one.
        assert_eq!([2, 3, 4].map(|halvings| requests(Answer::NoRoom, halvings)), [2, 1, 1]);
        let risen: Vec<_> = (0..50).map(|_| requests(Answer::Taken, 5)).collect();
        assert_eq!([0, 34, 35, 49].map(|index| risen[index]), [2, 8, 9, 9], "{risen:?}");
    }

    #[test]
    fn keys_without_room_are_a_table_without_room_where_they_are_a_quarter_of_a_round() {
        for (requests, keys) in [(64, 16), (12, 3), (8, 2), (4, 2)] {
            let mut limit = Limit { requests, ..Limit::default() };
            for key in 1..keys {
                // One key is one, however often it is met.
                for _ in 0..5 {
                    limit = limit.after(Answer::NoRoomForOne(key), 0, 64);
                }
            }
            assert_eq!(limit.requests, requests, "{} keys", keys - 1);
            limit = limit.after(Answer::NoRoomForOne(keys), 0, 64);
            assert_eq!(limit.requests, requests / 2, "{keys} keys");
        }
    }

    #[test]
    fn two_hot_keys_in_a_round_slowed_all_lanes() {
        for requests_max in [4, 8, 64] {
            let mut limit = Limit { requests: requests_max, ..Limit::default() };
            for round in 0..50 {
                for key in [1, 2] {
                    limit = limit.after(Answer::NoRoomForOne(key), limit.halvings, requests_max);
                }
                limit = (0..limit.requests)
                    .fold(limit, |limit, _| limit.after(Answer::Taken, limit.halvings, requests_max));
                assert!(limit.halvings <= 1, "round {round} of {requests_max}: {limit:?}");
            }
            assert_eq!(limit.requests, requests_max);
        }
        // A table without room meets ever other keys.
        let mut limit = Limit { requests: 64, ..Limit::default() };
        for key in 0..1_000 {
            limit = limit.after(Answer::NoRoomForOne(key), limit.halvings, 64);
        }
        assert_eq!(limit.requests, 1);
    }

    #[tokio::test]
    async fn no_more_requests_are_on_their_way_than_the_limit_that_they_themselves_move() {
        let lanes = Lanes::new(4);
        let mut on_their_way = Vec::new();
        for _ in 0..4 {
            on_their_way.push(lanes.enter().await);
        }
        // All four find no room: that is one fall, and two of the four permits are not given again.
        on_their_way.drain(..).for_each(|lane| lane.answered(Answer::NoRoom));
        assert_eq!((lanes.requests(), lanes.permits.available_permits()), (2, 2));
        let (one, _two) = (lanes.enter().await, lanes.enter().await);
        assert!(futures::poll!(std::pin::pin!(lanes.enter())).is_pending());
        one.answered(Answer::OfItsOwn);
        assert_eq!((lanes.requests(), lanes.permits.available_permits()), (2, 1));
        // A round of two, one of three, and four is the most.
        for rises_to in [2, 3, 3, 3, 4, 4, 4, 4, 4] {
            lanes.enter().await.answered(Answer::Taken);
            assert_eq!(lanes.requests(), rises_to);
        }
        assert_eq!(lanes.permits.available_permits(), 3, "one is still on its way");
        drop(lanes.enter().await);
        assert_eq!(lanes.permits.available_permits(), 3);
    }
}
