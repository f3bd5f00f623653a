//! Whether what a pipeline file names is there and may be used, asked without a run.

use kinesink_aws::kinesis::Client;
use kinesink_aws::{Clients, failure};
use kinesink_core::{Emitter as _, Failure};
use kinesink_sinks::s3::{LeftUploads, Naming, S3Config, S3Emitter};

use crate::Error;
use crate::config::Config;
use crate::from_config::{dead_letter_place, objects_config, services, table_emitter};
use crate::retry::retried_up_to;
use crate::stream::{StreamFinding, stream_findings};

/// A place that does not answer is given up after some three seconds, about when a start gives up.
const ATTEMPTS_MAX: u32 = 5;

/// What was found at one place that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The place, such as `sink latest`.
    pub place: String,
    /// What was found there.
    pub facts: Vec<String>,
    /// What a run goes on with all the same, and what to do about it.
    pub warnings: Vec<String>,
    /// Why a run cannot start, and what to do.
    pub failure: Option<String>,
}

impl Connection {
    /// Where there is nothing to warn of.
    fn new(place: String, found: Result<&str, Error>) -> Self {
        Self::warning(place, found.map(|fact| (vec![fact.into()], Vec::new())))
    }

    fn warning(place: String, found: Result<(Vec<String>, Vec<String>), Error>) -> Self {
        let failure = found.as_ref().err().map(ToString::to_string);
        let (facts, warnings) = found.unwrap_or_default();
        Self { place, facts, warnings, failure }
    }

    /// For this as well, if for something already.
    fn refuse(&mut self, why: &str) {
        let failure = self.failure.get_or_insert_default();
        let separator = if failure.is_empty() { "" } else { "; " };
        failure.push_str(&format!("{separator}{why}"));
    }

    /// `may_be_large` is whether objects may be sent in parts.
    async fn of_objects(place: String, config: S3Config, may_be_large: bool) -> Result<Self, Error> {
        let emitter = S3Emitter::open(config).map_err(|error| Error::Configuration(error.to_string()))?;
        let found = retried_up_to(ATTEMPTS_MAX, || emitter.check()).await;
        let asked = may_be_large && found.is_ok();
        let mut connection = Self::new(place, found.map(|()| "it can be written and read"));
        match if asked { emitter.left_uploads().await } else { None } {
            Some(LeftUploads::Fact(fact)) => connection.facts.push(fact),
            Some(LeftUploads::Warning(warning)) => connection.warnings.push(warning),
            None => {}
        }
        Ok(connection)
    }
}

/// Asks the stream, the sinks and the dead letters what a start asks them, each even where another has failed. Items and records
/// stay as they are; a bucket or a directory gets an empty object, which goes again. Leases are not asked for.
///
/// # Errors
/// [`Error::Configuration`], where nothing can be asked yet.
pub async fn connections(config: &Config, clients: &Clients) -> Result<Vec<Connection>, Error> {
    let services = services(config, clients).await;
    let stream = config.source.stream.as_str();
    let listed = retried_up_to(ATTEMPTS_MAX, || list(&clients.kinesis, stream)).await;
    // Of one that cannot be listed, enough is said.
    let of_stream = if listed.is_ok() { stream_findings(config, clients).await } else { Vec::new() };
    let mut found = vec![Connection::new("stream".into(), listed.map(|()| "its shards can be listed"))];
    for sink in &config.sinks {
        let objects = objects_config(config, sink, &services, Naming::Positions)?;
        let may_be_large = config.spill.is_some() || config.buffer.bytes > objects.bucket.put_bytes_max;
        found.push(Connection::of_objects(format!("sink {}", sink.name), objects, may_be_large).await?);
    }
    for sink in &config.tables {
        let emitter = table_emitter(config, sink, &services, Naming::Positions)?;
        let report =
            retried_up_to(ATTEMPTS_MAX, || emitter.prove()).await.map(|report| (report.facts, report.warnings));
        let mut connection = Connection::warning(format!("sink {}", sink.name), report);
        for (_, finding) in of_stream.iter().filter(|(name, _)| *name == sink.name) {
            match finding {
                StreamFinding::Warning(why) => connection.warnings.push(why.clone()),
                StreamFinding::Refusal(why) => connection.refuse(why),
            }
        }
        found.push(connection);
    }
    if let Some(spill) = &services.spill {
        let checked = spill.check().await.map_err(|failure| Error::Start(failure.message));
        found.push(Connection::new("[spill]".into(), checked.map(|()| "files can be made in its directory")));
    }
    if let Some(place) = dead_letter_place(config, &services) {
        found.push(Connection::of_objects("dead letters".into(), place, false).await?);
    }
    Ok(found)
}

async fn list(client: &Client, stream: &str) -> Result<(), Failure> {
    let reply = client.list_shards().stream_name(stream).max_results(1).send().await;
    reply.map(drop).map_err(|error| failure("list the shards of", &format!("stream {stream}"), &error))
}
