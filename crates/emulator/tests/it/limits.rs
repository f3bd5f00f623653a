use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ScalingType, ShardIteratorType, StreamMode, StreamModeDetails};
use kinesink_emulator::{Limit, Limits, ManualClock};

use crate::client::{STREAM, code, create, emulator_with, entry, get, in_process, trim_horizon};

const SHARD: &str = "shardId-000000000000";
const MIB: usize = 1024 * 1024;
const THROUGHPUT: &str = "ProvisionedThroughputExceededException";

/// A client of an emulator with these limits.
fn with(limits: Limits) -> (Client, Arc<ManualClock>) {
    let (emulator, clock) = emulator_with(|builder| builder.limits(limits));
    (in_process(&emulator), clock)
}

/// Only that limit holds.
fn on(limit: Limit) -> (Client, Arc<ManualClock>) {
    with(Limits::none().with(limit))
}

/// All limits hold but that one.
fn off(limit: Limit) -> (Client, Arc<ManualClock>) {
    with(Limits::default().without(limit))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Puts records of so many bytes with their key, one a second.
async fn fill(client: &Client, clock: &ManualClock, records: usize, bytes: usize) {
    for _ in 0..records {
        client.put_record().stream_name(STREAM).partition_key("k").data(blob(bytes)).send().await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
}

/// Bytes that fill a record of that size together with a key of one byte.
fn blob(bytes: usize) -> Blob {
    Blob::new(vec![7; bytes - 1])
}

async fn read_code(client: &Client, iterator: &str) -> String {
    match client.get_records().shard_iterator(iterator).send().await {
        Ok(_) => "ok".to_owned(),
        error => code(error),
    }
}

#[tokio::test]
async fn five_reads_a_second_and_shard() {
    let (client, clock) = on(Limit::GetRecordsCalls);
    create(&client, 2).await;
    let [first, second] = [trim_horizon(&client, SHARD).await, trim_horizon(&client, "shardId-000000000001").await];
    for _ in 0..5 {
        get(&client, &first).await;
    }
    let error = client.get_records().shard_iterator(&first).send().await.unwrap_err().into_service_error();
    assert!(error.is_provisioned_throughput_exceeded_exception());
    let expected = format!("Rate exceeded for shard {SHARD} in stream {STREAM} under account 000000000000.");
    assert_eq!(error.meta().message(), Some(expected.as_str()));
    get(&client, &second).await;
    clock.advance(ms(199));
    assert_eq!(read_code(&client, &first).await, THROUGHPUT);
    clock.advance(ms(1));
    get(&client, &first).await;

    let (client, _) = off(Limit::GetRecordsCalls);
    create(&client, 1).await;
    let iterator = trim_horizon(&client, SHARD).await;
    for _ in 0..20 {
        get(&client, &iterator).await;
    }
}

#[tokio::test]
async fn two_mebibytes_a_second_and_shard() {
    let (client, clock) = on(Limit::ReadBytes);
    create(&client, 1).await;
    fill(&client, &clock, 3, MIB).await;
    let iterator = trim_horizon(&client, SHARD).await;
    assert_eq!(get(&client, &iterator).await.records.len(), 3);
    clock.advance(ms(500));
    assert_eq!(read_code(&client, &iterator).await, THROUGHPUT);
    clock.advance(ms(1));
    assert_eq!(get(&client, &iterator).await.records.len(), 3);

    let (client, clock) = off(Limit::ReadBytes);
    create(&client, 1).await;
    fill(&client, &clock, 3, MIB).await;
    let iterator = trim_horizon(&client, SHARD).await;
    for _ in 0..5 {
        assert_eq!(get(&client, &iterator).await.records.len(), 3);
    }
}

#[tokio::test]
async fn a_full_reply_blocks_the_shard_for_five_seconds() {
    for (limits, after_ms, expected) in [
        (Limits::none().with(Limit::ReadPause), 4999, THROUGHPUT),
        (Limits::none().with(Limit::ReadPause), 5000, "ok"),
        // The bytes beyond two mebibytes take four seconds.
        (Limits::default().without(Limit::ReadPause), 4001, "ok"),
        (Limits::default(), 4001, THROUGHPUT),
    ] {
        let (client, clock) = with(limits);
        create(&client, 1).await;
        fill(&client, &clock, 11, MIB).await;
        let iterator = trim_horizon(&client, SHARD).await;
        assert_eq!(get(&client, &iterator).await.records.len(), 10);
        assert_eq!(read_code(&client, &iterator).await, THROUGHPUT);
        clock.advance(ms(after_ms));
        assert_eq!(read_code(&client, &iterator).await, expected, "{limits:?} after {after_ms} ms");
    }
}

#[tokio::test]
async fn a_reply_that_is_not_full_blocks_nothing() {
    let (client, clock) = on(Limit::ReadPause);
    create(&client, 1).await;
    fill(&client, &clock, 9, MIB).await;
    let iterator = trim_horizon(&client, SHARD).await;
    for _ in 0..2 {
        assert_eq!(get(&client, &iterator).await.records.len(), 9);
    }
    // The tenth fills it, though nothing follows that was left out.
    fill(&client, &clock, 1, MIB).await;
    assert_eq!(get(&client, &iterator).await.records.len(), 10);
    assert_eq!(read_code(&client, &iterator).await, THROUGHPUT);
}

#[tokio::test]
async fn five_iterators_a_second_and_shard() {
    async fn ask(client: &Client) -> String {
        let request = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
        match request.shard_iterator_type(ShardIteratorType::Latest).send().await {
            Ok(_) => "ok".to_owned(),
            error => code(error),
        }
    }
    let (client, clock) = on(Limit::GetShardIteratorCalls);
    create(&client, 1).await;
    for _ in 0..5 {
        assert_eq!(ask(&client).await, "ok");
    }
    assert_eq!(ask(&client).await, THROUGHPUT);
    clock.advance(ms(200));
    assert_eq!(ask(&client).await, "ok");

    let (client, _) = off(Limit::GetShardIteratorCalls);
    create(&client, 1).await;
    for _ in 0..20 {
        assert_eq!(ask(&client).await, "ok");
    }
}

async fn put_batch(client: &Client, records: usize, bytes: usize) -> PutRecordsOutput {
    let put = client.put_records().stream_name(STREAM);
    put.set_records(Some(vec![entry("k", vec![7; bytes - 1]); records])).send().await.unwrap()
}

/// Which records of the batch were refused, each with the service's words.
fn refused(reply: &PutRecordsOutput) -> Vec<usize> {
    let refused: Vec<_> = (0..).zip(&reply.records).filter(|(_, record)| record.error_code.is_some()).collect();
    assert_eq!(usize::try_from(reply.failed_record_count.unwrap()).unwrap(), refused.len());
    for (_, record) in &refused {
        assert_eq!(record.error_code(), Some(THROUGHPUT));
        assert!(record.error_message().unwrap().starts_with(&format!("Rate exceeded for shard {SHARD} in stream")));
        assert_eq!((record.sequence_number(), record.shard_id()), (None, None));
    }
    refused.into_iter().map(|(position, _)| position).collect()
}

#[tokio::test]
async fn one_mebibyte_a_second_and_shard_is_written_and_the_rest_refused_by_the_record() {
    let (client, clock) = on(Limit::WriteBytes);
    create(&client, 1).await;
    assert_eq!(refused(&put_batch(&client, 5, MIB / 4).await), [4]);
    let one = client.put_record().stream_name(STREAM).partition_key("k").data(blob(2)).send().await;
    assert_eq!(code(one), THROUGHPUT);
    clock.advance(ms(500));
    assert_eq!(refused(&put_batch(&client, 3, MIB / 4).await), [2]);
    let iterator = trim_horizon(&client, SHARD).await;
    assert_eq!(get(&client, &iterator).await.records.len(), 6);

    let (client, _) = off(Limit::WriteBytes);
    create(&client, 1).await;
    assert_eq!(refused(&put_batch(&client, 40, MIB / 4).await), [0; 0]);
}

#[tokio::test]
async fn a_thousand_records_a_second_and_shard() {
    let (client, clock) = on(Limit::WriteRecords);
    create(&client, 1).await;
    for expected in [0, 0, 500] {
        assert_eq!(refused(&put_batch(&client, 500, 2).await).len(), expected);
    }
    clock.advance(ms(250));
    assert_eq!(refused(&put_batch(&client, 500, 2).await), (250..500).collect::<Vec<_>>());

    let (client, _) = off(Limit::WriteRecords);
    create(&client, 1).await;
    for _ in 0..4 {
        assert_eq!(refused(&put_batch(&client, 500, 2).await), [0; 0]);
    }
}

#[tokio::test]
async fn each_shard_of_a_batch_is_throttled_by_itself() {
    let (client, _) = on(Limit::WriteRecords);
    create(&client, 2).await;
    let hot = |_| entry("hot", "x");
    for _ in 0..2 {
        client.put_records().stream_name(STREAM).set_records(Some((0..500).map(hot).collect())).send().await.unwrap();
    }
    let shard_of = async |key: &str| {
        let put = client.put_records().stream_name(STREAM).records(entry(key, "x")).send().await.unwrap();
        put.records[0].shard_id().map(str::to_owned)
    };
    assert_eq!(shard_of("hot").await, None);
    let mut placed = Vec::new();
    for key in ["a", "b", "c", "d", "e", "f"] {
        placed.extend(shard_of(key).await);
    }
    assert!(!placed.is_empty() && placed.iter().all(|shard| *shard == placed[0]), "{placed:?}");
}

#[tokio::test]
async fn a_record_may_be_as_large_as_the_stream_says() {
    let (client, _) = on(Limit::RequestSizes);
    create(&client, 1).await;
    let put =
        async |bytes: usize| client.put_record().stream_name(STREAM).partition_key("k").data(blob(bytes)).send().await;
    assert_eq!(code(put(MIB + 1).await), "ValidationException");
    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}");
    let set = |kib: i32| client.update_max_record_size().stream_arn(&arn).max_record_size_in_kib(kib).send();
    for wrong in [1023, 10_241] {
        assert_eq!(code(set(wrong).await), "ValidationException");
    }
    set(3 * 1024).await.unwrap();
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().max_record_size_in_kib, Some(3072));
    put(3 * MIB).await.unwrap();
    assert_eq!(code(put(3 * MIB + 1).await), "ValidationException");

    let (client, _) = off(Limit::RequestSizes);
    create(&client, 1).await;
    client.put_record().stream_name(STREAM).partition_key("k").data(blob(2 * MIB)).send().await.unwrap();
}

