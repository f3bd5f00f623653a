//! Where a reader stands. Pure.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use kinesink_aws::kinesis::types::ShardIteratorType;
use kinesink_core::{Checkpoint, Position, SequenceNumber};
use tokio::time::Instant;

use crate::planted::{Fault, planted};

/// Where to read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    floor: Floor,
    /// The last sequence number that was read as a whole.
    read: Option<SequenceNumber>,
    /// Where a lease that has no position yet resumes.
    start: Option<Timestamp>,
    /// Until when LATEST still means what it says: the lease was taken just now.
    fresh_until: Option<Instant>,
    /// The record that the checkpoint stands at, until it was seen: the first read begins with it, while the stream has
    /// it.
    unseen: Option<SequenceNumber>,
    /// Found by the last read.
    gap: Option<Gap>,
    /// Where reading goes on beyond a gap, if not at the oldest record. Decided once, whatever is rewound.
    resume: Arc<OnceLock<Timestamp>>,
}

/// The record that a checkpoint stands at has left the stream, and others after it may have, which nobody has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) checkpoint: SequenceNumber,
    /// The oldest record that is left; none if the shard ended without one.
    pub(crate) oldest: Option<(SequenceNumber, Timestamp)>,
}

/// What is dropped of the first read, which is AT a position that may be inside an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// Everything up to here.
    After(Checkpoint),
    /// Everything before this record.
    From(Position),
}

impl Floor {
    /// The record that a checkpoint stands at, which is there unless it is too old.
    fn stands_at(self) -> Option<SequenceNumber> {
        match self {
            Self::After(Checkpoint::At(position)) => Some(position.sequence),
            Self::After(_) | Self::From(_) => None,
        }
    }
}

/// What to ask GetShardIterator for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: ShardIteratorType,
    pub(crate) sequence: Option<SequenceNumber>,
    pub(crate) time: Option<Timestamp>,
}

impl Request {
    /// The service refuses a time that its clock has not reached yet.
    pub(crate) fn is_refused_until_later(&self, code: Option<&str>) -> bool {
        self.time.is_some() && code == Some("InvalidArgumentException")
    }

    /// The shard did not give this number out: the stream was deleted and created again, and the next listing tells.
    pub(crate) fn is_of_another_stream(&self, code: Option<&str>) -> bool {
        self.sequence.is_some() && code == Some("InvalidArgumentException")
    }
}

impl Cursor {
    /// After `checkpoint`; `start` is the time stored in the lease, `fresh_until` until when it may
    /// be read as "now", if this process stored it.
    pub(crate) fn new(checkpoint: Checkpoint, start: Option<Timestamp>, fresh_until: Option<Instant>) -> Self {
        let floor = Floor::After(checkpoint);
        Self { floor, read: None, start, fresh_until, unseen: floor.stands_at(), gap: None, resume: Arc::default() }
    }

    /// The iterator that continues here.
    ///
    /// A numeric checkpoint is asked for AT, not AFTER, until something was read: an aggregate may be half processed.
    /// LATEST is asked for once, and at once; later, as after a wait for memory or for a parent, it would skip what
    /// arrived meanwhile, so the stored time stands in for it.
    pub(crate) fn request(&self) -> Request {
        let by = |kind, sequence, time| Request { kind, sequence, time };
        if let Some(sequence) = self.read.filter(|_| !planted(Fault::ForgetsPosition)) {
            return by(ShardIteratorType::AfterSequenceNumber, Some(sequence), None);
        }
        if let Some(time) = self.resume.get() {
            return by(ShardIteratorType::AtTimestamp, None, Some(*time));
        }
        let checkpoint = match self.floor {
            Floor::After(checkpoint) => checkpoint,
            Floor::From(first) => Checkpoint::At(first),
        };
        match checkpoint {
            Checkpoint::At(position) => by(ShardIteratorType::AtSequenceNumber, Some(position.sequence), None),
            Checkpoint::Latest if self.fresh_until.is_some_and(|until| Instant::now() < until) => {
                by(ShardIteratorType::Latest, None, None)
            }
            Checkpoint::Latest if planted(Fault::LatestTwice) => by(ShardIteratorType::Latest, None, None),
            Checkpoint::AtTimestamp if planted(Fault::TimestampIsLatest) => by(ShardIteratorType::Latest, None, None),
            Checkpoint::Latest | Checkpoint::AtTimestamp if self.start.is_some() => {
                by(ShardIteratorType::AtTimestamp, None, self.start)
            }
            Checkpoint::Latest => by(ShardIteratorType::Latest, None, None),
            Checkpoint::TrimHorizon | Checkpoint::AtTimestamp | Checkpoint::ShardEnd => {
                by(ShardIteratorType::TrimHorizon, None, None)
            }
        }
    }

    /// An iterator is being asked for: LATEST is used up, whether an answer comes or not.
    pub(crate) fn asked(&mut self) {
        self.fresh_until = None;
    }

    /// Everything up to and including this Kinesis record was read.
    pub(crate) fn advance(&mut self, sequence: SequenceNumber) {
        self.read = Some(sequence);
    }

    /// Whether a record is still to be given.
    pub(crate) fn wants(&self, position: Position) -> bool {
        match self.floor {
            Floor::After(checkpoint) => checkpoint.is_before(position),
            Floor::From(first) => first <= position,
        }
    }

    /// Goes back to after `checkpoint`.
    pub(crate) fn rewind(&mut self, checkpoint: Checkpoint) {
        self.go_to(Floor::After(checkpoint));
    }

    /// Goes to the record at `first`, which is given again.
    pub(crate) fn seek(&mut self, first: Position) {
        self.go_to(Floor::From(first));
    }

