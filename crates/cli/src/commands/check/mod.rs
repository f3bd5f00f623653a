//! `kinesink check FILE`: reads and validates, starts nothing. With `--sample`, it reads records too; with `--create`, it makes
//! tables; with `--connect`, it asks whether all that the file names may be used.

mod sample;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use kinesink::aws::{self, AwsOptions, Clients, connect};
use kinesink::config::Config;
use kinesink::sinks::Location;
use kinesink::{Clock as _, Connection, Programs, SystemClock, connections, create_tables};

use crate::args::Check;
use crate::exit::{Exit, Problem};
use crate::shell::quoted;
use crate::stdout;

/// Far more than any pipeline file has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn run(args: &Check) -> Result<Exit, Problem> {
    let (config, programs) = read(&args.file)?;
    if let Some(records) = args.sample {
        return sample::run(&config, &programs, records).await;
    }
    complete(&config)?;
    if args.create {
        Box::pin(create_tables(&config, &clients(&config).await?)).await?;
    }
    stdout::line(format!("{}: no mistakes found", args.file.display()))?;
    stdout::line(format!("  app {}, stream {}, delivery: {}", config.app, config.source.stream, config.delivery()))?;
    for sink in &config.sinks {
        stdout::line(format!("  sink {} -> {}", sink.name, sink.url))?;
    }
    for sink in &config.tables {
        stdout::line(format!("  sink {} -> DynamoDB table {}, {}", sink.name, sink.table, sink.delivery()))?;
        if let Some(attribute) = sink.put_by() {
            let fact =
                format!("each record's partition key is `{attribute}` of its item's key, or the record is refused");
            stdout::line(format!("  sink {}: {fact}", sink.name))?;
        }
    }
    if args.create {
        tell_buckets(&config)?;
    }
    if config.dead_letter.is_none() {
        stdout::line("  no [dead_letter]: a record that cannot be transformed or delivered halts its shard")?;
    }
    if !args.connect {
        return Ok(Exit::Drained);
    }
    tell(Box::pin(connections(&config, &clients(&config).await?)).await?)
}

/// How the buckets are made that the file names: who owns them gives them more than a name.
fn tell_buckets(config: &Config) -> Result<(), Problem> {
    let of_sinks = config.sinks.iter().map(|sink| (&sink.url, &sink.reached));
    let places = of_sinks.chain(config.dead_letter.iter().map(|letters| (&letters.url, &letters.reached)));
    let mut told = BTreeSet::new();
    for (url, reached) in places {
        let Location::Bucket { bucket, .. } = url else { continue };
        if !told.insert((bucket, &reached.endpoint)) {
            continue;
        }
        let mut command = format!("aws s3 mb {}", quoted(&format!("s3://{bucket}")));
        let region = reached.region.as_ref().or(config.source.region.as_ref());
        for (option, value) in [("--region", region), ("--endpoint-url", reached.endpoint.as_ref())] {
            if let Some(value) = value {
                command.push_str(&format!(" {option} {}", quoted(value)));
            }
        }
        stdout::line(format!("  bucket {bucket} is not made by --create; where it is missing: {command}"))?;
    }
    Ok(())
}

/// Clients for what the file names.
pub(crate) async fn clients(config: &Config) -> Result<Clients, Problem> {
    let options = AwsOptions { region: config.source.region.clone(), ..AwsOptions::default() };
    // Boxed: whoever only checks the file would hold all of it.
    Box::pin(connect(&options)).await.map_err(|error| match error {
        aws::Error::NoRegion => Problem::report(Exit::Configuration, &config.missing_region().into()),
        error => error.into(),
    })
}

fn tell(found: Vec<Connection>) -> Result<Exit, Problem> {
    let mut failures = Vec::new();
    for Connection { place, facts, warnings, failure, .. } in found {
        for fact in facts {
            stdout::line(format!("  {place}: {fact}"))?;
        }
        for warning in warnings {
            stdout::line(format!("  {place}: warning: {warning}"))?;
        }
        failures.extend(failure.map(|failure| format!("{place}: {failure}")));
    }
    if failures.is_empty() {
        return Ok(Exit::Drained);
    }
    Err(Problem::new(Exit::Start, failures.join("\nerror: ")))
}

/// Nothing is missing that a run needs and a sample does not.
pub(crate) fn complete(config: &Config) -> Result<(), Problem> {
    match config.missing_columns().or_else(|| config.start_to_come(SystemClock.now())) {
        Some(mistake) => Err(Problem::report(Exit::Configuration, &mistake.into())),
        None => Ok(()),
    }
}

/// Reads a pipeline file and compiles its programs, or says where it is wrong.
pub(crate) fn read(file: &Path) -> Result<(Config, Programs), Problem> {
    let name = file.display().to_string();
    let refuse = |why: String| Problem::new(Exit::Configuration, format!("cannot read {name}: {why}"));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| refuse(error.to_string()))?;
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
        let remedy = if error.kind() == std::io::ErrorKind::InvalidData { "; save it as UTF-8" } else { "" };
        refuse(format!("{error}{remedy}"))
    })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse(format!("it is larger than {FILE_BYTES_MAX} bytes; name a pipeline file")));
    }
    let mistake = |mistake: kinesink::config::ConfigError| Problem::report(Exit::Configuration, &mistake.into());
    let config = Config::parse(&text, &name).map_err(mistake)?;
    let programs = Programs::compile(&config).map_err(mistake)?;
    Ok((config, programs))
}
