//! A time range of the stream through the pipeline again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kinesink_aws::Clients;
use kinesink_consumer::{Coordination, Error as ConsumerError, Lease, Leases, Retrieval, Start, shards_open_at};
use kinesink_core::{Checkpoint, Clock as _, Fingerprint, ShardId, SystemClock};
use kinesink_pipeline::Progress;
use kinesink_sinks::Location;
use kinesink_sinks::s3::Naming;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use crate::config::Config;
use crate::from_config::connector_named;
use crate::until::Until;
use crate::{Error, Outcome, Programs, Stop};

/// The service's clock may be so much behind ours: until then what arrives may still be of before the end.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(10);
/// An owner renews its leases three times in a failover.
const LOOKS_PER_FAILOVER: u32 = 2;
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
/// that, it does nothing. With a place of its own, each record is there once whatever is killed. One call at a time: one that finds
/// an earlier one at the same range drains by `stop`, and leaves the rest to that.
///
/// Gives what was read and whether that was all of it.
///
/// # Errors
/// Those of [`TimeRange::applied`] and of [`Connector::run`](crate::Connector::run); [`Error::Running`] beside an earlier call.
pub async fn replay_range(
    config: &Config,
    programs: Programs,
    clients: Clients,
    range: &TimeRange,
    stop: &Stop,
) -> Result<(Outcome, Progress, bool), Error> {
    let now = SystemClock.now();
    // Of two workers that live, the lesser id is that of the earlier call.
    let me = Uuid::now_v7().to_string();
    let mut config = range.applied(config, now)?;
    config.lease.worker_id = Some(me.clone());
    let young = CLOCK_SKEW_MAX.saturating_sub(now.duration_since(range.to));
    tokio::time::sleep(Duration::try_from(young).unwrap_or_default()).await;
    let began = SystemClock.now();
    let open = shards_open_at(&clients.kinesis, &config.source.stream, range.to).await;
    let open = open.map_err(|failure| Error::Start(failure.message))?;
    let until = Arc::new(Until::new(range.from..range.to, began, open));
    let leases = Leases::new(clients.dynamodb.clone(), &config.lease.table);
    for shard in finished(&leases).await? {
        until.note_read(&shard);
    }
    if until.is_over() {
        return Ok((Outcome::Drained, Progress::default(), true));
    }
    let naming = if range.into.is_some() { Naming::Positions } else { Naming::Unique };
    tracing::info!(app = config.app, from = %range.from, to = %range.to, "replaying; the application's lease table remembers how far");
    if range.into.is_none() {
        tracing::warn!("each record that is read now will be there once more, where the file's sinks write");
    }
    let mut registry = Registry::default();
    let connector =
        connector_named(&config, programs, clients, &mut registry, naming, Some(Arc::clone(&until))).await?;
    let mut run = Box::pin(connector.run(stop));
    let (outcome, earlier) = tokio::select! {
        outcome = &mut run => (outcome?, None),
        earlier = earlier_call(&leases, &me, config.lease.failover / LOOKS_PER_FAILOVER) => {
            stop.drain.cancel();
            (run.await?, Some(earlier))
        }
    };
    if let Some(earlier) = earlier.filter(|_| !until.is_over()) {
        return Err(Error::Running(format!(
            "another process replays the same range, worker {earlier}: it goes on alone, and what this one has sent stays; wait for \
             it to end, or end it and run the same command again"
        )));
    }
    Ok((outcome, connector.metrics().progress(), until.is_over()))
}

/// Who has which lease, and its counter, which an owner that lives moves.
type Owners = BTreeMap<ShardId, (String, u64)>;

/// Waits until an earlier call shows that it lives: its worker. Each of the two would hold what it has read until the other has
/// read the rest.
async fn earlier_call(leases: &Leases, me: &str, every: Duration) -> String {
    let mut before = Owners::new();
    loop {
        tokio::time::sleep(every).await;
        let Ok(seen) = leases.all().await else { continue };
        let owner = |lease: &Lease| Some((lease.shard().clone(), (lease.owner()?.to_owned(), lease.counter())));
        let now: Owners = seen.leases.iter().filter_map(owner).collect();
        if let Some(earlier) = lives_earlier(&before, &now, me) {
            return earlier.to_owned();
        }
        before = now;
    }
}

/// The owner of a lease that is an earlier worker than this one and has renewed it in between.
fn lives_earlier<'a>(before: &Owners, now: &'a Owners, me: &str) -> Option<&'a str> {
    let renewed = now.iter().filter(|(shard, (owner, counter))| {
        before.get(*shard).is_some_and(|(same, then)| same == owner && then != counter)
    });
    renewed.map(|(_, (owner, _))| owner.as_str()).find(|owner| *owner < me)
}

/// The shards that an earlier call has read to their ends. Without a table there was none.
async fn finished(leases: &Leases) -> Result<Vec<ShardId>, Error> {
    let seen = match leases.all().await {
        Ok(seen) => seen,
        Err(ConsumerError::NoTable(_)) => return Ok(Vec::new()),
        Err(error) => return Err(Error::Start(error.to_string())),
    };
    let finished = seen.leases.iter().filter(|lease| lease.checkpoint() == Checkpoint::ShardEnd);
    Ok(finished.map(|lease| lease.shard().clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_worker_that_renews_its_lease_is_in_the_way() {
        let owners = |rows: [(&str, u64); 3]| -> Owners {
            let shards = (0..).map(|number| format!("shardId-{number:012}").parse().unwrap());
            shards.zip(rows.map(|(owner, counter)| (owner.to_owned(), counter))).collect()
        };
        let before = owners([("a", 1), ("m", 1), ("z", 1)]);
        let found = |now| lives_earlier(&before, &owners(now), "m").map(str::to_owned);
        assert_eq!(
            found([("a", 1), ("m", 2), ("z", 2)]),
            None,
            "it is dead, or it is this one, or it gives way itself"
        );
        assert_eq!(found([("m", 2), ("m", 2), ("m", 2)]), None, "taken over");
        assert_eq!(found([("a", 1), ("a", 2), ("z", 2)]), None, "it may have taken that before it died");
        assert_eq!(found([("a", 2), ("m", 2), ("z", 2)]).as_deref(), Some("a"));
        assert_eq!(lives_earlier(&Owners::new(), &before, "m"), None);
    }
}
