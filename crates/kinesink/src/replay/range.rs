//! A time range of the stream through the pipeline again.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kinesink_aws::Clients;
use kinesink_consumer::{Coordination, Leases, Retrieval, Start, shards_open_at};
use kinesink_core::{Checkpoint, Clock as _, Fingerprint, ShardId, SystemClock};
use kinesink_pipeline::Progress;
use kinesink_sinks::Location;
use kinesink_sinks::s3::Naming;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::from_config::connector_named;
use crate::until::Until;
use crate::{Error, Outcome, Programs, Stop};

/// The service's clock may be so much behind ours: until then what arrives may still be of before the end.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(10);
/// Of the application's name, in that of its replays: a table's name has 255 characters.
const APP_CHARACTERS_MAX: usize = 200;

/// What of the stream is replayed, and where to.
#[derive(Debug, Clone)]
pub struct TimeRange {
    /// What arrived at this time or later.
    pub from: Timestamp,
    /// What arrived before this time.
    pub to: Timestamp,
    /// Where the objects go: those of a file with several sinks each below its name. None: where the file says, under names
    /// that nothing has, so that a record is there once more for each replay.
    pub into: Option<Location>,
}

impl TimeRange {
    /// The file as the replay runs it: as an application of its own, whose lease table remembers how far it is.
    ///
    /// # Errors
    /// [`Error::Configuration`]: the range is none, its end has not come, or the place is where the file itself writes.
    pub fn applied(&self, config: &Config, now: Timestamp) -> Result<Config, Error> {
        let Self { from, to, into } = self;
        let refuse = |why: String| Err(Error::Configuration(why));
        if from >= to {
            return refuse(format!("there is nothing from {from} to {to}: the end has to come after the beginning"));
        }
        if *to > now {
            return refuse(format!("{to} has not come yet: what arrives before it is not all there"));
        }
        if config.sinks.is_empty() {
            return refuse(
                "a time range is replayed into objects, and the file has tables alone: they are what the stream says"
                    .into(),
            );
        }
        let mut applied = config.clone();
        // What they hold is later, and stays.
        applied.tables.clear();
        let several = config.sinks.len() > 1;
        for (sink, own) in applied.sinks.iter_mut().zip(&config.sinks) {
            let Some(into) = into else { continue };
            sink.url = if several { into.below(&own.name) } else { into.clone() };
            if let Some(written) = config.sinks.iter().find(|written| sink.url.is_within(&written.url)) {
                return refuse(format!(
                    "cannot replay into {}: who reads {}, where sink {} writes, would find each record twice; name a place \
                     outside of it, or accept that with --force",
                    sink.url, written.url, written.name
                ));
            }
        }
        if let (Some(into), Some(dead_letter)) = (into, &mut applied.dead_letter) {
            // Beside those of the file, they would be sent into the file's own sinks. Readers pass over what begins so.
            dead_letter.url = into.below("_dead_letters");
        }
        let app: String = config.app.chars().take(APP_CHARACTERS_MAX).collect();
        applied.app = format!("{app}-replay-{:08x}", self.digest(config));
        // They say what is done.
        applied.lease.cleanup = None;
        applied.lease.table.clone_from(&applied.app);
        applied.lease.worker_id = None;
        applied.lease.coordination = Coordination::default();
        applied.source.start = Start::AtTimestamp(*from);
        applied.source.fetch = Retrieval::Polling;
        Ok(applied)
    }

    /// The same for the same range into the same place.
    fn digest(&self, config: &Config) -> u32 {
        let mut digest = Fingerprint::new();
        for time in [self.from, self.to] {
            digest.part(time.to_string().as_bytes());
        }
        digest.part(config.source.stream.as_str().as_bytes());
        digest.part(self.into.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes());
        (digest.finish() & u128::from(u32::MAX)).try_into().unwrap_or(u32::MAX)
    }
}

/// Runs the file's pipeline over the range and ends. Ended before, the same call goes on where it was; called again after
/// that, it does nothing. With a place of its own, each record is there once whatever is killed. One call at a time: a second one
/// beside it would wait for the first one's shards.
///
/// Gives what was read and whether that was all of it.
///
/// # Errors
/// Those of [`TimeRange::applied`] and of [`Connector::run`](crate::Connector::run).
pub async fn replay_range(
    config: &Config,
    programs: Programs,
    clients: Clients,
    range: &TimeRange,
    stop: &Stop,
) -> Result<(Outcome, Progress, bool), Error> {
    let now = SystemClock.now();
    let config = range.applied(config, now)?;
    let young = CLOCK_SKEW_MAX.saturating_sub(now.duration_since(range.to));
    tokio::time::sleep(Duration::try_from(young).unwrap_or_default()).await;
    let began = SystemClock.now();
    let open = shards_open_at(&clients.kinesis, &config.source.stream, range.to).await;
    let open = open.map_err(|failure| Error::Start(failure.message))?;
    let until = Arc::new(Until::new(range.to, began, open));
    for shard in finished(&clients, &config.lease.table).await {
        until.note_read(&shard);
    }
    if until.is_over() {
        return Ok((Outcome::Drained, Progress::default(), true));
    }
    let naming = if range.into.is_some() { Naming::Positions } else { Naming::Unique };
    tracing::info!(app = config.app, from = %range.from, to = %range.to, "replaying; the application's lease table remembers how far");
    let mut registry = Registry::default();
    let connector =
        connector_named(&config, programs, clients, &mut registry, naming, Some(Arc::clone(&until))).await?;
    let outcome = connector.run(stop).await?;
    Ok((outcome, connector.metrics().progress(), until.is_over()))
}

/// The shards that an earlier call has read to their ends. Without a table there was none.
async fn finished(clients: &Clients, table: &str) -> Vec<ShardId> {
    let Ok(seen) = Leases::new(clients.dynamodb.clone(), table).all().await else { return Vec::new() };
    let finished = seen.leases.iter().filter(|lease| lease.checkpoint() == Checkpoint::ShardEnd);
    finished.map(|lease| lease.shard().clone()).collect()
}
