//! `kinesink put STREAM FILE`: the sample producer.

mod aggregators;
mod lines;
mod producer;

use std::time::Duration;

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
const TOO_LARGE: &str = "it is larger than 1 MiB with its key, which is the service's limit";
/// The service's limit for a partition key.
const KEY_CHARACTERS_MAX: usize = 256;
/// How long a line waits for others that come with it in one call.
const IDLE_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Put) -> Result<Exit, Problem> {
    let lines = Lines::open(&args.file)?;
    let clients = connect(&AwsOptions::default()).await?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    if let Some(shards) = args.create {
        tokio::select! {
            created = create_stream(&clients.kinesis, &args.stream, shards) => created?,
            () = stop.drain.cancelled() => return Ok(Exit::Aborted),
        }
    }
    let aggregators =
        if args.aggregate { Some(Aggregators::of_stream(&clients.kinesis, &args.stream).await?) } else { None };
    let mut producer = Producer::new(&clients.kinesis, &args.stream, args.rate, aggregators, &stop.drain);
    tokio::select! {
        done = send(lines, &args, &mut producer, &stop) => done?,
        () = signals => return Ok(Exit::Aborted),
    }
    let (lines, records) = producer.sent();
    stdout::line(format!("{lines} lines sent to {} in {records} Kinesis records", args.stream))?;
    Ok(if stop.drain.is_cancelled() { Exit::Aborted } else { Exit::Drained })
}

/// Sends every line, or those before the first signal or the first that cannot be sent: what was begun is finished, so
/// that the count is right.
async fn send(lines: Lines, args: &Put, producer: &mut Producer<'_>, stop: &Stop) -> Result<(), Problem> {
    let refused = add_all(lines, args, producer, stop).await?;
    producer.finish().await?;
    let taken = producer.sent().0;
    match refused {
        None => Ok(()),
        Some(why) => Err(Problem::new(Exit::Failed, format!("{why}; {taken} lines before it were taken"))),
    }
}

/// Adds the lines. Why one of them cannot be sent, if that ended it.
async fn add_all(
    mut lines: Lines,
    args: &Put,
    producer: &mut Producer<'_>,
    stop: &Stop,
) -> Result<Option<String>, Problem> {
    let (mut number, mut some_wait) = (0, false);
    loop {
        let line = tokio::select! {
            biased;
            () = stop.drain.cancelled() => break,
            line = lines.next() => line,
            () = tokio::time::sleep(IDLE_MAX), if some_wait => {
                producer.finish().await?;
                some_wait = false;
                continue;
            }
        };
        let Some(line) = line else { break };
        number += 1;
        let cannot = |what: &str, why: &dyn std::fmt::Display| {
            Ok(Some(format!("cannot {what} {}, line {number}: {why}", args.file.display())))
        };
        let line = match line {
            Ok(line) => line,
            Err(error) => return cannot("read", &error),
        };
        if line.is_empty() {
            continue;
        }
        if line.len() > RECORD_BYTES_MAX {
            return cannot("send", &TOO_LARGE);
        }
        let key = match partition_key(&line, args.key.as_deref(), number) {
            Ok(key) => key,
            Err(why) => return cannot("send", &why),
        };
        if key.len() + line.len() > RECORD_BYTES_MAX {
            return cannot("send", &TOO_LARGE);
        }
        let characters = key.chars().count();
        if characters > KEY_CHARACTERS_MAX {
            let why = format!("its key has {characters} characters, and the service takes {KEY_CHARACTERS_MAX}");
            return cannot("send", &why);
        }
        producer.add(key, Bytes::from(line)).await?;
        some_wait = true;
    }
    Ok(None)
}

/// The value of `field` as text, or the line's number, which spreads lines evenly.
fn partition_key(line: &str, field: Option<&str>, number: u64) -> Result<String, String> {
    let Some(field) = field else { return Ok(number.to_string()) };
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("it is not JSON: {error}"))?;
    match value.get(field) {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(serde_json::Value::Null | serde_json::Value::String(_)) | None => {
            let remedy = if field.starts_with('.') { ": name it without the dot" } else { "" };
            Err(format!("it has no value in the field {field:?} that --key names{remedy}"))
        }
        Some(other) => Ok(other.to_string()),
    }
}
