//! Windows to transactions.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use kinesink_core::{Batch, Emitted, Exception, Failure, Fingerprint, Item, Partition, Reject, ShardId, StreamName};
use tokio::sync::{Mutex, MutexGuard};

use super::super::chain::{Outcome, Read};
use super::super::emitter::DynamoDbEmitter;
use super::super::error::Verdict;
use super::super::lanes::Answer;
use super::super::table::{ItemKey, Table};
use super::config::Aggregate;
use super::fold::{Fold, Group, Refusal};
use super::guard;
use super::share::share;
use super::transaction::{self, Met};
use crate::rows::Rows;

/// Of a window that memory does not hold: so many items at a time, and those of one more piece.
const GROUPS_MAX: usize = if cfg!(test) { 4 } else { 16_384 };
/// How often what is left of a group is sent, of which others have counted a part.
const PASSES_MAX: usize = 4;
/// Items of which no two wait for each other, if their hashes are others.
const ITEMS_APART: usize = 256;

/// DynamoDB cancels one of two transactions of an item: those of this process go one after the other.
#[derive(Debug)]
pub(in crate::dynamodb) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..ITEMS_APART).map(|_| Mutex::new(())).collect())
    }
}

impl Turns {
    /// Waits until no other transaction of the item is on its way. Cancel safe.
    async fn of(&self, id: &ItemKey) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % ITEMS_APART as u64).unwrap_or_default();
        Some(self.0.get(place)?.lock().await)
    }
}

/// What became of a group.
enum Sent {
    Ended(ItemKey, Outcome),
    /// Counted up to this place, by others.
    Partly(ItemKey, String),
    Refused(Refusal, Vec<usize>),
}

/// How far items were counted, where that is in the midst of their records.
type Found = HashMap<ItemKey, String>;

/// What became of the window so far.
#[derive(Default)]
struct Progress {
    emitted: Emitted,
    ended: Vec<(ItemKey, Outcome)>,
    /// From where on an item's records are refused, and why.
    refused: HashMap<ItemKey, (String, Reject)>,
}

/// A window on its way.
struct Counting<'a, U> {
    emitter: &'a DynamoDbEmitter,
    aggregate: &'a Aggregate,
    table: Arc<Table>,
    stream: &'a StreamName,
    shard: &'a ShardId,
    rows: Rows<'a, U>,
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
        let table = self.table().await?;
        Counting { emitter: self, aggregate, table, stream, shard, rows, read }.run().await
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
        let table = self.table().await?;
        Counting { emitter: self, aggregate, table, stream, shard, rows, read }.run().await
    }

    /// Whether windows are announced: those of counted records, which a change of settings would count elsewhere.
    pub(in crate::dynamodb) fn plan_counting(&self, content: &mut Fingerprint) -> bool {
        let Some(aggregate) = &self.config.aggregate else { return false };
        aggregate.feed(&self.config, content);
        true
    }
}

