//! A shard of a stream, reply by reply. Takes no lease and writes no checkpoint.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink::aws::kinesis::Client;
use kinesink::aws::kinesis::operation::get_records::GetRecordsOutput;
use kinesink::aws::kinesis::primitives::DateTime;
use kinesink::aws::kinesis::types::{ChildShard, Record as Stored, ShardIteratorType};
use kinesink::aws::{code, failure};
use kinesink::{Class, Failure, PartitionKey, Position, Record, ShardId, kpl};

/// Between two replies of a shard: below the service's five calls a second and shard.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// A shard that is being read.
pub(crate) struct Reader {
    id: String,
    /// The next request's; none where one has to be asked for.
    iterator: Option<String>,
    from: Begin,
}

/// Where an iterator begins that has to be asked for.
#[derive(Clone)]
pub(crate) enum Begin {
    Oldest,
    /// After the newest; the time is when that was.
    Latest(Timestamp),
    /// At what arrived since then.
    Since(Timestamp),
    /// After the record of this sequence number.
    After(String),
}

/// What a shard has next.
pub(crate) struct Reply {
    /// As producers put them.
    pub(crate) records: Vec<Record>,
    /// There is nothing behind them now.
    pub(crate) at_tip: bool,
    /// Of a shard that has ended: what goes on with its records.
    pub(crate) ended: Option<Vec<ChildShard>>,
}

impl Reader {
    pub(crate) fn new(id: String, from: Begin) -> Self {
        Self { id, iterator: None, from }
    }

    /// The next reply, of so many records of the service at most. None where it failed, and may be asked for again.
    pub(crate) async fn next(
        &mut self,
        client: &Client,
        stream: &str,
        limit: Option<i32>,
    ) -> Result<Option<Reply>, Failure> {
        let reply = match self.read(client, stream, limit).await {
            Ok(reply) => reply,
            Err(failure) if failure.class == Class::Transient => {
                tracing::warn!(%failure, "trying again");
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        if let Some(last) = reply.records.last() {
            self.from = Begin::After(last.sequence_number.clone());
        }
        self.iterator = reply.next_shard_iterator;
        let ended = self.iterator.is_none();
        let at_tip = ended || (reply.records.is_empty() && reply.millis_behind_latest == Some(0));
        let mut records = Vec::new();
        for stored in reply.records {
            records.extend(user_records(&self.id, stored)?);
        }
        let ended = ended.then(|| reply.child_shards.unwrap_or_default());
        Ok(Some(Reply { records, at_tip, ended }))
    }

    /// An iterator that has expired is forgotten, so that the next call asks for another.
    async fn read(&mut self, client: &Client, stream: &str, limit: Option<i32>) -> Result<GetRecordsOutput, Failure> {
        let iterator = match self.iterator.take() {
            Some(iterator) => iterator,
            None => self.ask_for_iterator(client, stream).await?,
        };
        let error = match client.get_records().shard_iterator(&iterator).set_limit(limit).send().await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        if code(&error) != Some("ExpiredIteratorException") {
            self.iterator = Some(iterator);
        } else if let Begin::Latest(start) = self.from {
            // What arrived meanwhile is older than the newest.
            self.from = Begin::Since(start);
        }
        Err(failure("read", &self.what(stream), &error))
    }

    async fn ask_for_iterator(&self, client: &Client, stream: &str) -> Result<String, Failure> {
        let what = self.what(stream);
        let request = client.get_shard_iterator().stream_name(stream).shard_id(&self.id);
        let request = match &self.from {
            Begin::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Begin::Latest(_) => request.shard_iterator_type(ShardIteratorType::Latest),
            Begin::Since(time) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(time.as_millisecond())),
            Begin::After(number) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number)
            }
        };
        let reply = request.send().await.map_err(|error| failure("get an iterator of", &what, &error))?;
        reply.shard_iterator.ok_or_else(|| Failure::fatal(format!("cannot read {what}: the reply had no iterator")))
    }

    fn what(&self, stream: &str) -> String {
        format!("shard {} of stream {stream}", self.id)
    }
}

/// The records of producers that one record of the service holds.
fn user_records(shard: &str, stored: Stored) -> Result<Vec<Record>, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::fatal(format!("cannot read {shard}: {error}"));
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
