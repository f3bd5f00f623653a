use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ScalingType, StreamMode, StreamModeDetails};
use kinesink_emulator::{Emulator, Limits, ManualClock};

use crate::client::{STREAM, code, create, emulator_with, get, in_process, put_one, shard_ids, start, trim_horizon};

const SHARD: &str = "shardId-000000000000";
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";
const TIME: Duration = Duration::from_secs(10);

/// An emulator in which a change takes ten seconds.
fn slow() -> (Client, Arc<ManualClock>) {
    let (emulator, clock) = emulator_with(|builder| builder.limits(Limits::none()).transitions(TIME));
    (in_process(&emulator), clock)
}

async fn status(client: &Client) -> String {
    match client.describe_stream_summary().stream_name(STREAM).send().await {
        Ok(reply) => reply.stream_description_summary.unwrap().stream_status.as_str().to_owned(),
        error => code(error),
    }
}

async fn put(client: &Client) -> String {
    match client.put_record().stream_name(STREAM).partition_key("k").data(Blob::new("x")).send().await {
        Ok(_) => "ok".to_owned(),
        error => code(error),
    }
}

fn split(client: &Client) -> aws_sdk_kinesis::operation::split_shard::builders::SplitShardFluentBuilder {
    client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000")
}

#[tokio::test]
async fn a_stream_that_is_being_created_has_no_shards_yet() {
    let (client, clock) = slow();
    create(&client, 2).await;
    clock.advance(TIME - Duration::from_millis(1));
    assert_eq!(status(&client).await, "CREATING");
    let description = client.describe_stream().stream_name(STREAM).send().await.unwrap().stream_description.unwrap();
    assert_eq!((description.stream_status.as_str(), description.shards.len()), ("CREATING", 0));
    assert_eq!(put(&client).await, "ResourceNotFoundException");
    assert_eq!(code(client.list_shards().stream_name(STREAM).send().await), "ResourceInUseException");
    assert_eq!(code(client.delete_stream().stream_name(STREAM).send().await), "ResourceInUseException");
    let again = client.create_stream().stream_name(STREAM).shard_count(1).send().await;
    assert_eq!(code(again), "ResourceInUseException");
    clock.advance(Duration::from_millis(1));
    assert_eq!(status(&client).await, "ACTIVE");
    assert_eq!((put(&client).await.as_str(), shard_ids(&client).await.len()), ("ok", 2));
}

#[tokio::test]
async fn a_stream_that_is_being_deleted_is_there_until_it_is_gone() {
    let (client, clock) = slow();
    create(&client, 1).await;
    clock.advance(TIME);
    client.delete_stream().stream_name(STREAM).send().await.unwrap();
    assert_eq!((status(&client).await.as_str(), put(&client).await.as_str()), ("DELETING", "ok"));
    assert_eq!(code(split(&client).send().await), "ResourceInUseException");
    clock.advance(TIME);
    assert_eq!(status(&client).await, "ResourceNotFoundException");
    assert!(client.list_streams().send().await.unwrap().stream_names.is_empty());
}

#[tokio::test]
async fn a_split_closes_the_parent_when_it_is_done_and_not_before() {
    let (client, clock) = slow();
    create(&client, 1).await;
    clock.advance(TIME);
    split(&client).send().await.unwrap();
    assert_eq!((status(&client).await.as_str(), shard_ids(&client).await.len()), ("UPDATING", 1));
    let error = split(&client).send().await.unwrap_err().into_service_error();
    assert!(error.is_resource_in_use_exception());
    let expected = format!("Stream {STREAM} under account 000000000000 not ACTIVE, instead in state UPDATING");
    assert_eq!(error.meta().message(), Some(expected.as_str()));

    // Reads and writes go on.
    clock.advance(TIME - Duration::from_millis(1));
    assert_eq!(put_one(&client, "k", "while updating").await.shard_id, SHARD);
    let read = get(&client, &trim_horizon(&client, SHARD).await).await;
    assert_eq!((read.records.len(), read.next_shard_iterator.is_some()), (1, true));

    // The first look is long after; what is done is done as of its time.
    clock.advance(3 * TIME);
    let read = get(&client, &trim_horizon(&client, SHARD).await).await;
    assert_eq!((read.records.len(), read.next_shard_iterator, read.child_shards.unwrap().len()), (1, None, 2));
    assert_eq!((status(&client).await.as_str(), shard_ids(&client).await.len()), ("ACTIVE", 3));
    let shards = client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap();
    let ending = shards[0].sequence_number_range().unwrap().ending_sequence_number().unwrap();
    let child = shards[1].sequence_number_range().unwrap().starting_sequence_number();
    assert!(ending < child);
}

