//! What clients did with one shard in the last second.

use super::{Bucket, Limit, Limits};

const READ_CALLS_PER_S: u32 = 5;
const READ_BYTES_PER_S: u32 = 2 * 1024 * 1024;
const READ_PAUSE_MS: i64 = 5000;
const ITERATOR_CALLS_PER_S: u32 = 5;
const WRITE_BYTES_PER_S: u32 = 1024 * 1024;
const WRITE_RECORDS_PER_S: u32 = 1000;

/// The rates of one shard. Not part of what is stored: a restart forgets them.
#[derive(Debug, Default)]
pub(crate) struct ShardRates {
    read_calls: Bucket,
    read_bytes: Bucket,
    read_again_at_ms: i64,
    iterator_calls: Bucket,
    write_bytes: Bucket,
    write_records: Bucket,
}

impl ShardRates {
    /// Whether the shard can be read now. If so, the call counts.
    pub(crate) fn try_read(&mut self, limits: Limits, now_ms: i64) -> bool {
        // A pause that lies further ahead than it can last was made before the clock went back.
        let paused = (1..=READ_PAUSE_MS).contains(&self.read_again_at_ms.saturating_sub(now_ms));
        let refused = (limits.has(Limit::ReadPause) && paused)
            || (limits.has(Limit::ReadBytes) && !self.read_bytes.has(1, READ_BYTES_PER_S, now_ms));
        !refused && (!limits.has(Limit::GetRecordsCalls) || self.read_calls.try_take(1, READ_CALLS_PER_S, now_ms))
    }

    /// So many bytes were read, in a reply that had no room for the next record or had.
    pub(crate) fn was_read(&mut self, bytes: u64, is_full: bool, now_ms: i64) {
        self.read_bytes.take(bytes, READ_BYTES_PER_S, now_ms);
        if is_full {
            self.read_again_at_ms = now_ms.saturating_add(READ_PAUSE_MS);
        }
    }

    /// Whether an iterator can be had now. If so, the call counts.
    pub(crate) fn try_iterator(&mut self, limits: Limits, now_ms: i64) -> bool {
        !limits.has(Limit::GetShardIteratorCalls) || self.iterator_calls.try_take(1, ITERATOR_CALLS_PER_S, now_ms)
    }

    /// Whether a record of that size can be written now. If so, it counts.
    pub(crate) fn try_write(&mut self, bytes: u64, limits: Limits, now_ms: i64) -> bool {
        if limits.has(Limit::WriteBytes) && !self.write_bytes.has(bytes, WRITE_BYTES_PER_S, now_ms) {
            return false;
        }
        if limits.has(Limit::WriteRecords) && !self.write_records.try_take(1, WRITE_RECORDS_PER_S, now_ms) {
            return false;
        }
        self.write_bytes.take(bytes, WRITE_BYTES_PER_S, now_ms);
        true
    }
}
