//! Shard iterators and page tokens: opaque to clients, and all that the emulator knows about them.

use base64_simd::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::stream::StreamId;

/// How long a shard iterator or a page token can be used.
pub(crate) const LIFETIME_MS: i64 = 300_000;

/// A place in a shard that `GetRecords` continues at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShardIterator {
    pub(crate) stream: String,
    pub(crate) stream_id: StreamId,
    pub(crate) shard: u32,
    pub(crate) index: u64,
    pub(crate) issued_ms: i64,
}

/// A place in the list of a stream's shards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShardsToken<F> {
    pub(crate) stream: String,
    pub(crate) stream_id: StreamId,
    pub(crate) after_shard: u32,
    pub(crate) filter: F,
    pub(crate) issued_ms: i64,
}

/// A place in the list of streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StreamsToken {
    pub(crate) after_stream: String,
    pub(crate) issued_ms: i64,
}

/// A place in the list of a stream's consumers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConsumersToken {
    pub(crate) stream: String,
    pub(crate) stream_id: StreamId,
    pub(crate) after_consumer: String,
    pub(crate) issued_ms: i64,
}

/// The token as text.
pub(crate) fn encode(token: &impl Serialize) -> String {
    // Tokens are plain structs, which always serialise.
    STANDARD.encode_to_string(serde_json::to_vec(token).unwrap_or_default())
}

/// The token that the text is, unless nobody here wrote it.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&STANDARD.decode_to_vec(text).ok()?).ok()
}

/// Whether a token of this age can no longer be used.
pub(crate) fn is_expired(issued_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(issued_ms) > LIFETIME_MS
}
