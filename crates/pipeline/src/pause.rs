//! When the loop of a shard and its commits try again, and when they say so: the one retry layer of what they send.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{Backoff, Class, Failure};
use tokio::time::{Instant, sleep_until};

use crate::pipeline::Retry;
use crate::shard_pipeline::Shard;

/// How often a pause or a halt that lasts is reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The label and the health text of a shard that waits for its configuration to be mended.
pub(crate) const CONFIGURATION: &str = "configuration";

/// Why a pause ended without a cure.
#[derive(Debug)]
pub(crate) enum Unpaused {
    /// The shard drains, and waiting for someone to mend something would hold it up for ever.
    Drained,
    /// The failure is not one that waiting cures.
    Fatal(Failure),
}

/// Says when a report is due: at once, then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    last: Option<Instant>,
}

impl Reports {
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now >= last + REPORT_EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }

    fn next(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + REPORT_EVERY)
    }
}

/// Waits between two attempts, reporting at once and then every minute, however long the wait.
pub(crate) async fn wait_until(until: Instant, reports: &mut Reports, mut report: impl FnMut()) {
    loop {
        let now = Instant::now();
        if reports.due(now) {
            report();
        }
        if now >= until {
            return;
        }
        sleep_until(until.min(reports.next(now))).await;
    }
}

pub(crate) fn backoff(retry: &Retry, class: Class, name: &str) -> Backoff {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let base = if class == Class::Transient { retry.base } else { retry.slow_base };
    Backoff::new(base, retry.max, retry.seed ^ hasher.finish())
}

/// One thing that is retried until it works: a sink's batch, the checkpoint, the reader.
#[derive(Debug)]
pub(crate) struct Pause {
    shard: Arc<Shard>,
    /// What is tried, for the log: "sink s3", "checkpoint".
    what: String,
    quick: Backoff,
    slow: Backoff,
    reports: Reports,
    since: Option<Instant>,
    misconfigured: bool,
}

impl Pause {
    pub(crate) fn new(shard: &Arc<Shard>, what: String) -> Self {
        let name = format!("{}/{what}", shard.id);
        Self {
            shard: Arc::clone(shard),
            quick: backoff(&shard.retry, Class::Transient, &name),
            slow: backoff(&shard.retry, Class::Configuration, &name),
            what,
            reports: Reports::default(),
            since: None,
            misconfigured: false,
        }
    }

    /// Notes a failure: when to try again, or that there is no use.
    pub(crate) fn failed(&mut self, failure: &Failure) -> Result<Instant, Failure> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let wait = match failure.class {
            Class::Fatal => return Err(failure.clone()),
            Class::Transient => {
                self.mended();
                self.shard.health.paused(&self.what, since, &failure.message);
                self.quick.next_wait(failure.retry_after)
            }
            Class::Configuration => {
                if !std::mem::replace(&mut self.misconfigured, true) {
                    self.shard.metrics.halted(&self.shard.id, CONFIGURATION);
                }
                self.shard.health.halted(&self.what, &failure.message);
                self.slow.next_wait(failure.retry_after)
            }
        };
        Ok(now + wait)
    }

    /// Waits after a failure. Cancel safe, but a dropped wait counts as waited.
    pub(crate) async fn wait(&mut self, failure: &Failure) -> Result<(), Unpaused> {
        let until = self.failed(failure).map_err(Unpaused::Fatal)?;
        let attempts = self.attempts();
        let what = &self.what;
        let waited = wait_until(until, &mut self.reports, || report(what, attempts, failure));
        if failure.class == Class::Configuration {
            tokio::select! {
                biased;
                () = waited => {}
                () = self.shard.drain.cancelled() => return Err(Unpaused::Drained),
            }
        } else {
            waited.await;
        }
        Ok(())
    }

    /// Reports a failure if a report is due.
    pub(crate) fn report(&mut self, failure: &Failure) {
        if self.reports.due(Instant::now()) {
            report(&self.what, self.attempts(), failure);
        }
    }

    /// Notes a success.
    pub(crate) fn cured(&mut self) {
        if self.since.take().is_none() {
            return;
        }
        tracing::info!(what = self.what, "works again");
        self.mended();
        self.shard.health.running(&self.what);
        self.quick.reset();
        self.slow.reset();
        self.reports = Reports::default();
    }

    /// Notes that some of what was tried worked: the next wait is a short one, and a pause that comes is a new one.
    pub(crate) fn progressed(&mut self) {
        self.quick.reset();
        self.since = None;
    }

    /// Whether it waits for someone to mend something.
    pub(crate) fn is_misconfigured(&self) -> bool {
        self.misconfigured
    }

    /// How often it has waited for someone to mend something, since it last worked.
    pub(crate) fn misconfigurations(&self) -> u32 {
        self.slow.attempts()
    }

    fn attempts(&self) -> u32 {
        self.quick.attempts().saturating_add(self.slow.attempts())
    }

    fn mended(&mut self) {
        if std::mem::take(&mut self.misconfigured) {
            self.shard.metrics.resumed(&self.shard.id, CONFIGURATION);
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.mended();
        if self.since.is_some() {
            self.shard.health.running(&self.what);
        }
    }
}

fn report(what: &str, attempts: u32, failure: &Failure) {
    if failure.class == Class::Configuration {
        tracing::error!(what, attempts, error = %failure, "halted until this is mended; nothing is lost meanwhile");
    } else {
        tracing::warn!(what, attempts, error = %failure, "failed, trying again; nothing is lost meanwhile");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_reported_at_once_and_then_once_a_minute() {
        let begun = Instant::now();
        let mut said = Vec::new();
        let mut reports = Reports::default();
        // Short waits one after the other, then a long one.
        for seconds in [7; 30].into_iter().chain([200]) {
            let until = Instant::now() + Duration::from_secs(seconds);
            wait_until(until, &mut reports, || said.push(begun.elapsed().as_secs())).await;
            assert_eq!(Instant::now(), until);
        }
        assert_eq!(said, [0, 60, 120, 180, 240, 300, 360]);
    }
}
