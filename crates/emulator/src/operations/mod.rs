//! The operations, a file each. A file holds the request, the checks, and the reply; what changes is an
//! [`Event`](crate::stream::event::Event) that it commits.

mod consumer_target;
mod create_stream;
mod decrease_stream_retention_period;
mod delete_stream;
mod deregister_stream_consumer;
mod describe_limits;
mod describe_stream;
mod describe_stream_consumer;
mod describe_stream_summary;
mod get_records;
mod get_shard_iterator;
mod increase_stream_retention_period;
mod list_shards;
mod list_stream_consumers;
mod list_streams;
mod merge_shards;
mod page;
mod position;
mod put_record;
mod put_records;
mod register_stream_consumer;
mod shard_count;
mod split_shard;
mod subscribe_to_shard;
mod tags;
mod target;
mod throttle;
mod update_max_record_size;
mod update_shard_count;
mod update_stream_mode;
mod update_stream_record_distribution_strategy;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::emulator::Shared;
use crate::subscription::Subscription;
use crate::wire::encoding::Encoding;
use crate::wire::payload::Payload;
use crate::wire::service_error::ServiceError;

/// The operations that are emulated.
pub(crate) const NAMES: [&str; 30] = [
    "AddTagsToStream",
    "CreateStream",
    "DecreaseStreamRetentionPeriod",
    "DeleteStream",
    "DeregisterStreamConsumer",
    "DescribeLimits",
    "DescribeStream",
    "DescribeStreamConsumer",
    "DescribeStreamSummary",
    "GetRecords",
    "GetShardIterator",
    "IncreaseStreamRetentionPeriod",
    "ListShards",
    "ListStreamConsumers",
    "ListStreams",
    "ListTagsForResource",
    "ListTagsForStream",
    "MergeShards",
    "PutRecord",
    "PutRecords",
    "RegisterStreamConsumer",
    "RemoveTagsFromStream",
    "SplitShard",
    "SubscribeToShard",
    "TagResource",
    "UntagResource",
    "UpdateMaxRecordSize",
    "UpdateShardCount",
    "UpdateStreamMode",
    "UpdateStreamRecordDistributionStrategy",
];

type Reply = Result<Payload, ServiceError>;

/// Calls the operation of that name with the request in that encoding, and answers in the same.
pub(crate) fn call(shared: &Shared, operation: &str, encoding: Encoding, body: &[u8]) -> Reply {
    throttle::account(shared, operation)?;
    let request = Request { encoding, body };
    match operation {
        "CreateStream" => create_stream::call(shared, request.parse()?).map(done),
        "DecreaseStreamRetentionPeriod" => decrease_stream_retention_period::call(shared, &request.parse()?).map(done),
        "DeleteStream" => delete_stream::call(shared, &request.parse()?).map(done),
        "DeregisterStreamConsumer" => deregister_stream_consumer::call(shared, &request.parse()?).map(done),
        "DescribeLimits" => request.parse().and_then(|NoMembers {}| request.answer(&describe_limits::call(shared))),
        "DescribeStream" => request.answer(&describe_stream::call(shared, &request.parse()?)?),
        "DescribeStreamConsumer" => request.answer(&describe_stream_consumer::call(shared, &request.parse()?)?),
        "DescribeStreamSummary" => request.answer(&describe_stream_summary::call(shared, &request.parse()?)?),
        "GetRecords" => get_records::call(shared, &request.parse()?)?.encode(encoding),
        "GetShardIterator" => request.answer(&get_shard_iterator::call(shared, &request.parse()?)?),
        "IncreaseStreamRetentionPeriod" => increase_stream_retention_period::call(shared, &request.parse()?).map(done),
        "ListShards" => request.answer(&list_shards::call(shared, &request.parse()?)?),
        "ListStreamConsumers" => request.answer(&list_stream_consumers::call(shared, &request.parse()?)?),
        "ListStreams" => request.answer(&list_streams::call(shared, &request.parse()?)?),
        "MergeShards" => merge_shards::call(shared, &request.parse()?).map(done),
        "PutRecord" => request.answer(&put_record::call(shared, request.parse()?)?),
        "PutRecords" => request.answer(&put_records::call(shared, &request.parse()?)?),
        "RegisterStreamConsumer" => request.answer(&register_stream_consumer::call(shared, request.parse()?)?),
        "SplitShard" => split_shard::call(shared, &request.parse()?).map(done),
        "AddTagsToStream" => tags::add_to_stream(shared, request.parse()?).map(done),
        "ListTagsForResource" => request.answer(&tags::list_for_resource(shared, &request.parse()?)?),
        "ListTagsForStream" => request.answer(&tags::list_for_stream(shared, &request.parse()?)?),
        "RemoveTagsFromStream" => tags::remove_from_stream(shared, request.parse()?).map(done),
        "TagResource" => tags::tag_resource(shared, request.parse()?).map(done),
        "UntagResource" => tags::untag_resource(shared, request.parse()?).map(done),
        "UpdateMaxRecordSize" => update_max_record_size::call(shared, &request.parse()?).map(done),
        "UpdateShardCount" => request.answer(&update_shard_count::call(shared, &request.parse()?)?),
        "UpdateStreamMode" => update_stream_mode::call(shared, &request.parse()?).map(done),
        "UpdateStreamRecordDistributionStrategy" => {
            update_stream_record_distribution_strategy::call(shared, &request.parse()?).map(done)
        }
        other => {
            let name: String = other.chars().take(128).collect();
            Err(ServiceError::unknown_operation(format!("kinesink local does not emulate {name}")))
        }
    }
}

/// Opens a subscription, the one reply that goes on.
pub(crate) fn subscribe(shared: &Arc<Shared>, encoding: Encoding, body: &[u8]) -> Result<Subscription, ServiceError> {
    subscribe_to_shard::call(shared, encoding, &encoding.decode(body)?)
}

/// The request of an operation that has nothing to ask.
#[derive(Deserialize)]
struct NoMembers {}

/// A request, not yet read. It knows how its reply is to be written.
struct Request<'a> {
    encoding: Encoding,
    body: &'a [u8],
}

impl Request<'_> {
    fn parse<Q: DeserializeOwned>(&self) -> Result<Q, ServiceError> {
        self.encoding.decode(self.body)
    }

    /// The reply with the members of the answer.
    fn answer(&self, answer: &impl Serialize) -> Reply {
        self.encoding.encode(answer).map(Payload::from)
    }
}

/// The reply of an operation that has nothing to say.
fn done((): ()) -> Payload {
    Payload::default()
}
