//! Dead letters back into the sinks, by the pipeline file that wrote them.

use std::collections::HashSet;

use bytes::Bytes;
use kinesink_aws::Clients;
use kinesink_core::{Failure, Transformer};
use kinesink_pipeline::{DeadLetter, Event, PatternFilter, Pipeline, RefusedWindow, Replayed};
use kinesink_sinks::s3::{Naming, S3Reader, Window};

use crate::config::Config;
use crate::from_config::{Services, Transform, dead_letter_place, pipeline, services};
use crate::{Error, Programs};

/// What became of a file's dead letters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Windows that had any.
    pub windows: usize,
    /// Of all of them together.
    pub total: Replayed,
}

/// Sends the dead letters of the file's stream again: what a sink had refused to that sink, what the transformer had refused
/// to all of them, as the file is now. Nothing is removed, and a second replay changes nothing: what is sent of a window
/// stands in an object of its own, `…-replay`, which is made once.
///
/// # Errors
/// [`Error::Configuration`] without a `[dead_letter]`; [`Error::Running`] for what cannot be read or sent. What was sent
/// before that stays, and is met again next time.
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
    let pipeline: Pipeline<T> = pipeline(config, filter, transformer, services, Naming::Replay)?;
    let running = |failure: Failure| Error::Running(failure.message);
    let mut report = ReplayReport::default();
    let mut shard = None;
    let mut seen = HashSet::new();
    for (window, keys) in reader.windows().await.map_err(running)? {
        if window.stream != config.source.stream {
            continue;
        }
        if shard.as_ref() != Some(&window.shard) {
            shard = Some(window.shard.clone());
            seen.clear();
        }
        let mut letters = Vec::new();
        for key in keys {
            letters.extend(read(&reader, &key).await?);
        }
        // A window that was not announced may have ended elsewhere at the next attempt.
        letters.retain(|letter| seen.insert(identity(letter)));
        if letters.is_empty() {
            continue;
        }
        let Window { stream, shard, first, last } = window;
        let replayed = pipeline.replay(RefusedWindow { stream, shard, first, last, letters }).await.map_err(running)?;
        report.windows += 1;
        report.total.records += replayed.records;
        report.total.delivered += replayed.delivered;
        report.total.filtered += replayed.filtered;
        report.total.refused.extend(replayed.refused);
    }
    pipeline.close().await.map_err(running)?;
    Ok(report)
}

async fn read(reader: &S3Reader, key: &str) -> Result<Vec<DeadLetter>, Error> {
    let content = reader.read(key).await.map_err(|failure| Error::Running(failure.message))?;
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (1..)
        .zip(lines)
        .map(|(number, line)| {
            DeadLetter::from_json(line).map_err(|error| Error::Running(format!("{key}, line {number}: {error}")))
        })
        .collect()
}

/// What tells a letter from others of its shard.
fn identity(letter: &DeadLetter) -> (String, u64, u32, String) {
    (letter.sequence.clone(), letter.sub_sequence, letter.ordinal, letter.stage.clone())
}
