//! What replays have sent of a window, as notes beside its letters: a replay sends what no earlier one has.
//!
//! ```text
//! .FIRST-replay-N.json         what round N sends to which sinks, and how far its window goes; written before
//! .FIRST-replay-N-done.json    what of that the sinks do not have; written once they have the rest
//! ```
//!
//! A round that is not done is sent again as it was, its replay was killed; but not by a file that would make other objects of it.
//! Each note is made once, so replays at the same time agree. Windows that begin with one record share their rounds, however they ended.

use std::collections::{BTreeMap, BTreeSet};

use kinesink_core::{Failure, Position};
use kinesink_pipeline::{DeadLetter, OutputId, OutputIds};
use kinesink_sinks::s3::S3Reader;
use serde::{Deserialize, Serialize};

/// Rounds of a window. A round more is begun only where letters came in since the last, or are left of it.
const ROUNDS_MAX: u32 = 99;
/// The newest version of a note that this program writes and reads.
const VERSION: u32 = 1;

/// An output's position, as two numbers, and its ordinal.
type Written = (String, u64, u32);

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    /// Position of the window's last record.
    last: (String, u64),
    outputs: BTreeMap<String, Vec<Written>>,
    /// Digest of the file's recipe. Notes of earlier programs have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
}

/// Some letters' outputs, sent together.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) number: u32,
    /// The last record of the window that it is named by.
    pub(super) last: Position,
    pub(super) outputs: OutputIds,
    /// Once it is done: what the sinks do not have.
    pub(super) missing: Option<OutputIds>,
    /// Of what it was begun by, where that is known.
    pub(super) recipe: Option<String>,
}

/// The notes about windows that begin with one record.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    pub(super) reader: &'a S3Reader,
    /// Of one of their letters.
    pub(super) key: &'a str,
    /// Of the file as it is now.
    pub(super) recipe: &'a str,
}

