use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::get_shard_iterator::{GetShardIteratorError, GetShardIteratorOutput};
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use kinesink_emulator::{Emulator, Limit, Limits};
use serde_json::json;

use crate::client::{
    STREAM, code, create, emulator, emulator_with, entry, get, in_process, over_socket, put_one, raw, start, texts,
    trim_horizon,
};

async fn put_and_read(client: &Client) {
    create(client, 1).await;
    let put = client.put_records().stream_name(STREAM);
    let reply = put.records(entry("a", "first")).records(entry("b", "")).records(entry("é\"\\", "third")).send().await;
    let reply = reply.unwrap();
    assert_eq!(reply.failed_record_count, Some(0));
    let iterator = trim_horizon(client, "shardId-000000000000").await;
    let read = get(client, &iterator).await;
    assert_eq!(texts(&read), ["first", "", "third"]);
    let keys: Vec<_> = read.records.iter().map(|record| record.partition_key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "é\"\\"]);
    let put_numbers: Vec<_> = reply.records.iter().map(|record| record.sequence_number.as_deref().unwrap()).collect();
    let read_numbers: Vec<_> = read.records.iter().map(|record| record.sequence_number.as_str()).collect();
    assert_eq!(put_numbers, read_numbers);
    assert!(read_numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(read.millis_behind_latest, Some(0));
    assert!(read.next_shard_iterator.is_some());
}

#[tokio::test]
async fn an_sdk_client_puts_and_reads_in_process() {
    let (emulator, _) = emulator();
    put_and_read(&in_process(&emulator)).await;
}

#[tokio::test]
async fn an_sdk_client_puts_and_reads_over_a_socket() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_socket(listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (served, ()) = tokio::join!(emulator.serve(listener, stopped), async {
        put_and_read(&client).await;
        drop(client);
        stop.cancel();
    });
    served.unwrap();
}

#[tokio::test]
async fn the_limit_pages_through_the_shard_without_gap_or_repeat() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    for number in 0..10 {
        put_one(&client, "key", number.to_string()).await;
        clock.advance(Duration::from_millis(100));
    }
    let mut iterator = trim_horizon(&client, "shardId-000000000000").await;
    let (mut read, mut lags) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let reply = client.get_records().shard_iterator(&iterator).limit(3).send().await.unwrap();
        read.extend(texts(&reply));
        lags.push(reply.millis_behind_latest.unwrap());
        iterator = reply.next_shard_iterator.unwrap();
    }
    assert_eq!(read, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    // The clock shows 1,000 ms after the first record; the third arrived at 200 ms, and so on.
    assert_eq!(lags, [800, 500, 200, 0]);
}

#[tokio::test]
async fn a_reply_ends_before_10_mib_and_at_10_000_records() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let mib = vec![b'x'; 1024 * 1024 - 1];
    for _ in 0..12 {
        put_one(&client, "k", mib.clone()).await;
    }
    let first = get(&client, &trim_horizon(&client, "shardId-000000000000").await).await;
    assert_eq!(first.records.len(), 10);
    let iterator = first.next_shard_iterator.unwrap();
    assert_eq!(get(&client, &iterator).await.records.len(), 2);

    for _ in 0..21 {
        let put = client.put_records().stream_name(STREAM);
        put.set_records(Some(vec![entry("k", "x"); 500])).send().await.unwrap();
    }
    let rest = get(&client, &iterator).await;
    assert_eq!(rest.records.len(), 10_000);
    assert_eq!(get(&client, &rest.next_shard_iterator.unwrap()).await.records.len(), 2 + 10_500 - 10_000);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_just_fits_is_taken() {
    let sizes = Limits::none().with(Limit::RequestSizes);
    let (emulator, _) = emulator_with(|builder| builder.limits(sizes));
    let client = in_process(&emulator);
    create(&client, 1).await;
    let put = |key: String, bytes: usize| {
        client.put_record().stream_name(STREAM).partition_key(key).data(Blob::new(vec![0; bytes])).send()
    };
    let mib = 1024 * 1024;
    assert!(put("k".repeat(256), mib - 256).await.is_ok());
    assert!(put("é".repeat(256), mib - 512).await.is_ok());
    assert_eq!(code(put("k".to_owned(), mib).await), "ValidationException");
    assert_eq!(code(put("k".repeat(257), 1).await), "ValidationException");
    assert_eq!(code(put(String::new(), 1).await), "ValidationException");
    let batch = |records| client.put_records().stream_name(STREAM).set_records(Some(records)).send();
    assert!(batch(vec![entry("k", vec![0; mib - 1]); 10]).await.is_ok());
    assert_eq!(code(batch(vec![entry("k", vec![0; 990_000]); 11]).await), "InvalidArgumentException");
    assert_eq!(code(batch(vec![entry("k", "x"); 501]).await), "ValidationException");
    assert_eq!(code(batch(Vec::new()).await), "ValidationException");
    let read = get(&client, &trim_horizon(&client, "shardId-000000000000").await).await;
    assert!(read.records.iter().all(|record| record.data.as_ref().iter().all(|byte| *byte == 0)));

    let (emulator, _) = emulator_with(|builder| builder.limits(Limits::default().without(Limit::RequestSizes)));
    let client = in_process(&emulator);
    create(&client, 1).await;
    let put = client.put_records().stream_name(STREAM).set_records(Some(vec![entry("k", vec![0; 990_000]); 11]));
    put.send().await.unwrap();
}

