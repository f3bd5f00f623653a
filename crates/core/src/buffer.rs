//! Where models wait until their window closes.

use std::fmt;

use tokio::time::Instant;

use crate::Record;

/// A value on its way, with the record it came from.
#[derive(Debug, Clone)]
pub struct Item<T> {
    /// The record that produced it.
    pub record: Record,
    /// Its place among the outputs of that record, from 0.
    pub ordinal: u32,
    /// How many outputs that record has, before the filter.
    pub outputs: u32,
    /// The model, or later the output.
    pub value: T,
}

/// Why a window was closed. The label of `windows_closed_total` and `files_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It held as many records as it may.
    Count,
    /// It held as many bytes as it may.
    Bytes,
    /// Its first record had waited as long as it may.
    Age,
    /// The shard ended.
    ShardEnd,
    /// The pipeline is stopping.
    Drain,
    /// The memory budget was needed elsewhere.
    Memory,
    /// A record met that halts the shard: what came before it is delivered first.
    Halt,
    /// A window was read again that had been announced with this end.
    Plan,
}

impl CloseReason {
    /// Every reason, for registering metrics and for docs.
    pub const ALL: [Self; 8] =
        [Self::Count, Self::Bytes, Self::Age, Self::ShardEnd, Self::Drain, Self::Memory, Self::Halt, Self::Plan];

    /// The metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::ShardEnd => "shard_end",
            Self::Drain => "drain",
            Self::Memory => "memory",
            Self::Halt => "halt",
            Self::Plan => "plan",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Holds the models of one shard's open window and says when it is time to close it.
///
/// Asked after every record, so that no limit is passed by more than one record, and at [`flush_at`](Self::flush_at),
/// so that the age limit fires without traffic.
pub trait Buffer<T>: Send + 'static {
    /// Adds one model. Order is kept.
    fn push(&mut self, item: Item<T>, now: Instant);

    /// Whether the window should close now, and why. An empty buffer answers `None`.
    fn should_flush(&self, now: Instant) -> Option<CloseReason>;

    /// When [`should_flush`](Self::should_flush) will first say yes without another push, if ever.
    fn flush_at(&self) -> Option<Instant>;

    /// Takes everything pushed since the last call, in order, and starts afresh.
    fn take(&mut self) -> Vec<Item<T>>;

    /// Gives what it holds, in order, to be kept elsewhere, and goes on as if it held it still: the window stays open, and
    /// its limits are those of all of it. What was given is not given again.
    ///
    /// The default gives nothing: where memory is needed, the window closes.
    fn give(&mut self) -> Vec<Item<T>> {
        Vec::new()
    }
}
