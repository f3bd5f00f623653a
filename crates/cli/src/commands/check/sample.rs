//! `kinesink check FILE --sample N`: the columns that records of the stream propose.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink::aws::failure;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::operation::get_records::GetRecordsOutput;
use kinesink::aws::kinesis::primitives::DateTime;
use kinesink::aws::kinesis::types::{Record as Stored, ShardIteratorType};
use kinesink::config::Config;
use kinesink::consumer::Start;
use kinesink::sinks::s3::parquet::Sample;
use kinesink::{Class, Failure, PartitionKey, Position, Programs, Record, ShardId, kpl};

use crate::exit::{Exit, Problem};
use crate::{shards, stdout};

/// Below the service's five calls a second and shard.
const PAUSE: Duration = Duration::from_millis(250);
/// Of each shard. A reply may be empty long before the tip.
const READS_MAX: usize = 100;
const RECORDS_OF_A_REPLY_MAX: u64 = 1_000;

pub(super) async fn run(config: &Config, programs: &Programs, count: u64) -> Result<Exit, Problem> {
    let clients = super::clients(config).await?;
    let stream = config.source.stream.as_str();
    let mut reader = Reader { client: &clients.kinesis, stream, start: config.source.start, open: Vec::new() };
    for shard in shards::list(&clients.kinesis, stream).await? {
        reader.open.push(Open { id: shard.shard_id, iterator: None, at_tip: false });
    }
    let (mut sample, mut left, mut refused) = (Sample::default(), count, 0_u64);
    for _ in 0..READS_MAX {
        for record in reader.round(left).await? {
            if left == 0 {
                break;
            }
            left -= 1;
            match programs.outputs(&record) {
                Ok(outputs) => outputs.iter().for_each(|output| sample.add(output)),
                Err(_) => refused += 1,
            }
        }
        if left == 0 || reader.open.iter().all(|shard| shard.at_tip) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if left == count {
        let why = format!("stream {stream} has no record yet: put some, or declare the columns by hand");
        return Err(Problem::new(Exit::Failed, why));
    }
    // Comments, where the columns would be another sink's, or none's, at the end of the file.
    let place = config.place_of_columns();
    let comment = if place.is_some() { "# " } else { "" };
    // Of a file that has no end of line.
    stdout::line("")?;
    if let Some(place) = place {
        stdout::line(format!("# These columns go {place}, without the `# `"))?;
    }
    if refused > 0 {
        stdout::line(format!("# {refused} of {} records were refused by [transform]", count - left))?;
    }
    for line in sample.propose().to_string().lines() {
        stdout::line(format!("{comment}{line}"))?;
    }
    Ok(Exit::Drained)
}

struct Reader<'a> {
    client: &'a Client,
    stream: &'a str,
    start: Start,
    open: Vec<Open>,
}

/// A shard that is being read.
struct Open {
    id: String,
    /// The next request's; none before the first.
    iterator: Option<String>,
    /// Everything that it had was read.
    at_tip: bool,
}

impl Reader<'_> {
    /// A reply of each shard that has more, as records that a pipeline sees: as many of each as are asked for in all,
    /// shared evenly.
    async fn round(&mut self, count: u64) -> Result<Vec<Record>, Problem> {
        let shards = self.open.iter().filter(|shard| !shard.at_tip).count().max(1) as u64;
        let limit = i32::try_from(count.div_ceil(shards).min(RECORDS_OF_A_REPLY_MAX)).unwrap_or(i32::MAX);
        let mut records = Vec::new();
        let mut open = std::mem::take(&mut self.open);
        for shard in open.iter_mut().filter(|shard| !shard.at_tip) {
            let reply = match self.read(shard, limit).await {
                Ok(reply) => reply,
                Err(failure) if failure.class == Class::Transient => {
                    tracing::warn!(%failure, "trying again");
                    continue;
                }
                Err(failure) => return Err(Problem::new(Exit::Start, failure)),
            };
            let is_last = reply.next_shard_iterator.is_none();
            shard.at_tip = is_last || (reply.records.is_empty() && reply.millis_behind_latest == Some(0));
            shard.iterator = reply.next_shard_iterator;
            for stored in reply.records {
                records.extend(user_records(&shard.id, stored)?);
            }
        }
        self.open = open;
        Ok(records)
    }

    async fn read(&self, shard: &Open, limit: i32) -> Result<GetRecordsOutput, Failure> {
        let what = format!("shard {} of stream {}", shard.id, self.stream);
        let iterator = match &shard.iterator {
            Some(iterator) => Some(iterator.clone()),
            None => {
                let request = self.client.get_shard_iterator().stream_name(self.stream).shard_id(&shard.id);
                let request = match self.start {
                    Start::AtTimestamp(time) => request
                        .shard_iterator_type(ShardIteratorType::AtTimestamp)
                        .timestamp(DateTime::from_millis(time.as_millisecond())),
                    // After the newest there is nothing to look at.
                    Start::TrimHorizon | Start::Latest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
                };
                let reply = request.send().await.map_err(|error| failure("get an iterator of", &what, &error))?;
                reply.shard_iterator
            }
        };
        let request = self.client.get_records().set_shard_iterator(iterator).limit(limit);
        request.send().await.map_err(|error| failure("read", &what, &error))
    }
}

/// The records of producers that one record of the service holds.
fn user_records(shard: &str, stored: Stored) -> Result<Vec<Record>, Problem> {
    let unreadable =
        |error: &dyn std::fmt::Display| Problem::new(Exit::Failed, format!("cannot read {shard}: {error}"));
    let shard: ShardId = shard.parse().map_err(|error| unreadable(&error))?;
    let sequence = stored.sequence_number.parse().map_err(|error| unreadable(&error))?;
    let arrival = stored.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok());
    let arrival = arrival.and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let data = Bytes::from(stored.data.into_inner());
    let record = |sub_sequence, data, partition_key| Record {
        shard: shard.clone(),
        position: Position { sequence, sub_sequence },
        arrival,
        partition_key,
        data,
    };
    Ok(match kpl::unpack(&data) {
        kpl::Unpacked::Plain | kpl::Unpacked::Malformed(_) => {
            vec![record(0, data, stored.partition_key.as_deref().map(PartitionKey::from))]
        }
        kpl::Unpacked::Aggregated(users) => {
            let users = (0..).zip(users);
            users.map(|(sub_sequence, user)| record(sub_sequence, user.data, Some(user.partition_key.into()))).collect()
        }
    })
}
