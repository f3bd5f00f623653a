//! Requests that a start sends again.

use std::time::Duration;

use kinesink_core::{Backoff, Class, Failure};
use tokio::time::sleep;

use crate::Error;

/// A request that fails so often in a row is given up.
const ATTEMPTS_MAX: u32 = 10;

/// Sends what should pass by itself again.
pub(crate) async fn retried<T, F: Future<Output = Result<T, Failure>>>(send: impl FnMut() -> F) -> Result<T, Error> {
    retried_up_to(ATTEMPTS_MAX, send).await
}

/// The same with another number of attempts.
pub(crate) async fn retried_up_to<T, F: Future<Output = Result<T, Failure>>>(
    attempts_max: u32,
    mut send: impl FnMut() -> F,
) -> Result<T, Error> {
    let seed = u64::from(std::process::id());
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), seed);
    loop {
        let failure = match send().await {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let wait = backoff.next_wait(failure.retry_after);
        if failure.class != Class::Transient || backoff.attempts() == attempts_max {
            return Err(Error::Start(failure.message));
        }
        tracing::warn!(%failure, "failed, trying again");
        sleep(wait).await;
    }
}
