//! What holds of the answer to any request at all. The fuzz target of the same name is this file, too.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use kinesink_emulator::{Emulator, Limits, ManualClock};
use tower::ServiceExt as _;

pub(crate) const OPERATIONS: [&str; 31] = [
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
    "StartStreamEncryption",
];

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Cbor,
}

/// The first byte chooses the operation, the second the encoding, the others are the body.
pub(crate) fn check(input: &[u8]) {
    let [operation, encoding, body @ ..] = input else { return };
    let operation = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
    let encoding = if encoding % 2 == 0 { Encoding::Json } else { Encoding::Cbor };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(is_answered(operation, encoding, body.to_vec()));
}

/// Whether the answer is a success. If not, it is an error of the caller, with a type and a message in the encoding of
/// the request, and never the emulator's own.
pub(crate) async fn is_answered(operation: &str, encoding: Encoding, body: Vec<u8>) -> bool {
    let clock = Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap()));
    let emulator = Emulator::builder().clock(clock).limits(Limits::none()).build().unwrap();
    // Not through an SDK client, which takes longer to make than thousands of calls.
    for (operation, body) in [
        ("CreateStream", r#"{"StreamName":"orders","ShardCount":2}"#),
        ("PutRecord", r#"{"StreamName":"orders","PartitionKey":"k","Data":"aGVsbG8="}"#),
        (
            "RegisterStreamConsumer",
            r#"{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/orders","ConsumerName":"app"}"#,
        ),
    ] {
        assert_eq!(send(&emulator, operation, Encoding::Json, body.into()).await.0, 200);
    }
    let (status, reply) = send(&emulator, operation, encoding, body).await;
    if status == 200 {
        return true;
    }
    let reply: ciborium::Value = match encoding {
        Encoding::Json => serde_json::from_slice(&reply).unwrap(),
        Encoding::Cbor => ciborium::from_reader(&*reply).unwrap(),
    };
    assert_eq!(status, 400, "{operation}: {reply:?}");
    let text = |name: &str| {
        let member = reply.as_map().unwrap().iter().find(|(key, _)| key.as_text() == Some(name));
        member.and_then(|(_, value)| value.as_text()).unwrap_or_default()
    };
    assert!(text("__type").ends_with("Exception"), "{operation}: {reply:?}");
    assert!(!text("message").is_empty(), "{operation}: {reply:?}");
    false
}

/// The status and the body; of a subscription, which does not end, how it begins.
pub(crate) async fn send(emulator: &Emulator, operation: &str, encoding: Encoding, body: Vec<u8>) -> (u16, Vec<u8>) {
    let content_type = match encoding {
        Encoding::Json => "application/x-amz-json-1.1",
        Encoding::Cbor => "application/x-amz-cbor-1.1",
    };
    let authorization =
        "AWS4-HMAC-SHA256 Credential=k/d/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0";
    let request = http::Request::post("/")
        .header("content-type", content_type)
        .header("authorization", authorization)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let response = emulator.router().oneshot(request.map(axum::body::Body::new)).await.unwrap();
    let status = response.status().as_u16();
    let is_event_stream = response.headers()["content-type"] == "application/vnd.amazon.eventstream";
    let mut body = response.into_body();
    if is_event_stream {
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        return (status, first.to_vec());
    }
    (status, body.collect().await.unwrap().to_bytes().to_vec())
}
