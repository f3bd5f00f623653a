//! `kinesink tail STREAM`: prints records as they arrive. Takes no lease and writes no checkpoint.

use std::collections::BTreeSet;

use kinesink::aws::kinesis::Client;
use kinesink::aws::{AwsOptions, connect};
use kinesink::{Clock as _, Stop, SystemClock};

use crate::args::{From, Tail};
use crate::exit::{Exit, Problem};
use crate::reader::{Begin, PAUSE, Reader};
use crate::{shards, signals, stdout};

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

async fn follow(client: &Client, args: &Tail) -> Result<Exit, Problem> {
    let start = SystemClock.now();
    let listed = shards::list(client, &args.stream).await?;
    let ids: BTreeSet<&str> = listed.iter().map(|shard| shard.shard_id()).collect();
    let mut open = Vec::new();
    for shard in &listed {
        let parent_is_there = shard.parent_shard_id().is_some_and(|parent| ids.contains(parent));
        let from = match args.from {
            From::Latest if shards::is_open(shard) => Begin::Latest(start),
            // From the oldest record, children are met at the end of their parents.
            From::TrimHorizon if !parent_is_there => Begin::Oldest,
            From::Latest | From::TrimHorizon => continue,
        };
        open.push((shard.shard_id().to_owned(), from));
    }
    let mut seen: BTreeSet<String> = open.iter().map(|(id, _)| id.clone()).collect();
    let mut open: Vec<Reader> = open.into_iter().map(|(id, from)| Reader::new(id, from)).collect();
    let mut left = args.records.unwrap_or(u64::MAX);
    while left > 0 && !open.is_empty() {
        for mut shard in std::mem::take(&mut open) {
            let reply = shard.next(client, &args.stream, None).await;
            let Some(reply) = reply.map_err(|failure| Problem::new(Exit::Failed, failure))? else {
                open.push(shard);
                continue;
            };
            for record in reply.records {
                if left == 0 || !stdout::line(&record.data)? {
                    return Ok(Exit::Drained);
                }
                left -= 1;
            }
            let Some(children) = reply.ended else {
                open.push(shard);
                continue;
            };
            for child in children {
                // A merged shard is announced by both of its parents.
                if seen.insert(child.shard_id.clone()) {
                    open.push(Reader::new(child.shard_id, Begin::Oldest));
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
