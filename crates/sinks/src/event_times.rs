//! Whether `event_time` is that of the records: a field or a format that none has is told, once.

use std::fmt;

use crate::EventTime;
use crate::unmet::Unmet;

/// Whether a record of the sink had a time that could be read.
#[derive(Debug, Default)]
pub(crate) struct EventTimes(Unmet);

impl EventTimes {
    /// A record whose time was read, or could not be.
    pub(crate) fn note(&self, is_read: bool, event_time: &EventTime, sink: &dyn fmt::Display) {
        if let Some(records) = self.0.note(is_read) {
            tell(records, event_time, sink);
        }
    }

    /// No more records come.
    pub(crate) fn end(&self, event_time: &EventTime, sink: &dyn fmt::Display) {
        if let Some(records) = self.0.end() {
            tell(records, event_time, sink);
        }
    }
}

fn tell(records: u64, EventTime { field, format }: &EventTime, sink: &dyn fmt::Display) {
    tracing::warn!(
        %sink,
        records,
        %field,
        %format,
        "no record had an event time that could be read, and all went by their arrival: look at `event_time`"
    );
}
