//! The two signals that end a connector.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Drain, then abort. Cheap to clone; every clone is the same pair of signals.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Stop fetching, flush, checkpoint, release the leases.
    pub drain: CancellationToken,
    /// Leave now. What is not checkpointed is read again by the next owner.
    pub abort: CancellationToken,
}

impl Stop {
    /// Neither signal is given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resolves with the abort signal: when it is given, or `grace` after the drain began. Cancel safe.
    pub async fn aborted(&self, grace: Duration) {
        let grace_over = async {
            self.drain.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = self.abort.cancelled() => {}
            () = grace_over => self.abort.cancel(),
        }
    }
}
