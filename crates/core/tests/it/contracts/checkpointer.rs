use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::testkit::{Broken, StoredLease, checkpointer_contract};
use kinesink_core::{Checkpoint, CheckpointError, Checkpointer, Durable, Position, ShardId};

use crate::assert_breaks;

/// What is wrong with a checkpointer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    MovesOnPrepare,
    ForgetsThePlan,
    KeepsTheFirstPlan,
    KeepsThePlanOnCommit,
    WritesLater,
    DropsTheSubSequence,
    MovesBackwards,
    ComparesAsText,
    ReopensAShard,
    IgnoresTheFence,
    HidesTheFence,
    PreparesWithoutALease,
}

/// A lease as the store holds it.
#[derive(Debug, Clone)]
struct Row {
    lease: StoredLease,
    owner: u32,
}

type Table = Arc<Mutex<HashMap<ShardId, Row>>>;

struct InMemory {
    wrong: Wrong,
    shard: ShardId,
    table: Table,
    unwritten: Option<Checkpoint>,
}

impl InMemory {
    fn table(&self) -> MutexGuard<'_, HashMap<ShardId, Row>> {
        self.table.lock().unwrap()
    }

    fn is_behind(&self, through: Checkpoint, stored: Checkpoint) -> bool {
        match self.wrong {
            Wrong::MovesBackwards => false,
            Wrong::ReopensAShard if stored == Checkpoint::ShardEnd => false,
            Wrong::ComparesAsText => {
                let text = |checkpoint: Checkpoint| (checkpoint.sequence_text(), checkpoint.sub_sequence());
                stored != Checkpoint::TrimHorizon && text(through) < text(stored)
            }
            _ => through < stored,
        }
    }
}

#[async_trait]
impl Checkpointer for InMemory {
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError> {
        let mut table = self.table();
        let row = table.get_mut(&self.shard).unwrap();
        if row.owner != 0 && self.wrong != Wrong::PreparesWithoutALease {
            return Err(CheckpointError::LeaseLost);
        }
        if self.wrong == Wrong::MovesOnPrepare {
            row.lease.checkpoint = Checkpoint::At(last);
        }
        let keeps = self.wrong == Wrong::KeepsTheFirstPlan && row.lease.prepared.is_some();
        if self.wrong != Wrong::ForgetsThePlan && !keeps {
            row.lease.prepared = Some((last, plan));
        }
        Ok(())
    }

    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError> {
        let mut through = durable.through();
        if self.wrong == Wrong::WritesLater {
            let Some(earlier) = self.unwritten.replace(through) else { return Ok(()) };
            through = earlier;
        }
        if let (Checkpoint::At(position), Wrong::DropsTheSubSequence) = (&mut through, self.wrong) {
            position.sub_sequence = 0;
        }
        let mut table = self.table();
        let stored = table[&self.shard].lease.checkpoint;
        let row = table.get_mut(&self.shard).unwrap();
        match (row.owner, self.wrong) {
            (0, _) | (_, Wrong::IgnoresTheFence) => {}
            (_, Wrong::HidesTheFence) => return Ok(()),
            _ => return Err(CheckpointError::LeaseLost),
        }
        if !self.is_behind(through, stored) {
            row.lease.checkpoint = through;
        }
        if self.wrong != Wrong::KeepsThePlanOnCommit {
            row.lease.prepared = None;
        }
        Ok(())
    }
}

async fn check(wrong: Wrong) -> Result<(), Broken> {
    let table = Table::default();
    let open = async |shard: &ShardId| {
        let lease = StoredLease { checkpoint: Checkpoint::TrimHorizon, prepared: None };
        table.lock().unwrap().insert(shard.clone(), Row { lease, owner: 0 });
        InMemory { wrong, shard: shard.clone(), table: Arc::clone(&table), unwritten: None }
    };
    let stored = async |shard: &ShardId| table.lock().unwrap()[shard].lease.clone();
    let take_over = async |shard: &ShardId| table.lock().unwrap().get_mut(shard).unwrap().owner = 1;
    checkpointer_contract(open, stored, take_over).await
}

#[tokio::test]
async fn a_fenced_store_passes() {
    check(Wrong::Nothing).await.unwrap();
}

#[tokio::test]
async fn each_wrong_one_is_found() {
    let prepared = "what is prepared is stored and does not move the checkpoint";
    assert_breaks(check(Wrong::MovesOnPrepare).await, prepared);
    assert_breaks(check(Wrong::ForgetsThePlan).await, prepared);
    assert_breaks(check(Wrong::KeepsTheFirstPlan).await, prepared);
    assert_breaks(check(Wrong::KeepsThePlanOnCommit).await, "a commit clears what was prepared");
    let stored = "a commit is stored when it returns";
    assert_breaks(check(Wrong::WritesLater).await, stored);
    assert_breaks(check(Wrong::DropsTheSubSequence).await, stored);
    assert_breaks(check(Wrong::ComparesAsText).await, stored);
    assert_breaks(check(Wrong::MovesBackwards).await, "a checkpoint never moves backwards");
    assert_breaks(check(Wrong::ReopensAShard).await, "a checkpoint never moves backwards");
    let fenced = "without the lease nothing is written, and the caller is told";
    assert_breaks(check(Wrong::IgnoresTheFence).await, fenced);
    assert_breaks(check(Wrong::HidesTheFence).await, fenced);
    assert_breaks(check(Wrong::PreparesWithoutALease).await, fenced);
}
