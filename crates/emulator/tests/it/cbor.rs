//! The same calls in CBOR. No SDK for Rust speaks it, so requests and replies are values that another encoder writes
//! and reads, or bytes written by hand.

use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use kinesink_emulator::Emulator;
use proptest::prelude::*;
use serde_json::json;
use tower::ServiceExt as _;

use crate::client::{AUTHORIZATION, create, emulator, in_process, put_one, raw, start, trim_horizon};

const CBOR: &str = "application/x-amz-cbor-1.1";
const SHARD: &str = "shardId-000000000000";

struct Answered {
    status: u16,
    content_type: String,
    error_type: Option<String>,
    body: Vec<u8>,
}

impl Answered {
    fn value(&self) -> Value {
        ciborium::from_reader(&*self.body).unwrap()
    }
}

async fn send(emulator: &Emulator, operation: &str, body: Vec<u8>) -> Answered {
    let request = http::Request::post("/").header("content-type", CBOR).header("authorization", AUTHORIZATION);
    let request = request.header("x-amz-date", "20260301T120000Z");
    let request = request.header("x-amz-target", format!("Kinesis_20131202.{operation}")).body(Body::from(body));
    let response = emulator.router().oneshot(request.unwrap()).await.unwrap();
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (content_type, error_type) = (header("content-type").unwrap(), header("x-amzn-errortype"));
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Answered { status, content_type, error_type, body }
}

async fn call(emulator: &Emulator, operation: &str, request: &Value) -> Answered {
    let mut body = Vec::new();
    ciborium::into_writer(request, &mut body).unwrap();
    send(emulator, operation, body).await
}

fn map(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_map().unwrap().iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

/// The value as the JSON encoding would write it.
fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(STANDARD.encode(bytes)),
        Value::Integer(number) => json!(i64::try_from(*number).unwrap()),
        Value::Bool(flag) => json!(flag),
        Value::Tag(1, ms) => json!(i128::from(ms.as_integer().unwrap()) as f64 / 1000.0),
        Value::Array(items) => items.iter().map(as_json).collect(),
        Value::Map(members) => {
            members.iter().map(|(key, value)| (key.as_text().unwrap().to_owned(), as_json(value))).collect()
        }
        other => unreachable!("no reply has {other:?}"),
    }
}

#[tokio::test]
async fn a_read_is_these_bytes() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let number = put_one(&client, "key", vec![0, 255, 7]).await.sequence_number;
    let request = map([("ShardIterator", trim_horizon(&client, SHARD).await.into()), ("Limit", 1.into())]);
    let reply = call(&emulator, "GetRecords", &request).await;
    assert_eq!((reply.status, reply.content_type.as_str(), reply.error_type.as_deref()), (200, CBOR, None));
    // An open map; a text of 7, an array of 1, a map of 4.
    let mut expected = vec![0xbf, 0x67];
    expected.extend(b"Records");
    expected.extend([0x81, 0xa4]);
    expected.push(0x60 + 14);
    expected.extend(b"SequenceNumber");
    expected.extend([0x78, 56]);
    expected.extend(number.bytes());
    expected.extend([0x78, 27]);
    expected.extend(b"ApproximateArrivalTimestamp");
    // The tag of a time, then eight bytes of milliseconds.
    expected.extend([0xc1, 0x1b]);
    expected.extend(start().as_millisecond().to_be_bytes());
    expected.push(0x64);
    expected.extend(b"Data");
    expected.extend([0x43, 0, 255, 7]);
    expected.push(0x6c);
    expected.extend(b"PartitionKey");
    expected.push(0x63);
    expected.extend(b"key");
    expected.push(0x71);
    expected.extend(b"NextShardIterator");
    assert_eq!(&reply.body[..expected.len()], expected);
    assert_eq!(reply.body.last(), Some(&0xff));
    let value = reply.value();
    assert_eq!(member(&value, "MillisBehindLatest"), Some(&Value::from(0)));
    assert!(member(&value, "ChildShards").is_none());
}

