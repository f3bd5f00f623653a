//! `kinesink put STREAM FILE`: the sample producer.

mod aggregators;
mod producer;

use std::io::BufRead;
use std::path::Path;

use bytes::Bytes;
use kinesink::aws::{AwsOptions, connect};
use kinesink::{Stop, create_stream};

use self::aggregators::Aggregators;
pub(crate) use self::producer::Producer;
use crate::args::Put;
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

pub(crate) async fn run(args: Put) -> Result<Exit, Problem> {
    let clients = connect(&AwsOptions::default()).await.map_err(|error| Problem::new(Exit::Start, error))?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    if let Some(shards) = args.create {
        create_stream(&clients.kinesis, &args.stream, shards).await?;
    }
    let lines = open(&args.file)?;
    let aggregators =
        if args.aggregate { Some(Aggregators::of_stream(&clients.kinesis, &args.stream).await?) } else { None };
    let mut producer = Producer::new(&clients.kinesis, &args.stream, args.rate, aggregators);
    tokio::select! {
        done = send(lines, &args, &mut producer) => done?,
        () = signals => {}
        () = stop.drain.cancelled() => {}
    }
    let (lines, records) = producer.sent();
    stdout::line(format!("{lines} lines sent to {} in {records} Kinesis records", args.stream))?;
    Ok(if stop.drain.is_cancelled() { Exit::Aborted } else { Exit::Drained })
}

async fn send(lines: Box<dyn BufRead + Send>, args: &Put, producer: &mut Producer<'_>) -> Result<(), Problem> {
    for (number, line) in (1..).zip(lines.lines()) {
        let place = || format!("{}, line {number}", args.file.display());
        let line = line.map_err(|error| Problem::new(Exit::Failed, format!("cannot read {}: {error}", place())))?;
        if line.is_empty() {
            continue;
        }
        let key = partition_key(&line, args.key.as_deref(), number)
            .map_err(|why| Problem::new(Exit::Failed, format!("cannot send {}: {why}", place())))?;
        producer.add(key, Bytes::from(line)).await?;
    }
    producer.finish().await
}

fn open(file: &Path) -> Result<Box<dyn BufRead + Send>, Problem> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::BufReader::new(std::io::stdin())));
    }
    match std::fs::File::open(file) {
        Ok(opened) => Ok(Box::new(std::io::BufReader::new(opened))),
        Err(error) => Err(Problem::new(Exit::Configuration, format!("cannot read {}: {error}", file.display()))),
    }
}

/// The value of `field` as text, or the line's number, which spreads lines evenly.
fn partition_key(line: &str, field: Option<&str>, number: u64) -> Result<String, String> {
    let Some(field) = field else { return Ok(number.to_string()) };
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("it is not JSON: {error}"))?;
    match value.get(field) {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(serde_json::Value::Null | serde_json::Value::String(_)) | None => {
            Err(format!("it has no value in the field {field:?} that --key names"))
        }
        Some(other) => Ok(other.to_string()),
    }
}
