//! The envelope of a record that could not be delivered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use kinesink_core::{Item, PartitionKey, Position, Record, Reject, StreamName};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The newest version of the envelope that this program writes and reads.
const VERSION: u32 = 1;

/// What envelopes call the transformer, and what stands before the name of a sink.
pub(crate) const TRANSFORM: &str = "transform";
pub(crate) const SINK: &str = "sink:";

/// Where a record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// By the transformer.
    Transform,
    /// By the sink of this name.
    Sink(String),
}

impl Stage {
    /// The text in envelopes, metrics and logs.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Transform => TRANSFORM.into(),
            Self::Sink(name) => format!("{SINK}{name}"),
        }
    }
}

/// A record, or one output of it, on its way to the dead letters.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) record: Record,
    pub(crate) ordinal: u32,
    /// How many outputs the record has, where a sink refused one of them.
    pub(crate) outputs: Option<u32>,
    pub(crate) stage: Stage,
    pub(crate) reason: Reject,
}

impl Refused {
    /// The envelope, as an item for the dead-letter destination.
    pub(crate) fn into_item(self, stream: &StreamName) -> Result<Item<Bytes>, Error> {
        let value = DeadLetter::of(&self, stream).to_json()?;
        Ok(Item { record: self.record, ordinal: self.ordinal, outputs: 1, value })
    }
}

/// A dead letter: what was refused, where, why, and the record itself. One JSON object.
///
/// Dead letters are written at least once: the same record may be there twice, with the same position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Version of this format.
    pub version: u32,
    /// `transform`, or `sink:` and the sink's name.
    pub stage: String,
    /// The stream the record came from.
    pub stream: String,
    /// The shard the record came from.
    pub shard: String,
    /// The record's sequence number, in decimal.
    pub sequence: String,
    /// Its place inside a KPL aggregate, or 0.
    pub sub_sequence: u64,
    /// Which output of the record was refused; 0 where the record itself was.
    pub ordinal: u32,
    /// How many outputs the record had, where a sink refused one of them. Not known of letters from before this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<u32>,
    /// When Kinesis received it.
    pub arrival: Timestamp,
    /// The producer's partition key, if it has one.
    pub partition_key: Option<String>,
    /// Why it was refused.
    pub reason: String,
    /// The record's bytes, in base64 in the JSON.
    #[serde(with = "base64_text")]
    pub data: Bytes,
}

impl DeadLetter {
    fn of(refused: &Refused, stream: &StreamName) -> Self {
        let record = &refused.record;
        Self {
            version: VERSION,
            stage: refused.stage.text(),
            stream: stream.to_string(),
            shard: record.shard.to_string(),
            sequence: record.position.sequence.to_string(),
            sub_sequence: record.position.sub_sequence,
            ordinal: refused.ordinal,
            outputs: refused.outputs,
            arrival: record.arrival,
            partition_key: record.partition_key.as_deref().map(str::to_owned),
            reason: refused.reason.reason().into(),
            data: record.data.clone(),
        }
    }

    /// The envelope as one line of JSON, without a newline.
    ///
    /// # Errors
    /// [`Error::MalformedDeadLetter`] where the arrival time cannot be written.
    pub fn to_json(&self) -> Result<Bytes, Error> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| Error::MalformedDeadLetter(error.to_string()))
    }

    /// The name of the sink that refused it, where it was not the transformer.
    #[must_use]
    pub fn sink(&self) -> Option<&str> {
        self.stage.strip_prefix(SINK)
    }

    /// The record, as it was read.
    ///
    /// # Errors
    /// [`Error::MalformedDeadLetter`] where shard, position or key cannot be ones of a record.
    pub fn record(&self) -> Result<Record, Error> {
        let malformed = |what: &str, text: &str| Error::MalformedDeadLetter(format!("{text:?} is not a {what}"));
        let shard = self.shard.parse().map_err(|_| malformed("shard", &self.shard))?;
        let sequence = self.sequence.parse().map_err(|_| malformed("sequence number", &self.sequence))?;
        Ok(Record {
            shard,
            position: Position { sequence, sub_sequence: self.sub_sequence },
            arrival: self.arrival,
            partition_key: self.partition_key.as_deref().map(PartitionKey::from),
            data: self.data.clone(),
        })
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// [`Error::NewerDeadLetter`] for a version that this program does not know, [`Error::MalformedDeadLetter`] for
    /// anything else that is no envelope.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| Error::MalformedDeadLetter(error.to_string());
        let Versioned { version } = serde_json::from_slice(json).map_err(malformed)?;
        if version > VERSION {
            return Err(Error::NewerDeadLetter { found: version, known: VERSION });
        }
        serde_json::from_slice(json).map_err(malformed)
    }
}

mod base64_text {
    use super::{Bytes, Deserialize, Engine, STANDARD};

    pub(super) fn serialize<S: serde::Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(data))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        let record = Record {
            shard: "shardId-000000000003".parse().unwrap(),
            position: Position {
                sequence: "49590338271490256608559692538361571095921575989136588898".parse().unwrap(),
                sub_sequence: 2,
            },
            arrival: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            partition_key: Some("user-1".into()),
            data: Bytes::from_static(b"not \xff JSON"),
        };
        let reason = Reject::new("not JSON: line 1, column 1");
        let refused = Refused { record, ordinal: 0, outputs: None, stage: Stage::Sink("s3".into()), reason };
        DeadLetter::of(&refused, &"orders".parse().unwrap())
    }

    /// Version 1 as it was first written. A later version gets a file of its own, and this one stays.
    const GOLDEN: &[u8] = include_bytes!("../tests/golden/dead_letter.v1.json");

    #[test]
    fn an_envelope_is_the_golden_file_and_reads_back() {
        let golden = GOLDEN.strip_suffix(b"\n").unwrap();
        assert_eq!(std::str::from_utf8(&letter().to_json().unwrap()), std::str::from_utf8(golden));
        assert_eq!(DeadLetter::from_json(golden).unwrap(), letter());
        let record = letter().record().unwrap();
        assert_eq!((record.position.sub_sequence, record.partition_key.as_deref()), (2, Some("user-1")));
        assert_eq!((record.shard.as_str(), &record.data[..]), ("shardId-000000000003", &b"not \xff JSON"[..]));
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let error = DeadLetter::from_json(br#"{"version":2,"anything":"else"}"#).unwrap_err();
        assert!(matches!(error, Error::NewerDeadLetter { found: 2, known: 1 }), "{error}");
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for text in ["", "[]", "{}", r#"{"version":"1"}"#, r#"{"version":1}"#] {
            let error = DeadLetter::from_json(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::MalformedDeadLetter(_)), "{text}: {error}");
        }
    }
}