#[tokio::test]
async fn each_operation_says_the_same_in_both_encodings() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    let at = start().as_millisecond() - 5;
    let time = || Value::Tag(1, Box::new(at.into()));
    let request = map([("StreamName", "orders".into()), ("ShardCount", 2.into())]);
    let created = call(&emulator, "CreateStream", &request).await;
    assert_eq!((created.status, created.body.len()), (200, 0));
    let named = || ("StreamName", Value::from("orders"));
    let filter = map([("Type", "FROM_TIMESTAMP".into()), ("Timestamp", time())]);
    for (operation, request) in [
        ("DescribeStream", map([named()])),
        ("DescribeStreamSummary", map([named()])),
        ("DescribeLimits", map([])),
        ("ListStreams", map([("Limit", 1.into())])),
        ("ListShards", map([named(), ("ShardFilter", filter)])),
        (
            "GetShardIterator",
            map([
                named(),
                ("ShardId", SHARD.into()),
                ("ShardIteratorType", "AT_TIMESTAMP".into()),
                ("Timestamp", time()),
            ]),
        ),
        ("GetRecords", map([("ShardIterator", trim_horizon(&client, SHARD).await.into())])),
    ] {
        let in_cbor = call(&emulator, operation, &request).await;
        assert_eq!(in_cbor.status, 200, "{operation}");
        let (_, in_json) = raw(&emulator, operation, as_json(&request).to_string()).await;
        assert_eq!(as_json(&in_cbor.value()), in_json, "{operation}");
    }
    let summary = call(&emulator, "DescribeStreamSummary", &map([named()])).await.value();
    let created = member(member(&summary, "StreamDescriptionSummary").unwrap(), "StreamCreationTimestamp");
    assert_eq!(created, Some(&Value::Tag(1, Box::new(start().as_millisecond().into()))));
}

#[tokio::test]
async fn errors_are_said_in_the_encoding_of_the_request() {
    let (emulator, _) = emulator();
    for (operation, request, code) in [
        ("DescribeStream", map([("StreamName", "none".into())]), "ResourceNotFoundException"),
        ("DescribeStream", map([("StreamName", 7.into())]), "SerializationException"),
        ("PutRecord", map([("Data", 7.into())]), "SerializationException"),
        ("CreateStream", map([]), "ValidationException"),
        ("Nonsense", map([]), "UnknownOperationException"),
        ("ListStreams", Value::Array(Vec::new()), "SerializationException"),
        ("ListStreams", Value::Null, "SerializationException"),
    ] {
        let reply = call(&emulator, operation, &request).await;
        assert_eq!((reply.status, reply.content_type.as_str()), (400, CBOR), "{operation}");
        assert_eq!(reply.error_type.as_deref(), Some(code), "{operation}");
        let value = reply.value();
        assert_eq!(member(&value, "__type"), Some(&Value::from(code)));
        let (_, in_json) = raw(&emulator, operation, as_json_or_null(&request)).await;
        assert_eq!(in_json["__type"], code, "{operation}");
        assert!(member(&value, "message").is_some_and(|message| !message.as_text().unwrap().is_empty()));
    }
    let trailing = send(&emulator, "ListStreams", vec![0xa0, 0xa0]).await;
    assert_eq!(trailing.error_type.as_deref(), Some("SerializationException"));
}

fn as_json_or_null(value: &Value) -> String {
    if value.is_null() { "null".to_owned() } else { as_json(value).to_string() }
}

