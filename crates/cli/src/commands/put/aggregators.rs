//! One KPL aggregate a shard: Java consumers drop an aggregate that holds a record of another shard.

use bytes::Bytes;
use kinesink::aws::kinesis::Client;
use kinesink::kpl::{self, Aggregate, Aggregator, hash_key};

use crate::exit::{Exit, Problem};
use crate::shards;

/// The open aggregates of a stream's shards. Shards are listed once, as a sample producer may.
#[derive(Debug)]
pub(crate) struct Aggregators(Vec<(u128, u128, Aggregator)>);

/// The key and the data of a Kinesis record.
pub(crate) type Entry = (String, Bytes);

impl Aggregators {
    pub(crate) async fn of_stream(client: &Client, stream: &str) -> Result<Self, Problem> {
        let listed = shards::list(client, stream).await?;
        let ranges = listed.iter().filter(|shard| shards::is_open(shard)).filter_map(|shard| {
            let range = shard.hash_key_range()?;
            Some((range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?))
        });
        Ok(Self(ranges.map(|(first, last)| (first, last, Aggregator::default())).collect()))
    }

    /// Adds a record to its shard's aggregate. What is to be sent then, in order: the aggregate that became full; or,
    /// before a record that fits none, the open one, so that the order of a key is kept.
    pub(crate) fn push(&mut self, key: &str, data: &Bytes) -> Result<Vec<Entry>, Problem> {
        let place = hash_key(key);
        let shard = self.0.iter_mut().find(|(first, last, _)| (*first..=*last).contains(&place));
        let cannot = |why: String| Problem::new(Exit::Failed, format!("cannot aggregate a record: {why}"));
        let (_, _, aggregator) =
            shard.ok_or_else(|| cannot(format!("no open shard holds hash key {place}; run the command again")))?;
        match aggregator.push(key, None, data) {
            Ok(full) => Ok(full.map(entry).into_iter().collect()),
            Err(kpl::Error::TooLarge { .. }) => {
                let open = aggregator.finish().map(entry);
                Ok(open.into_iter().chain([(key.to_owned(), data.clone())]).collect())
            }
            Err(error) => Err(cannot(error.to_string())),
        }
    }

    /// The aggregates that are not full.
    pub(crate) fn finish(&mut self) -> Vec<Entry> {
        self.0.iter_mut().filter_map(|(_, _, aggregator)| aggregator.finish()).map(entry).collect()
    }
}

fn entry(aggregate: Aggregate) -> Entry {
    (aggregate.partition_key, aggregate.data)
}
