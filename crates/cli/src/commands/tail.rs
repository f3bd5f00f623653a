//! `kinesink tail STREAM`: prints records as they arrive. Takes no lease and writes no checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::operation::get_records::GetRecordsOutput;
use kinesink::aws::kinesis::primitives::DateTime;
use kinesink::aws::kinesis::types::{Record, ShardIteratorType};
use kinesink::aws::{AwsOptions, code, connect, failure};
use kinesink::{Class, Clock as _, Failure, Stop, SystemClock, kpl};

use crate::args::{From, Tail};
use crate::exit::{Exit, Problem};
use crate::{shards, signals, stdout};

/// Below the service's five calls a second and shard.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: Tail) -> Result<Exit, Problem> {
    let clients = connect(&AwsOptions::default()).await?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::select! {
        done = follow(&clients.kinesis, &args) => done,
        () = signals => Ok(Exit::Drained),
        () = stop.drain.cancelled() => Ok(Exit::Drained),
    }
}

/// A shard that is being read.
struct Open {
    /// The next request's; none where one has to be asked for.
    iterator: Option<String>,
    from: Place,
}

/// Where an iterator begins that has to be asked for.
#[derive(Clone)]
enum Place {
    Oldest,
    /// After the newest; the time is when that was.
    Latest(Timestamp),
    /// At what arrived since then.
    Since(Timestamp),
    /// After the record of this sequence number.
    After(String),
}

async fn follow(client: &Client, args: &Tail) -> Result<Exit, Problem> {
    let start = SystemClock.now();
    let listed = shards::list(client, &args.stream).await?;
    let ids: BTreeSet<&str> = listed.iter().map(|shard| shard.shard_id()).collect();
    let mut open = BTreeMap::new();
    for shard in &listed {
        let parent_is_there = shard.parent_shard_id().is_some_and(|parent| ids.contains(parent));
        let from = match args.from {
            From::Latest if shards::is_open(shard) => Place::Latest(start),
            // From the oldest record, children are met at the end of their parents.
            From::TrimHorizon if !parent_is_there => Place::Oldest,
            From::Latest | From::TrimHorizon => continue,
        };
        open.insert(shard.shard_id().to_owned(), Open { iterator: None, from });
    }
    let mut seen: BTreeSet<String> = open.keys().cloned().collect();
    let mut left = args.records.unwrap_or(u64::MAX);
    while left > 0 && !open.is_empty() {
        for (id, mut shard) in std::mem::take(&mut open) {
            let reply = match read(client, &args.stream, &id, &mut shard).await {
                Ok(reply) => reply,
                Err(failure) if failure.class == Class::Transient => {
                    tracing::warn!(%failure, "trying again");
                    open.insert(id, shard);
                    continue;
                }
                Err(failure) => return Err(Problem::new(Exit::Failed, failure)),
            };
            for record in reply.records {
                shard.from = Place::After(record.sequence_number.clone());
                for line in user_data(record) {
                    if left == 0 || !stdout::line(&line)? {
                        return Ok(Exit::Drained);
                    }
                    left -= 1;
                }
            }
            shard.iterator = reply.next_shard_iterator;
            if shard.iterator.is_some() {
                open.insert(id, shard);
                continue;
            }
            for child in reply.child_shards.unwrap_or_default() {
                // A merged shard is announced by both of its parents.
                if seen.insert(child.shard_id.clone()) {
                    open.insert(child.shard_id, Open { iterator: None, from: Place::Oldest });
                }
            }
        }
        if stdout::is_closed() {
            return Ok(Exit::Drained);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Exit::Drained)
}

/// One reply. An iterator that has expired is forgotten, so that the next call asks for another.
async fn read(client: &Client, stream: &str, id: &str, shard: &mut Open) -> Result<GetRecordsOutput, Failure> {
    let what = format!("shard {id} of stream {stream}");
    let iterator = match shard.iterator.take() {
        Some(iterator) => iterator,
        None => iterator_at(client, stream, id, &shard.from).await?,
    };
    match client.get_records().shard_iterator(&iterator).send().await {
        Ok(reply) => Ok(reply),
        Err(error) => {
            if code(&error) != Some("ExpiredIteratorException") {
                shard.iterator = Some(iterator);
            } else if let Place::Latest(start) = shard.from {
                // What arrived meanwhile is older than the newest.
                shard.from = Place::Since(start);
            }
            Err(failure("read", &what, &error))
        }
    }
}

async fn iterator_at(client: &Client, stream: &str, id: &str, place: &Place) -> Result<String, Failure> {
    let what = format!("shard {id} of stream {stream}");
    let request = client.get_shard_iterator().stream_name(stream).shard_id(id);
    let request = match place {
        Place::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
        Place::Latest(_) => request.shard_iterator_type(ShardIteratorType::Latest),
        Place::Since(time) => request
            .shard_iterator_type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_millis(time.as_millisecond())),
        Place::After(number) => {
            request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number)
        }
    };
    let reply = request.send().await.map_err(|error| failure("get an iterator of", &what, &error))?;
    reply.shard_iterator.ok_or_else(|| Failure::fatal(format!("cannot read {what}: the reply had no iterator")))
}

fn user_data(record: Record) -> Vec<Bytes> {
    let data = Bytes::from(record.data.into_inner());
    match kpl::unpack(&data) {
        kpl::Unpacked::Plain | kpl::Unpacked::Malformed(_) => vec![data],
        kpl::Unpacked::Aggregated(records) => records.into_iter().map(|record| record.data).collect(),
    }
}
