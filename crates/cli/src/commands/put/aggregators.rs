//! One KPL aggregate a shard: Java consumers drop an aggregate that holds a record of another shard.

use kinesink::aws::failure;
use kinesink::aws::kinesis::Client;
use kinesink::kpl::{Aggregate, Aggregator, hash_key};

use crate::exit::{Exit, Problem};

/// The open aggregates of a stream's shards. Shards are listed once, as a sample producer may.
#[derive(Debug)]
pub(crate) struct Aggregators(Vec<(u128, u128, Aggregator)>);

impl Aggregators {
    pub(crate) async fn of_stream(client: &Client, stream: &str) -> Result<Self, Problem> {
        let mut shards = Vec::new();
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
            for shard in reply.shards() {
                let closed =
                    shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_some());
                let range = shard.hash_key_range();
                let range = range.and_then(|range| {
                    Some((range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?))
                });
                if let (false, Some((first, last))) = (closed, range) {
                    shards.push((first, last, Aggregator::default()));
                }
            }
            next_token = reply.next_token;
            if next_token.is_none() {
                return Ok(Self(shards));
            }
        }
    }

    /// Adds a record to its shard's aggregate; the aggregate that became full, if one did.
    pub(crate) fn push(&mut self, key: &str, data: &[u8]) -> Result<Option<Aggregate>, Problem> {
        let place = hash_key(key);
        let shard = self.0.iter_mut().find(|(first, last, _)| (*first..=*last).contains(&place));
        let cannot = |why: String| Problem::new(Exit::Failed, format!("cannot aggregate a record: {why}"));
        let (_, _, aggregator) =
            shard.ok_or_else(|| cannot(format!("no open shard holds hash key {place}; run the command again")))?;
        aggregator.push(key, None, data).map_err(|error| cannot(error.to_string()))
    }

    /// The aggregates that are not full.
    pub(crate) fn finish(&mut self) -> Vec<Aggregate> {
        self.0.iter_mut().filter_map(|(_, _, aggregator)| aggregator.finish()).collect()
    }
}
