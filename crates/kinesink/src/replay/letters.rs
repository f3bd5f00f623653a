//! Dead letters back into the sinks, by the pipeline file that wrote them.
//!
//! ```text
//! for each record that windows with letters begin with:
//!     send the rounds again that were begun and are not done, each as it was
//!     while letters are left that no round has: begin a round of as many as memory takes, and send it
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kinesink_aws::Clients;
use kinesink_core::{Class, Failure, Fingerprint, Position, ShardId, StreamName, Transformer};
use kinesink_pipeline::{DeadLetter, Event, OutputIds, PatternFilter, Pipeline, Recipe, RefusedWindow, Remade, Sink};
use kinesink_sinks::s3::{Listed, Naming, S3Reader, Window};

use super::reading::Letters;
use super::report::{FailedWindow, ReplayReport};
use super::rounds::{Notes, Round, Standing};
use crate::config::Config;
use crate::from_config::{Services, dead_letter_place, pipeline, services, sinks};
use crate::programs::Transform;
use crate::{Error, Programs};

/// So many windows in a row whose sinks do not come back end the replay.
const UNANSWERED_WINDOWS_MAX: usize = 3;
/// Streams whose letters are there instead of those of the file's.
const STREAMS_TOLD_MAX: usize = 10;
/// Of the memory for records, the part that is for letters: what they are made into takes as much again.
const LETTERS_SHARE: usize = 2;
/// The part that is for what is known of each output that was sent,
const OUTPUTS_SHARE: usize = 4;
/// and what one takes.
const OUTPUT_BYTES: usize = 128;

/// Sends the dead letters of the file's stream again: what a sink had refused to that sink, what the transformer had refused
/// to all of them, as the file is now. Nothing is removed, and a second replay changes nothing: what is sent of a window
/// stands in an object of its own, `…-replay`, and is noted beside the letters; what is left over, by a later replay in
/// another, `…-replay-2`.
///
/// # Errors
/// [`Error::Configuration`] without a `[dead_letter]`; [`Error::Start`] where the letters cannot be listed, or are of other streams
/// alone. A window that cannot be replayed is told by the report, and the others go on. What was sent stays, and is known the next time.
pub async fn replay(config: &Config, programs: Programs, clients: &Clients) -> Result<ReplayReport, Error> {
    let services = services(config, clients).await;
    let Programs { filter, transform } = programs;
    match transform {
        Transform::Raw(raw) => replay_with(config, filter, raw, &services).await,
        Transform::Jq(jq) => replay_with(config, filter, *jq, &services).await,
    }
}

async fn replay_with<T: Transformer<Model = Event, Output = Bytes>>(
    config: &Config,
    filter: Option<PatternFilter>,
    transformer: T,
    services: &Services,
) -> Result<ReplayReport, Error> {
    let place = dead_letter_place(config, services)
        .ok_or_else(|| Error::Configuration("there is no [dead_letter] to read from: add it".into()))?;
    let reader = S3Reader::open(&place).map_err(|error| Error::Configuration(error.to_string()))?;
    let pipeline: Pipeline<T> = pipeline(config, filter, transformer, services, Naming::Replay { round: 1 })?;
    let running = |failure: Failure| Error::Running(failure.message);
    let windows =
        reader.windows().await.map_err(|failure| Error::Start(format!("dead letters: {}", failure.message)))?;
    let of_others = others(&windows, &config.source.stream);
    let begins = begins(windows, &config.source.stream);
    if begins.is_empty() && !of_others.is_empty() {
        return Err(Error::Start(format!(
            "there are no dead letters of stream {} in {}, but of {of_others}: mend `stream` in [source], or `url` in [dead_letter]",
            config.source.stream, place.location
        )));
    }
    let objects = begins.iter().map(|begin| begin.objects.len()).sum();
    let (rounds, report) = (BTreeMap::new(), ReplayReport { objects, ..ReplayReport::default() });
    let recipe = digest(pipeline.recipe());
    let mut replay = Replay { config, services, reader: &reader, pipeline: &pipeline, recipe: &recipe, rounds, report };
    let (mut reaching, mut unanswered) = (VecDeque::<&Begin>::new(), 0);
    for (index, begin) in begins.iter().enumerate() {
        reaching.retain(|earlier| earlier.shard == begin.shard && earlier.last >= begin.first);
        let behind = begins.get(index + 1..).unwrap_or_default();
        let within = behind.iter().take_while(|later| later.shard == begin.shard && later.first <= begin.last);
        let others: Vec<&Begin> = reaching.iter().copied().chain(within).collect();
        reaching.push_back(begin);
        let Err(failure) = replay.letters_of(begin, &others).await else {
            unanswered = 0;
            continue;
        };
        unanswered = if failure.class == Class::Transient { unanswered + 1 } else { 0 };
        let Begin { shard, first, last, .. } = begin;
        let (shard, first, last, why) = (shard.clone(), *first, *last, failure.message);
        replay.report.failed.extend([FailedWindow { shard, first, last, why }]);
        if failure.class == Class::Fatal || unanswered == UNANSWERED_WINDOWS_MAX {
            replay.report.untried = behind.len();
            break;
        }
    }
    let report = replay.close().await.map_err(running)?;
    pipeline.close().await.map_err(running)?;
    Ok(report)
}

