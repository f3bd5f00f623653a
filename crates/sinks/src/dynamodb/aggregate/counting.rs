//! Windows to transactions.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use kinesink_core::{
    Batch, Class, Emitted, Exception, Failure, Fingerprint, Item, Partition, Reject, Reservation, ShardId, StreamName,
};
use tokio::time::sleep;
use tracing::debug;

use super::super::chain::Outcome;
use super::super::emitter::DynamoDbEmitter;
use super::super::error::Verdict;
use super::super::sending::Read;
use super::super::table::{ItemKey, Table};
use super::super::traffic::Traffic;
use super::config::Aggregate;
use super::fold::{Fold, Group, Share};
use super::patience::Patience;
use super::refusals::{Progress, Refusals};
use super::sending::{Sent, hash_of};
use super::share::share;
use crate::rows::Rows;

/// A slice takes this part of the memory that all of them may: so two go side by side, however large their windows are.
const SLICES_AT_ONCE: usize = 2;
/// How often what is left of a group is sent, of which others have counted a part.
const PASSES_MAX: usize = 4;

/// How far items were counted, where that is in the midst of their records.
type Found = HashMap<ItemKey, String>;

/// Groups that are to be sent again, and why.
type Waiting = Vec<(Group, Verdict)>;

/// Where records are read from.
#[derive(Debug, Clone, Copy, Default)]
struct PieceOffset {
    piece: usize,
    /// Items of the piece that come before.
    passed: usize,
}

/// So much of a window as is folded and sent at a time.
struct Slice {
    from: PieceOffset,
    records: usize,
    /// Of the largest of its records.
    largest_bytes: usize,
    /// Where the next one begins, if there is more.
    next: Option<PieceOffset>,
}

/// A window on its way.
pub(super) struct Counting<'a, U> {
    pub(super) emitter: &'a DynamoDbEmitter,
    pub(super) aggregate: &'a Aggregate,
    table: Arc<Table>,
    pub(super) guards: &'a Traffic,
    pub(super) stream: &'a StreamName,
    pub(super) shard: &'a ShardId,
    pub(super) rows: Rows<'a, U>,
    read: Read<U>,
}

impl DynamoDbEmitter {
    pub(in crate::dynamodb) async fn count_batch<U: Send + Sync>(
        &self,
        aggregate: &Aggregate,
        batch: &Batch<'_, U>,
        read: Read<U>,
    ) -> Result<Emitted, Failure> {
        let (stream, shard) = (batch.stream, batch.shard);
        let rows = Rows::Held(batch.items.iter().copied().enumerate().collect());
        let (table, guards) = self.counted_tables().await?;
        Counting { emitter: self, aggregate, table, guards, stream, shard, rows, read }.run().await
    }

    pub(in crate::dynamodb) async fn count_partition<U: Send + Sync>(
        &self,
        partition: &Partition<'_, U>,
        read: Read<U>,
    ) -> Result<Emitted, Failure> {
        let Some(aggregate) = &self.config.aggregate else {
            return Err(Failure::fatal("a partition was sent to a sink that announces no windows: a bug"));
        };
        let (stream, shard, rows) = (partition.stream, partition.shard, Rows::Spilled(partition));
        let (table, guards) = self.counted_tables().await?;
        Counting { emitter: self, aggregate, table, guards, stream, shard, rows, read }.run().await
    }

    /// The table of the items, and what is on its way to that of the guards. Both are described, if they are not known.
    async fn counted_tables(&self) -> Result<(Arc<Table>, &Traffic), Failure> {
        let Some(guards) = &self.guards else {
            return Err(Failure::fatal("records are counted without guards: a bug"));
        };
        guards.table().await?;
        Ok((self.items.table().await?, &guards.traffic))
    }

    /// Whether windows are announced: those of counted records, which a change of settings would count elsewhere.
    pub(in crate::dynamodb) fn plan_counting(&self, content: &mut Fingerprint) -> bool {
        let Some(aggregate) = &self.config.aggregate else { return false };
        aggregate.feed(&self.config, content);
        true
    }
}

impl<'a, U: Send + Sync> Counting<'a, U> {
    async fn run(self) -> Result<Emitted, Failure> {
        let mut progress = Progress::new(self.emitter, &self.rows);
        let mut next = Some(PieceOffset::default());
        // A guard would pass over what waits, if what is behind it were counted.
        while let Some(from) = next
            && !progress.settling.has_failed()
        {
            next = self.count_slice(from, &mut progress).await?;
        }
        let Progress { settling, refused, has_unnamed, .. } = progress;
        let mut emitted = settling.finish()?;
        let waits = emitted.exceptions().iter().find_map(|(_, exception)| match exception {
            Exception::Retry(why) => Some(why.clone()),
            _ => None,
        });
        match (&self.rows, waits) {
            (Rows::Spilled(_), Some(why)) => return Err(Failure::transient(why.to_string())),
            (Rows::Spilled(partition), None) if has_unnamed => self.hand_back(partition, &refused).await?,
            (Rows::Held(_), Some(why)) => {
                if let Some(next) = next {
                    self.put_off(next, &refused, &why, &mut emitted).await?;
                }
            }
            _ => {}
        }
        Ok(emitted)
    }

