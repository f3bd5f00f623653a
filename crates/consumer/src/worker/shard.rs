//! The run of one held shard, from taking its lease to giving it back.

use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{Backoff, Class, Failure, ShardId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::checkpointer::LeaseCheckpointer;
use crate::fetch::{Cursor, Reader, ReaderSettings};
use crate::lease::HeldLease;
use crate::metrics::Metrics;
use crate::{Finished, Prepared, Shard, ShardHandler};

const PAUSE_BASE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a shard's task owns.
pub(super) struct ShardRun {
    pub(super) lease: Arc<HeldLease>,
    pub(super) fresh: bool,
    pub(super) handler: Arc<dyn ShardHandler>,
    pub(super) drain: CancellationToken,
    pub(super) reader: ReaderSettings,
    pub(super) metrics: Metrics,
}

impl ShardRun {
    pub(super) async fn run(mut self) -> (ShardId, Result<Finished, Failure>) {
        let id = self.lease.shard().clone();
        let mut backoff = Backoff::new(PAUSE_BASE, PAUSE_MAX, self.reader.seed);
        loop {
            let held_up = CancellationToken::new();
            let shard = self.shard(&id, held_up.clone()).await;
            let drain = self.drain.clone();
            let finished = tokio::select! {
                biased;
                // Drops the handler, and with it whatever it has in flight.
                () = self.lease.gone() => Ok(Finished::LeaseLost),
                finished = self.handler.run(shard) => finished,
                // Its end stays uncommitted: what it waits for may be a shard that drains as well.
                () = async { tokio::join!(drain.cancelled(), held_up.cancelled()); } => Ok(Finished::Drained),
            };
            match finished {
                Ok(finished) => {
                    self.give_back().await;
                    return (id, Ok(finished));
                }
                Err(failure) if failure.class == Class::Fatal => return (id, Err(failure)),
                Err(failure) => {
                    let wait = backoff.next_wait(failure.retry_after);
                    warn!(%failure, ?wait, "the shard starts again from its checkpoint");
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.lease.gone() => return (id, Ok(Finished::LeaseLost)),
                        () = self.drain.cancelled() => {
                            self.give_back().await;
                            return (id, Ok(Finished::Drained));
                        }
                    }
                }
            }
        }
    }

    async fn shard(&mut self, id: &ShardId, held_up: CancellationToken) -> Shard {
        let row = self.lease.row().await;
        let children = Arc::default();
        let cursor = Cursor::new(row.checkpoint, row.start, std::mem::take(&mut self.fresh));
        let lease = Arc::clone(&self.lease);
        let reader = Reader::new(self.reader.clone(), id.clone(), cursor, Arc::clone(&children));
        Shard {
            stream: self.reader.stream.clone(),
            id: id.clone(),
            start: row.checkpoint,
            prepared: row.pending.map(|pending| Prepared { checkpoint: pending.checkpoint, plan: pending.state }),
            reader: Box::new(reader),
            checkpointer: Box::new(LeaseCheckpointer::new(lease, children, held_up, self.metrics.clone())),
            drain: self.drain.clone(),
        }
    }

    /// Others need not wait until the lease expires. One that cannot be given back expires.
    async fn give_back(&self) {
        if self.lease.is_lost() {
            return;
        }
        if let Err(error) = self.lease.release().await {
            debug!(%error, "lease not released");
        }
    }
}