impl Notes<'_> {
    /// All rounds, in order.
    pub(super) async fn rounds(&self) -> Result<Vec<Round>, Failure> {
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS_MAX {
            let Some(round) = self.round(number).await? else { break };
            rounds.push(round);
        }
        Ok(rounds)
    }

    async fn round(&self, number: u32) -> Result<Option<Round>, Failure> {
        let Some((last, outputs, recipe)) = self.read(&name(number)).await? else { return Ok(None) };
        let missing = self.read(&name_of_end(number)).await?.map(|(_, missing, _)| missing);
        Ok(Some(Round { number, last, outputs, missing, recipe }))
    }

    /// Begins a round; or gives the one that another replay has begun at the same time.
    pub(super) async fn begin(&self, number: u32, last: Position, outputs: OutputIds) -> Result<Round, Failure> {
        if number > ROUNDS_MAX {
            let why = format!(
                "it was replayed {ROUNDS_MAX} times with letters left: see that its objects are right, and remove"
            );
            return Err(Failure::configuration(format!("{why} its notes beside {}", self.key)));
        }
        if self.write(&name(number), last, &outputs).await? {
            return Ok(Round { number, last, outputs, missing: None, recipe: Some(self.recipe.to_owned()) });
        }
        let begun = self.round(number).await?;
        begun.ok_or_else(|| Failure::transient(format!("a note beside {} is there and gone: replay again", self.key)))
    }

    pub(super) async fn end(&self, round: &Round, missing: &OutputIds) -> Result<(), Failure> {
        self.write(&name_of_end(round.number), round.last, missing).await.map(drop)
    }

    /// Sent by another file, what is there of a round may be there twice, under other names.
    pub(super) fn as_begun(&self, round: &Round) -> Result<(), Failure> {
        if round.recipe.as_ref().is_none_or(|recipe| recipe == self.recipe) {
            return Ok(());
        }
        let note = self.reader.note_url(self.key, &name(round.number));
        Err(Failure::configuration(format!(
            "a replay with other settings began to send it and did not come to its end: replay with the file of then, or look for \
             what is there of it, remove that, then remove {note} and replay again"
        )))
    }

    async fn read(&self, name: &str) -> Result<Option<(Position, OutputIds, Option<String>)>, Failure> {
        let Some(note) = self.reader.note(self.key, name).await? else { return Ok(None) };
        let unusable = |why: String| {
            let note = self.reader.note_url(self.key, name);
            Failure::configuration(format!("the note {note} cannot be read: {why}"))
        };
        let damaged = |error: String| {
            unusable(format!(
                "{error}: look for what replays made of the window, remove that, then remove its notes, this one and those whose names \
                 begin the same, and replay again"
            ))
        };
        let note: Note = serde_json::from_slice(&note).map_err(|error| damaged(error.to_string()))?;
        if note.version > VERSION {
            return Err(unusable(format!("it has version {}: replay with the kinesink that wrote it", note.version)));
        }
        let position = |sequence: &str, sub_sequence| {
            let sequence = sequence.parse().map_err(|error: kinesink_core::Error| damaged(error.to_string()))?;
            Ok(Position { sequence, sub_sequence })
        };
        let mut ids = OutputIds::new();
        for (sink, outputs) in note.outputs {
            let outputs = outputs.iter().map(|(sequence, sub, ordinal)| Ok((position(sequence, *sub)?, *ordinal)));
            ids.insert(sink, outputs.collect::<Result<_, Failure>>()?);
        }
        Ok(Some((position(&note.last.0, note.last.1)?, ids, note.recipe)))
    }

    async fn write(&self, name: &str, last: Position, ids: &OutputIds) -> Result<bool, Failure> {
        let written = |(position, ordinal): &OutputId| (position.sequence.to_string(), position.sub_sequence, *ordinal);
        let of_sink = |(sink, ids): (&String, &BTreeSet<OutputId>)| (sink.clone(), ids.iter().map(written).collect());
        let outputs = ids.iter().map(of_sink).collect();
        let (last, recipe) = ((last.sequence.to_string(), last.sub_sequence), Some(self.recipe.to_owned()));
        let note = Note { version: VERSION, last, outputs, recipe };
        let json =
            serde_json::to_vec(&note).map_err(|error| Failure::fatal(format!("cannot write a note: {error}")))?;
        self.reader.take_note(self.key, name, json.into()).await
    }
}

fn name(number: u32) -> String {
    format!("replay-{number}")
}

fn name_of_end(number: u32) -> String {
    format!("replay-{number}-done")
}

/// How outputs stand with the sinks, by all rounds that were looked at: whether each that was sent is left over. What one round
/// left, another may have; what a round has that is not done is sent again as it was, by that round alone.
#[derive(Debug, Default)]
pub(super) struct Standing(BTreeMap<String, BTreeMap<OutputId, bool>>);

impl Standing {
    pub(super) fn add(&mut self, round: &Round) {
        for (sink, ids) in &round.outputs {
            let missing = round.missing.as_ref().and_then(|missing| missing.get(sink));
            let of_sink = self.0.entry(sink.clone()).or_default();
            for id in ids {
                let is_left = missing.is_some_and(|missing| missing.contains(id));
                *of_sink.entry(*id).or_insert(true) &= is_left;
            }
        }
    }

    /// How many outputs it knows of.
    pub(super) fn outputs(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Whether the output is still to be sent to the sink, by a round of its own.
    pub(super) fn owes(&self, sink: &str, id: OutputId) -> bool {
        self.0.get(sink).and_then(|ids| ids.get(&id)).is_none_or(|is_left| *is_left)
    }

    /// Whether something of the letter may still have to be sent, by a round of its own.
    pub(super) fn concerns(&self, letter: &DeadLetter, position: Position, sinks: &[&str]) -> bool {
        if let Some(sink) = letter.sink() {
            return self.owes(sink, (position, letter.ordinal));
        }
        // What the transformer makes of it is not known before; once a sink has some of it, it has all, but for what it lacks.
        sinks.iter().any(|sink| {
            let Some(ids) = self.0.get(*sink) else { return true };
            let mut of_record = ids.range((position, 0)..=(position, u32::MAX)).peekable();
            of_record.peek().is_none() || of_record.any(|(_, is_left)| *is_left)
        })
    }
}

#[cfg(test)]
mod tests {
    use kinesink_sinks::s3::S3Config;

