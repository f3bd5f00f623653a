//! A run over a time range of its stream.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use kinesink_core::{Checkpoint, Failure, Position, Read, Records, ShardId, ShardReader};
use tokio_util::sync::CancellationToken;

/// Arrival times need not rise in the order of the stream: behind a record that is so much later none of before follows.
const DISORDER_MAX: SignedDuration = SignedDuration::from_secs(10);

/// Which shards are still to be read up to the end of a range.
#[derive(Debug)]
pub(crate) struct Until {
    range: Range<Timestamp>,
    /// What is read now was asked for then or later.
    began: Timestamp,
    /// The shards that were open at its end.
    open: BTreeSet<ShardId>,
    /// Those of them that are not read so far.
    left: Mutex<BTreeSet<ShardId>>,
}

impl Until {
    /// `open` are the shards that were open at the range's end: the others come before them, or after. Nothing was asked for before
    /// `began`.
    pub(crate) fn new(range: Range<Timestamp>, began: Timestamp, open: impl IntoIterator<Item = ShardId>) -> Self {
        let open: BTreeSet<_> = open.into_iter().collect();
        Self { range, began, left: Mutex::new(open.clone()), open }
    }

    /// What arrived in the range; `reached` is cancelled once all of that was taken. A shard that was closed by then is
    /// read to its end.
    pub(crate) fn bounded(
        self: &Arc<Self>,
        shard: &ShardId,
        reader: Box<dyn ShardReader>,
        reached: CancellationToken,
    ) -> Box<dyn ShardReader> {
        let was_open = self.open.contains(shard);
        Box::new(Bounded { reader, until: Arc::clone(self), was_open, reached, at_end: false })
    }

    /// Notes that this shard is read so far. Whether it was the last that was left.
    pub(crate) fn note_read(&self, shard: &ShardId) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.remove(shard) && left.is_empty()
    }

    /// Whether every shard was read so far.
    pub(crate) fn is_over(&self) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes off what arrived before the range, as stands behind its first record too, or after. Whether nothing of it can follow, in a
    /// shard that was open at its end.
    fn cut(&self, reply: &mut Records, was_open: bool) -> bool {
        // Of a reply with records more may be left to give, and how long ago it came is not known here.
        let is_empty = reply.records.is_empty();
        let later = self.range.end.saturating_add(DISORDER_MAX).unwrap_or(Timestamp::MAX);
        let is_past = reply.records.iter().any(|record| record.arrival >= later);
        reply.records.retain(|record| self.range.contains(&record.arrival));
        if is_past || !was_open || !is_empty {
            return is_past;
        }
        let behind = SignedDuration::from_millis(i64::try_from(reply.behind_latest_ms).unwrap_or(i64::MAX));
        self.began.checked_sub(behind).is_ok_and(|read_to| read_to >= self.range.end)
    }
}

struct Bounded {
    reader: Box<dyn ShardReader>,
    until: Arc<Until>,
    was_open: bool,
    reached: CancellationToken,
    at_end: bool,
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would pass this by")]
#[async_trait]
impl ShardReader for Bounded {
    async fn next(&mut self) -> Result<Read, Failure> {
        if self.at_end {
            // What came before is in a window by now: who reads takes a reply in before it asks for the next.
            self.reached.cancel();
            return std::future::pending().await;
        }
        let mut read = self.reader.next().await?;
        if let Read::Records(reply) = &mut read {
            self.at_end = self.until.cut(reply, self.was_open);
        }
        Ok(read)
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        self.at_end = false;
        self.reader.rewind(checkpoint);
    }

