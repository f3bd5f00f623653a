//! The run of one held shard, from taking its lease to giving it back.
//!
//! A worker holds thousands that are idle. What is seldom waited for is boxed: it takes memory while it is.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kinesink_core::{Backoff, Class, Failure, ShardId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::finished::Leftover;
use super::held::Holding;
use super::trimmed::UntilTrimmed;
use crate::checkpointer::LeaseCheckpointer;
use crate::coordination::HANDOFF_TIMEOUT;
use crate::fetch::{Cursor, Reader, ReaderSettings};
use crate::lease::{LeaseError, LeaseRow, Purpose};
use crate::planted::{Fault, planted};
use crate::{Finished, Shard, ShardHandler};

const PAUSE_BASE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a shard's task owns.
pub(super) struct ShardRun {
    pub(super) holding: Holding,
    /// Until when LATEST is still what was asked for.
    pub(super) fresh_until: Option<Instant>,
    pub(super) handler: Arc<dyn ShardHandler>,
    pub(super) reader: Arc<ReaderSettings>,
    /// Of this shard's waits.
    pub(super) seed: u64,
    pub(super) failover: Duration,
    /// How often it is looked whether the lease may go once the shard is finished. None: it stays.
    pub(super) cleanup: Option<Duration>,
    /// Told whenever a shard of this worker was read to its end.
    pub(super) ended: Arc<Notify>,
}

impl ShardRun {
    pub(super) async fn run(mut self: Box<Self>) -> (ShardId, Result<Finished, Failure>) {
        let lease = Arc::clone(&self.holding.lease);
        let id = lease.shard().clone();
        let holding = self.holding.clone();
        let finished = tokio::select! {
            biased;
            // Drops the handler, and with it whatever it has in flight.
            () = lease.gone(), if !planted(Fault::RunsOnWithoutLease) => Ok(Finished::LeaseLost),
            // Nothing of a stage is used after it panicked.
            finished = AssertUnwindSafe(self.stages(&id)).catch_unwind() => finished.unwrap_or_else(|_| {
                Err(Failure::fatal(format!("the handler of shard {id} panicked; its message is on standard error")))
            }),
            // The handler did not come to an end in time. It is dropped as if the lease were lost.
            () = given_up(&holding) => Ok(Finished::LeaseLost),
        };
        if finished.is_ok() && !lease.is_lost() && !planted(Fault::KeepsLeases) {
            Box::pin(self.give_back()).await;
        }
        (id, finished)
    }

    /// Waits for the parents, processes the shard, and keeps the lease of what is finished until it may go.
    async fn stages(&mut self, id: &ShardId) -> Result<Finished, Failure> {
        if !self.holding.lease.row().await.is_finished() {
            let drain = self.holding.drain.clone();
            if drain.run_until_cancelled(Box::pin(self.parents_finished())).await.is_none() {
                return Ok(Finished::Drained);
            }
            match self.process(id).await? {
                Finished::ShardEnd => {}
                finished => return Ok(finished),
            }
            info!("the shard is read to its end");
            self.ended.notify_waiters();
        }
        let leftover = Leftover {
            lease: &self.holding.lease,
            client: &self.reader.client,
            stream: &self.reader.stream,
            cleanup: self.cleanup,
        };
        let deleted = self.holding.drain.run_until_cancelled(Box::pin(leftover.delete_when_due())).await;
        Ok(if deleted.is_some() { Finished::ShardEnd } else { Finished::Drained })
    }

    /// A parent without a lease has left the stream, or was cleaned up after it ended.
    async fn parents_finished(&self) {
        let parents = self.holding.lease.row().await.parents;
        let table = self.holding.lease.table().by(Purpose::Parents);
        for parent in parents.into_iter().take(if planted(Fault::WaitsForOneParent) { 1 } else { 2 }) {
            loop {
                let mut ended = pin!(self.ended.notified());
                // Before the look, which may miss an end that comes meanwhile.
                ended.as_mut().enable();
                match table.get(&parent).await {
                    Ok(_) if planted(Fault::ChildTooEarly) => break,
                    Ok(row) if row.as_ref().is_none_or(LeaseRow::is_finished) => break,
                    Ok(_) => debug!(%parent, "waiting for the end of the parent"),
                    Err(failure) => debug!(%parent, %failure, "lease of the parent not read; trying again"),
                }
                tokio::select! {
                    biased;
                    () = sleep(self.failover / 3) => {}
                    () = ended => {}
                }
            }
        }
    }