    use super::*;

    fn position(number: u64) -> Position {
        Position { sequence: number.to_string().parse().unwrap(), sub_sequence: 0 }
    }

    fn outputs(sink: &str, numbers: &[u64]) -> OutputIds {
        [(sink.to_owned(), numbers.iter().map(|number| (position(*number), 0)).collect())].into()
    }

    #[tokio::test]
    async fn rounds_are_made_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let place = format!("file://{}", directory.path().display());
        let reader = S3Reader::open(&S3Config::new(place.parse().unwrap())).unwrap();
        let notes = Notes { reader: &reader, key: "orders/shardId-0/07.0-09.0-x.ndjson", recipe: "one" };
        assert!(notes.rounds().await.unwrap().is_empty());
        let begun = notes.begin(1, position(9), outputs("one", &[7, 8])).await.unwrap();
        assert_eq!((&begun.outputs, &begun.missing), (&outputs("one", &[7, 8]), &None));
        // Another replay knows of one letter more, and of a longer window.
        let met = notes.begin(1, position(11), outputs("one", &[7, 8, 11])).await.unwrap();
        assert_eq!((met.last, &met.outputs), (position(9), &begun.outputs));
        notes.end(&begun, &outputs("one", &[8])).await.unwrap();
        notes.begin(2, position(11), outputs("one", &[8])).await.unwrap();
        let rounds = notes.rounds().await.unwrap();
        let told: Vec<_> = rounds.iter().map(|round| (round.number, round.last, round.missing.clone())).collect();
        assert_eq!(told, [(1, position(9), Some(outputs("one", &[8]))), (2, position(11), None)]);
        let failure = notes.begin(ROUNDS_MAX + 1, position(9), OutputIds::new()).await.unwrap_err();
        assert!(failure.message.contains("remove its notes beside orders/shardId-0/07.0"), "{failure}");
    }

    #[tokio::test]
    async fn a_note_of_a_newer_version_or_a_damaged_one_is_told_by_its_file_and_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let place = format!("file://{}", directory.path().display());
        let reader = S3Reader::open(&S3Config::new(place.parse().unwrap())).unwrap();
        let notes = Notes { reader: &reader, key: "7-9.ndjson", recipe: "one" };
        let file = directory.path().join(".7-replay-1.json");
        for (text, says, remedy) in [
            (r#"{"version":2,"last":["9",0],"outputs":{}}"#, "version 2", "replay with the kinesink that wrote it"),
            (r#"{"version":1,"last":["x",0],"outputs":{}}"#, "x", "remove its notes"),
            ("{", "EOF", "remove its notes"),
        ] {
            std::fs::write(&file, text).unwrap();
            let Failure { message, .. } = notes.rounds().await.unwrap_err();
            assert!(message.starts_with(&format!("the note {} cannot be read: ", file.display())), "{message}");
            assert!(message.contains(says) && message.contains(remedy), "{message}");
        }
    }

    #[test]
    fn a_sink_is_owed_what_no_round_has_or_a_round_that_is_done_left() {
        let round = |number, sent: &[u64], missing: Option<&[u64]>| Round {
            number,
            last: position(9),
            outputs: outputs("one", sent),
            missing: missing.map(|missing| outputs("one", missing)),
            recipe: None,
        };
        let mut standing = Standing::default();
        standing.add(&round(1, &[1, 2, 3], Some(&[2, 3])));
        // Of two windows, in any order.
        standing.add(&round(1, &[3], Some(&[])));
        standing.add(&round(2, &[4], None));
        standing.add(&round(1, &[3, 4], Some(&[3, 4])));
        let owed: Vec<_> = (1..=5).filter(|number| standing.owes("one", (position(*number), 0))).collect();
        assert_eq!(owed, [2, 5]);
        assert!(standing.owes("another", (position(1), 0)));
        assert_eq!(standing.outputs(), 4);
    }
}
