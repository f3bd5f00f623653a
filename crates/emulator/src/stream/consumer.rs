//! Consumers that are registered with a stream. What they have read is theirs to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::shard::Shard;

/// A registered consumer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) created_ms: i64,
    /// From when on it can subscribe.
    active_at_ms: i64,
    /// From when on it does not exist, once that is decided.
    gone_at_ms: Option<i64>,
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(skip)]
    claims: Claims,
}

/// Where a consumer is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsumerStatus {
    Creating,
    Active,
    Deleting,
}

/// The consumers of one stream, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Consumers(BTreeMap<String, Consumer>);

impl Consumer {
    /// Its status at that time. A consumer that is gone is not found in the first place.
    pub(crate) fn status(&self, now_ms: i64) -> ConsumerStatus {
        if self.gone_at_ms.is_some() {
            ConsumerStatus::Deleting
        } else if now_ms < self.active_at_ms {
            ConsumerStatus::Creating
        } else {
            ConsumerStatus::Active
        }
    }

    fn exists(&self, now_ms: i64) -> bool {
        self.gone_at_ms.is_none_or(|gone_at_ms| now_ms < gone_at_ms)
    }
}

impl ConsumerStatus {
    /// As the service names it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Deleting => "DELETING",
        }
    }
}

impl Consumers {
    pub(crate) fn get(&self, name: &str, now_ms: i64) -> Option<&Consumer> {
        self.0.get(name).filter(|consumer| consumer.exists(now_ms))
    }

    /// Consumers in the order of their names, after `name` if one is given.
    pub(crate) fn after(&self, name: Option<&str>, now_ms: i64) -> impl Iterator<Item = (&String, &Consumer)> {
        use std::ops::Bound;
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((from, Bound::Unbounded)).filter(move |(_, consumer)| consumer.exists(now_ms))
    }

    pub(crate) fn count(&self, now_ms: i64) -> usize {
        self.after(None, now_ms).count()
    }

    /// The names and tags of all, also of those that are gone and not yet forgotten.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, String>)> {
        self.0.iter().map(|(name, consumer)| (name, &consumer.tags))
    }

    /// Takes the place of one of that name that is gone, and forgets all that are.
    pub(super) fn register(&mut self, name: String, tags: BTreeMap<String, String>, at_ms: i64, active_at_ms: i64) {
        self.0.retain(|_, consumer| consumer.exists(at_ms));
        self.0.insert(
            name,
            Consumer { created_ms: at_ms, active_at_ms, gone_at_ms: None, tags, claims: Claims::default() },
        );
    }

    pub(super) fn tags_mut(&mut self, name: &str) -> Option<&mut BTreeMap<String, String>> {
        self.0.get_mut(name).map(|consumer| &mut consumer.tags)
    }

    /// Ends the consumer's subscriptions. Whether there was one to deregister.
    pub(super) fn deregister(&mut self, name: &str, gone_at_ms: i64) -> bool {
        let Some(consumer) = self.0.get_mut(name) else { return false };
        consumer.gone_at_ms = Some(gone_at_ms);
        consumer.claims.end_all();
        true
    }

    /// Forgets the subscriptions to shards that are gone.
    pub(super) fn forget_claims(&mut self, shards: &BTreeMap<u32, Shard>) {
        self.0.values_mut().for_each(|consumer| consumer.claims.retain(|shard| shards.contains_key(&shard)));
    }

    /// The consumer's subscriptions.
    pub(crate) fn claims(&mut self, name: &str) -> Option<&mut Claims> {
        self.0.get_mut(name).map(|consumer| &mut consumer.claims)
    }
}