    async fn process(&mut self, id: &ShardId) -> Result<Finished, Failure> {
        let mut backoff = Backoff::new(PAUSE_BASE, PAUSE_MAX, self.seed);
        let drain = self.holding.drain.clone();
        loop {
            let failure = match self.attempt(id).await {
                Ok(Finished::ShardEnd) if !self.holding.lease.row().await.is_finished() => {
                    Failure::transient(format!("the handler of shard {id} left without committing its end"))
                }
                Err(failure) if failure.class != Class::Fatal => failure,
                done => return done,
            };
            let wait = backoff.next_wait(failure.retry_after);
            warn!(%failure, ?wait, "the shard starts again from its checkpoint");
            if drain.run_until_cancelled(sleep(wait)).await.is_none() {
                return Ok(Finished::Drained);
            }
        }
    }

    /// One run of the handler, from where the lease stands.
    async fn attempt(&mut self, id: &ShardId) -> Result<Finished, Failure> {
        // What the last run wrote without an answer counts if it happened.
        let (drain, held_up) = (self.holding.drain.clone(), CancellationToken::new());
        let shard = match Box::pin(self.holding.lease.settled()).await {
            Ok(row) if row.is_finished() => return Ok(Finished::ShardEnd),
            Ok(row) => self.shard(id, &row, held_up.clone()),
            Err(LeaseError::Lost) => return Ok(Finished::LeaseLost),
            Err(LeaseError::Failed(failure)) => return Err(failure),
        };
        tokio::select! {
            biased;
            () = drain.cancelled(), if planted(Fault::DrainsAtOnce) => Ok(Finished::Drained),
            finished = self.handler.run(shard) => finished,
            // Its end stays uncommitted: what it waits for may be a shard that drains as well.
            () = async { tokio::join!(drain.cancelled(), held_up.cancelled()); } => Ok(Finished::Drained),
        }
    }

    fn shard(&mut self, id: &ShardId, row: &LeaseRow, held_up: CancellationToken) -> Shard {
        let children = Arc::default();
        let cursor = Cursor::new(row.checkpoint, row.start, self.fresh_until.take());
        let lease = Arc::clone(&self.holding.lease);
        let reader = Reader::new(Arc::clone(&self.reader), self.seed, id.clone(), cursor, Arc::clone(&children));
        let reader = UntilTrimmed {
            reader,
            settings: Arc::clone(&self.reader),
            lease: Arc::clone(&lease),
            children: Arc::clone(&children),
            ended: false,
        };
        Shard {
            stream: self.reader.stream.clone(),
            id: id.clone(),
            start: row.checkpoint,
            prepared: row.prepared(),
            reader: Box::new(reader),
            checkpointer: Box::new(LeaseCheckpointer::new(lease, children, held_up, self.reader.metrics.clone())),
            drain: self.holding.drain.clone(),
        }
    }

    /// Who asked for the lease, and still does: it may have left while the shard was drained. Where that cannot be told, it
    /// has not left within a failover.
    async fn next_owner(&self) -> Option<&str> {
        let gift = self.holding.gift.get()?;
        let lease = &self.holding.lease;
        // A leader of KCL 3.x has written it, or the worker itself.
        let asks =
            |row: LeaseRow| row.owner.as_ref() == Some(&gift.to) || row.wish.is_some_and(|wish| wish.by == gift.to);
        let table = lease.table().by(Purpose::Give);
        let still_asks = match timeout(self.failover / 3, table.get(lease.shard())).await {
            Ok(Ok(row)) => row.is_some_and(asks),
            Ok(Err(_)) | Err(_) => gift.since.elapsed() < self.failover,
        };
        still_asks.then_some(&*gift.to)
    }

    /// Others need not wait until the lease expires. One that cannot be given away expires.
    async fn give_back(&self) {
        let next_owner = self.next_owner().await;
        match self.holding.lease.give(next_owner).await {
            Ok(()) => debug!(next_owner, "lease given away"),
            Err(error) => debug!(%error, "lease not released"),
        }
    }
}

/// Until a handoff of KCL 3.x has taken too long: the shard drains as soon as the leader asks for its lease.
async fn given_up(holding: &Holding) {
    let next_owner = holding.lease.asked_for().await;
    info!(to = %next_owner, "draining the shard to hand its lease over");
    holding.give(&next_owner);
    sleep(HANDOFF_TIMEOUT).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// A request of the SDK takes 5 to 8 KiB while it is under way, and would take them for ever if it were a part of
    /// what runs for ever.
    #[test]
    fn the_task_of_a_shard_keeps_no_room_for_requests() {
        let bytes = bytes_of(|run: Box<ShardRun>| run.run());
        assert!(bytes < 2 * 1024, "{bytes} bytes for each shard");
    }
}
