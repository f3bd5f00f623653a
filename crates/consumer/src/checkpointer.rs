//! Checkpoints of a held lease.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Checkpoint, CheckpointError, Checkpointer, Durable, Failure, Position};

use crate::fetch::Child;
use crate::lease::{Change, HeldLease, LeaseError, LeaseRow, child_ids};
use crate::metrics::Metrics;

/// Writes the checkpoints of one lease while it is held.
#[derive(Debug)]
pub(crate) struct LeaseCheckpointer {
    lease: Arc<HeldLease>,
    /// The shards that follow, known once the reader has met the end.
    children: Arc<Mutex<Vec<Child>>>,
    metrics: Metrics,
}

impl LeaseCheckpointer {
    pub(crate) fn new(lease: Arc<HeldLease>, children: Arc<Mutex<Vec<Child>>>, metrics: Metrics) -> Self {
        Self { lease, children, metrics }
    }

    /// The children's leases come before `SHARD_END`: a crash in between must not lose the branch.
    async fn create_children(&self) -> Result<(), Failure> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if children.is_empty() {
            return Ok(());
        }
        for child in &children {
            let parents = child.parents.clone();
            let lease = LeaseRow::new(child.id.clone(), Checkpoint::TrimHorizon, parents, child.hash_range);
            self.lease.table().create(&lease).await?;
        }
        let ids: Vec<_> = children.into_iter().map(|child| child.id).collect();
        let change = Change { set: vec![child_ids(&ids)], remove: Vec::new() };
        self.lease.table().annotate(self.lease.shard(), &change).await
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
            self.lease.renew().await?;
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
