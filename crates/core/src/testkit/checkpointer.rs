use bytes::Bytes;

use super::{Broken, require, sample_record, sample_shard};
use crate::{Checkpoint, CheckpointError, Checkpointer, Durable, Position, Settlement, ShardId};

const STORED: &str = "a commit is stored when it returns";
const PREPARED: &str = "what is prepared is stored and does not move the checkpoint";
const CLEARED: &str = "a commit clears what was prepared";
const FORWARD: &str = "a checkpoint never moves backwards";
const FENCED: &str = "without the lease nothing is written, and the caller is told";

/// What a lease holds, read by other means than the checkpointer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLease {
    /// How far the shard is processed.
    pub checkpoint: Checkpoint,
    /// What was prepared and not committed: the window's last position and its plan.
    pub prepared: Option<(Position, Bytes)>,
}

/// Proof that everything up to `through` is safe, for tests that have no sinks.
pub fn durable(through: Checkpoint) -> Durable {
    let nothing_owed = Settlement::new(through, 0, 0, 0).finish();
    nothing_owed.unwrap_or_else(|settlement| unreachable!("nothing is owed: {settlement:?}"))
}

/// Checks a [`Checkpointer`]. `open` takes a shard's lease, which starts at a sentinel before every position; `stored`
/// reads it by other means; `take_over` gives it to another worker. Rules:
/// - what is prepared is stored and does not move the checkpoint; preparing again replaces it;
/// - a commit is stored when it returns, sub-sequence and `SHARD_END` included;
/// - a commit clears what was prepared;
/// - a checkpoint never moves backwards, as sequence numbers order, sub-sequence second;
/// - without the lease nothing is written, and the caller is told.
///
/// # Errors
/// The first rule that is broken.
pub async fn checkpointer_contract<C: Checkpointer>(
    open: impl AsyncFn(&ShardId) -> C,
    stored: impl AsyncFn(&ShardId) -> StoredLease,
    take_over: impl AsyncFn(&ShardId),
) -> Result<(), Broken> {
    moves_forward(&open, &stored).await?;
    ends(&open, &stored).await?;
    is_fenced(&open, &stored, &take_over).await
}

fn position(n: u64, sub_sequence: u64) -> Position {
    Position { sub_sequence, ..sample_record(&sample_shard(0), n, Bytes::new()).position }
}

async fn moves_forward<C: Checkpointer>(
    open: &impl AsyncFn(&ShardId) -> C,
    stored: &impl AsyncFn(&ShardId) -> StoredLease,
) -> Result<(), Broken> {
    let shard = sample_shard(1);
    let mut checkpointer = open(&shard).await;
    let start = stored(&shard).await.checkpoint;
    for (last, plan) in [(position(5, 0), "plan"), (position(3, 0), "another plan")] {
        prepare(&mut checkpointer, last, plan).await?;
        let expected = StoredLease { checkpoint: start, prepared: Some((last, plan.into())) };
        compare(PREPARED, &expected, &stored(&shard).await)?;
    }
    // From the 99th to the 100th sample the number gets a digit longer, and smaller as text.
    let forward = [position(3, 0), position(3, 7), position(3, 10), position(99, 0), position(100, 0)];
    for at in forward.map(Checkpoint::At) {
        checkpointer.commit(durable(at)).await.map_err(|error| refused(STORED, &error))?;
        let held = stored(&shard).await;
        require(held.checkpoint == at, STORED, || format!("{at} was committed, {} is stored", held.checkpoint))?;
        require(held.prepared.is_none(), CLEARED, || format!("{:?} is left", held.prepared))?;
    }
    let expected = stored(&shard).await;
    for at in forward.map(Checkpoint::At).iter().rev().skip(1).chain(&[Checkpoint::TrimHorizon, Checkpoint::Latest]) {
        // Whether that is an error is the checkpointer's to decide.
        drop(checkpointer.commit(durable(*at)).await);
        compare(FORWARD, &expected, &stored(&shard).await)?;
    }
    Ok(())
}

async fn ends<C: Checkpointer>(
    open: &impl AsyncFn(&ShardId) -> C,
    stored: &impl AsyncFn(&ShardId) -> StoredLease,
) -> Result<(), Broken> {
    let shard = sample_shard(2);
    let mut checkpointer = open(&shard).await;
    prepare(&mut checkpointer, position(1, 0), "plan").await?;
    checkpointer.commit(durable(Checkpoint::ShardEnd)).await.map_err(|error| refused(STORED, &error))?;
    let expected = StoredLease { checkpoint: Checkpoint::ShardEnd, prepared: None };
    compare(STORED, &expected, &stored(&shard).await)?;
    drop(checkpointer.commit(durable(Checkpoint::At(position(2, 0)))).await);
    compare(FORWARD, &expected, &stored(&shard).await)
}

async fn is_fenced<C: Checkpointer>(
    open: &impl AsyncFn(&ShardId) -> C,
    stored: &impl AsyncFn(&ShardId) -> StoredLease,
    take_over: &impl AsyncFn(&ShardId),
) -> Result<(), Broken> {
    let shards = [sample_shard(3), sample_shard(4)];
    for (shard, commits) in shards.iter().zip([true, false]) {
        let mut checkpointer = open(shard).await;
        checkpointer.commit(durable(Checkpoint::At(position(1, 0)))).await.map_err(|error| refused(STORED, &error))?;
        take_over(shard).await;
        let expected = stored(shard).await;
        let answer = if commits {
            checkpointer.commit(durable(Checkpoint::At(position(2, 0)))).await
        } else {
            checkpointer.prepare(position(2, 0), Bytes::from_static(b"plan")).await
        };
        compare(FENCED, &expected, &stored(shard).await)?;
        let told = matches!(answer, Err(CheckpointError::LeaseLost));
        require(told, FENCED, || format!("it answered {answer:?}"))?;
    }
    Ok(())
}

async fn prepare(checkpointer: &mut impl Checkpointer, last: Position, plan: &'static str) -> Result<(), Broken> {
    checkpointer.prepare(last, plan.into()).await.map_err(|error| refused(PREPARED, &error))
}

fn refused(rule: &'static str, error: &CheckpointError) -> Broken {
    Broken { rule, detail: format!("it was refused: {error}") }
}

fn compare(rule: &'static str, expected: &StoredLease, held: &StoredLease) -> Result<(), Broken> {
    require(expected == held, rule, || {
        let text = |lease: &StoredLease| {
            let prepared = lease.prepared.as_ref().map(|(last, _)| last.to_string());
            format!("{}, prepared up to {}", lease.checkpoint, prepared.unwrap_or_else(|| "nothing".into()))
        };
        format!("{} was expected, {} is stored", text(expected), text(held))
    })
}