#[tokio::test]
async fn a_record_goes_to_the_shard_that_owns_its_hash_key() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 2).await;
    let half = 1_u128 << 127;
    for (explicit, expected) in [(0, 0), (half - 1, 0), (half, 1), (u128::MAX, 1)] {
        let put = client.put_record().stream_name(STREAM).partition_key("k").data(Blob::new("x"));
        let reply = put.explicit_hash_key(explicit.to_string()).send().await.unwrap();
        assert_eq!(reply.shard_id, format!("shardId-{expected:012}"), "{explicit}");
    }
    // The MD5 of "a" begins with 0c, that of "foo" with ac, says md5sum.
    assert_eq!(put_one(&client, "a", "x").await.shard_id, "shardId-000000000000");
    assert_eq!(put_one(&client, "foo", "x").await.shard_id, "shardId-000000000001");
    for (wrong, expected) in [
        ("-1", "ValidationException"),
        ("01", "ValidationException"),
        ("x", "ValidationException"),
        ("", "ValidationException"),
        ("340282366920938463463374607431768211456", "InvalidArgumentException"),
    ] {
        let put = client.put_record().stream_name(STREAM).partition_key("k").data(Blob::new("x"));
        assert_eq!(code(put.explicit_hash_key(wrong).send().await), expected, "{wrong}");
    }
}

#[tokio::test]
async fn each_iterator_type_starts_where_it_says() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let mut numbers = Vec::new();
    for data in ["a", "b", "c"] {
        numbers.push(put_one(&client, "k", data).await.sequence_number);
        clock.advance(Duration::from_secs(1));
    }
    let from = |kind: ShardIteratorType, number: Option<&str>, at: Option<DateTime>| {
        let request = client.get_shard_iterator().stream_name(STREAM).shard_id("shardId-000000000000");
        let request = request.shard_iterator_type(kind).set_starting_sequence_number(number.map(str::to_owned));
        let request = request.set_timestamp(at);
        let client = client.clone();
        async move {
            let iterator = request.send().await.map_err(SdkError::into_service_error)?.shard_iterator.unwrap();
            Ok::<_, GetShardIteratorError>(texts(&get(&client, &iterator).await))
        }
    };
    let second = Some(numbers[1].as_str());
    let at = |ms: i64| Some(DateTime::from_millis(start().as_millisecond() + ms));
    assert_eq!(from(ShardIteratorType::TrimHorizon, None, None).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(from(ShardIteratorType::AtSequenceNumber, second, None).await.unwrap(), ["b", "c"]);
    assert_eq!(from(ShardIteratorType::AfterSequenceNumber, second, None).await.unwrap(), ["c"]);
    assert_eq!(from(ShardIteratorType::AtTimestamp, None, at(1000)).await.unwrap(), ["b", "c"]);
    assert_eq!(from(ShardIteratorType::AtTimestamp, None, at(1001)).await.unwrap(), ["c"]);
    assert_eq!(from(ShardIteratorType::AtTimestamp, None, at(-9_000_000)).await.unwrap(), ["a", "b", "c"]);
    assert!(from(ShardIteratorType::Latest, None, None).await.unwrap().is_empty());

    assert!(from(ShardIteratorType::AtTimestamp, None, at(3001)).await.unwrap_err().is_invalid_argument_exception());
    assert!(from(ShardIteratorType::AtTimestamp, None, None).await.unwrap_err().is_invalid_argument_exception());
    assert!(from(ShardIteratorType::AtSequenceNumber, None, None).await.unwrap_err().is_invalid_argument_exception());
    // A number that no record has yet would let a reader skip what comes below it.
    let unknown = numbers[2].replacen("49", "50", 1);
    let unknown = from(ShardIteratorType::AtSequenceNumber, Some(&unknown), None).await;
    assert!(unknown.unwrap_err().is_invalid_argument_exception());
    assert_eq!(code(from_latest_of_a_missing_shard(&client).await), "ResourceNotFoundException");
}

