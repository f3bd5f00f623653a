//! What can happen to streams, as it is applied and as it is written to the log.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

use super::shard::Record;
use super::transition::Change;
use super::{Inconsistent, Stream, StreamMode};

/// One change. It carries every decision, so that applying it again gives the same state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    CreateStream(Creation),
    DeleteStream {
        stream: String,
    },
    PutRecords {
        stream: String,
        records: Vec<Placement>,
        /// The records' JSON, a comma behind each, those of a shard side by side. The log keeps it beside the event, as
        /// it is.
        #[serde(skip)]
        json: Bytes,
        /// Where the last of those went that a stream placed by itself; so the next goes on from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_hash_key: Option<u128>,
    },
    SplitShard {
        stream: String,
        shard: u32,
        /// First hash key of the upper child.
        new_start: u128,
        at_ms: i64,
    },
    MergeShards {
        stream: String,
        shard: u32,
        adjacent: u32,
        at_ms: i64,
    },
    SetRetention {
        stream: String,
        hours: u32,
        /// What the retention before it had removed by then stays away. Absent in logs of earlier versions.
        #[serde(default)]
        at_ms: i64,
    },
    /// A change begins. Its own event follows at the given time.
    Begin {
        stream: String,
        change: Change,
        done_at_ms: i64,
    },
    /// A stream that was being created can be used.
    Activate {
        stream: String,
    },
    UpdateShardCount {
        stream: String,
        /// Hash keys at which a shard is split, then hash keys at which two shards are merged.
        splits: Vec<u128>,
        merges: Vec<u128>,
        at_ms: i64,
    },
    SetMode {
        stream: String,
        mode: StreamMode,
    },
    Set {
        stream: String,
        setting: Setting,
    },
    /// Adds and changes tags of the stream, or of one of its consumers, then removes some.
    Tag {
        stream: String,
        consumer: Option<String>,
        tags: BTreeMap<String, String>,
        removed: Vec<String>,
    },
    /// A consumer exists, and can subscribe from the second time on.
    RegisterConsumer {
        stream: String,
        consumer: String,
        tags: BTreeMap<String, String>,
        at_ms: i64,
        active_at_ms: i64,
    },
    /// A consumer can no longer subscribe, and does not exist from that time on.
    DeregisterConsumer {
        stream: String,
        consumer: String,
        gone_at_ms: i64,
    },
    /// What is left of the streams that were gone when the log was written anew.
    RestoreCount {
        last_number: u64,
        /// See [`Streams`](super::Streams). Absent in logs of formats 2 and 3.
        #[serde(default)]
        epoch_s_min: u64,
    },
    /// A stream as it was when the log was written anew, without its records.
    RestoreStream {
        stream: String,
        state: Box<Stream>,
    },
    /// Records of a stream that was restored.
    RestoreRecords {
        stream: String,
        records: Vec<Placement>,
        #[serde(skip)]
        json: Bytes,
    },
}

impl Event {
    /// The records' JSON, which is no part of the event's own.
    pub(crate) fn json(&self) -> &[u8] {
        match self {
            Self::PutRecords { json, .. } | Self::RestoreRecords { json, .. } => json,
            _ => &[],
        }
    }

    /// Gives an event that was read its records' JSON, if it is one that has any.
    pub(crate) fn set_json(&mut self, stored: Bytes) {
        if let Self::PutRecords { json, .. } | Self::RestoreRecords { json, .. } = self {
            *json = stored;
        }
    }

    /// The same for an event of format 1 or 2, which have no commas.
    pub(crate) fn set_json_without_commas(&mut self, mut stored: &[u8]) {
        let (Self::PutRecords { records, json, .. } | Self::RestoreRecords { records, json, .. }) = self else {
            return;
        };
        let mut with_commas = Vec::with_capacity(stored.len() + records.len());
        for record in records {
            let (own, rest) = stored.split_at(stored.len().min(record.json_bytes as usize));
            with_commas.extend_from_slice(own);
            with_commas.push(b',');
            record.json_bytes = record.json_bytes.saturating_add(1);
            stored = rest;
        }
        *json = Bytes::from(with_commas);
    }

    /// The event that makes the change true.
    pub(crate) fn done(change: Change, stream: String, at_ms: i64) -> Self {
        match change {
            Change::Create => Self::Activate { stream },
            Change::Delete => Self::DeleteStream { stream },
            Change::SplitShard { shard, new_start } => Self::SplitShard { stream, shard, new_start, at_ms },
            Change::MergeShards { shard, adjacent } => Self::MergeShards { stream, shard, adjacent, at_ms },
            Change::UpdateShardCount { splits, merges } => Self::UpdateShardCount { stream, splits, merges, at_ms },
            Change::SetMode { mode } => Self::SetMode { stream, mode },
        }
    }
}

/// A stream that is made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Creation {
    pub(crate) stream: String,
    pub(crate) mode: StreamMode,
    pub(crate) shard_count: u32,
    pub(crate) at_ms: i64,
    /// How many streams there have been, with this one. Absent in logs of earlier versions.
    #[serde(default)]
    pub(crate) number: u64,
    /// These are absent in logs of format 1, which have events of their own for them.
    #[serde(default)]
    pub(crate) settings: Vec<Setting>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    /// Until when it is being created, if that takes time.
    #[serde(default)]
    pub(crate) active_at_ms: Option<i64>,
    /// No epoch of its shards is below. Absent in logs of formats 1 to 3, where only the clock decided.
    #[serde(default)]
    pub(crate) epoch_s_min: u64,
}

/// What can be set without a transition, besides the retention.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Setting {
    MaxRecordSize { kib: u32 },
    Distribution { strategy: Distribution },
}

/// What decides which shard a record goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Distribution {
    Auto,
    #[default]
    UserPartitionKey,
}

/// Where a record goes, and how much of the event's JSON it is with its comma.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Placement {
    #[serde(rename = "s")]
    pub(crate) shard: u32,
    #[serde(rename = "i")]
    pub(crate) index: u64,
    #[serde(rename = "t")]
    pub(crate) arrival_ms: i64,
    #[serde(rename = "n")]
    pub(crate) size_bytes: u32,
    #[serde(rename = "j")]
    pub(crate) json_bytes: u32,
}

impl Placement {
    /// A record that is in that shard.
    pub(super) fn of(shard: u32, record: &Record) -> Self {
        Self {
            shard,
            index: record.index,
            arrival_ms: record.arrival_ms,
            size_bytes: record.size_bytes,
            json_bytes: record.json_bytes,
        }
    }

    /// The record, with its JSON, behind which what is left goes on.
    pub(crate) fn record(&self, left: &mut Bytes) -> Result<Record, Inconsistent> {
        let json_bytes = self.json_bytes as usize;
        if json_bytes > left.len() {
            return Err(Inconsistent("records longer than what was stored"));
        }
        if self.index == u64::MAX {
            return Err(Inconsistent("a record whose number has none behind it"));
        }
        let Self { index, arrival_ms, size_bytes, json_bytes: own_bytes, .. } = *self;
        let record = Record { index, arrival_ms, size_bytes, json_bytes: own_bytes, json_and_rest: left.clone() };
        left.advance(json_bytes);
        Ok(record)
    }
}
