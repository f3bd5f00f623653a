//! Groups to transactions.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use kinesink_core::Reject;

use super::super::attributes::Attributes;
use super::super::chain::Outcome;
use super::super::error::Verdict;
use super::super::lanes::Answer;
use super::super::table::ItemKey;
use super::counting::Counting;
use super::fold::{Group, Refusal};
use super::guard::{self, Passed};
use super::transaction::{self, Met, Tables};

/// What became of a group.
pub(super) enum Sent {
    /// And from where on what is behind it was refused before, if it was.
    Ended(ItemKey, Outcome, Option<Refusal>),
    /// Done up to this place, by others; and from where on they refused the rest, if they did.
    Partly(ItemKey, String, Option<Refusal>),
    Refused(Refusal, Vec<usize>),
    Failed(Group, Verdict),
}

impl<U: Send + Sync> Counting<'_, U> {
    pub(super) async fn send(&self, group: Group) -> Sent {
        let emitter = self.emitter;
        let guard_key = match guard::key(&emitter.config, self.stream, self.shard, &group) {
            Ok(key) => key,
            // It is refused whoever sends it.
            Err(why) => return Sent::Refused(Refusal { id: group.id, from: group.first, why }, group.indexes),
        };
        let _turn = emitter.traffic.turns.of(&group.id).await;
        let met = self.counted(transaction::count(self.tables(), guard_key.clone(), &group), &group).await;
        let why = match met {
            Ok(Met::Done) => return Sent::Ended(group.id, Outcome::default(), None),
            Ok(Met::There(passed)) => return self.there(group, passed),
            Ok(Met::Foreign(why)) | Err(Verdict::Refused(why) | Verdict::Unclear { why, .. }) => why,
            Err(why) => return Sent::Failed(group, why),
        };
        self.refuse(group, guard_key, why).await
    }

    /// What is refused has its guard say so before it becomes a dead letter. A letter that is sent again has a guard of its own, and may
    /// be sent again once more.
    async fn refuse(&self, group: Group, guard_key: Attributes, why: Reject) -> Sent {
        if !self.emitter.config.is_replay {
            match self.counted(transaction::refuse(self.tables(), guard_key, &group), &group).await {
                // A guard that another program has written over says nothing, whoever sends it again.
                Ok(Met::Done | Met::Foreign(_)) => {}
                Ok(Met::There(passed)) => return self.there(group, passed),
                Err(why) => return Sent::Failed(group, why),
            }
        }
        Sent::Refused(Refusal { id: group.id, from: group.first, why }, group.indexes)
    }

    /// Sends it when it may be sent, and notes how that went.
    async fn counted(
        &self,
        transaction: impl Future<Output = Result<Met, Verdict>>,
        group: &Group,
    ) -> Result<Met, Verdict> {
        let lane = self.emitter.traffic.lanes.enter().await;
        let met = transaction.await;
        self.emitter.answered(lane, Answer::of_key(&met, hash_of(&group.id)), &met);
        met
    }

    fn tables(&self) -> Tables<'_> {
        let (pace, guards_pace) = (&self.emitter.traffic.pace, &self.guards.pace);
        Tables { config: &self.emitter.config, aggregate: self.aggregate, pace, guards_pace }
    }

    /// Of a group that was sent before, by whomever.
    fn there(&self, group: Group, passed: Passed) -> Sent {
        let Passed { last, refused_from } = passed;
        let refusal = refused_from.map(|from| {
            let why = Reject::new("refused before, as the guard of its item says");
            Refusal { id: group.id.clone(), from, why }
        });
        let refusal = match refusal {
            Some(refusal) if refusal.from <= group.first => return Sent::Refused(refusal, group.indexes),
            Some(refusal) if refusal.from <= group.last => return Sent::Partly(group.id, last, Some(refusal)),
            refusal if last < group.last => return Sent::Partly(group.id, last, refusal),
            refusal => refusal,
        };
        let config = &self.emitter.config;
        config.metrics.passed_over(&config.table, group.indexes.len());
        let mut overtaken = group.indexes;
        if last == group.last {
            overtaken.pop();
        }
        Sent::Ended(group.id, Outcome { overtaken, ..Outcome::default() }, refusal)
    }
}

pub(super) fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
