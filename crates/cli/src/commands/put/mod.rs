//! `kinesink put STREAM FILE`: the sample producer.

mod aggregators;
mod lines;
mod producer;

use bytes::Bytes;
use kinesink::aws::{AwsOptions, connect};
use kinesink::{Stop, create_stream};

use self::aggregators::Aggregators;
use self::lines::Lines;
pub(crate) use self::producer::Producer;
use crate::args::Put;
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

/// The service's limit for one record: its data and its key.
const RECORD_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn run(args: Put) -> Result<Exit, Problem> {
    let lines = Lines::open(&args.file)?;
    let clients = connect(&AwsOptions::default()).await.map_err(|error| Problem::new(Exit::Start, error))?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    if let Some(shards) = args.create {
        create_stream(&clients.kinesis, &args.stream, shards).await?;
    }
    let aggregators =
        if args.aggregate { Some(Aggregators::of_stream(&clients.kinesis, &args.stream).await?) } else { None };
    let mut producer = Producer::new(&clients.kinesis, &args.stream, args.rate, aggregators);
    tokio::select! {
        done = send(lines, &args, &mut producer, &stop) => done?,
        () = signals => return Ok(Exit::Aborted),
    }
    let (lines, records) = producer.sent();
    stdout::line(format!("{lines} lines sent to {} in {records} Kinesis records", args.stream))?;
    Ok(if stop.drain.is_cancelled() { Exit::Aborted } else { Exit::Drained })
}

/// Sends every line, or those before the first signal: what was begun is finished, so that the count is right.
async fn send(mut lines: Lines, args: &Put, producer: &mut Producer<'_>, stop: &Stop) -> Result<(), Problem> {
    for number in 1.. {
        let line = tokio::select! {
            biased;
            () = stop.drain.cancelled() => break,
            line = lines.next() => line,
        };
        let Some(line) = line else { break };
        let cannot = |what: &str, why: &dyn std::fmt::Display| {
            let sent = producer.sent().0;
            let place = format!("{}, line {number}", args.file.display());
            Problem::new(Exit::Failed, format!("cannot {what} {place}: {why}; {sent} lines before it were taken"))
        };
        let line = line.map_err(|error| cannot("read", &error))?;
        if line.is_empty() {
            continue;
        }
        let key = partition_key(&line, args.key.as_deref(), number).map_err(|why| cannot("send", &why))?;
        if key.len() + line.len() > RECORD_BYTES_MAX {
            return Err(cannot("send", &"it is larger than 1 MiB with its key, which is the service's limit"));
        }
        producer.add(key, Bytes::from(line)).await?;
    }
    producer.finish().await
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
