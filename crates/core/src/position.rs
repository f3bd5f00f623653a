//! Where a record is in its shard, and where a lease stands.

use std::fmt;
use std::str::FromStr;

use crate::{Error, SequenceNumber};

/// A record's place in its shard: the sequence number, then the sub-sequence number inside a KPL aggregate (0 for a
/// plain record).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The sequence number of the record as Kinesis stores it.
    pub sequence: SequenceNumber,
    /// The place of the user record inside its aggregate, from 0.
    pub sub_sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.sub_sequence)
    }
}

/// How far a shard has been processed, as KCL stores it: a sentinel or the position of the last processed record.
///
/// The order is KCL's: `AT_TIMESTAMP` < `TRIM_HORIZON` < `LATEST` < every position < `SHARD_END`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checkpoint {
    /// Start at a time that is kept elsewhere.
    AtTimestamp,
    /// Start at the oldest record that the stream still has.
    TrimHorizon,
    /// Start after the newest record.
    Latest,
    /// Everything up to and including this position is processed.
    At(Position),
    /// Every record of the shard is processed.
    ShardEnd,
}

impl Checkpoint {
    /// The sequence-number half as a lease row stores it: digits or a sentinel.
    #[must_use]
    pub fn sequence_text(&self) -> String {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP".into(),
            Self::TrimHorizon => "TRIM_HORIZON".into(),
            Self::Latest => "LATEST".into(),
            Self::At(position) => position.sequence.to_string(),
            Self::ShardEnd => "SHARD_END".into(),
        }
    }

    /// The sub-sequence half: 0 for a sentinel.
    #[must_use]
    pub fn sub_sequence(&self) -> u64 {
        match self {
            Self::At(position) => position.sub_sequence,
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => 0,
        }
    }

    /// Reads the two halves of a lease row.
    ///
    /// # Errors
    /// [`Error::Malformed`] where `sequence` is neither a sentinel nor a decimal number.
    pub fn from_row(sequence: &str, sub_sequence: u64) -> Result<Self, Error> {
        Ok(match sequence {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At(Position { sequence: SequenceNumber::from_str(digits)?, sub_sequence }),
        })
    }

    /// Whether a record at `position` is still to be processed.
    #[must_use]
    pub fn is_before(&self, position: Position) -> bool {
        *self < Self::At(position)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(position) => position.fmt(f),
            sentinel => f.write_str(&sentinel.sequence_text()),
        }
    }
}