#[tokio::test]
async fn operations_on_streams_have_rates() {
    async fn describe(client: &Client) -> String {
        match client.describe_stream().stream_name(STREAM).send().await {
            Ok(_) => "ok".to_owned(),
            error => code(error),
        }
    }
    let (client, clock) = on(Limit::ControlPlaneCalls);
    create(&client, 1).await;
    for _ in 0..10 {
        assert_eq!(describe(&client).await, "ok");
    }
    let error = client.describe_stream().stream_name(STREAM).send().await.unwrap_err().into_service_error();
    assert!(error.is_limit_exceeded_exception(), "{error:?}");
    clock.advance(ms(100));
    assert_eq!(describe(&client).await, "ok");

    for _ in 0..1000 {
        client.list_shards().stream_name(STREAM).send().await.unwrap();
    }
    assert_eq!(code(client.list_shards().stream_name(STREAM).send().await), "LimitExceededException");
    clock.advance(ms(1));
    client.list_shards().stream_name(STREAM).send().await.unwrap();

    for number in 0..4 {
        client.create_stream().stream_name(format!("s{number}")).shard_count(1).send().await.unwrap();
    }
    let sixth = client.create_stream().stream_name("sixth").shard_count(1);
    assert_eq!(code(sixth.clone().send().await), "LimitExceededException");
    clock.advance(ms(200));
    sixth.send().await.unwrap();

    let (client, _) = off(Limit::ControlPlaneCalls);
    create(&client, 1).await;
    for _ in 0..30 {
        assert_eq!(describe(&client).await, "ok");
    }
}