/// What the letters of all windows that begin with one record are in: attempts at it may have ended elsewhere.
struct Begin {
    stream: StreamName,
    shard: ShardId,
    first: Position,
    /// Of the longest one.
    last: Position,
    /// One at least.
    key: String,
    objects: Vec<Listed>,
}

impl Begin {
    /// Whose letters these are.
    fn of(&self) -> (&StreamName, &ShardId) {
        (&self.stream, &self.shard)
    }
}

/// Of which streams else there are letters: the first few.
fn others(windows: &BTreeMap<Window, Vec<Listed>>, than: &StreamName) -> String {
    let streams: BTreeSet<_> = windows.keys().map(|window| window.stream.as_str()).collect();
    let mut others: Vec<_> = streams.into_iter().filter(|stream| *stream != than.as_str()).collect();
    let more = others.len().saturating_sub(STREAMS_TOLD_MAX);
    others.truncate(STREAMS_TOLD_MAX);
    let told = others.join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

/// In the order of the stream.
fn begins(windows: BTreeMap<Window, Vec<Listed>>, of: &StreamName) -> Vec<Begin> {
    let mut begins = Vec::<Begin>::new();
    for (Window { stream, shard, first, last }, objects) in windows {
        if stream != *of {
            continue;
        }
        match begins.last_mut() {
            Some(begin) if begin.shard == shard && begin.first == first => {
                begin.last = last;
                begin.objects.extend(objects);
            }
            _ => {
                let key = objects.first().map(|object| object.key.clone()).unwrap_or_default();
                begins.push(Begin { stream, shard, first, last, key, objects });
            }
        }
    }
    begins
}

struct Replay<'a, T: Transformer> {
    config: &'a Config,
    services: &'a Services,
    reader: &'a S3Reader,
    pipeline: &'a Pipeline<T>,
    /// Digest of what decides names and contents of what is sent.
    recipe: &'a str,
    /// The sinks of each round, as far as they were wanted.
    rounds: BTreeMap<u32, Vec<Sink<Bytes>>>,
    report: ReplayReport,
}

