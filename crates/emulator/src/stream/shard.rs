//! One shard: its place in the lineage, and its records in order.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::hash_key::{HashKeyRange, HashKeyRangeText};
use super::sequence_number::SequenceNumber;
use crate::limits::ShardRates;

/// What a shard takes in a file besides its records, and a record besides its JSON, roughly.
const SHARD_BYTES: u64 = 400;
const RECORD_BYTES: u64 = 60;

/// A stored record. What it says is kept only as the bytes that a reply will contain, side by side with those of the
/// records that came with it, so that a reply takes many at a time.
#[derive(Clone)]
pub(crate) struct Record {
    /// Position in the shard; grows by at least 1 from record to record.
    pub(crate) index: u64,
    pub(crate) arrival_ms: i64,
    /// Bytes of data and partition key, the size that limits count.
    pub(crate) size_bytes: u32,
    /// Bytes of its JSON, with the comma behind it.
    pub(crate) json_bytes: u32,
    /// The record as a JSON object, a comma, and what is stored behind it.
    pub(crate) json_and_rest: Bytes,
}

/// What a shard has after it was split or merged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) at_ms: i64,
    pub(crate) ending_index: u64,
    pub(crate) children: Vec<u32>,
}

/// A shard, open or closed. Its records are stored beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// Number of the shard in its stream, from 0, never used again.
    pub(crate) number: u32,
    /// Leads every sequence number of the shard; above the epoch of each parent.
    pub(crate) epoch_s: u64,
    pub(crate) created_ms: i64,
    pub(crate) range: HashKeyRange,
    pub(crate) parent: Option<u32>,
    pub(crate) adjacent_parent: Option<u32>,
    pub(crate) closed: Option<Closed>,
    next_index: u64,
    last_arrival_ms: i64,
    #[serde(skip)]
    records: VecDeque<Record>,
    /// Bytes of the records' JSON.
    #[serde(skip)]
    json_bytes: u64,
    /// What clients did in the last second.
    #[serde(skip)]
    pub(crate) rates: ShardRates,
    /// Tells who waits for them of new records and of the close. Made for the first who waits.
    #[serde(skip)]
    news: Option<watch::Sender<u64>>,
}

/// A shard as replies describe it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ShardText {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: HashKeyRangeText,
    sequence_number_range: SequenceNumberRangeText,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRangeText {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

/// The id of the shard with this number.
pub(crate) fn shard_id(number: u32) -> String {
    format!("shardId-{number:012}")
}

/// The number in a shard id, if it is one: any prefix is accepted, as the service does.
pub(crate) fn shard_number(shard_id: &str) -> Option<u32> {
    let digits = shard_id.strip_prefix("shardId-").unwrap_or(shard_id);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Not with what is stored behind it.
impl fmt::Debug for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, arrival_ms, size_bytes, .. } = self;
        write!(formatter, "record {index} of {arrival_ms} ms, {size_bytes} bytes: ")?;
        formatter.write_str(&String::from_utf8_lossy(self.json_and_comma()))
    }
}

impl Record {
    /// The record as a JSON object, and a comma.
    pub(crate) fn json_and_comma(&self) -> &[u8] {
        self.json_and_rest.get(..self.json_bytes as usize).unwrap_or_default()
    }

    /// Whether it is stored that many bytes behind the other one's first.
    pub(crate) fn lies_behind(&self, other: &Self, bytes: usize) -> bool {
        // Each holds what is stored behind it, to the end of its memory, and no two pieces that are alive have one end: it
        // is in the same piece, and not by chance behind the end of another.
        self.json_and_rest.as_ptr() == other.json_and_rest.as_ptr().wrapping_add(bytes)
            && self.json_and_rest.len() + bytes == other.json_and_rest.len()
            && !self.json_and_rest.is_empty()
    }
}

impl Shard {
    /// An open shard without parents. Index 0 is its starting sequence number; records begin at 1.
    pub(crate) fn new(number: u32, range: HashKeyRange, created_ms: i64, epoch_s: u64) -> Self {
        Self {
            number,
            epoch_s,
            created_ms,
            range,
            parent: None,
            adjacent_parent: None,
            closed: None,
            next_index: 1,
            last_arrival_ms: created_ms,
            records: VecDeque::new(),
            json_bytes: 0,
            rates: ShardRates::default(),
            news: None,
        }
    }

    pub(crate) fn id(&self) -> String {
        shard_id(self.number)
    }

    pub(crate) fn sequence_number(&self, index: u64, arrival_ms: i64) -> SequenceNumber {
        SequenceNumber { epoch_s: self.epoch_s, index, arrival_s: seconds(arrival_ms), shard: self.number }
    }

    /// The coordinates of the next record. A clock that went back does not take the arrival time with it.
    pub(crate) fn next_position(&self, now_ms: i64) -> (u64, i64) {
        (self.next_index, now_ms.max(self.last_arrival_ms))
    }

