use axum::body::Body;
use proptest::prelude::*;

use crate::client::{answer, create, emulator, in_process, raw};

const OPERATIONS: [&str; 15] = [
    "CreateStream",
    "DecreaseStreamRetentionPeriod",
    "DeleteStream",
    "DescribeLimits",
    "DescribeStream",
    "DescribeStreamSummary",
    "GetRecords",
    "GetShardIterator",
    "IncreaseStreamRetentionPeriod",
    "ListShards",
    "ListStreams",
    "MergeShards",
    "PutRecord",
    "PutRecords",
    "SplitShard",
];

const MEMBERS: [&str; 22] = [
    "StreamName",
    "StreamARN",
    "ShardCount",
    "StreamModeDetails",
    "ShardIterator",
    "Limit",
    "ShardId",
    "ShardIteratorType",
    "StartingSequenceNumber",
    "Timestamp",
    "NextToken",
    "MaxResults",
    "ShardFilter",
    "ExclusiveStartShardId",
    "Records",
    "Data",
    "PartitionKey",
    "ExplicitHashKey",
    "ShardToSplit",
    "NewStartingHashKey",
    "AdjacentShardToMerge",
    "RetentionPeriodHours",
];

/// Values that are right for some member, and values that are right for none.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        (0..5_i64).prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        "[0-9]{1,60}".prop_map(Into::into),
        prop::sample::select(vec![
            "orders",
            "shardId-000000000000",
            "shardId-99999999999999999999",
            "LATEST",
            "AT_TIMESTAMP",
            "AT_SEQUENCE_NUMBER",
            "AT_TRIM_HORIZON",
            "AFTER_SHARD_ID",
            "ON_DEMAND",
            "eyJzdHJlYW0iOiJvcmRlcnMifQ==",
            "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
            "170141183460469231731687303715884105728",
        ])
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let member = prop::sample::select(vec!["Type", "ShardId", "Timestamp", "StreamMode", "Data", "PartitionKey"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((member.prop_map(str::to_owned), inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn request() -> impl Strategy<Value = String> {
    let member = (prop::sample::select(MEMBERS.to_vec()), value());
    prop::collection::vec(member, 0..6).prop_map(|members| {
        let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        serde_json::Value::Object(members.collect()).to_string()
    })
}

/// Every answer is a success or an error of the caller that has a type and a message; none is the emulator's own.
async fn assert_answered(operation: &str, body: Vec<u8>) -> bool {
    let (emulator, _) = emulator();
    // Not through an SDK client, which takes longer to make than thousands of calls.
    raw(&emulator, "CreateStream", r#"{"StreamName":"orders","ShardCount":2}"#).await;
    let (status, reply) = raw(&emulator, operation, body).await;
    if status == 200 {
        return true;
    }
    assert_eq!(status, 400, "{operation}: {reply}");
    assert!(reply["__type"].as_str().is_some_and(|code| code.ends_with("Exception")), "{operation}: {reply}");
    assert!(reply["message"].as_str().is_some_and(|message| !message.is_empty()), "{operation}: {reply}");
    false
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_members_are_answered(operation in prop::sample::select(OPERATIONS.to_vec()), body in request()) {
        block_on(assert_answered(operation, body.into_bytes()));
    }

    #[test]
    fn any_bytes_are_refused(
        operation in prop::sample::select(OPERATIONS.to_vec()),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let answered = block_on(assert_answered(operation, body));
        prop_assert!(!answered || operation == "DescribeLimits");
    }

    #[test]
    fn a_cut_request_is_refused(cut in 0..100_usize) {
        let records = r#"{"Data":"aGVsbG8=","PartitionKey":"k"},{"Data":"","PartitionKey":"l"}"#;
        let whole = format!(r#"{{"StreamName":"orders","Records":[{records}]}}"#).into_bytes();
        let body = whole[..cut].to_vec();
        prop_assert!(!block_on(assert_answered("PutRecords", body)));
    }
}

#[tokio::test]
async fn each_mistake_has_its_error() {
    let (emulator, _) = emulator();
    create(&in_process(&emulator), 1).await;
    let record = r#"{"StreamName":"orders","PartitionKey":"k","Data":"not base64"}"#;
    for (operation, body, code, part) in [
        ("ListChannels", "{}", "UnknownOperationException", "kinesink local does not emulate ListChannels"),
        ("PutRecord", record, "SerializationException", "a blob is not base64"),
        ("PutRecord", "[]", "SerializationException", "not a JSON object"),
        ("CreateStream", r#"{"StreamName":7}"#, "SerializationException", "invalid type"),
        ("CreateStream", r#"{"StreamName":"b ad","ShardCount":0}"#, "ValidationException", "2 validation errors"),
        ("CreateStream", r#"{"StreamName":"new"}"#, "InvalidArgumentException", "ShardCount"),
        (
            "CreateStream",
            "{}",
            "ValidationException",
            "'streamName' failed to satisfy constraint: Member must not be null",
        ),
        ("DescribeStream", "{}", "InvalidArgumentException", "StreamName or StreamARN"),
        (
            "DescribeStream",
            r#"{"StreamName":"none"}"#,
            "ResourceNotFoundException",
            "Stream none under account 000000000000",
        ),
        ("GetRecords", r#"{"ShardIterator":"AAAA"}"#, "InvalidArgumentException", "Invalid ShardIterator"),
        ("GetRecords", r#"{"ShardIterator":"AAAA","Limit":10001}"#, "InvalidArgumentException", "greater than 10000"),
        ("GetRecords", r#"{"ShardIterator":"AAAA","Limit":0}"#, "ValidationException", "greater than or equal to 1"),
        ("GetRecords", r#"{"ShardIterator":""}"#, "ValidationException", "length greater than or equal to 1"),
        ("DescribeLimits", "[]", "SerializationException", "not a JSON object"),
        ("ListShards", r#"{"StreamARN":"not-an-arn"}"#, "ValidationException", "'streamARN'"),
        ("ListTagsForResource", r#"{"ResourceARN":"not-an-arn"}"#, "ValidationException", "'resourceARN'"),
        (
            "GetShardIterator",
            r#"{"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST","StartingSequenceNumber":"1"}"#,
            "InvalidArgumentException",
            "Must either specify",
        ),
        (
            "GetShardIterator",
            r#"{"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"x"}"#,
            "ValidationException",
            "'startingSequenceNumber'",
        ),
    ] {
        let (status, reply) = raw(&emulator, operation, body).await;
        assert_eq!((status, reply["__type"].as_str()), (400, Some(code)), "{operation} {body}");
        assert!(reply["message"].as_str().unwrap().contains(part), "{reply}");
    }
}

#[tokio::test]
async fn what_is_no_call_at_all_is_answered_too() {
    let (emulator, _) = emulator();
    let with = |method: &str, headers: &[(&str, &str)]| {
        let mut request = http::Request::builder().method(method).uri("/some/path");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from("{}")).unwrap()
    };
    let target = ("x-amz-target", "Kinesis_20131202.ListStreams");
    for (request, code) in [
        (with("GET", &[target]), "UnknownOperationException"),
        (with("POST", &[]), "UnknownOperationException"),
        (with("POST", &[("x-amz-target", "DynamoDB_20120810.ListTables")]), "UnknownOperationException"),
        (with("POST", &[target]), "SerializationException"),
        (with("POST", &[target, ("content-type", "text/xml")]), "SerializationException"),
    ] {
        let (status, reply) = answer(&emulator, request).await;
        assert_eq!((status, reply["__type"].as_str()), (400, Some(code)));
    }
    let too_long = vec![b' '; 17 * 1024 * 1024];
    let (status, reply) = raw(&emulator, "PutRecords", too_long).await;
    assert_eq!((status, reply["__type"].as_str()), (400, Some("SerializationException")));
}
