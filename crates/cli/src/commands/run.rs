//! `kinesink run FILE`: a pipeline until it is stopped.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kinesink::aws::{self, AwsOptions, Clients, connect};
use kinesink::config::Config;
use kinesink::local::{Local, LocalOptions};
use kinesink::{
    Connector, Error, Outcome, Programs, Progress, Stop, StreamFinding, connector_from, create_stream, create_tables,
    stream_findings,
};
use prometheus_client::registry::Registry;

use crate::args::Run;
use crate::exit::{Exit, Problem};
use crate::{admin, signals};

/// Shards of a stream that `--create` or `--local` makes.
const SHARDS: u16 = 4;
/// How often it is said why files are not larger, if there are new ones.
const FILES_REPORT_EVERY: Duration = Duration::from_secs(3600);

pub(crate) async fn run(args: Run) -> Result<Exit, Problem> {
    let (config, programs) = super::check::read(&args.file)?;
    #[cfg(feature = "planted-faults")]
    let config = config.planted(args.fault, args.part_bytes);
    super::check::complete(&config)?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::select! {
        exit = services_and_pipeline(&config, programs, &args, &stop) => exit,
        () = signals => {
            // The second signal: the pipeline gets no more time.
            Ok(Exit::Aborted)
        }
    }
}

async fn services_and_pipeline(config: &Config, programs: Programs, args: &Run, stop: &Stop) -> Result<Exit, Problem> {
    let Some(directory) = &args.local else {
        let options = AwsOptions { region: config.source.region.clone(), ..AwsOptions::default() };
        return stream_and_pipeline(config, programs, &options, args.create, stop).await;
    };
    let mut local = start_local(directory).await?;
    local.create_buckets(config).await?;
    let options = local.aws_options();
    let exit = tokio::select! {
        exit = stream_and_pipeline(config, programs, &options, true, stop) => exit,
        error = local.ended() => Err(error.into()),
    };
    local.stop().await;
    exit
}

async fn stream_and_pipeline(
    config: &Config,
    programs: Programs,
    options: &AwsOptions,
    create: bool,
    stop: &Stop,
) -> Result<Exit, Problem> {
    let clients = connect(options).await.map_err(|error| match error {
        aws::Error::NoRegion => Problem::report(Exit::Configuration, &config.missing_region().into()),
        error => error.into(),
    })?;
    if create {
        let create = async {
            create_stream(&clients.kinesis, config.source.stream.as_str(), SHARDS).await?;
            create_tables(config, &clients).await
        };
        tokio::select! {
            created = create => created?,
            () = stop.drain.cancelled() => return Ok(Exit::Drained),
        }
    }
    pipeline(config, programs, clients, stop).await
}

async fn start_local(directory: &Path) -> Result<Local, Problem> {
    let options = LocalOptions { directory: Some(directory.into()), ..LocalOptions::default() };
    let local = Local::start(&options).await?;
    let (kinesis, dynamodb, s3) = (local.kinesis_url(), local.dynamodb_url(), local.s3_url());
    tracing::info!(kinesis, dynamodb, s3, "local services are up");
    Ok(local)
}

async fn pipeline(config: &Config, programs: Programs, clients: Clients, stop: &Stop) -> Result<Exit, Problem> {
    tracing::info!(app = config.app, stream = %config.source.stream, delivery = config.delivery(), "starting");
    tokio::select! {
        findings = stream_findings(config, &clients) => fit_for(findings)?,
        () = stop.drain.cancelled() => return Ok(Exit::Drained),
    }
    let mut registry = Registry::default();
    let connector = connector_from(config, programs, clients, &mut registry).await?;
    let health = connector.health();
    let registry = Arc::new(registry);
    let Some(address) = config.metrics_listen else { return drive(&connector, stop).await };
    let (bound, pages) = admin::serve(address, registry, health).await?;
    tracing::info!(%bound, "serving /metrics, /healthz and /readyz");
    tokio::select! {
        exit = drive(&connector, stop) => exit,
        () = pages => Err(Problem::new(Exit::Failed, "the metrics page ended")),
    }
}

/// Whether the stream is fit for every sink.
fn fit_for(findings: Vec<(String, StreamFinding)>) -> Result<(), Error> {
    let mut refused = Vec::new();
    for (sink, finding) in findings {
        match finding {
            StreamFinding::Warning(why) => tracing::warn!(sink, "{why}"),
            StreamFinding::Refusal(why) => refused.push(format!("sink {sink}: {why}")),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Error::Start(refused.join("; "))) }
}

async fn drive(connector: &Connector, stop: &Stop) -> Result<Exit, Problem> {
    let outcome = tokio::select! {
        outcome = connector.run(stop) => outcome?,
        never = report_files(connector) => match never {},
    };
    tell_files(connector);
    let Progress { records, filtered, committed, dead_letters, .. } = connector.metrics().progress();
    // What a halt, another owner or a restart has read again counts again, but for what is committed.
    tracing::info!(read = records, filtered, committed, dead_letters, "ended");
    Ok(match outcome {
        Outcome::Drained => Exit::Drained,
        Outcome::Halted => Exit::Halted,
        Outcome::Aborted => Exit::Aborted,
    })
}

/// Says why files are not larger, again and again.
async fn report_files(connector: &Connector) -> Infallible {
    let mut told = 0;
    loop {
        tokio::time::sleep(FILES_REPORT_EVERY).await;
        let count = connector.metrics().files().count();
        if count > told {
            told = count;
            tell_files(connector);
        }
    }
}

fn tell_files(connector: &Connector) {
    let report = connector.metrics().files();
    if report.count() > 0 {
        tracing::info!(%report, "files of this run");
    }
}
