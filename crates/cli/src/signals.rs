//! SIGINT and SIGTERM: the first drains, the second aborts.

use kinesink::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Problem};

/// Turns signals into `stop` for as long as the returned future is polled.
pub(crate) fn watch(stop: Stop) -> Result<impl Future<Output = ()>, Problem> {
    let listen =
        |kind| signal(kind).map_err(|error| Problem::new(Exit::Failed, format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.drain.is_cancelled() {
                tracing::warn!("second signal: aborting; what is not checkpointed is read again at the next start");
                stop.abort.cancel();
                return;
            }
            tracing::info!("draining: no more fetching; flushing, checkpointing, releasing the leases");
            stop.drain.cancel();
        }
    })
}