#[tokio::test]
async fn twenty_thousand_open_shards() {
    let fill = async |client: &Client| {
        for name in ["a", "b"] {
            client.create_stream().stream_name(name).shard_count(10_000).send().await.unwrap();
        }
    };
    let one_more = async |client: &Client| client.create_stream().stream_name("c").shard_count(1).send().await;
    let split = async |client: &Client| {
        let split = client.split_shard().stream_name("a").shard_to_split(SHARD);
        split.new_starting_hash_key("1000").send().await
    };
    let (client, _) = on(Limit::Shards);
    fill(&client).await;
    assert_eq!(code(one_more(&client).await), "LimitExceededException");
    assert_eq!(code(split(&client).await), "LimitExceededException");
    let limits = client.describe_limits().send().await.unwrap();
    assert_eq!((limits.shard_limit, limits.open_shard_count), (20_000, 20_000));
    client.delete_stream().stream_name("b").send().await.unwrap();
    one_more(&client).await.unwrap();
    split(&client).await.unwrap();

    let (client, _) = off(Limit::Shards);
    fill(&client).await;
    one_more(&client).await.unwrap();
}

async fn create_on_demand(client: &Client, name: impl Into<String>) -> String {
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
    match client.create_stream().stream_name(name).stream_mode_details(mode).send().await {
        Ok(_) => "ok".to_owned(),
        error => code(error),
    }
}