    fn seek(&mut self, first: Position) {
        self.at_end = false;
        self.reader.seek(first);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use kinesink_core::{Record, Reservation};

    use super::*;

    /// Each reply: how many seconds after the beginning its records arrived, and how far behind it is.
    struct Replies(VecDeque<(Vec<i64>, u64)>);

    fn record(arrival: i64) -> Record {
        Record {
            shard: "shardId-000000000000".parse().unwrap(),
            position: Position { sequence: "1".parse().unwrap(), sub_sequence: 0 },
            arrival: Timestamp::from_second(arrival).unwrap(),
            partition_key: None,
            data: Bytes::new(),
        }
    }

    #[async_trait]
    impl ShardReader for Replies {
        async fn next(&mut self) -> Result<Read, Failure> {
            let (arrivals, behind_s) = self.0.pop_front().unwrap();
            let records = arrivals.into_iter().map(record).collect();
            Ok(Read::Records(Records { records, behind_latest_ms: behind_s * 1000, reservation: Reservation::none() }))
        }

        fn rewind(&mut self, _: Checkpoint) {}

        fn seek(&mut self, _: Position) {}
    }

    /// What comes of the range from 1 s to 100 s, read at `now_s`, and how many requests that took.
    async fn read(began_s: i64, replies: &[(&[i64], u64)]) -> (Vec<i64>, usize) {
        read_of("shardId-000000000000", began_s, replies).await
    }

    async fn read_of(shard: &str, began_s: i64, replies: &[(&[i64], u64)]) -> (Vec<i64>, usize) {
        let shards = ["shardId-000000000000".parse().unwrap()];
        let until = Arc::new(Until::new(
            Timestamp::from_second(1).unwrap()..Timestamp::from_second(100).unwrap(),
            Timestamp::from_second(began_s).unwrap(),
            shards,
        ));
        let reached = CancellationToken::new();
        let script = replies.iter().map(|(arrivals, behind_s)| (arrivals.to_vec(), *behind_s)).collect();
        let mut reader = until.bounded(&shard.parse().unwrap(), Box::new(Replies(script)), reached.clone());
        let (mut arrivals, mut requests) = (Vec::new(), 0);
        loop {
            let next = reader.next().now_or_never();
            assert_eq!(reached.is_cancelled(), next.is_none(), "told before the last reply was taken");
            let Some(read) = next else { return (arrivals, requests) };
            let Read::Records(reply) = read.unwrap() else { panic!("an end") };
            arrivals.extend(reply.records.iter().map(|record| record.arrival.as_second()));
            requests += 1;
        }
    }

    #[tokio::test]
    async fn what_arrived_before_the_time_comes_and_nothing_is_asked_for_after_it() {
        // By a record that arrived so much later; the others need not be in order.
        assert_eq!(
            read(900, &[(&[1, 99], 801), (&[99, 100, 98], 700), (&[109, 97], 690), (&[110], 0), (&[96], 0)]).await,
            (vec![1, 99, 99, 98, 97], 4)
        );
        // By how far the reader has come, once a reply has nothing more: one with records may be a part of another.
        assert_eq!(read(900, &[(&[1], 800), (&[], 801), (&[], 800), (&[], 0)]).await, (vec![1], 3));
        assert_eq!(read(900, &[(&[5], 0), (&[6], 0), (&[], 0)]).await, (vec![5, 6], 3));
        // Of a shard that was closed by then its end is still to come, and of one that began later nothing is.
        let other = "shardId-000000000001";
        assert_eq!(read_of(other, 900, &[(&[5], 0), (&[], 0), (&[110], 0)]).await, (vec![5], 3));
        // Asked for before the time, the newest record need not be the last.
        let waiting = std::panic::AssertUnwindSafe(read(99, &[(&[5], 0), (&[], 0)])).catch_unwind().await;
        assert!(waiting.is_err(), "it asks for more than there is");
    }

    #[tokio::test]
    async fn what_arrived_before_the_range_was_in_it_behind_a_later_record() {
        let replies: &[(&[i64], u64)] = &[(&[1, 0, 2], 801), (&[-9], 801), (&[0, 3], 800), (&[110], 0)];
        assert_eq!(read(900, replies).await, (vec![1, 2, 3], 4));
    }

    #[test]
    fn the_last_shard_is_told_once_and_others_do_not_count() {
        let id = |text: &str| text.parse::<ShardId>().unwrap();
        let (one, two, parent) = (id("shardId-000000000001"), id("shardId-000000000002"), id("shardId-000000000000"));
        let until =
            Until::new(Timestamp::UNIX_EPOCH..Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, [one.clone(), two.clone()]);
        assert!(!until.note_read(&parent) && !until.note_read(&one) && !until.note_read(&one) && !until.is_over());
        assert!(until.note_read(&two) && until.is_over() && !until.note_read(&two));
    }
}
