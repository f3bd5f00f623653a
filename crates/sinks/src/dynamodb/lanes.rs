//! How many requests are on their way at a time: fewer once a table has no room, more while it has.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{Throttle, Verdict};

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
            Ok(_) | Err(Verdict::Refused(_)) => Self::Taken,
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
/// that were sent beside it. There is no room for any key, where there is none for two of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    requests: usize,
    /// Of a round, so many were taken.
    taken: usize,
    /// How often it was halved.
    halvings: u64,
    /// Of a round, there was no room for this key.
    short_key: Option<u64>,
}

impl Limit {
    /// After an answer to what was sent when it had been halved so often.
    fn after(self, answer: Answer, halvings: u64, requests_max: usize) -> Self {
        match answer {
            Answer::Taken if self.taken + 1 < self.requests => Self { taken: self.taken + 1, ..self },
            Answer::Taken => {
                Self { requests: (self.requests + 1).min(requests_max), taken: 0, short_key: None, ..self }
            }
            Answer::OfItsOwn => self,
            Answer::NoRoom | Answer::NoRoomForOne(_) if halvings != self.halvings => self,
            Answer::NoRoomForOne(key) if self.short_key.is_none_or(|other| other == key) => {
                Self { short_key: Some(key), ..self }
            }
            Answer::NoRoom | Answer::NoRoomForOne(_) => {
                let requests = (self.requests / 2).max(1);
                Self { requests, taken: 0, halvings: self.halvings + 1, short_key: None }
            }
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
        let limit = Limit { requests: requests_max, taken: 0, halvings: 0, short_key: None };
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
        state.limit = state.limit.after(answer, self.halvings, *requests_max);
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
    use proptest::prelude::*;

    use super::*;

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Taken),
            Just(Answer::NoRoom),
            Just(Answer::OfItsOwn),
            (0_u64..3).prop_map(Answer::NoRoomForOne),
        ]
    }

    proptest! {
        #[test]
        fn a_limit_rises_by_one_in_a_round_and_falls_by_half_once_for_what_was_sent_together(
            requests_max in 1_usize..200,
            answers in prop::collection::vec((answer(), 0_u64..3), 0..200),
        ) {
            let mut limit = Limit { requests: requests_max, taken: 0, halvings: 0, short_key: None };
            for (answer, ago) in answers {
                let before = limit;
                let halvings = before.halvings.saturating_sub(ago);
                limit = limit.after(answer, halvings, requests_max);
                prop_assert!((1..=requests_max).contains(&limit.requests));
                let round = (0..before.requests).fold(before, |limit, _| limit.after(Answer::Taken, halvings, requests_max));
                prop_assert_eq!(round.requests, (before.requests + 1).min(requests_max));
                match answer {
                    Answer::Taken => prop_assert!(limit.requests - before.requests <= 1),
                    Answer::NoRoom if halvings == before.halvings => {
                        prop_assert_eq!(limit.requests, (before.requests / 2).max(1));
                        // Whatever else was sent beside it changes nothing any more.
                        prop_assert_eq!(limit.after(answer, halvings, requests_max), limit);
                    }
                    Answer::NoRoomForOne(key) if halvings == before.halvings => {
                        let no_room = before.after(Answer::NoRoom, halvings, requests_max);
                        let is_another = before.short_key.is_some_and(|other| other != key);
                        let one = Limit { short_key: Some(key), ..before };
                        prop_assert_eq!(limit, if is_another { no_room } else { one });
                        prop_assert_eq!(round.short_key, None, "a round that is taken forgets it");
                    }
                    Answer::NoRoom | Answer::NoRoomForOne(_) | Answer::OfItsOwn => prop_assert_eq!(limit, before),
                }
            }
        }
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
