use axum::body::Body;
use proptest::prelude::*;

use crate::any_log;
use crate::any_request::{self, Encoding, OPERATIONS, is_answered};
use crate::client::{AUTHORIZATION, answer, create, emulator, in_process, raw};

const MEMBERS: [&str; 33] = [
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
    "ConsumerARN",
    "ConsumerName",
    "StartingPosition",
    "StreamCreationTimestamp",
    "TargetShardCount",
    "ScalingType",
    "Tags",
    "TagKeys",
    "ResourceARN",
    "MaxRecordSizeInKiB",
    "EnforceConsumerDeletion",
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
            "arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/app:1772366400",
            "UNIFORM_SCALING",
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

fn request() -> impl Strategy<Value = serde_json::Value> {
    let member = (prop::sample::select(MEMBERS.to_vec()), value());
    prop::collection::vec(member, 0..6).prop_map(|members| {
        let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        serde_json::Value::Object(members.collect())
    })
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(Encoding::Json), Just(Encoding::Cbor)]
}

/// The request in the encoding. In CBOR some texts become bytes and some numbers times, as the members that are bytes
/// and times need them.
fn encoded(encoding: Encoding, request: &serde_json::Value) -> Vec<u8> {
    if encoding == Encoding::Json {
        return request.to_string().into_bytes();
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&as_cbor("", request), &mut bytes).unwrap();
    bytes
}

fn as_cbor(name: &str, value: &serde_json::Value) -> ciborium::Value {
    use ciborium::Value;
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => {
            let plain = number.as_i64().map_or(Value::Float(number.as_f64().unwrap()), Value::from);
            if name.ends_with("Timestamp") { Value::Tag(1, Box::new(plain)) } else { plain }
        }
        serde_json::Value::String(text) if name == "Data" => Value::Bytes(text.clone().into_bytes()),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(|item| as_cbor(name, item)).collect()),
        serde_json::Value::Object(members) => {
            Value::Map(members.iter().map(|(name, value)| (Value::from(name.as_str()), as_cbor(name, value))).collect())
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_members_are_answered(
        operation in prop::sample::select(OPERATIONS.to_vec()),
        encoding in encoding(),
        request in request(),
    ) {
        block_on(is_answered(operation, encoding, encoded(encoding, &request)));
    }

    #[test]
    fn any_bytes_are_refused(
        operation in prop::sample::select(OPERATIONS.to_vec()),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(!block_on(is_answered(operation, Encoding::Json, body)));
    }

    /// In CBOR a few bytes can be a request, if only one that asks for nothing.
    #[test]
    fn any_bytes_are_answered(
        operation in prop::sample::select(OPERATIONS.to_vec()),
        start in prop::sample::select(vec![&b""[..], b"\xa0", b"\xbf", b"\xa1\x6aStreamName", b"\xd9\xd9\xf7", b"\xbb\xff"]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        block_on(is_answered(operation, Encoding::Cbor, [start, &rest].concat()));
    }

    #[test]
    fn a_cut_request_is_refused(encoding in encoding(), cut in 0..80_usize) {
        let records = serde_json::json!([{"Data": "aGVsbG8=", "PartitionKey": "k"}, {"Data": "", "PartitionKey": "l"}]);
        let whole = encoded(encoding, &serde_json::json!({"StreamName": "orders", "Records": records}));
        prop_assert!(block_on(is_answered("PutRecords", encoding, whole.clone())));
        prop_assert!(!block_on(is_answered("PutRecords", encoding, whole[..cut.min(whole.len() - 1)].to_vec())));
    }
}

#[test]
fn what_nests_deep_is_refused() {
    for (encoding, open) in [(Encoding::Json, &b"{\"a\":"[..]), (Encoding::Cbor, &b"\xa1\x61a"[..])] {
        assert!(!block_on(is_answered("ListStreams", encoding, open.repeat(100_000))));
    }
    // A length that nobody has the memory for.
    let huge = [b"\xa1\x64Data\x5b\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec(), vec![0; 100]].concat();
    assert!(!block_on(is_answered("PutRecord", Encoding::Cbor, huge)));
}

/// The inputs of a fuzz target that are kept.
fn corpus(target: &str) -> Vec<std::path::PathBuf> {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() > 20, "the corpus in {} has only {} inputs", corpus.display(), inputs.len());
    inputs
}

#[test]
fn the_fuzz_corpus_of_requests_holds() {
    for path in corpus("any_request") {
        // A failing assertion prints its own text; this line in the captured output names the input.
        println!("{}", path.display());
        any_request::check(&std::fs::read(&path).unwrap());
    }
}

#[test]
fn the_fuzz_corpus_of_logs_holds() {
    for path in corpus("any_log") {
        println!("{}", path.display());
        any_log::check(&std::fs::read(&path).unwrap());
    }
}

#[tokio::test]
async fn a_request_is_signed_by_form() {
    let (emulator, _) = emulator();
    let date = Some("20260301T120000Z");
    let without = |part: &str| AUTHORIZATION.replace(part, "");
    for (authorization, date, code, part) in [
        (None, date, "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (Some("Basic dGVzdA==".to_owned()), date, "IncompleteSignatureException", "AWS4-HMAC-SHA256"),
        (Some(without("Signature=00")), date, "IncompleteSignatureException", "'Signature'"),
        (Some(without("SignedHeaders=host,")), date, "IncompleteSignatureException", "'SignedHeaders'"),
        (
            Some(without("Credential=test/20260301/us-east-1/kinesis/aws4_request,")),
            date,
            "IncompleteSignatureException",
            "'Credential'",
        ),
        (Some(without("/us-east-1/kinesis")), date, "IncompleteSignatureException", "keyid/date/region/service/term"),
        (Some(AUTHORIZATION.to_owned()), None, "IncompleteSignatureException", "'X-Amz-Date'"),
    ] {
        let mut request = http::Request::post("/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "Kinesis_20131202.ListStreams");
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(date) = date {
            request = request.header("x-amz-date", date);
        }
        let (status, reply) = answer(&emulator, request.body(Body::from("{}")).unwrap()).await;
        assert_eq!((status, reply["__type"].as_str()), (400, Some(code)), "{authorization:?}");
        assert!(reply["message"].as_str().unwrap().contains(part), "{reply}");
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
