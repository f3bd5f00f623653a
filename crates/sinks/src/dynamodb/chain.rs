//! The writes of one item in a batch, and what becomes of them.

use std::collections::VecDeque;
use std::mem;

use kinesink_core::Reject;

use super::error::Verdict;
use super::notes::There;
use super::table::ItemKey;
use super::write::Rank;

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
    pub(super) fn new(key: ItemKey, first: Link) -> Self {
        Self { key, links: vec![first], refused: Vec::new() }
    }

    pub(super) fn push(&mut self, link: Link) {
        self.links.push(link);
    }

    /// Puts the write that counts to the end. By versions they may come in any order; of one version the first counts, so that it stands
    /// behind the others.
    pub(super) fn order_puts(&mut self) {
        self.links.reverse();
        self.links.sort_by(|a, b| a.rank.cmp(&b.rank));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().map(|link| link.index)
    }

    pub(super) fn take_links(&mut self) -> VecDeque<Link> {
        mem::take(&mut self.links).into()
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
    /// Behind refused ones of which the item would be told too many, or has no room for.
    pub(super) fn refuse_rest(&mut self, links: impl Iterator<Item = Link>) {
        let why = Reject::new(
            "changes of its item before it were refused, and until its window ends the item can be told of no more",
        );
        self.refused.extend(links.map(|link| (link.index, link.refused.unwrap_or_else(|| why.clone()))));
    }

    /// What was refused goes along with what failed: the item has to say so.
    pub(super) fn failed<'a>(&mut self, links: impl Iterator<Item = &'a Link>, why: Verdict) {
        self.again.extend(links.map(|link| link.index));
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
