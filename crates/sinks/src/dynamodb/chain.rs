//! The writes of one item in a batch, and what becomes of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;

use kinesink_core::{Batch, Failure, Item, Reject};

use super::attributes::Fields;
use super::config::DynamoDbConfig;
use super::emitter::DynamoDbEmitter;
use super::error::Verdict;
use super::notes::{NOTES_OF_A_WINDOW_MAX, There};
use super::settling::Settling;
use super::table::{ItemKey, Table};
use super::write::{Change, NoWrite, Rank, Write, write};

/// A smaller record is read without asking for memory: of each shard, one at a time is.
const LARGE_RECORD_BYTES: usize = 64 * 1024;

/// The writes of one item in a batch, in their order.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) key: ItemKey,
    links: Vec<Link>,
    refused: Vec<(usize, Reject)>,
}

/// One write of an item.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// In the batch.
    pub(super) index: usize,
    pub(super) rank: Rank,
    /// Whether nothing of what was before stays.
    pub(super) replaces: bool,
    /// Why it is not made.
    pub(super) refused: Option<Reject>,
}

/// What became of a chain. What is named in none of it is delivered.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) refused: Vec<(usize, Reject)>,
    /// To be sent again, and why.
    pub(super) again: Vec<usize>,
    pub(super) why: Option<Verdict>,
    /// What a later write was there for.
    pub(super) overtaken: Vec<usize>,
}

impl Chain {
    pub(super) fn all(&self) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().map(|link| link.index)
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    /// Index of the write that counts, where each replaces what was before it.
    pub(super) fn last(&self) -> usize {
        self.links.last().map_or(0, |link| link.index)
    }

    /// Whether the write that counts is the one that is there.
    pub(super) fn ends_at(&self, there: &There) -> bool {
        self.links.last().is_some_and(|link| there.made.as_ref() == Some(&link.rank))
    }

    /// Takes out the write that counts, so that the one before it does. Says whether there is one.
    pub(super) fn refuse_last(&mut self, why: Reject) -> bool {
        self.refused.extend(self.links.pop().map(|link| (link.index, why)));
        !self.links.is_empty()
    }

    /// Takes out all of it.
    pub(super) fn refuse_all(&mut self, why: &Reject) {
        self.refused.extend(self.links.drain(..).map(|link| (link.index, why.clone())));
    }

    pub(super) fn delivered(&mut self) -> Outcome {
        Outcome { refused: mem::take(&mut self.refused), ..Outcome::default() }
    }

    /// All of it is sent again.
    pub(super) fn failed(&mut self, why: Verdict) -> Outcome {
        Outcome { again: self.all().collect(), why: Some(why), ..self.delivered() }
    }
}

impl Outcome {
    /// Behind so many that are refused that the item would be told of too many.
    pub(super) fn refuse_rest(&mut self, links: impl Iterator<Item = Link>) {
        let why = format!("{NOTES_OF_A_WINDOW_MAX} changes of its item before it, and in its window, were refused");
        let why = Reject::new(why);
        self.refused.extend(links.map(|link| (link.index, link.refused.unwrap_or_else(|| why.clone()))));
    }

    /// What was refused goes along with what failed: the item has to say so.
    pub(super) fn failed(&mut self, links: &[Link], why: Verdict) {
        self.again.extend(links.iter().map(|link| link.index));
        self.again.extend(self.refused.drain(..).map(|(index, _)| index));
        self.why = Some(why);
    }

    /// What an item has, or had before what it has, as it says, but for what was refused.
    pub(super) fn decided(&mut self, link: &Link, there: &There) {
        if there.notes(&link.rank) {
            self.refused.push((link.index, Reject::new("refused before, as the item says")));
        } else if there.made.as_ref() != Some(&link.rank) {
            self.overtaken.push(link.index);
        }
    }
}

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
                    chains.push(Chain { key: entry.key().clone(), links: vec![link], refused: Vec::new() });
                    entry.insert(chains.len() - 1);
                }
                Entry::Occupied(entry) => {
                    if let Some(chain) = chains.get_mut(*entry.get()) {
                        chain.links.push(link);
                    }
                }
            }
        }
        // Changes are made one after the other, and a version that comes late is overtaken wherever the window is cut.
        let of_puts = self.emitter.config.changes.is_none();
        for chain in chains.iter_mut().filter(|_| of_puts) {
            // By versions they may come in any order; of one version the first counts, so that it stands behind the others.
            chain.links.reverse();
            chain.links.sort_by(|a, b| a.rank.cmp(&b.rank));
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
}
