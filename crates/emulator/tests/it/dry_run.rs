use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use kinesink_emulator::{Limit, Limits, ManualClock};

use crate::client::{STREAM, code, create, emulator_with, entry, get, in_process, texts, trim_horizon};
use crate::consumers::register;

const SHARD: &str = "shardId-000000000000";
const WOULD_SUCCEED: &str = "DryRunOperationException";

/// An emulator whose limits are these, with a stream of one shard, an iterator at its begin and a consumer's ARN.
async fn with(limits: Limits) -> (Client, Arc<ManualClock>, String, String) {
    let (emulator, clock) = emulator_with(|builder| builder.limits(limits));
    let client = in_process(&emulator);
    create(&client, 1).await;
    let arn = register(&client, "app").await.consumer_arn;
    let iterator = trim_horizon(&client, SHARD).await;
    (client, clock, iterator, arn)
}

async fn put(client: &Client, stream: &str) -> String {
    code(client.put_record().stream_name(stream).partition_key("k").data(Blob::new("x")).dry_run(true).send().await)
}

async fn subscribe(client: &Client, arn: &str, shard: &str, dry_run: bool) -> String {
    let oldest = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let request = client.subscribe_to_shard().consumer_arn(arn).shard_id(shard).starting_position(oldest);
    match request.dry_run(dry_run).send().await {
        Ok(_) => "ok".to_owned(),
        Err(error) => code::<(), _>(Err(error)),
    }
}

#[tokio::test]
async fn each_operation_that_has_it_says_that_it_would_succeed_and_does_nothing() {
    let (client, _, iterator, arn) = with(Limits::none()).await;
    assert_eq!(put(&client, STREAM).await, WOULD_SUCCEED);
    let batch = client.put_records().stream_name(STREAM).records(entry("k", "x")).dry_run(true).send().await;
    assert_eq!(code(batch), WOULD_SUCCEED);
    let start = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
    let start = start.shard_iterator_type(ShardIteratorType::Latest).dry_run(true).send().await.unwrap_err();
    assert_eq!(start.raw_response().unwrap().status().as_u16(), 400);
    assert!(start.into_service_error().is_dry_run_operation_exception());
    let read = client.get_records().shard_iterator(&iterator);
    assert_eq!(code(read.clone().dry_run(true).send().await), WOULD_SUCCEED);
    assert_eq!(subscribe(&client, &arn, SHARD, true).await, WOULD_SUCCEED);

    // Nothing was written, and what is not a dry run goes on.
    assert!(read.dry_run(false).send().await.unwrap().records.is_empty());
    let put = client.put_record().stream_name(STREAM).partition_key("k").data(Blob::new("real"));
    put.dry_run(false).send().await.unwrap();
    assert_eq!(texts(&get(&client, &iterator).await), ["real"]);
}

#[tokio::test]
async fn what_would_fail_fails_as_it_would() {
    let (client, clock, iterator, arn) = with(Limits::none().with(Limit::SubscriptionTakeOver)).await;
    assert_eq!(put(&client, "none").await, "ResourceNotFoundException");
    assert_eq!(put(&client, "a space").await, "ValidationException");
    let wrong = entry("", "x");
    let batch = client.put_records().stream_name(STREAM).records(wrong).dry_run(true).send().await;
    assert_eq!(code(batch), "ValidationException");
    let start = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD).dry_run(true);
    let start = start.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number("12");
    assert_eq!(code(start.send().await), "InvalidArgumentException");
    assert_eq!(subscribe(&client, &arn, "shardId-000000000009", true).await, "ResourceNotFoundException");
    assert_eq!(subscribe(&client, &arn, SHARD, false).await, "ok");
    assert_eq!(subscribe(&client, &arn, SHARD, true).await, "ResourceInUseException");
    clock.advance(Duration::from_millis(300_001));
    let read = client.get_records().shard_iterator(&iterator).dry_run(true).send().await;
    assert_eq!(code(read), "ExpiredIteratorException");
}

#[tokio::test]
async fn one_dry_run_a_second_and_stream_beside_the_shards_throughput() {
    let rates = [Limit::GetRecordsCalls, Limit::WriteRecords, Limit::SubscribeCalls, Limit::DryRunCalls];
    let (client, clock, iterator, arn) = with(rates.into_iter().fold(Limits::none(), Limits::with)).await;
    assert_eq!(put(&client, STREAM).await, WOULD_SUCCEED);
    assert_eq!(subscribe(&client, &arn, SHARD, true).await, "ThrottlingException");
    clock.advance(Duration::from_secs(1));
    assert_eq!(subscribe(&client, &arn, SHARD, true).await, WOULD_SUCCEED);
    assert_eq!(put(&client, STREAM).await, "ThrottlingException");
    for _ in 0..5 {
        get(&client, &iterator).await;
    }
    // The shard's own calls are spent, and a dry run is none of them.
    clock.advance(Duration::from_millis(100));
    let read = client.get_records().shard_iterator(&iterator);
    assert_eq!(code(read.clone().send().await), "ProvisionedThroughputExceededException");
    assert_eq!(subscribe(&client, &arn, SHARD, false).await, "ok");
    clock.advance(Duration::from_millis(900));
    assert_eq!(code(read.dry_run(true).send().await), WOULD_SUCCEED);

    let (client, _, _, _) = with(Limits::default().without(Limit::DryRunCalls)).await;
    for _ in 0..3 {
        assert_eq!(put(&client, STREAM).await, WOULD_SUCCEED);
    }
}
