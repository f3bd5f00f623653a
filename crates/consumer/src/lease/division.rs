//! How the leases of a fleet are divided. Pure.
//!
//! Every worker that sees the same rows divides them alike: how many leases each is to hold in the end, by the fewest
//! moves, and which of those that can be had are whose. So the workers neither take nor ask for the same ones, though
//! nobody tells them to.

use std::collections::BTreeMap;

use super::row::LeaseRow;

/// What can be divided, and among whom.
#[derive(Debug, Default)]
pub(super) struct Division<'a> {
    /// Leases of each worker: those that it has and nobody has asked for, and those that it has asked for.
    pub(super) counts: BTreeMap<&'a str, usize>,
    /// Leases that nobody has.
    pub(super) free: Vec<&'a LeaseRow>,
    /// Leases that nobody has asked for, by owner.
    pub(super) owned: BTreeMap<&'a str, Vec<&'a LeaseRow>>,
    /// Whether all have had the time to get their part: who still has less than the average wants no more. Not while
    /// leases of the dead are to be had.
    pub(super) settled: bool,
}

impl<'a> Division<'a> {
    /// Leases of each worker that takes part as the `receiver` sees it.
    fn among(&self, receiver: &str) -> BTreeMap<&'a str, usize> {
        let mut counts = self.counts.clone();
        loop {
            let (before, average) = (counts.len(), counts.values().sum::<usize>() / counts.len().max(1));
            counts.retain(|worker, count| !self.settled || *worker == receiver || *count >= average);
            if counts.len() == before {
                return counts;
            }
        }
    }

    /// How many leases each worker is to hold. What is over goes to those who have it already, so that it need not
    /// move.
    fn targets(&self, counts: &BTreeMap<&'a str, usize>) -> BTreeMap<&'a str, usize> {
        let (leases, workers) = (counts.values().sum::<usize>() + self.free.len(), counts.len().max(1));
        let (share, over) = (leases / workers, leases % workers);
        let mut ranked: Vec<_> = counts.iter().map(|(worker, count)| (*count <= share, *worker)).collect();
        ranked.sort_unstable();
        let target = |(rank, (_, worker))| (worker, share + usize::from(rank < over));
        ranked.into_iter().enumerate().map(target).collect()
    }

    /// What the receiver is to have at most.
    pub(super) fn share_of(&self, receiver: &str) -> usize {
        let counts = self.among(receiver);
        (counts.values().sum::<usize>() + self.free.len()).div_ceil(counts.len().max(1))
    }

    /// All that can be had: what is free, then what the owners have too many of. What they have asked for they may not
    /// get, so it is not counted here.
    pub(super) fn surplus(&self, receiver: &str) -> Vec<&'a LeaseRow> {
        let targets = self.targets(&self.among(receiver));
        let mut surplus = self.free.clone();
        for (owner, leases) in &self.owned {
            let Some(target) = targets.get(owner) else { continue };
            surplus.extend(leases.iter().take(leases.len().saturating_sub(*target)));
        }
        surplus
    }

    /// What the receiver is to have of the surplus: each that lacks leases has a part of it to itself, in the order of
    /// their ids. A part stays where it is while others fetch theirs.
    pub(super) fn part(&self, receiver: &str) -> Vec<&'a LeaseRow> {
        let counts = self.among(receiver);
        let targets = self.targets(&counts);
        let lacks = |(worker, count): (&&str, &usize)| targets[worker].saturating_sub(*count);
        let before = counts.iter().take_while(|(worker, _)| **worker < receiver).map(lacks).sum();
        let own = counts.get_key_value(receiver).map_or(0, lacks);
        self.surplus(receiver).into_iter().skip(before).take(own).collect()
    }
}
