//! One batch on its way: its items by what they write.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kinesink_core::{Batch, Failure, Item, Reject};

use super::attributes::Fields;
use super::chain::{Chain, Link};
use super::config::DynamoDbConfig;
use super::emitter::DynamoDbEmitter;
use super::error::{Action, Verdict};
use super::settling::Settling;
use super::table::{ItemKey, Table};
use super::write::{Change, NoWrite, Write, write};

/// A smaller record is read without asking for memory: of each shard, one at a time is.
const LARGE_RECORD_BYTES: usize = 64 * 1024;

/// Reads the fields of an output.
pub(super) type Read<U> = fn(&DynamoDbConfig, &U) -> Result<Fields, Reject>;

/// One batch on its way.
pub(super) struct Sending<'a, U> {
    pub(super) emitter: &'a DynamoDbEmitter,
    pub(super) table: &'a Table,
    pub(super) batch: &'a Batch<'a, U>,
    pub(super) read: Read<U>,
}

impl<U: Send + Sync> Sending<'_, U> {
    /// The batch's items by the key of what they write, in the order of each key's first. Those that cannot be written are
    /// refused.
    pub(super) async fn chains(&self, settling: &mut Settling<'_>) -> Result<Vec<Chain>, Failure> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut by_key: HashMap<ItemKey, usize> = HashMap::new();
        for (index, item) in self.batch.items.iter().enumerate() {
            let _reservation = match self.record_bytes(index) {
                LARGE_RECORD_BYTES.. => Some(self.emitter.encoding.reserve(self.record_bytes(index)).await),
                _ => None,
            };
            // Made again when it is sent: a window's items in memory, all at once, are several times its bytes.
            let Write { key, rank, change } = match self.write(item) {
                Ok(write) => write,
                Err(NoWrite::Refused(why)) => {
                    settling.reject(index, why);
                    continue;
                }
                Err(NoWrite::Impossible(failure)) => return Err(failure),
            };
            let replaces = matches!(change, Change::Put(_) | Change::Delete(_));
            let refused = if let Change::Refused(why) = change { Some(why) } else { None };
            let link = Link { index, rank, replaces, refused };
            match by_key.entry(key) {
                Entry::Vacant(entry) => {
                    chains.push(Chain::new(entry.key().clone(), link));
                    entry.insert(chains.len() - 1);
                }
                Entry::Occupied(entry) => {
                    if let Some(chain) = chains.get_mut(*entry.get()) {
                        chain.push(link);
                    }
                }
            }
        }
        // Changes are made one after the other, and a version that comes late is overtaken wherever the window is cut.
        if self.emitter.config.changes.is_none() {
            chains.iter_mut().for_each(Chain::order_puts);
        }
        Ok(chains)
    }

    fn write(&self, item: &Item<U>) -> Result<Write, NoWrite> {
        let config = &self.emitter.config;
        write(config, self.table, item, (self.read)(config, &item.value)?)
    }

    /// Of an item that was read before.
    pub(super) fn write_at(&self, index: usize) -> Result<Write, Verdict> {
        let lost = || Verdict::Failed(Failure::fatal("an item that was read before cannot be read again: a bug"));
        let item = self.batch.items.get(index).ok_or_else(lost)?;
        self.write(item).map_err(|_| lost())
    }

    pub(super) fn record_bytes(&self, index: usize) -> usize {
        self.batch.items.get(index).map_or(0, |item| item.record.data.len())
    }

    /// What the service refuses for a reason that is not known is the record's fault, if it takes such a request without one.
    pub(super) async fn explained<T>(&self, action: Action, result: Result<T, Verdict>) -> Result<T, Verdict> {
        match result {
            Err(Verdict::Unclear { why, .. }) => {
                self.emitter.items.try_out(action, self.table).await.map_err(Verdict::Failed)?;
                Err(Verdict::Refused(why))
            }
            result => result,
        }
    }
}

pub(super) fn bug(what: &str) -> Verdict {
    Verdict::Failed(Failure::fatal(format!("{what}: a bug")))
}