    fn go_to(&mut self, floor: Floor) {
        if floor != self.floor {
            self.resume = Arc::default();
        }
        self.floor = floor;
        self.read = None;
        self.fresh_until = None;
        self.unseen = floor.stands_at().filter(|_| self.resume.get().is_none());
    }

    /// The first record of a read, before any is dropped.
    pub(crate) fn saw(&mut self, first: SequenceNumber, arrival: Timestamp) {
        let checkpoint = self.unseen.take().filter(|checkpoint| first > *checkpoint);
        self.gap = checkpoint.map(|checkpoint| Gap { checkpoint, oldest: Some((first, arrival)) });
    }

    /// What the last read has found to be missing; `at_end` if nothing comes after it.
    pub(crate) fn take_gap(&mut self, at_end: bool) -> Option<Gap> {
        let unseen = self.unseen.take_if(|_| at_end);
        self.gap.take().or(unseen.map(|checkpoint| Gap { checkpoint, oldest: None }))
    }

    /// Reading goes on at this time.
    pub(crate) fn resume_at(&mut self, time: Timestamp) {
        (self.read, self.unseen) = (None, None);
        // Set before: it stays as it was decided.
        let _decided = self.resume.set(time);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(sequence: &str, sub_sequence: u64) -> Position {
        Position { sequence: sequence.parse().unwrap(), sub_sequence }
    }

    #[test]
    fn a_half_processed_aggregate_is_read_at_and_its_first_part_dropped() {
        let cursor = Cursor::new(Checkpoint::At(at("7", 2)), None, None);
        assert_eq!(cursor.request().kind, ShardIteratorType::AtSequenceNumber);
        assert!(!cursor.wants(at("7", 2)));
        assert!(cursor.wants(at("7", 3)) && cursor.wants(at("8", 0)));
    }

    #[test]
    fn an_announced_window_is_read_again_with_its_first_record_which_may_be_inside_an_aggregate() {
        let mut cursor = Cursor::new(Checkpoint::Latest, None, None);
        cursor.advance("9".parse().unwrap());
        cursor.seek(at("7", 2));
        assert_eq!(cursor.request().kind, ShardIteratorType::AtSequenceNumber);
        assert_eq!(cursor.request().sequence, Some("7".parse().unwrap()));
        assert!(!cursor.wants(at("7", 1)));
        assert!(cursor.wants(at("7", 2)) && cursor.wants(at("8", 0)));
    }

    #[test]
    fn an_iterator_made_again_before_anything_was_read_is_still_at_the_checkpoint() {
        let mut cursor = Cursor::new(Checkpoint::At(at("7", 2)), None, None);
        cursor.asked();
        assert_eq!(cursor.request().kind, ShardIteratorType::AtSequenceNumber);
        cursor.advance("9".parse().unwrap());
        assert_eq!(cursor.request().kind, ShardIteratorType::AfterSequenceNumber);
    }

    #[test]
    fn a_checkpoint_whose_record_is_not_the_first_that_comes_has_a_gap_behind_it() {
        let cursor = || Cursor::new(Checkpoint::At(at("7", 2)), None, None);
        let (mut seen, mut missed, mut ended) = (cursor(), cursor(), cursor());
        seen.saw("7".parse().unwrap(), Timestamp::UNIX_EPOCH);
        seen.saw("9".parse().unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(seen.take_gap(true), None);
        missed.saw("9".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let checkpoint = "7".parse().unwrap();
        let oldest = Some(("9".parse().unwrap(), Timestamp::UNIX_EPOCH));
        assert_eq!(missed.take_gap(false), Some(Gap { checkpoint, oldest }));
        assert_eq!(missed.take_gap(true), None, "it is told once");
        assert_eq!(ended.take_gap(false), None, "the record may still come");
        assert_eq!(ended.take_gap(true), Some(Gap { checkpoint, oldest: None }));
        assert_eq!(Cursor::new(Checkpoint::TrimHorizon, None, None).take_gap(true), None);
    }

    #[test]
    fn a_rewind_to_the_same_checkpoint_resumes_where_it_was_decided() {
        let mut cursor = Cursor::new(Checkpoint::At(at("7", 0)), None, None);
        let mut reader = cursor.clone();
        cursor.resume_at(Timestamp::UNIX_EPOCH);
        reader.rewind(Checkpoint::At(at("7", 0)));
        assert_eq!(reader.request().time, Some(Timestamp::UNIX_EPOCH));
        reader.rewind(Checkpoint::At(at("9", 0)));
        assert_eq!(reader.request().kind, ShardIteratorType::AtSequenceNumber);
    }

    #[tokio::test(start_paused = true)]
    async fn latest_asked_late_is_the_stored_time() {
        let start = Some(Timestamp::UNIX_EPOCH);
        let cursor = Cursor::new(Checkpoint::Latest, start, Some(Instant::now() + Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(cursor.request().kind, ShardIteratorType::Latest);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((cursor.request().kind, cursor.request().time), (ShardIteratorType::AtTimestamp, start));
    }

    #[tokio::test(start_paused = true)]
    async fn latest_asked_a_second_time_is_the_stored_time() {
        let start = Some(Timestamp::UNIX_EPOCH);
        let mut cursor = Cursor::new(Checkpoint::Latest, start, Some(Instant::now() + Duration::from_secs(1)));
        assert_eq!(cursor.request().kind, ShardIteratorType::Latest);
        cursor.asked();
        assert_eq!((cursor.request().kind, cursor.request().time), (ShardIteratorType::AtTimestamp, start));
        assert_eq!(Cursor::new(Checkpoint::Latest, start, None).request().kind, ShardIteratorType::AtTimestamp);
    }
}