    /// Counts a slice from there on. Gives back where the next begins, if there is more.
    async fn count_slice(
        &self,
        from: PieceOffset,
        progress: &mut Progress<'a>,
    ) -> Result<Option<PieceOffset>, Failure> {
        let mut memory = self.reserve().await;
        let (slice, fold) = self.fold(from, memory.bytes(), progress).await?;
        let (mut groups, mut passed_over) = (fold.into_groups(), Found::new());
        // Shards do not wait in step.
        let (mut passes, mut patience) = (0, Patience::new(groups.len(), hash_of(self.shard)));
        while !groups.is_empty() {
            let groups_bytes: usize = groups.iter().map(Group::memory_bytes).sum();
            // Some of its records may be read again.
            memory.shrink_to(groups_bytes + slice.largest_bytes);
            let sent = groups.len();
            let (waiting, found) = self.send_all(groups, progress).await;
            if waiting.len() < sent {
                self.rows.progressed();
            }
            groups =
                if found.is_empty() { Vec::new() } else { self.left(&slice, &found, &passed_over, progress).await? };
            passed_over.extend(found);
            passes += usize::from(!groups.is_empty());
            if passes > PASSES_MAX {
                let why = Verdict::Failed(Failure::transient(format!(
                    "cannot count in table {}: another worker counts the same records",
                    self.emitter.config.table
                )));
                groups.drain(..).for_each(|group| progress.failed(group, why.clone()));
            }
            groups.extend(self.wait(waiting, &mut patience, progress).await);
        }
        Ok(slice.next)
    }

    /// What is folded before the rest of a window, and made into requests, is in the memory that the sink may take.
    async fn reserve(&self) -> Reservation {
        let budget = &self.emitter.encoding;
        let slice_bytes = budget.total_bytes() / SLICES_AT_ONCE;
        budget
            .reserve(match &self.rows {
                Rows::Held(items) => {
                    let largest_bytes = items.iter().map(|(_, item)| item.record.data.len()).max();
                    (Group::memory_bytes_of(items.len()) + largest_bytes.unwrap_or_default()).min(slice_bytes)
                }
                Rows::Spilled(_) => slice_bytes,
            })
            .await
    }

    /// The groups of a slice from there on that is folded in so much memory.
    async fn fold(
        &self,
        from: PieceOffset,
        bytes_max: usize,
        progress: &mut Progress<'a>,
    ) -> Result<(Slice, Fold), Failure> {
        let (mut fold, mut records, mut largest_bytes) = (Fold::new(self.emitter.config.is_replay), 0, 0);
        let fold_one = |index, item: &Item<U>| {
            let record_bytes = item.record.data.len();
            if records > 0 && fold.memory_bytes() + record_bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            records += 1;
            largest_bytes = record_bytes.max(largest_bytes);
            match self.share(item) {
                Ok(share) => self.add(index, share, &mut fold, progress),
                Err(why) => progress.reject(index, why),
            }
            ControlFlow::Continue(())
        };
        let next = self.each(from, fold_one).await?;
        Ok((Slice { from, records, largest_bytes, next }, fold))
    }

    /// The groups of what is left of those in the slice that were found in part, some of them not for the first time.
    async fn left(
        &self,
        slice: &Slice,
        found: &Found,
        before: &Found,
        progress: &mut Progress<'a>,
    ) -> Result<Vec<Group>, Failure> {
        let DynamoDbEmitter { config, .. } = self.emitter;
        let (mut fold, mut records, mut passed_over) = (Fold::new(config.is_replay), 0, 0);
        let fold_one = |index, item: &Item<U>| {
            if records == slice.records {
                return ControlFlow::Break(());
            }
            records += 1;
            // What counts nowhere was refused before.
            if let Ok(share) = self.share(item)
                && let Some(place) = found.get(&share.id)
            {
                if share.place > *place || progress.refused.of(&share).is_some() {
                    self.add(index, share, &mut fold, progress);
                    return ControlFlow::Continue(());
                }
                passed_over += usize::from(before.get(&share.id).is_none_or(|before| share.place > *before));
            }
            ControlFlow::Continue(())
        };
        self.each(slice.from, fold_one).await?;
        config.metrics.passed_over(&config.table, passed_over);
        Ok(fold.into_groups())
    }