#[tokio::test]
async fn fifty_streams_on_demand() {
    let (client, _) = on(Limit::OnDemandStreams);
    for number in 0..50 {
        assert_eq!(create_on_demand(&client, format!("s{number}")).await, "ok");
    }
    assert_eq!(create_on_demand(&client, "more").await, "LimitExceededException");
    client.delete_stream().stream_name("s7").send().await.unwrap();
    assert_eq!(create_on_demand(&client, "more").await, "ok");

    let (client, clock) = off(Limit::OnDemandStreams);
    for number in 0..51 {
        assert_eq!(create_on_demand(&client, format!("s{number}")).await, "ok");
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn five_streams_are_created_at_once() {
    let slow = |limits: Limits| {
        let (emulator, clock) = emulator_with(|builder| builder.limits(limits).transitions(Duration::from_secs(30)));
        (in_process(&emulator), clock)
    };
    let limit = Limit::StreamsInCreation;
    let (client, clock) = slow(Limits::none().with(limit));
    for number in 0..5 {
        client.create_stream().stream_name(format!("s{number}")).shard_count(1).send().await.unwrap();
    }
    let sixth = client.create_stream().stream_name("sixth").shard_count(1);
    assert_eq!(code(sixth.clone().send().await), "LimitExceededException");
    clock.advance(Duration::from_secs(30));
    sixth.send().await.unwrap();

    let (client, clock) = slow(Limits::default().without(limit));
    for number in 0..6 {
        client.create_stream().stream_name(format!("s{number}")).shard_count(1).send().await.unwrap();
        clock.advance(ms(200));
    }
}

#[tokio::test]
async fn a_stream_is_scaled_to_double_or_half_at_once() {
    let scale = async |client: &Client, count: i32| {
        let request = client.update_shard_count().stream_name(STREAM).target_shard_count(count);
        request.scaling_type(ScalingType::UniformScaling).send().await
    };
    let (client, _) = on(Limit::ShardCountSteps);
    create(&client, 5).await;
    assert_eq!(code(scale(&client, 11).await), "LimitExceededException");
    assert_eq!(code(scale(&client, 2).await), "LimitExceededException");
    scale(&client, 10).await.unwrap();
    scale(&client, 5).await.unwrap();
    scale(&client, 3).await.unwrap();

    let (client, _) = off(Limit::ShardCountSteps);
    create(&client, 1).await;
    assert_eq!(scale(&client, 100).await.unwrap().current_shard_count, Some(1));
    scale(&client, 1).await.unwrap();
    assert_eq!(code(scale(&client, 10_001).await), "LimitExceededException");
}
