use std::time::Duration;

use kinesink_core::testkit::{Broken, BufferLimits, buffer_contract};
use kinesink_core::{Buffer, CloseReason, Item, Record};
use tokio::time::Instant;

use crate::assert_breaks;

const RECORDS: usize = 10;
const BYTES: usize = 1_000;
const AGE: Duration = Duration::from_secs(60);

/// What is wrong with a buffer of three limits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    DropsBeyondTheCount,
    DropsOne,
    Reorders,
    Doubles,
    KeepsTheLast,
    IgnoresTheCount,
    CountsOneTooFew,
    IgnoresTheBytes,
    IgnoresTheAge,
    AnnouncesNoAge,
    AnnouncesTheAgeTooLate,
    AnnouncesTheAgeTooEarly,
    AgesFromTheNewest,
    NeverAgesAfresh,
    FlushesEmpty,
    ForgetsWhatItGave,
    GivesAgain,
}

struct Window {
    wrong: Wrong,
    items: Vec<Item<()>>,
    pushed: usize,
    bytes: usize,
    due: Option<Instant>,
}

impl Buffer<()> for Window {
    fn push(&mut self, item: Item<()>, now: Instant) {
        if self.wrong == Wrong::DropsBeyondTheCount && self.items.len() == RECORDS {
            return;
        }
        self.pushed += 1;
        self.bytes += item.record.data.len();
        let due = now + if self.wrong == Wrong::IgnoresTheAge { AGE * 10 } else { AGE };
        match self.due {
            Some(_) if self.wrong != Wrong::AgesFromTheNewest => {}
            _ => self.due = Some(due),
        }
        if self.wrong == Wrong::Doubles && self.items.len() == 3 {
            self.items.push(item.clone());
        }
        if self.wrong == Wrong::Reorders && self.items.len() == 3 {
            self.items.insert(0, item);
        } else if self.wrong != Wrong::DropsOne || self.pushed != 3 {
            self.items.push(item);
        }
    }

    fn should_flush(&self, now: Instant) -> Option<CloseReason> {
        let records = RECORDS - usize::from(self.wrong == Wrong::CountsOneTooFew);
        if self.wrong == Wrong::FlushesEmpty && self.items.is_empty() {
            Some(CloseReason::Drain)
        } else if self.pushed >= records && self.wrong != Wrong::IgnoresTheCount {
            Some(CloseReason::Count)
        } else if self.bytes >= BYTES && self.wrong != Wrong::IgnoresTheBytes {
            Some(CloseReason::Bytes)
        } else {
            self.due.filter(|due| now >= *due).map(|_| CloseReason::Age)
        }
    }

    fn flush_at(&self) -> Option<Instant> {
        let second = Duration::from_secs(1);
        match self.wrong {
            Wrong::AnnouncesNoAge => None,
            Wrong::AnnouncesTheAgeTooLate => self.due.map(|due| due + second),
            Wrong::AnnouncesTheAgeTooEarly => self.due.map(|due| due - second),
            _ => self.due,
        }
    }

    fn take(&mut self) -> Vec<Item<()>> {
        (self.pushed, self.bytes) = (0, 0);
        if self.wrong != Wrong::NeverAgesAfresh {
            self.due = None;
        }
        let kept = if self.wrong == Wrong::KeepsTheLast { self.items.last().cloned() } else { None };
        let taken = std::mem::take(&mut self.items);
        self.items.extend(kept);
        taken
    }

    fn give(&mut self) -> Vec<Item<()>> {
        if self.wrong == Wrong::ForgetsWhatItGave {
            self.pushed = 0;
        }
        if self.wrong == Wrong::GivesAgain { self.items.clone() } else { std::mem::take(&mut self.items) }
    }
}

fn check(wrong: Wrong) -> Result<(), Broken> {
    let limits = BufferLimits { records: Some(RECORDS), bytes: Some(BYTES), age: Some(AGE) };
    buffer_contract(|| Window { wrong, items: Vec::new(), pushed: 0, bytes: 0, due: None }, limits, |_: &Record| ())
}

#[test]
fn a_buffer_with_all_limits_passes() {
    check(Wrong::Nothing).unwrap();
}

#[test]
fn one_without_limits_passes_and_one_that_claims_some_does_not() {
    /// Flushed only when the pipeline wants it.
    struct Unlimited(Vec<Item<()>>);

    impl Buffer<()> for Unlimited {
        fn push(&mut self, item: Item<()>, _: Instant) {
            self.0.push(item);
        }

        fn should_flush(&self, _: Instant) -> Option<CloseReason> {
            None
        }

        fn flush_at(&self) -> Option<Instant> {
            None
        }

        fn take(&mut self) -> Vec<Item<()>> {
            std::mem::take(&mut self.0)
        }
    }

    let check = |limits| buffer_contract(|| Unlimited(Vec::new()), limits, |_: &Record| ());
    check(BufferLimits::default()).unwrap();
    assert_breaks(check(BufferLimits { records: Some(5), ..BufferLimits::default() }), "the count limit fires");
    assert_breaks(check(BufferLimits { bytes: Some(5), ..BufferLimits::default() }), "the bytes limit fires");
    let aged = check(BufferLimits { age: Some(AGE), ..BufferLimits::default() });
    assert_breaks(aged, "the age limit fires without traffic");
}

#[test]
fn each_wrong_one_is_found() {
    assert_breaks(check(Wrong::DropsBeyondTheCount), "nothing that was pushed is lost");
    assert_breaks(check(Wrong::DropsOne), "nothing that was pushed is lost");
    assert_breaks(check(Wrong::Reorders), "order is kept");
    assert_breaks(check(Wrong::Doubles), "nothing is given twice");
    assert_breaks(check(Wrong::KeepsTheLast), "a taken buffer is empty");
    assert_breaks(check(Wrong::IgnoresTheCount), "the count limit fires");
    assert_breaks(check(Wrong::CountsOneTooFew), "the count limit does not fire before its count");
    assert_breaks(check(Wrong::IgnoresTheBytes), "the bytes limit fires");
    assert_breaks(check(Wrong::IgnoresTheAge), "the age limit fires without traffic");
    assert_breaks(check(Wrong::AgesFromTheNewest), "the age limit fires without traffic");
    assert_breaks(check(Wrong::FlushesEmpty), "an empty buffer never asks to be flushed");
    let announced = "flush_at is when should_flush first says yes";
    assert_breaks(check(Wrong::AnnouncesNoAge), announced);
    assert_breaks(check(Wrong::AnnouncesTheAgeTooLate), announced);
    assert_breaks(check(Wrong::AnnouncesTheAgeTooEarly), announced);
    assert_breaks(check(Wrong::ForgetsWhatItGave), "what is given away counts on");
    assert_breaks(check(Wrong::GivesAgain), "nothing is given twice");
    assert_breaks(check(Wrong::NeverAgesAfresh), "the age limit does not fire before its age");
}
