//! `kinesink tail STREAM`: prints records as they arrive. Takes no lease and writes no checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kinesink::Stop;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::types::{Record, ShardIteratorType};
use kinesink::aws::{AwsOptions, connect, failure};
use kinesink::kpl;

use crate::args::{From, Tail};
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

/// Below the service's five calls a second and shard.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: Tail) -> Result<Exit, Problem> {
    let clients = connect(&AwsOptions::default()).await.map_err(|error| Problem::new(Exit::Start, error))?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::select! {
        done = follow(&clients.kinesis, &args) => done,
        () = signals => Ok(Exit::Drained),
        () = stop.drain.cancelled() => Ok(Exit::Drained),
    }
}

async fn follow(client: &Client, args: &Tail) -> Result<Exit, Problem> {
    let kind = match args.from {
        From::Latest => ShardIteratorType::Latest,
        From::TrimHorizon => ShardIteratorType::TrimHorizon,
    };
    let mut iterators = open_shards(client, &args.stream, &kind).await?;
    let mut seen: BTreeSet<String> = iterators.keys().cloned().collect();
    let mut left = args.records.unwrap_or(u64::MAX);
    while left > 0 && !iterators.is_empty() {
        for (shard, iterator) in std::mem::take(&mut iterators) {
            let what = format!("shard {shard} of stream {}", args.stream);
            let reply = match client.get_records().shard_iterator(&iterator).send().await {
                Ok(reply) => reply,
                Err(error) => {
                    let failure = failure("read", &what, &error);
                    if failure.class != kinesink::Class::Transient {
                        return Err(Problem::new(Exit::Failed, failure));
                    }
                    tracing::warn!(%failure, "trying again");
                    iterators.insert(shard, iterator);
                    continue;
                }
            };
            for record in reply.records {
                for line in user_data(record) {
                    if left == 0 || !stdout::line(&line)? {
                        return Ok(Exit::Drained);
                    }
                    left -= 1;
                }
            }
            if let Some(next) = reply.next_shard_iterator {
                iterators.insert(shard, next);
            } else {
                for child in reply.child_shards.unwrap_or_default() {
                    // A merged shard is announced by both of its parents.
                    if !seen.insert(child.shard_id.clone()) {
                        continue;
                    }
                    let first =
                        iterator_of(client, &args.stream, child.shard_id(), &ShardIteratorType::TrimHorizon).await?;
                    iterators.insert(child.shard_id, first);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Exit::Drained)
}

fn user_data(record: Record) -> Vec<Bytes> {
    let data = Bytes::from(record.data.into_inner());
    match kpl::unpack(&data) {
        kpl::Unpacked::Plain | kpl::Unpacked::Malformed(_) => vec![data],
        kpl::Unpacked::Aggregated(records) => records.into_iter().map(|record| record.data).collect(),
    }
}

async fn open_shards(
    client: &Client,
    stream: &str,
    kind: &ShardIteratorType,
) -> Result<BTreeMap<String, String>, Problem> {
    let mut iterators = BTreeMap::new();
    let mut next_token: Option<String> = None;
    loop {
        let request = client.list_shards();
        let request = match next_token.take() {
            Some(token) => request.next_token(token),
            None => request.stream_name(stream),
        };
        let reply = request.send().await.map_err(|error| {
            Problem::new(Exit::Start, failure("list the shards of", &format!("stream {stream}"), &error))
        })?;
        let all = reply.shards.unwrap_or_default();
        for shard in &all {
            let closed = shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_some());
            let has_parent = all.iter().any(|other| Some(other.shard_id()) == shard.parent_shard_id());
            // From the oldest record, children are met at the end of their parents.
            let wanted = if *kind == ShardIteratorType::Latest { !closed } else { !has_parent };
            if wanted {
                let first = iterator_of(client, stream, shard.shard_id(), kind).await?;
                iterators.insert(shard.shard_id.clone(), first);
            }
        }
        next_token = reply.next_token;
        if next_token.is_none() {
            return Ok(iterators);
        }
    }
}

async fn iterator_of(client: &Client, stream: &str, shard: &str, kind: &ShardIteratorType) -> Result<String, Problem> {
    let request = client.get_shard_iterator().stream_name(stream).shard_id(shard).shard_iterator_type(kind.clone());
    let reply = request.send().await.map_err(|error| {
        Problem::new(Exit::Failed, failure("get an iterator of", &format!("shard {shard} of stream {stream}"), &error))
    })?;
    reply.shard_iterator.ok_or_else(|| {
        Problem::new(Exit::Failed, format!("cannot read shard {shard} of stream {stream}: the reply had no iterator"))
    })
}
