//! What is refused of a window, and how the pipeline is told.

use std::collections::HashMap;

use kinesink_core::{Failure, Partition, Reject};

use super::super::chain::Outcome;
use super::super::emitter::DynamoDbEmitter;
use super::super::error::Verdict;
use super::super::settling::Settling;
use super::super::table::ItemKey;
use super::counting::Counting;
use super::fold::{Group, Refusal, Share};
use crate::rows::Rows;

/// What became of the window so far.
pub(super) struct Progress<'a> {
    pub(super) settling: Settling<'a>,
    /// From where on an item's records are refused, and why.
    pub(super) refused: Refusals,
    /// Whether memory holds the window: what is refused of another is not named, as all of it may be.
    is_held: bool,
    /// Whether some of it is handed back at the end.
    pub(super) has_unnamed: bool,
}

/// By items, from which place on records are refused, and why.
#[derive(Default)]
pub(super) struct Refusals(HashMap<ItemKey, (String, Reject)>);

impl<'a> Progress<'a> {
    pub(super) fn new<U>(emitter: &'a DynamoDbEmitter, rows: &Rows<'_, U>) -> Self {
        let (settling, refused) = (Settling::new(emitter), Refusals::default());
        Self { settling, refused, is_held: matches!(rows, Rows::Held(_)), has_unnamed: false }
    }

    /// The record at that index is refused.
    pub(super) fn reject(&mut self, index: usize, why: Reject) {
        match self.is_held {
            true => self.settling.reject(index, why),
            false => self.has_unnamed = true,
        }
    }

    /// These records of an item are refused, and so are those behind them, unless they have guards of their own.
    pub(super) fn refused(&mut self, Refusal { id, from, why }: Refusal, indexes: Vec<usize>) {
        indexes.into_iter().for_each(|index| self.reject(index, why.clone()));
        if !self.settling.is_replay() {
            self.refused.add(id, from, why);
        }
    }

    /// The pipeline sends the group's records again.
    pub(super) fn failed(&mut self, group: Group, why: Verdict) {
        self.settling.add(group.id, Outcome { again: group.indexes, why: Some(why), ..Outcome::default() });
    }
}

impl Refusals {
    fn add(&mut self, id: ItemKey, from: String, why: Reject) {
        let first = self.0.entry(id).or_insert_with(|| (from.clone(), why.clone()));
        if from < first.0 {
            *first = (from, why);
        }
    }

    /// Why the record is refused, if it is.
    pub(super) fn of(&self, share: &Share) -> Option<Reject> {
        let (from, why) = self.0.get(&share.id)?;
        (share.place >= *from).then(|| why.clone())
    }
}

impl<U: Send + Sync> Counting<'_, U> {
    /// Hands back what is refused of a window that memory does not hold, once all others are counted.
    pub(super) async fn hand_back(&self, partition: &Partition<'_, U>, refused: &Refusals) -> Result<(), Failure> {
        let mut number = 0;
        while let Some(piece) = partition.pieces.piece(number).await? {
            let mut rejects = Vec::new();
            for (index, item) in &piece.items {
                let why = match self.share(item) {
                    Ok(share) if share.totals.is_nothing() => None,
                    Ok(share) => refused.of(&share),
                    Err(why) => Some(why),
                };
                rejects.extend(why.map(|why| (*index, why)));
            }
            drop(piece);
            if !rejects.is_empty() && partition.pieces.refused(number, rejects).await.is_break() {
                break;
            }
            number += 1;
        }
        Ok(())
    }
}