async fn from_latest_of_a_missing_shard(
    client: &Client,
) -> Result<GetShardIteratorOutput, SdkError<GetShardIteratorError>> {
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id("shardId-000000000009");
    request.shard_iterator_type(ShardIteratorType::Latest).send().await
}

#[tokio::test]
async fn a_latest_iterator_sees_what_is_put_after_it() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "before").await;
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id("shardId-000000000000");
    let iterator = request.shard_iterator_type(ShardIteratorType::Latest).send().await.unwrap().shard_iterator.unwrap();
    put_one(&client, "k", "after").await;
    assert_eq!(texts(&get(&client, &iterator).await), ["after"]);
}

#[tokio::test]
async fn streams_are_named_by_name_or_arn_and_listed_by_pages() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    for name in ["c", "a", "b", STREAM] {
        client.create_stream().stream_name(name).shard_count(1).send().await.unwrap();
    }
    let first = client.list_streams().limit(3).send().await.unwrap();
    assert_eq!((first.stream_names, first.has_more_streams), (vec!["a".into(), "b".into(), "c".into()], true));
    let second = client.list_streams().limit(3).next_token(first.next_token.unwrap()).send().await.unwrap();
    assert_eq!((second.stream_names, second.has_more_streams), (vec![STREAM.into()], false));

    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}");
    let put = client.put_record().stream_arn(&arn).partition_key("k").data(Blob::new("by arn"));
    put.send().await.unwrap();
    let summary = client.describe_stream_summary().stream_arn(&arn).send().await.unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!((summary.stream_name.as_str(), summary.open_shard_count), (STREAM, 1));
    assert_eq!(summary.stream_arn, arn);
    let both = client.describe_stream_summary().stream_arn(&arn).stream_name("a").send().await;
    assert_eq!(code(both), "InvalidArgumentException");
    let foreign = client.describe_stream_summary().stream_arn(arn.replace("us-east-1", "eu-west-1")).send().await;
    assert_eq!(code(foreign), "ResourceNotFoundException");
}

#[tokio::test]
async fn a_stream_exists_once_and_its_namesake_is_another() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let again = client.create_stream().stream_name(STREAM).shard_count(1).send().await;
    assert_eq!(code(again), "ResourceInUseException");
    let number = put_one(&client, "k", "old").await.sequence_number;
    let iterator = trim_horizon(&client, "shardId-000000000000").await;
    client.delete_stream().stream_name(STREAM).send().await.unwrap();
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ResourceNotFoundException");
    clock.advance(Duration::from_secs(2));
    create(&client, 1).await;
    put_one(&client, "k", "new").await;
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ResourceNotFoundException");
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id("shardId-000000000000");
    let request = request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(number);
    assert_eq!(code(request.send().await), "InvalidArgumentException");
}

