//! SIGINT and SIGTERM: the first drains, the second aborts.

use std::time::Duration;

use kinesink::Stop;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::exit::{Exit, Problem};

/// A signal that comes so soon after the first is the same one.
const REPEAT: Duration = Duration::from_millis(500);

/// Turns signals into `stop` for as long as the returned future is polled.
pub(crate) fn watch(stop: Stop) -> Result<impl Future<Output = ()>, Problem> {
    let listen =
        |kind| signal(kind).map_err(|error| Problem::new(Exit::Failed, format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut first = None;
    Ok(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.drain.is_cancelled() {
                // Some supervisors signal a process and then its group.
                if first.is_some_and(|first: Instant| first.elapsed() < REPEAT) {
                    continue;
                }
                tracing::warn!("second signal: aborting");
                stop.abort.cancel();
                return;
            }
            tracing::info!("stopping; a second signal aborts");
            first = Some(Instant::now());
            stop.drain.cancel();
        }
    })
}