#[tokio::test]
async fn each_change_of_an_active_stream_keeps_out_the_others() {
    let (client, clock) = slow();
    create(&client, 2).await;
    clock.advance(TIME);
    let merge = client.merge_shards().stream_name(STREAM).shard_to_merge(SHARD);
    let merge = merge.adjacent_shard_to_merge("shardId-000000000001");
    let scale = client.update_shard_count().stream_name(STREAM).target_shard_count(4);
    let scale = scale.scaling_type(ScalingType::UniformScaling);
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
    let mode = client.update_stream_mode().stream_arn(ARN).stream_mode_details(mode);
    let longer = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(48);
    let shorter = client.decrease_stream_retention_period().stream_name(STREAM).retention_period_hours(24);
    let size = client.update_max_record_size().stream_arn(ARN).max_record_size_in_kib(2048);

    let first = merge.clone().send().await;
    first.unwrap();
    let refused = [
        code(split(&client).send().await),
        code(merge.send().await),
        code(scale.clone().send().await),
        code(mode.clone().send().await),
        code(longer.send().await),
        code(shorter.send().await),
        code(size.send().await),
        code(client.delete_stream().stream_name(STREAM).send().await),
    ];
    assert_eq!(refused, ["ResourceInUseException"; 8]);

    for step in 0..2 {
        clock.advance(TIME);
        assert_eq!(status(&client).await, "ACTIVE");
        if step == 0 {
            scale.clone().target_shard_count(2).send().await.unwrap();
        } else {
            mode.clone().send().await.unwrap();
        }
        assert_eq!(status(&client).await, "UPDATING");
        assert_eq!(code(split(&client).send().await), "ResourceInUseException");
    }
    clock.advance(TIME);
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!(summary.stream_mode_details.unwrap().stream_mode, StreamMode::OnDemand);
    assert_eq!(summary.open_shard_count, 2);
    assert_eq!(code(scale.send().await), "ValidationException");
}

#[tokio::test]
async fn without_a_time_every_change_is_done_before_its_answer() {
    let (emulator, _) = emulator_with(|builder| builder.limits(Limits::none()));
    let client = in_process(&emulator);
    create(&client, 1).await;
    assert_eq!((status(&client).await.as_str(), put(&client).await.as_str()), ("ACTIVE", "ok"));
    split(&client).send().await.unwrap();
    assert_eq!((status(&client).await.as_str(), shard_ids(&client).await.len()), ("ACTIVE", 3));
    client.delete_stream().stream_name(STREAM).send().await.unwrap();
    assert_eq!(status(&client).await, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_change_that_was_begun_survives_a_restart() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(start())));
    let open = || -> Emulator {
        let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(Limits::none());
        builder.transitions(TIME).directory(directory.path()).build().unwrap()
    };
    let client = in_process(&open());
    create(&client, 1).await;
    drop(client);
    let client = in_process(&open());
    assert_eq!(status(&client).await, "CREATING");
    clock.advance(TIME);
    split(&client).send().await.unwrap();
    drop(client);
    let client = in_process(&open());
    assert_eq!((status(&client).await.as_str(), shard_ids(&client).await.len()), ("UPDATING", 1));
    clock.advance(TIME);
    let shards = format!("{:?}", client.list_shards().stream_name(STREAM).send().await.unwrap().shards);
    drop(client);
    clock.advance(TIME);
    let client = in_process(&open());
    assert_eq!(format!("{:?}", client.list_shards().stream_name(STREAM).send().await.unwrap().shards), shards);
    assert_eq!((status(&client).await.as_str(), shard_ids(&client).await.len()), ("ACTIVE", 3));
}