impl<T: Transformer<Model = Event, Output = Bytes>> Replay<'_, T> {
    /// Sends what is left of the letters. `others` are windows that have records in common with it.
    async fn letters_of(&mut self, begin: &Begin, others: &[&Begin]) -> Result<(), Failure> {
        let notes = Notes { reader: self.reader, key: &begin.key, recipe: self.recipe };
        let mut standing = Standing::default();
        for other in others {
            let notes = Notes { reader: self.reader, key: &other.key, recipe: self.recipe };
            notes.rounds().await?.iter().for_each(|round| standing.add(round));
        }
        let rounds = notes.rounds().await?;
        rounds.iter().for_each(|round| standing.add(round));
        bounded(&standing, self.config)?;
        self.report.delivered_before += rounds.iter().map(Round::settled).sum::<usize>();
        let (before, mut next) = (self.report.records, 1);
        for round in rounds {
            next = round.number + 1;
            if round.missing.is_none() {
                self.again(begin, &notes, &round).await?;
            }
        }
        self.rest(begin, &notes, &mut standing, next).await?;
        self.report.windows += usize::from(self.report.records != before);
        Ok(())
    }

    /// A round that was begun, as it was.
    async fn again(&mut self, begin: &Begin, notes: &Notes<'_>, round: &Round) -> Result<(), Failure> {
        let has = |letter: &DeadLetter, position: Position| {
            let mut sent = match letter.sink() {
                Some(sink) => round.outputs.get(sink).into_iter().collect(),
                None => round.outputs.values().collect::<Vec<_>>(),
            };
            sent.retain(|ids| ids.range((position, 0)..=(position, u32::MAX)).next().is_some());
            !sent.is_empty()
        };
        // Whoever began it had memory for it.
        let letters = Letters::read(self.reader, begin.of(), &begin.objects, usize::MAX, has).await?;
        let owes = |sink: &str, id| round.outputs.get(sink).is_some_and(|ids| ids.contains(&id));
        let remade = self.pipeline.remake(letters.into_letters(), &begin.shard, owes)?;
        self.report.records += remade.records;
        self.report.refused.extend(remade.refused.iter().cloned());
        self.report.unknown_sinks.extend(remade.unknown_sinks.iter().cloned());
        self.send(begin, notes, round, &remade).await
    }

    /// The letters that no round has.
    async fn rest(
        &mut self,
        begin: &Begin,
        notes: &Notes<'_>,
        standing: &mut Standing,
        mut next: u32,
    ) -> Result<(), Failure> {
        let config = self.config;
        let objects = config.sinks.iter().map(|sink| &*sink.name);
        let sinks: Vec<&str> = objects.chain(config.tables.iter().map(|sink| &*sink.name)).collect();
        let (bytes_max, mut behind) = (config.record_bytes() / LETTERS_SHARE, None);
        loop {
            let is_left = |letter: &DeadLetter, position| {
                behind.is_none_or(|behind| position > behind) && standing.concerns(letter, position, &sinks)
            };
            let letters = Letters::read(self.reader, begin.of(), &begin.objects, bytes_max, is_left).await?;
            if letters.is_empty() {
                return Ok(());
            }
            behind = letters.goes_on_behind();
            let owes = |sink: &str, id| standing.owes(sink, id);
            let mut remade = self.pipeline.remake(letters.into_letters(), &begin.shard, owes)?;
            self.report.records += remade.records;
            self.report.filtered += remade.filtered;
            self.report.refused.extend(std::mem::take(&mut remade.refused));
            self.report.unknown_sinks.append(&mut remade.unknown_sinks);
            while remade.owed.values().any(|ids| !ids.is_empty()) {
                let round = notes.begin(next, begin.last, remade.owed.clone()).await?;
                next += 1;
                standing.add(&round);
                bounded(standing, self.config)?;
                if round.missing.is_none() {
                    self.send(begin, notes, &round, &remade).await?;
                }
                // Another replay may have begun it, of fewer letters.
                for (sink, ids) in &mut remade.owed {
                    ids.retain(|id| standing.owes(sink, *id));
                }
            }
            if behind.is_none() {
                return Ok(());
            }
        }
    }

    async fn send(
        &mut self,
        begin: &Begin,
        notes: &Notes<'_>,
        round: &Round,
        remade: &Remade<Bytes>,
    ) -> Result<(), Failure> {
        notes.as_begun(round)?;
        let Begin { stream, shard, first, .. } = begin;
        let window = RefusedWindow { stream: stream.clone(), shard: shard.clone(), first: *first, last: round.last };
        let pipeline = self.pipeline;
        let sinks = self.sinks(round.number)?;
        let resent = pipeline.resend(sinks, &window, remade, &round.outputs).await?;
        self.report.delivered += resent.delivered;
        // One that is refused whole is at its end too, for a mended file to send it; unless it may have been begun by another.
        let is_refused = round.recipe.is_some() && !resent.refused.is_empty();
        self.report.refused.extend(resent.refused);
        if resent.delivered > 0 || is_refused {
            notes.end(round, &resent.missing).await?;
        }
        Ok(())
    }

    fn sinks(&mut self, round: u32) -> Result<&[Sink<Bytes>], Failure> {
        match self.rounds.entry(round) {
            Entry::Occupied(sinks) => Ok(sinks.into_mut()),
            Entry::Vacant(vacant) => {
                let sinks = sinks(self.config, self.services, Naming::Replay { round });
                Ok(vacant.insert(sinks.map_err(|error| Failure::fatal(error.to_string()))?))
            }
        }
    }

    async fn close(self) -> Result<ReplayReport, Failure> {
        for sink in self.rounds.values().flatten() {
            sink.emitter.close().await?;
        }
        Ok(self.report)
    }
}

