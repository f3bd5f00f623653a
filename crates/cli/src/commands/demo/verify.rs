//! Compares the objects with the stream by other means than the pipeline's: plain GetRecords, a filter and a
//! transform written by hand, files read from disk. As multisets of (shard, sequence number, bytes).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kinesink::aws::failure;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::types::ShardIteratorType;
use serde_json::Value;

use super::layout::Layout;
use crate::exit::{Exit, Problem};

/// (shard, sequence number, bytes) as the object should hold it.
type Line = (String, String, Vec<u8>);

/// At most this many differences are listed.
const DIFFERENCES_MAX: usize = 10;

/// What the comparison found.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) records: usize,
    pub(crate) differences: Vec<String>,
}

pub(crate) async fn verify(client: &Client, stream: &str, layout: &Layout) -> Result<Verdict, Problem> {
    let expected = expected(client, stream).await?;
    let mut differences = Vec::new();
    let mut found: BTreeMap<Line, Vec<PathBuf>> = BTreeMap::new();
    let on_disk = layout.objects_on_disk()?;
    let present: BTreeSet<_> = on_disk.iter().map(|object| object.path.clone()).collect();
    for gone in layout.noted_objects()?.into_iter().filter(|path| !present.contains(path)) {
        differences.push(format!("{}: the object is gone", gone.display()));
    }
    for object in on_disk {
        let bytes = std::fs::read(&object.path)
            .map_err(|error| Problem::new(Exit::Failed, format!("cannot read {}: {error}", object.path.display())))?;
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match coordinates(line) {
                Some((shard, sequence)) => {
                    found.entry((shard, sequence, line.to_vec())).or_default().push(object.path.clone());
                }
                None => differences.push(format!("{}, line {number}: not a line of ours", object.path.display())),
            }
        }
    }
    let records = expected.len();
    let expected: BTreeSet<Line> = expected.into_iter().collect();
    for ((shard, sequence, bytes), objects) in &found {
        let known = expected.contains(&(shard.clone(), sequence.clone(), bytes.clone()));
        let names: Vec<_> = objects.iter().map(|path| path.display().to_string()).collect();
        if !known {
            differences.push(format!("{}: {sequence} of {shard} is not what the stream has", names.join(", ")));
        } else if objects.len() > 1 {
            differences.push(format!("{}: {sequence} of {shard} is there {} times", names.join(", "), objects.len()));
        }
    }
    let missing = expected.iter().filter(|line| !found.contains_key(*line));
    differences.extend(missing.map(|(shard, sequence, _)| format!("{sequence} of {shard} is in no object")));
    let more = differences.len().saturating_sub(DIFFERENCES_MAX);
    if more > 0 {
        differences.truncate(DIFFERENCES_MAX);
        differences.push(format!("and {more} more"));
    }
    Ok(Verdict { records, differences })
}

fn coordinates(line: &[u8]) -> Option<(String, String)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    Some((text("shard")?, text("sequence")?))
}

/// What the pipeline file asks for, by hand: flights that left late, with route, shard and sequence number.
fn expected_line(data: &[u8], shard: &str, sequence: &str) -> Option<Vec<u8>> {
    let mut flight: serde_json::Map<String, Value> = serde_json::from_slice(data).ok()?;
    if flight.get("dep_delay")?.as_i64()? <= 0 {
        return None;
    }
    let route = format!("{}-{}", flight.get("origin")?.as_str()?, flight.get("dest")?.as_str()?);
    flight.insert("route".into(), route.into());
    flight.insert("shard".into(), shard.into());
    flight.insert("sequence".into(), sequence.into());
    serde_json::to_vec(&flight).ok()
}

async fn expected(client: &Client, stream: &str) -> Result<Vec<Line>, Problem> {
    let what = format!("stream {stream}");
    let shards = client.list_shards().stream_name(stream).send().await;
    let shards = shards.map_err(|error| Problem::new(Exit::Failed, failure("list the shards of", &what, &error)))?;
    let mut lines = Vec::new();
    for shard in shards.shards() {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let reply = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
        let reply = reply.map_err(|error| Problem::new(Exit::Failed, failure("get an iterator of", &what, &error)))?;
        let mut iterator = reply.shard_iterator;
        while let Some(current) = iterator.take() {
            let reply = client.get_records().shard_iterator(current).send().await;
            let reply = reply.map_err(|error| Problem::new(Exit::Failed, failure("read", &what, &error)))?;
            for record in reply.records() {
                let line = expected_line(record.data().as_ref(), shard.shard_id(), record.sequence_number());
                let place = || (shard.shard_id().to_owned(), record.sequence_number().to_owned());
                lines.extend(line.map(|bytes| (place().0, place().1, bytes)));
            }
            let at_tip = reply.records().is_empty() && reply.millis_behind_latest() == Some(0);
            iterator = reply.next_shard_iterator.filter(|_| !at_tip);
        }
    }
    Ok(lines)
}
