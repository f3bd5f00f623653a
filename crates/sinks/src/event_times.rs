//! Whether `event_time` is that of the records: a field or a format that none has is told, once.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::EventTime;

/// So many records without a time, and none with one, are enough to tell.
const UNREAD_MAX: u64 = 1_000;

/// How many records of a sink had no time that could be read, until one has.
#[derive(Debug, Default)]
pub(crate) struct EventTimes {
    is_read: AtomicBool,
    unread: AtomicU64,
    is_told: AtomicBool,
}

impl EventTimes {
    /// A record whose time was read, or could not be.
    pub(crate) fn note(&self, is_read: bool, event_time: &EventTime, sink: &dyn fmt::Display) {
        // No order among shards is needed: what is told is of all of them.
        if is_read {
            self.is_read.store(true, Ordering::Relaxed);
        } else if !self.is_read.load(Ordering::Relaxed) && self.unread.fetch_add(1, Ordering::Relaxed) + 1 == UNREAD_MAX
        {
            self.tell(event_time, sink);
        }
    }

    /// No more records come: of fewer it is told now.
    pub(crate) fn end(&self, event_time: &EventTime, sink: &dyn fmt::Display) {
        if self.unread.load(Ordering::Relaxed) > 0 {
            self.tell(event_time, sink);
        }
    }

    fn tell(&self, EventTime { field, format }: &EventTime, sink: &dyn fmt::Display) {
        if self.is_read.load(Ordering::Relaxed) || self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let records = self.unread.load(Ordering::Relaxed);
        tracing::warn!(
            %sink,
            records,
            %field,
            %format,
            "no record had an event time that could be read, and all went by their arrival: look at `event_time`"
        );
    }
}
