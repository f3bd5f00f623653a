//! Checkpoints of a held lease.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Checkpoint, CheckpointError, Checkpointer, Durable, Failure, Position};
use tokio_util::sync::CancellationToken;

use crate::fetch::Child;
use crate::lease::{Change, HeldLease, LeaseError, LeaseRow, Purpose, child_ids};
use crate::metrics::Metrics;
use crate::planted::{Fault, planted};

/// Writes the checkpoints of one lease while it is held.
#[derive(Debug)]
pub(crate) struct LeaseCheckpointer {
    lease: Arc<HeldLease>,
    /// The shards that follow, known once the reader has met the end.
    children: Arc<Mutex<Vec<Child>>>,
    /// Cancelled once the end of the shard has to wait for another shard.
    held_up: CancellationToken,
    metrics: Metrics,
}

impl LeaseCheckpointer {
    pub(crate) fn new(
        lease: Arc<HeldLease>,
        children: Arc<Mutex<Vec<Child>>>,
        held_up: CancellationToken,
        metrics: Metrics,
    ) -> Self {
        Self { lease, children, held_up, metrics }
    }

    /// The children's leases come before `SHARD_END`: a crash in between must not lose the branch.
    async fn create_children(&self) -> Result<(), Failure> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if children.is_empty() || planted(Fault::EndsWithoutChildren) {
            return Ok(());
        }
        if let ([merged], false) = (&*children, planted(Fault::MergedTooEarly)) {
            self.other_parent_has_a_lease(merged).await?;
        }
        let table = self.lease.table().by(Purpose::Checkpoint);
        for child in &children {
            let parents = child.parents.clone();
            let start = if planted(Fault::ChildrenAtLatest) { Checkpoint::Latest } else { Checkpoint::TrimHorizon };
            let lease = LeaseRow::new(child.id.clone(), start, parents, child.hash_range);
            table.create(&lease).await?;
        }
        let ids: Vec<_> = children.into_iter().map(|child| child.id).collect();
        let change = Change { set: vec![child_ids(&ids)], ..Change::default() };
        table.annotate(self.lease.shard(), &change).await
    }

    /// A shard without a lease counts as finished. So a merged shard has none before both of its parents have one: it
    /// would be read while the other parent's own parent, which creates that lease, is still behind.
    async fn other_parent_has_a_lease(&self, merged: &Child) -> Result<(), Failure> {
        let shard = self.lease.shard();
        for parent in merged.parents.iter().filter(|parent| *parent != shard) {
            if self.lease.table().by(Purpose::Checkpoint).get(parent).await?.is_none() {
                self.held_up.cancel();
                let message = format!("cannot end shard {shard}: shard {parent}, merged with it, has no lease yet");
                return Err(Failure::transient(message));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Checkpointer for LeaseCheckpointer {
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError> {
        self.lease.prepare(Checkpoint::At(last), &plan).await.map_err(CheckpointError::from)
    }

    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError> {
        if durable.through() == Checkpoint::ShardEnd {
            // Only who holds the lease decides that the shard is done.
            self.lease.renew(None).await?;
            self.create_children().await?;
        }
        self.lease.checkpoint(durable.through()).await?;
        self.metrics.checkpointed();
        Ok(())
    }
}

impl From<LeaseError> for CheckpointError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Lost => Self::LeaseLost,
            LeaseError::Failed(failure) => Self::Store(failure),
        }
    }
}