impl<U: Send + Sync> Counting<'_, U> {
    async fn run(self) -> Result<Emitted, Failure> {
        let (mut progress, mut next) = (Progress::default(), Some(0));
        while let Some(from) = next {
            next = self.count_from(from, &mut progress).await?;
            // A guard would pass over what waits, if what is behind it were counted.
            if progress.ended.iter().any(|(_, outcome)| outcome.why.is_some()) {
                break;
            }
        }
        let emitted = self.emitter.settle(progress.ended, progress.emitted)?;
        let Some(_) = next else { return Ok(emitted) };
        let waits = emitted.exceptions().iter().find_map(|(_, exception)| match exception {
            Exception::Retry(why) => Some(why.to_string()),
            _ => None,
        });
        Err(Failure::transient(waits.unwrap_or_default()))
    }

    /// Counts pieces from that one on, as many as memory may hold of. Gives back the number of the next, if there is one.
    async fn count_from(&self, from: usize, progress: &mut Progress) -> Result<Option<usize>, Failure> {
        let (mut groups, next) = self.fold(from, usize::MAX, None, progress).await?;
        let until = next.unwrap_or(usize::MAX);
        for pass in 1.. {
            let sending = stream::iter(groups.into_iter().map(|group| self.send(group)));
            let sent: Vec<_> = sending.buffer_unordered(self.emitter.config.requests_max.max(1)).collect().await;
            let mut found = Found::new();
            for sent in sent {
                match sent {
                    Sent::Ended(id, outcome) => progress.ended.push((id, outcome)),
                    Sent::Partly(id, place) => drop(found.insert(id, place)),
                    Sent::Refused(Refusal { id, from, why }, indexes) => {
                        let refused = indexes.into_iter().map(|index| (index, why.clone())).collect();
                        progress.refused.insert(id.clone(), (from, why));
                        progress.ended.push((id, Outcome { refused, ..Outcome::default() }));
                    }
                }
            }
            if found.is_empty() {
                break;
            }
            groups = self.fold(from, until, Some(&found), progress).await?.0;
            if pass == PASSES_MAX {
                let why = Verdict::Failed(Failure::transient(format!(
                    "cannot count in table {}: another worker counts the same records",
                    self.emitter.config.table
                )));
                progress.ended.extend(groups.into_iter().map(|group| (group.id, again(group.indexes, why.clone()))));
                break;
            }
        }
        Ok(next)
    }

    /// The groups of these pieces, or what is left of those that were found in part.
    async fn fold(
        &self,
        from: usize,
        until: usize,
        found: Option<&Found>,
        progress: &mut Progress,
    ) -> Result<(Vec<Group>, Option<usize>), Failure> {
        let (mut fold, mut number) = (Fold::default(), from);
        while number < until {
            if found.is_none() && fold.groups.len() >= GROUPS_MAX {
                return Ok((fold.take(), Some(number)));
            }
            let Some(piece) = self.rows.piece(number).await? else { break };
            for (index, item) in piece.iter() {
                self.add(index, item, &mut fold, found, progress);
            }
            number += 1;
        }
        Ok((fold.take(), None))
    }

    /// Adds a record to its group, unless it counts nowhere, or is counted or refused already.
    fn add(&self, index: usize, item: &Item<U>, fold: &mut Fold, found: Option<&Found>, progress: &mut Progress) {
        let (config, is_first) = (&self.emitter.config, found.is_none());
        let share = (self.read)(config, &item.value)
            .and_then(|attributes| share(config, self.aggregate, &self.table, item, &attributes));
        let share = match share {
            Ok(share) if share.totals.is_nothing() => return,
            Ok(share) => share,
            Err(why) if is_first => return progress.emitted.reject(index, why),
            Err(_) => return,
        };
        if let Some(found) = found {
            let Some(place) = found.get(&share.id) else { return };
            if share.place <= *place {
                if config.is_replay && share.place < *place {
                    progress.emitted.reject(index, self.emitter.overtaken());
                }
                return;
            }
        }
        if let Some((from, why)) = progress.refused.get(&share.id)
            && share.place >= *from
        {
            return progress.emitted.reject(index, why.clone());
        }
        if let Err(Refusal { id, from, why }) = fold.add(index, share) {
            progress.emitted.reject(index, why.clone());
            progress.refused.insert(id, (from, why));
        }
    }

    async fn send(&self, group: Group) -> Sent {
        let DynamoDbEmitter { config, pace, lanes, turns, .. } = self.emitter;
        let guard_key = match guard::key(config, self.stream, self.shard, &group.key) {
            Ok(key) => key,
            Err(why) => return Sent::Refused(Refusal { id: group.id, from: group.first, why }, group.indexes),
        };
        let _turn = turns.of(&group.id).await;
        let lane = lanes.enter().await;
        let met = transaction::count(config, self.aggregate, pace, guard_key, &group).await;
        self.emitter.answered(lane, Answer::of(&met), &met);
        let outcome = match met {
            Ok(Met::Counted) => Outcome::default(),
            Ok(Met::There(place)) if place < group.last => return Sent::Partly(group.id, place),
            Ok(Met::There(place)) => {
                let mut overtaken = group.indexes;
                if place == group.last {
                    overtaken.pop();
                }
                Outcome { overtaken, ..Outcome::default() }
            }
            // The guard stays where it is: who sends the window again refuses the same.
            Ok(Met::Foreign(why)) | Err(Verdict::Refused(why)) => {
                return Sent::Refused(Refusal { id: group.id, from: group.first, why }, group.indexes);
            }
            Err(why) => again(group.indexes, why),
        };
        Sent::Ended(group.id, outcome)
    }
}

fn again(indexes: Vec<usize>, why: Verdict) -> Outcome {
    Outcome { again: indexes, why: Some(why), ..Outcome::default() }
}