/// The same for the same recipe.
fn digest(recipe: &Recipe) -> String {
    let mut digest = Fingerprint::new();
    for (name, value) in recipe {
        digest.part(name.as_bytes());
        digest.part(value.as_bytes());
    }
    format!("{:032x}", digest.finish())
}

/// What is known of the outputs that were sent has to fit into memory.
fn bounded(standing: &Standing, config: &Config) -> Result<(), Failure> {
    let (outputs, outputs_max) = (standing.outputs(), config.record_bytes() / OUTPUTS_SHARE / OUTPUT_BYTES);
    if outputs <= outputs_max {
        return Ok(());
    }
    Err(Failure::configuration(format!(
        "it has letters of {outputs} outputs, and `memory` has room to know of {outputs_max}: raise `memory` for the replay"
    )))
}

impl Round {
    /// Outputs that the sinks have by it.
    fn settled(&self) -> usize {
        let count = |ids: &OutputIds| ids.values().map(BTreeSet::len).sum::<usize>();
        self.missing.as_ref().map_or(0, |missing| count(&self.outputs).saturating_sub(count(missing)))
    }
}

#[cfg(test)]
mod tests {
    use kinesink_aws::{AwsOptions, StaticCredentials, connect};

    use super::*;

    fn config(letters: &std::path::Path) -> Config {
        let text = format!(
            "version = 1\napp = \"orders\"\nmemory = \"16MiB\"\n[source]\nstream = \"orders\"\n[[sink]]\ntype = \"s3\"\n\
             url = \"s3://bucket/orders\"\nendpoint = \"http://127.0.0.1:1\"\n[dead_letter]\nurl = \"file://{}\"\n",
            letters.display()
        );
        Config::parse(&text, "orders.toml").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn sinks_that_do_not_come_back_end_the_replay_after_some_windows() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("orders/shardId-000000000000");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 1..=5 {
            let letter = format!(
                "{{\"version\":1,\"stage\":\"sink:s3\",\"stream\":\"orders\",\"shard\":\"shardId-000000000000\",\
                 \"sequence\":\"{number}\",\"sub_sequence\":0,\"ordinal\":0,\"arrival\":\"2026-01-02T03:04:05Z\",\
                 \"partition_key\":null,\"reason\":\"then\",\"data\":\"e30=\"}}\n"
            );
            std::fs::write(folder.join(format!("{number}.0-{number}.0-x.ndjson")), letter).unwrap();
        }
        let config = config(directory.path());
        let keys = StaticCredentials { access_key: "test".into(), secret_key: "test".into() };
        let options = AwsOptions { region: Some("us-east-1".into()), credentials: Some(keys), ..AwsOptions::default() };
        let clients = connect(&options).await.unwrap();
        let report = replay(&config, Programs::compile(&config).unwrap(), &clients).await.unwrap();
        assert_eq!((report.failed.count, report.untried, report.delivered), (3, 2, 0), "{report:?}");
        let lasts: Vec<String> = report.failed.first.iter().map(|window| window.last.to_string()).collect();
        assert_eq!(lasts, ["1.0", "2.0", "3.0"]);
    }

    #[test]
    fn more_outputs_than_memory_has_room_for_are_refused_with_the_remedy() {
        let config = config(std::path::Path::new("/letters"));
        let standing = |outputs: usize| {
            let id = |number: usize| (Position { sequence: number.to_string().parse().unwrap(), sub_sequence: 0 }, 0);
            let sent = OutputIds::from([("s3".into(), (0..outputs).map(id).collect())]);
            let last = id(outputs).0;
            let mut standing = Standing::default();
            standing.add(&Round { number: 1, last, outputs: sent, missing: None, recipe: None });
            standing
        };
        let outputs_max = config.record_bytes() / 4 / 128;
        assert!(bounded(&standing(outputs_max), &config).is_ok());
        let failure = bounded(&standing(outputs_max + 1), &config).unwrap_err();
        assert!(failure.message.contains(&format!("room to know of {outputs_max}: raise `memory`")), "{failure}");
    }
}
