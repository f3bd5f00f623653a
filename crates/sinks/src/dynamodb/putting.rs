//! Chains of puts to requests.

use kinesink_core::Failure;

use super::chain::{Chain, Outcome};
use super::emitter::DynamoDbEmitter;
use super::error::{Action, Throttle, Verdict};
use super::lanes::Answer;
use super::requests::{self, Met};
use super::sending::{Sending, bug};
use super::table::ItemKey;
use super::write::{Change, Write};

/// DynamoDB takes no more in one request.
const BATCH_ITEMS_MAX: usize = 25;
/// Of JSON. On the wire, where bytes are base64 and text is escaped, a list of one-digit numbers is five times as large: that is still
/// below the 16 MB of a request.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;

impl<U: Send + Sync> Sending<'_, U> {
    /// Puts the last write of the chain, which replaces the others. Where it is refused, the one before it is the last.
    pub(super) async fn put(&self, mut chain: Chain) -> (Chain, Outcome) {
        let outcome = loop {
            match self.put_one(chain.last()).await {
                Ok(Met::Foreign(why)) => {
                    chain.refuse_all(&why);
                    break chain.delivered();
                }
                Ok(Met::There(there)) if !chain.ends_at(&there) => {
                    break Outcome { overtaken: chain.all().collect(), ..chain.delivered() };
                }
                Ok(Met::Written { .. } | Met::There(_)) => break chain.delivered(),
                Err(Verdict::Refused(why)) => {
                    if !chain.refuse_last(why) {
                        break chain.delivered();
                    }
                }
                Err(why) => break chain.failed(why),
            }
        };
        (chain, outcome)
    }

    pub(super) async fn put_one(&self, index: usize) -> Result<Met, Verdict> {
        let lane = self.emitter.traffic.lanes.enter().await;
        let _reservation = self.emitter.encoding.reserve(self.record_bytes(index)).await;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let Write { change: Change::Put(item) | Change::Delete(item), rank, .. } = self.write_at(index)? else {
            return Err(bug("an update has become a put"));
        };
        let met = requests::put_guarded(config, &traffic.pace, item, &rank).await;
        self.emitter.answered(lane, Answer::of(&met), &met);
        self.explained(Action::PutItem, met).await
    }

    /// Chains that go in one request.
    pub(super) fn batches(&self, chains: Vec<Chain>) -> Vec<Vec<Chain>> {
        let mut batches: Vec<Vec<Chain>> = Vec::new();
        let mut batch_bytes = 0;
        for chain in chains {
            let chain_bytes = self.record_bytes(chain.last());
            match batches.last_mut() {
                Some(batch) if batch.len() < BATCH_ITEMS_MAX && batch_bytes + chain_bytes <= BATCH_BYTES_MAX => {
                    batch_bytes += chain_bytes;
                    batch.push(chain);
                }
                _ => {
                    batch_bytes = chain_bytes;
                    batches.push(vec![chain]);
                }
            }
        }
        batches
    }

    /// Sends the last writes of all of them. Where the service refuses that, it does not say which is at fault: it is looked
    /// for by halves.
    pub(super) async fn put_batch(&self, chains: Vec<Chain>) -> Vec<(Chain, Outcome)> {
        let mut sent = Vec::with_capacity(chains.len());
        let mut parts = vec![chains];
        // Halves of at most 25, and each part of one chain becomes shorter.
        while let Some(mut part) = parts.pop() {
            match self.put_part(&part).await {
                Ok(left) => sent.extend(part.into_iter().map(|mut chain| {
                    let outcome =
                        if left.contains(&chain.key) { chain.failed(self.no_room()) } else { chain.delivered() };
                    (chain, outcome)
                })),
                Err(Verdict::Refused(_) | Verdict::Unclear { .. }) if part.len() > 1 => {
                    let half = part.split_off(part.len() / 2);
                    parts.push(half);
                    parts.push(part);
                }
                Err(Verdict::Refused(why)) => {
                    for mut chain in part {
                        // The one before it is the last now.
                        if chain.refuse_last(why.clone()) {
                            parts.push(vec![chain]);
                        } else {
                            let outcome = chain.delivered();
                            sent.push((chain, outcome));
                        }
                    }
                }
                Err(why) => sent.extend(part.into_iter().map(|mut chain| {
                    let outcome = chain.failed(why.clone());
                    (chain, outcome)
                })),
            }
        }
        sent
    }

    async fn put_part(&self, part: &[Chain]) -> Result<Vec<ItemKey>, Verdict> {
        let lane = self.emitter.traffic.lanes.enter().await;
        let record_bytes = part.iter().map(|chain| self.record_bytes(chain.last())).sum();
        let _reservation = self.emitter.encoding.reserve(record_bytes).await;
        let changes = part.iter().map(|chain| self.write_at(chain.last()).map(|write| write.change));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let DynamoDbEmitter { config, traffic, .. } = self.emitter;
        let left = requests::put_batch(config, &traffic.pace, self.table, changes).await;
        let answer = match &left {
            // Of some keys alone, it is their own limit.
            Ok(left) if left.len() > part.len() / 2 => Answer::NoRoom,
            Ok(left) if !left.is_empty() => Answer::OfItsOwn,
            left => Answer::of(left),
        };
        if let Ok(left) = &left
            && !left.is_empty()
        {
            config.metrics.throttled(&config.table, Throttle::Unknown, left.len());
        }
        self.emitter.answered(lane, answer, &left);
        if part.len() > 1 { left } else { self.explained(Action::BatchWriteItem, left).await }
    }

    fn no_room(&self) -> Verdict {
        let table = &self.emitter.config.table;
        let failure = Failure::transient(format!("table {table} had no room for all items of a request"));
        Verdict::Throttled { table: table.clone(), limit: Throttle::Unknown, failure }
    }
}
