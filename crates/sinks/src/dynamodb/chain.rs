//! The writes of one item in a batch, and what becomes of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use kinesink_core::{Batch, Emitted, Failure, Item, Reject};

use super::attributes::Attributes;
use super::config::DynamoDbConfig;
use super::emitter::DynamoDbEmitter;
use super::error::Verdict;
use super::requests::Met;
use super::table::{ItemKey, Table};
use super::write::{Change, NoWrite, Place, Write, write};

/// The writes of one item in a batch, in their order.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) key: ItemKey,
    links: Vec<Link>,
}

/// One write of an item.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// In the batch.
    pub(super) index: usize,
    pub(super) place: Place,
    /// Whether nothing of what was before stays.
    pub(super) replaces: bool,
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

    /// All of it is sent again.
    pub(super) fn failed(&self, why: Verdict) -> Outcome {
        match why {
            // The one before it may be the last now.
            Verdict::Refused(reject) => {
                let again = self.all().filter(|index| *index != self.last()).collect();
                let refused = vec![(self.last(), reject)];
                Outcome { refused, again, ..Outcome::default() }
            }
            why => Outcome { again: self.all().collect(), why: Some(why), ..Outcome::default() },
        }
    }

    pub(super) fn met(&self, met: &Met) -> Outcome {
        let overtaken = if matches!(met, Met::Later(_)) { self.all().collect() } else { Vec::new() };
        Outcome { overtaken, ..Outcome::default() }
    }
}

/// Makes attributes of an output.
pub(super) type Read<U> = fn(&DynamoDbConfig, &U) -> Result<Attributes, Reject>;

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
    pub(super) fn chains(&self, emitted: &mut Emitted) -> Result<Vec<Chain>, Failure> {
        let mut chains: Vec<Chain> = Vec::new();
        let mut by_key: HashMap<ItemKey, usize> = HashMap::new();
        for (index, item) in self.batch.items.iter().enumerate() {
            // Made again when it is sent: a window's items in memory, all at once, are several times its bytes.
            let Write { key, place, change } = match self.write(item) {
                Ok(write) => write,
                Err(NoWrite::Refused(why)) => {
                    emitted.reject(index, why);
                    continue;
                }
                Err(NoWrite::Impossible(failure)) => return Err(failure),
            };
            let link = Link { index, place, replaces: !matches!(change, Change::Update(..)) };
            match by_key.entry(key) {
                Entry::Vacant(entry) => {
                    chains.push(Chain { key: entry.key().clone(), links: vec![link] });
                    entry.insert(chains.len() - 1);
                }
                Entry::Occupied(entry) => {
                    if let Some(chain) = chains.get_mut(*entry.get()) {
                        chain.links.push(link);
                    }
                }
            }
        }
        for chain in &mut chains {
            // By versions they may come in any order; of one version the first counts, so that it stands behind the others.
            chain.links.reverse();
            chain.links.sort_by(|a, b| a.place.cmp(&b.place));
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
