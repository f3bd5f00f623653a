//! Where a lease stands, as people write it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use kinesink_core::{Checkpoint, Position};

use crate::lease::LeaseRow;

/// Where a lease stands: a checkpoint, and the time that stands in for a position where there is none yet.
///
/// As text: `SEQUENCE-NUMBER[:SUB-SEQUENCE]`, of the last record that is done; `trim-horizon`; `latest`; a time in RFC
/// 3339; `at-timestamp`, the time in the workers' configuration; `shard-end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What the lease stores as its checkpoint.
    pub checkpoint: Checkpoint,
    /// Where a worker of ours resumes if the checkpoint is no position.
    pub start: Option<Timestamp>,
}

impl Place {
    pub(super) fn of(row: &LeaseRow) -> Self {
        let stands_in = matches!(row.checkpoint, Checkpoint::Latest | Checkpoint::AtTimestamp);
        Self { checkpoint: row.checkpoint, start: row.start.filter(|_| stands_in) }
    }
}

impl From<Checkpoint> for Place {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, start: None }
    }
}

/// The text is none of the forms of a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position: write SEQUENCE-NUMBER[:SUB-SEQUENCE], trim-horizon, latest, or a time such as \
     2026-01-31T08:00:00Z"
)]
pub struct NotAPlace(String);

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        // KCL's words too, as they stand in the table.
        let checkpoint = match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "trim-horizon" => Checkpoint::TrimHorizon,
            "latest" => Checkpoint::Latest,
            "at-timestamp" => Checkpoint::AtTimestamp,
            "shard-end" => Checkpoint::ShardEnd,
            _ => {
                if let Ok(time) = text.parse() {
                    return Ok(Self { checkpoint: Checkpoint::AtTimestamp, start: Some(time) });
                }
                let (sequence, sub_sequence) = text.split_once(':').unwrap_or((text, "0"));
                let position = sequence.parse().ok().zip(sub_sequence.parse().ok());
                let (sequence, sub_sequence) = position.ok_or_else(|| NotAPlace(text.to_owned()))?;
                Checkpoint::At(Position { sequence, sub_sequence })
            }
        };
        Ok(checkpoint.into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.checkpoint, self.start) {
            (Checkpoint::Latest | Checkpoint::AtTimestamp, Some(start)) => start.fmt(f),
            (Checkpoint::At(Position { sequence, sub_sequence: 0 }), _) => sequence.fmt(f),
            (Checkpoint::At(Position { sequence, sub_sequence }), _) => write!(f, "{sequence}:{sub_sequence}"),
            (Checkpoint::TrimHorizon, _) => f.write_str("trim-horizon"),
            (Checkpoint::Latest, None) => f.write_str("latest"),
            (Checkpoint::AtTimestamp, None) => f.write_str("at-timestamp"),
            (Checkpoint::ShardEnd, _) => f.write_str("shard-end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_read_as_it_is_written() {
        for text in ["7", "7:3", "trim-horizon", "latest", "at-timestamp", "shard-end", "2026-03-01T12:00:00.25Z"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        assert_eq!("TRIM_HORIZON".parse::<Place>().unwrap().checkpoint, Checkpoint::TrimHorizon);
        let time: Place = "2026-03-01T14:00:00+02:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-03-01T12:00:00Z");
        for text in ["", "7:", ":3", "7:-1", "07", "yesterday", "7.3"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