/// What a stream of two gives back after a put of these records.
async fn round_trip(records: &[(Vec<u8>, String)], put_in_cbor: bool) {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let entry = |(data, key): &(Vec<u8>, String)| {
        map([("Data", Value::Bytes(data.clone())), ("PartitionKey", key.as_str().into())])
    };
    let request =
        map([("StreamName", "orders".into()), ("Records", Value::Array(records.iter().map(entry).collect()))]);
    if put_in_cbor {
        assert_eq!(call(&emulator, "PutRecords", &request).await.status, 200);
    } else {
        assert_eq!(raw(&emulator, "PutRecords", as_json(&request).to_string()).await.0, 200);
    }
    let request = map([("ShardIterator", trim_horizon(&client, SHARD).await.into())]);
    let read = call(&emulator, "GetRecords", &request).await.value();
    let read: Vec<_> = member(&read, "Records").unwrap().as_array().unwrap().clone();
    let got = read.iter().map(|record| {
        let (data, key) = (member(record, "Data").unwrap(), member(record, "PartitionKey").unwrap());
        (data.as_bytes().unwrap().clone(), key.as_text().unwrap().to_owned())
    });
    assert_eq!(got.collect::<Vec<_>>(), records);
    let (_, in_json) = raw(&emulator, "GetRecords", as_json(&request).to_string()).await;
    assert_eq!(in_json["Records"], as_json(&Value::Array(read)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bytes_and_keys_come_back_whatever_the_encoding(
        records in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), "\\PC{1,30}"), 1..30),
        long in prop_oneof![0..300_usize, 60_000..70_000_usize],
        put_in_cbor: bool,
    ) {
        let mut records = records;
        records.push((vec![7; long], "\"\\\u{1}é😀".to_owned()));
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(round_trip(&records, put_in_cbor));
    }
}

type Headers = Vec<(String, String)>;

/// The messages in the bytes of an event stream: their headers and payloads. Lengths and checksums must fit.
fn messages(mut bytes: &[u8]) -> Vec<(Headers, Vec<u8>)> {
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (length, headers_length) = (number(bytes, 0) as usize, number(bytes, 4) as usize);
        assert_eq!(crc32fast::hash(&bytes[..8]), number(bytes, 8));
        assert_eq!(crc32fast::hash(&bytes[..length - 4]), number(bytes, length - 4));
        let (mut headers, payload) = bytes[12..length - 4].split_at(headers_length);
        let mut named = Vec::new();
        while let Some((name_length, rest)) = headers.split_first() {
            let (name, rest) = rest.split_at(usize::from(*name_length));
            assert_eq!(rest[0], 7);
            let value_length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
            let (value, rest) = rest[3..].split_at(value_length);
            named.push((String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap()));
            headers = rest;
        }
        messages.push((named, payload.to_vec()));
        bytes = &bytes[length..];
    }
    messages
}

#[tokio::test]
async fn a_subscription_speaks_cbor_to_its_end() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let number = put_one(&client, "key", vec![0, 255, 7]).await.sequence_number;
    let split = client.split_shard().stream_name("orders").shard_to_split(SHARD);
    split.new_starting_hash_key((1_u128 << 127).to_string()).send().await.unwrap();
    let consumer = crate::consumers::register(&client, "app").await;
    let request = map([
        ("ConsumerARN", consumer.consumer_arn.into()),
        ("ShardId", SHARD.into()),
        ("StartingPosition", map([("Type", "TRIM_HORIZON".into())])),
    ]);
    let reply = call(&emulator, "SubscribeToShard", &request).await;
    assert_eq!((reply.status, reply.content_type.as_str()), (200, "application/vnd.amazon.eventstream"));
    let messages = messages(&reply.body);
    let types: Vec<_> = messages.iter().map(|(headers, _)| headers.clone()).collect();
    let headers = |event_type: &str| {
        [(":event-type", event_type), (":content-type", CBOR), (":message-type", "event")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let event = "SubscribeToShardEvent";
    assert_eq!(types, [headers("initial-response"), headers(event), headers(event)]);
    assert_eq!(messages[0].1, [0xa0]);
    let values: Vec<Value> =
        messages[1..].iter().map(|(_, payload)| ciborium::from_reader(&payload[..]).unwrap()).collect();
    let record = &member(&values[0], "Records").unwrap().as_array().unwrap()[0];
    assert_eq!(member(record, "Data"), Some(&Value::Bytes(vec![0, 255, 7])));
    assert_eq!(member(&values[0], "ContinuationSequenceNumber"), Some(&Value::from(number)));
    assert_eq!(member(&values[0], "MillisBehindLatest"), Some(&Value::from(0)));
    assert!(member(&values[0], "ChildShards").is_none());
    assert_eq!(member(&values[1], "Records"), Some(&Value::Array(Vec::new())));
    assert!(member(&values[1], "ContinuationSequenceNumber").is_none());
    assert_eq!(member(&values[1], "ChildShards").unwrap().as_array().unwrap().len(), 2);
}