    /// Puts records off from there on, but for those of items whose records are refused.
    async fn put_off(
        &self,
        from: PieceOffset,
        refused: &Refusals,
        why: &Reject,
        emitted: &mut Emitted,
    ) -> Result<(), Failure> {
        let put_off_one = |index, item: &Item<U>| {
            match self.share(item).map(|share| refused.of(&share)) {
                Ok(None) => emitted.retry(index, why.clone()),
                Ok(Some(refused)) | Err(refused) => emitted.reject(index, refused),
            }
            ControlFlow::Continue(())
        };
        self.each(from, put_off_one).await.map(drop)
    }

    /// Reads records from there on, until it is told to leave off. Gives back where that was.
    async fn each(
        &self,
        from: PieceOffset,
        mut one: impl FnMut(usize, &Item<U>) -> ControlFlow<()>,
    ) -> Result<Option<PieceOffset>, Failure> {
        let mut at = from;
        while let Some(piece) = self.rows.piece(at.piece).await? {
            for (index, item) in piece.iter().skip(at.passed) {
                if one(index, item).is_break() {
                    return Ok(Some(at));
                }
                at.passed += 1;
            }
            at = PieceOffset { piece: at.piece + 1, passed: 0 };
        }
        Ok(None)
    }

    pub(super) fn share(&self, item: &Item<U>) -> Result<Share, Reject> {
        let config = &self.emitter.config;
        let attributes = (self.read)(config, &item.value)?.whole()?;
        let own_time = self.aggregate.own_time(&attributes);
        if let Some(event_time) = &self.aggregate.event_time {
            self.emitter.times.note(own_time.is_some(), event_time, &config.table);
        }
        share(config, self.aggregate, &self.table, item, own_time, &attributes)
    }

    /// Adds a record to its group, unless it counts nothing, or is refused already.
    fn add(&self, index: usize, share: Share, fold: &mut Fold, progress: &mut Progress<'a>) {
        if share.totals.is_nothing() {
            return;
        }
        if let Some(why) = progress.refused.of(&share) {
            return progress.reject(index, why);
        }
        if let Err(refusal) = fold.add(index, share) {
            progress.refused(refusal, vec![index]);
        }
    }

    /// Sends each group once. Gives back those that are to be sent again, and those that others have counted in part.
    async fn send_all(&self, groups: Vec<Group>, progress: &mut Progress<'a>) -> (Waiting, Found) {
        let sending = stream::iter(groups.into_iter().map(|group| self.send(group)));
        let mut sending = sending.buffer_unordered(self.emitter.config.requests_max.max(1));
        let (mut waiting, mut found) = (Waiting::new(), Found::new());
        while let Some(sent) = sending.next().await {
            match sent {
                Sent::Ended(id, outcome, refusal) => {
                    progress.settling.add(id, outcome);
                    refusal.into_iter().for_each(|refusal| progress.refused(refusal, Vec::new()));
                }
                Sent::Partly(id, place, refusal) => {
                    refusal.into_iter().for_each(|refusal| progress.refused(refusal, Vec::new()));
                    found.insert(id, place);
                }
                Sent::Refused(refusal, indexes) => {
                    progress.settling.add(refusal.id.clone(), Outcome::default());
                    progress.refused(refusal, indexes);
                }
                Sent::Failed(group, why) => waiting.push((group, why)),
            }
        }
        (waiting, found)
    }

    /// Waits, and gives back what is to be sent again by itself. The rest is the pipeline's to send again: all of it where the window
    /// is in memory; of a spilled one, which it sends again as a whole, what does not become less.
    async fn wait(&self, waiting: Waiting, patience: &mut Patience, progress: &mut Progress<'a>) -> Vec<Group> {
        if waiting.is_empty() {
            return Vec::new();
        }
        let transient = |(_, why): &(Group, Verdict)| why.failure().is_some_and(|why| why.class == Class::Transient);
        let asked = waiting.iter().filter_map(|(_, why)| why.failure()?.retry_after).max();
        let wait = match &self.rows {
            Rows::Spilled(_) if waiting.iter().all(transient) => patience.wait(waiting.len(), asked),
            _ => None,
        };
        let Some(wait) = wait else {
            waiting.into_iter().for_each(|(group, why)| progress.failed(group, why));
            return Vec::new();
        };
        debug!(table = self.emitter.config.table, groups = waiting.len(), ?wait, "some of a spilled window waits");
        sleep(wait).await;
        waiting.into_iter().map(|(group, _)| group).collect()
    }
}