    /// Appends a record whose index is not below the next one.
    pub(crate) fn push(&mut self, record: Record) {
        self.next_index = record.index + 1;
        self.last_arrival_ms = record.arrival_ms;
        self.restore(record);
        self.tell();
    }

    /// Appends a record that the shard had before.
    pub(crate) fn restore(&mut self, record: Record) {
        self.json_bytes += u64::from(record.json_bytes);
        self.records.push_back(record);
    }

    /// Closes the shard and answers when that was: at the given time, or at its last arrival if that is later.
    /// Its ending sequence number is above its last record's.
    pub(crate) fn close(&mut self, at_ms: i64, children: Vec<u32>) -> i64 {
        self.last_arrival_ms = self.last_arrival_ms.max(at_ms);
        self.closed = Some(Closed { at_ms: self.last_arrival_ms, ending_index: self.next_index, children });
        self.next_index = self.next_index.saturating_add(1);
        self.tell();
        self.last_arrival_ms
    }

    /// Shows it when there is something to look at: a record, the close, a change of the stream that has begun. It ends
    /// with the stream.
    pub(crate) fn news(&mut self) -> watch::Receiver<u64> {
        self.news.get_or_insert_with(|| watch::Sender::new(self.next_index)).subscribe()
    }

    /// Lets those who wait for news look again.
    pub(super) fn tell(&self) {
        if let Some(news) = &self.news {
            news.send_replace(self.next_index);
        }
    }

    /// Forgets records that arrived before the horizon.
    pub(crate) fn trim(&mut self, horizon_ms: i64) {
        while let Some(record) = self.records.pop_front_if(|record| record.arrival_ms < horizon_ms) {
            self.json_bytes -= u64::from(record.json_bytes);
        }
    }

    /// About the bytes that the shard and its records take in a file.
    pub(crate) fn file_bytes(&self) -> u64 {
        SHARD_BYTES + RECORD_BYTES * self.records.len() as u64 + self.json_bytes
    }

    /// Whether the whole shard lies before the horizon: closed, and its last moment trimmed.
    pub(crate) fn is_expired(&self, horizon_ms: i64) -> bool {
        self.closed.as_ref().is_some_and(|closed| closed.at_ms < horizon_ms)
    }

    /// The index after the newest record, the ending one included: where `LATEST` starts.
    pub(crate) fn latest_index(&self) -> u64 {
        self.next_index
    }

    /// The index of the first record that arrived at or after the time.
    pub(crate) fn index_at_time(&self, at_ms: i64) -> u64 {
        let position = self.records.partition_point(|record| record.arrival_ms < at_ms);
        self.records.get(position).map_or(self.next_index, |record| record.index)
    }

    /// The index of the first record whose number is not below this one.
    pub(crate) fn index_at(&self, number: SequenceNumber) -> u64 {
        let at_index = self.records_from(number.index).next().filter(|record| record.index == number.index);
        let is_below = |record: &Record| self.sequence_number(record.index, record.arrival_ms) < number;
        if at_index.is_some_and(is_below) { number.index.saturating_add(1) } else { number.index }
    }

    /// Whether the shard gave this number out: to a record, trimmed or not, or as one of its ends.
    pub(crate) fn knows(&self, number: SequenceNumber) -> bool {
        number.shard == self.number && number.epoch_s == self.epoch_s && number.index < self.next_index
    }

    /// Records from the index on.
    pub(crate) fn records_from(&self, index: u64) -> impl Iterator<Item = &Record> {
        let position = self.records.partition_point(|record| record.index < index);
        self.records.range(position..)
    }

    /// How the shard was closed, if it was by then.
    pub(crate) fn closed_by(&self, as_of_ms: i64) -> Option<&Closed> {
        self.closed.as_ref().filter(|closed| closed.at_ms <= as_of_ms)
    }

    /// The shard as it was at that time.
    pub(crate) fn text(&self, as_of_ms: i64) -> ShardText {
        let ending = self.closed_by(as_of_ms).map(|closed| self.sequence_number(closed.ending_index, closed.at_ms));
        ShardText {
            shard_id: self.id(),
            parent_shard_id: self.parent.map(shard_id),
            adjacent_parent_shard_id: self.adjacent_parent.map(shard_id),
            hash_key_range: self.range.text(),
            sequence_number_range: SequenceNumberRangeText {
                starting_sequence_number: self.sequence_number(0, self.created_ms).to_string(),
                ending_sequence_number: ending.map(|number| number.to_string()),
            },
        }
    }
}

/// Whole seconds since 1970; a time before that counts as 0.
pub(crate) fn seconds(ms: i64) -> u64 {
    u64::try_from(ms / 1000).unwrap_or(0)
}