#[tokio::test]
async fn every_operation_takes_the_arn_where_it_takes_the_name() {
    let (emulator, _) = emulator();
    let (shard, next) = ("shardId-000000000000", "shardId-000000000001");
    let calls = [
        ("AddTagsToStream", json!({"Tags": {"k": "v"}})),
        ("ListTagsForStream", json!({})),
        ("RemoveTagsFromStream", json!({"TagKeys": ["k"]})),
        ("PutRecord", json!({"Data": "eA==", "PartitionKey": "k"})),
        ("PutRecords", json!({"Records": [{"Data": "eA==", "PartitionKey": "k"}]})),
        ("GetShardIterator", json!({"ShardId": shard, "ShardIteratorType": "LATEST"})),
        ("ListShards", json!({})),
        ("DescribeStream", json!({})),
        ("DescribeStreamSummary", json!({})),
        ("IncreaseStreamRetentionPeriod", json!({"RetentionPeriodHours": 48})),
        ("DecreaseStreamRetentionPeriod", json!({"RetentionPeriodHours": 24})),
        ("MergeShards", json!({"ShardToMerge": shard, "AdjacentShardToMerge": next})),
        ("SplitShard", json!({"ShardToSplit": "shardId-000000000002", "NewStartingHashKey": "1000"})),
        ("UpdateShardCount", json!({"TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"})),
        ("DeleteStream", json!({})),
    ];
    let arn = |name: &str| json!(format!("arn:aws:kinesis:us-east-1:000000000000:stream/{name}"));
    for (member, of) in [("StreamName", &(|name: &str| json!(name)) as &dyn Fn(&str) -> _), ("StreamARN", &arn)] {
        let (status, _) = raw(&emulator, "CreateStream", r#"{"StreamName": "orders", "ShardCount": 2}"#).await;
        assert_eq!(status, 200);
        for (operation, request) in &calls {
            for (stream, expected) in [("none", 400), (STREAM, 200)] {
                let mut request = request.clone();
                request[member] = of(stream);
                let (status, answer) = raw(&emulator, operation, request.to_string()).await;
                assert_eq!(status, expected, "{operation} by {member} of {stream}: {answer}");
                assert!(status == 200 || answer["__type"] == "ResourceNotFoundException", "{operation}: {answer}");
            }
        }
    }
    raw(&emulator, "CreateStream", r#"{"StreamName": "orders", "ShardCount": 1}"#).await;
    let start = json!({"StreamName": STREAM, "ShardId": shard, "ShardIteratorType": "LATEST"}).to_string();
    let (_, start) = raw(&emulator, "GetShardIterator", start).await;
    for (stream, expected) in [("none", 400), (STREAM, 200)] {
        let request = json!({"ShardIterator": start["ShardIterator"], "StreamARN": arn(stream)}).to_string();
        assert_eq!(raw(&emulator, "GetRecords", request).await.0, expected, "{stream}");
    }
}

/// Both calls at the same time, again and again. What was stored when is in the log, in that order.
#[test]
fn a_record_without_a_key_was_stored_by_a_stream_that_had_come_to_require_one() {
    const ROUNDS: usize = 2000;
    let directory = tempfile::tempdir().unwrap();
    let emulator = Emulator::builder().limits(Limits::none()).directory(directory.path()).build().unwrap();
    let repeat = |operation: &'static str, bodies: &[String]| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for body in bodies.iter().cycle().take(ROUNDS) {
            runtime.block_on(raw(&emulator, operation, body.clone()));
        }
    };
    let created = r#"{"StreamName":"orders","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}"#.to_owned();
    tokio::runtime::Runtime::new().unwrap().block_on(raw(&emulator, "CreateStream", created));
    let strategies = ["AUTO", "USER_PARTITION_KEY"].map(|strategy| {
        let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";
        format!(r#"{{"StreamARN":"{arn}","RecordDistributionStrategy":"{strategy}"}}"#)
    });
    std::thread::scope(|scope| {
        scope.spawn(|| repeat("UpdateStreamRecordDistributionStrategy", &strategies));
        scope.spawn(|| repeat("PutRecord", &[r#"{"StreamName":"orders","Data":"eA=="}"#.to_owned()]));
        scope.spawn(|| repeat("PutRecords", &[r#"{"StreamName":"orders","Records":[{"Data":"eA=="}]}"#.to_owned()]));
    });
    let log = std::fs::read(directory.path().join("kinesis.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    let (mut is_key_required, mut stored) = (true, 0);
    for event in log.split("{\"").filter(|event| event.starts_with("PutRecords") || event.starts_with("strategy")) {
        if event.starts_with("strategy") {
            is_key_required = event.contains("USER_PARTITION_KEY");
        } else {
            assert!(!is_key_required, "behind {stored} others, a record without a key where one is required");
            stored += 1;
        }
    }
    assert!(stored > 0, "nothing was ever stored");
}
