//! What stands in a row and in a reply, ordered as the protocol orders it.

use std::fmt;

use crate::expression::Row;

/// A sequence number, ordered as a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence(pub(super) String);

impl Sequence {
    pub(super) fn new(digits: &str) -> Self {
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "{digits}");
        Self(digits.trim_start_matches('0').to_owned())
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

/// A checkpoint as a row has it, in KCL's order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    AtTimestamp,
    TrimHorizon,
    Latest,
    At(Sequence, u64),
    ShardEnd,
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtTimestamp => f.write_str("AT_TIMESTAMP"),
            Self::TrimHorizon => f.write_str("TRIM_HORIZON"),
            Self::Latest => f.write_str("LATEST"),
            Self::At(sequence, sub) => write!(f, "{}.{sub}", brief(sequence)),
            Self::ShardEnd => f.write_str("SHARD_END"),
        }
    }
}

impl Mark {
    pub(super) fn of(row: &Row) -> Self {
        match row["checkpoint"]["S"].as_str().expect("a checkpoint") {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At(Sequence::new(digits), number(row, "checkpointSubSequenceNumber").unwrap_or(0)),
        }
    }
}

pub(super) fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?["S"].as_str()
}

pub(super) fn number(row: &Row, name: &str) -> Option<u64> {
    row.get(name)?["N"].as_str()?.parse().ok()
}

pub(super) fn brief(sequence: &Sequence) -> &str {
    let digits = &sequence.0;
    digits.get(digits.len().saturating_sub(22)..).unwrap_or(digits)
}
