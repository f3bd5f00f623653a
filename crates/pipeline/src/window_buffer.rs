//! The buffer that closes windows by count, bytes and age.

use std::time::Duration;

use kinesink_core::{Buffer, CloseReason, Item};
use tokio::time::Instant;

/// When a window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// Most items; at least 1. Passed only by the further outputs of one record, which are never split.
    pub records: usize,
    /// Bytes after which it closes: of record data, or of what is made of it where that counts too. The record that
    /// passes the limit is the last.
    pub bytes: usize,
    /// How long the first record may wait, with or without traffic.
    pub age: Duration,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { records: 10_000, bytes: 64 * 1024 * 1024, age: Duration::from_secs(60) }
    }
}

/// Holds items in memory until one of its [`WindowLimits`] is reached.
#[derive(Debug)]
pub struct WindowBuffer<T> {
    limits: WindowLimits,
    items: Vec<Item<T>>,
    /// Items of the window, and their bytes: those in `items`, and those that were given away.
    count: usize,
    bytes: usize,
    /// Bytes of those in `items`, and how many they may be.
    held_bytes: usize,
    held_bytes_max: usize,
    /// How many items a window is made room for at once: room that stays empty costs nothing, a copy of what grew does.
    expected: usize,
    flush_at: Option<Instant>,
    size: fn(&Item<T>) -> usize,
}

impl<T> WindowBuffer<T> {
    /// An empty buffer.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        Self::sized(limits, |item| item.record.data.len())
    }

    /// An empty buffer that counts so many bytes for an item: for a transformer that makes more of a record than it is.
    #[must_use]
    pub fn sized(limits: WindowLimits, size: fn(&Item<T>) -> usize) -> Self {
        Self {
            limits,
            items: Vec::new(),
            count: 0,
            bytes: 0,
            held_bytes: 0,
            held_bytes_max: usize::MAX,
            expected: 0,
            flush_at: None,
            size,
        }
    }

    /// Asks for its items to be spilled, or the window to close, when it holds so many bytes: for windows that may be larger
    /// than memory.
    #[must_use]
    pub fn holding(mut self, bytes_max: usize) -> Self {
        self.held_bytes_max = bytes_max;
        self
    }
}

impl<T: Send + 'static> Buffer<T> for WindowBuffer<T> {
    fn push(&mut self, item: Item<T>, now: Instant) {
        let bytes = (self.size)(&item);
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        // An age that no clock reaches is none.
        self.flush_at = self.flush_at.or_else(|| now.checked_add(self.limits.age));
        if self.items.capacity() == 0 {
            self.items.reserve_exact(self.expected);
        }
        self.items.push(item);
    }

    fn should_flush(&self, now: Instant) -> Option<CloseReason> {
        if self.count == 0 {
            None
        } else if self.count >= self.limits.records {
            Some(CloseReason::Count)
        } else if self.bytes >= self.limits.bytes {
            Some(CloseReason::Bytes)
        } else if self.held_bytes >= self.held_bytes_max {
            Some(CloseReason::Memory)
        } else {
            self.flush_at.filter(|at| now >= *at).map(|_| CloseReason::Age)
        }
    }

    fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    fn give(&mut self) -> Vec<Item<T>> {
        self.held_bytes = 0;
        std::mem::take(&mut self.items)
    }

    fn take(&mut self) -> Vec<Item<T>> {
        (self.count, self.bytes, self.held_bytes) = (0, 0, 0);
        self.flush_at = None;
        // Windows that memory closes differ in size: the largest is forgotten slowly.
        self.expected = self.items.len().max(self.expected - self.expected / 8);
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_by_the_bytes_that_are_made_where_those_count() {
        let limits = WindowLimits { bytes: 100, ..WindowLimits::default() };
        let item = |made: usize| {
            let position = kinesink_core::Position { sequence: kinesink_core::SequenceNumber::ZERO, sub_sequence: 0 };
            let (shard, arrival) = ("shardId-000000000000".parse().unwrap(), jiff::Timestamp::UNIX_EPOCH);
            let record =
                kinesink_core::Record { shard, position, arrival, partition_key: None, data: b"0123456789"[..].into() };
            Item { record, ordinal: 0, outputs: 1, value: vec![0_u8; made] }
        };
        let now = Instant::now();
        let mut plain = WindowBuffer::new(limits);
        let mut sized =
            WindowBuffer::sized(limits, |item: &Item<Vec<u8>>| item.record.data.len().max(item.value.len()));
        for made in [0, 85] {
            plain.push(item(made), now);
            sized.push(item(made), now);
            assert_eq!((plain.should_flush(now), sized.should_flush(now)), (None, None));
        }
        plain.push(item(5), now);
        sized.push(item(5), now);
        assert_eq!((plain.should_flush(now), sized.should_flush(now)), (None, Some(CloseReason::Bytes)));
    }
}
