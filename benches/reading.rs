//! What a reply of GetRecords costs the local Kinesis, beside what the AWS SDK's client spends on reading it.
//!
//! ```text
//! cargo bench --profile dist -p kinesink-emulator --bench reading
//! ```
//!
//! Both in one thread and without a socket, so that neither side pays for the kernel's copies. The jobs take turns on
//! the same 10,000 records of 1 KB: the emulator makes the reply, piece by piece; it makes it and the pieces are joined,
//! as the SDK's connector does; the SDK's client asks for it and reads it. The client's own share is the third less the
//! second. In CBOR, which this SDK does not speak, the emulator makes the reply, and serde reads it into structs.
//! Prints a table in Markdown, of the thread's CPU time as Linux counts it, and asserts nothing about time.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark says what broke by panicking")]

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use axum::body::Body;
use http_body_util::BodyExt as _;
use kinesink_emulator::{Emulator, Limits};
use serde::Deserialize;
use tower::ServiceExt as _;

const RECORDS: usize = 10_000;
const RECORD_BYTES: usize = 1000;
const RECORDS_PER_PUT: usize = 500;
const ROUNDS: usize = 40;
const STREAM: &str = "bench";

/// The CPU time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    // Without a turn of the scheduler, the number is of its last tick, some milliseconds ago.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Data that does not repeat, as records do not.
fn data(record: usize) -> Vec<u8> {
    let mut random = record as u64 + 1;
    let byte = |_| {
        // Knuth's MMIX constants.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random.to_be_bytes()[0]
    };
    (0..RECORD_BYTES).map(byte).collect()
}

async fn iterator_on_records(client: &Client) -> String {
    client.create_stream().stream_name(STREAM).shard_count(1).send().await.unwrap();
    for first in (0..RECORDS).step_by(RECORDS_PER_PUT) {
        let entries = (first..first + RECORDS_PER_PUT).map(|record| {
            let data = Blob::new(data(record));
            PutRecordsRequestEntry::builder().data(data).partition_key(format!("key{record}")).build().unwrap()
        });
        client.put_records().stream_name(STREAM).set_records(Some(entries.collect())).send().await.unwrap();
    }
    let start = client.get_shard_iterator().stream_name(STREAM).shard_id("shardId-000000000000");
    start.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator.unwrap()
}

/// How the request and the reply are written.
#[derive(Clone, Copy)]
enum Encoding {
    Json,
    Cbor,
}

/// What is read of a reply in CBOR.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[expect(dead_code, reason = "it is only read")]
struct Record {
    sequence_number: String,
    approximate_arrival_timestamp: ciborium::Value,
    data: ciborium::Value,
    partition_key: String,
}

async fn reply(emulator: &Emulator, iterator: &str, encoding: Encoding) -> Body {
    let request = serde_json::json!({"ShardIterator": iterator});
    let (content_type, body) = match encoding {
        Encoding::Json => ("application/x-amz-json-1.1", request.to_string().into_bytes()),
        Encoding::Cbor => {
            let mut body = Vec::new();
            ciborium::into_writer(&request, &mut body).unwrap();
            ("application/x-amz-cbor-1.1", body)
        }
    };
    let authorization = "AWS4-HMAC-SHA256 Credential=a/20260301/us-east-1/kinesis/aws4_request, SignedHeaders=host, \
                         Signature=00";
    let request = http::Request::post("/")
        .header("content-type", content_type)
        .header("authorization", authorization)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", "Kinesis_20131202.GetRecords")
        .body(Body::from(body))
        .unwrap();
    let response = emulator.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Makes the reply and lets go of each piece, as a server does that has written it.
async fn made(emulator: &Emulator, iterator: &str, encoding: Encoding) -> usize {
    let mut body = reply(emulator, iterator, encoding).await;
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len();
    }
    bytes
}

fn median(mut numbers: Vec<u64>) -> f64 {
    numbers.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 nanoseconds")]
    let median = numbers[numbers.len() / 2] as f64;
    median
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let emulator = Emulator::builder().limits(Limits::none()).build().unwrap();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "bench"))
        .endpoint_url("http://in-process")
        .http_client(emulator.http_client());
    let client = Client::from_conf(config.build());
    let iterator = iterator_on_records(&client).await;
    let [mut make, mut join, mut read, mut make_cbor, mut read_cbor] = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        for (encoding, make) in [(Encoding::Json, &mut make), (Encoding::Cbor, &mut make_cbor)] {
            let start = cpu_ns();
            assert!(made(&emulator, &iterator, encoding).await > RECORDS * RECORD_BYTES);
            make.push(cpu_ns() - start);
        }

        let start = cpu_ns();
        let joined = reply(&emulator, &iterator, Encoding::Json).await.collect().await.unwrap().to_bytes();
        join.push(cpu_ns() - start);
        drop(joined);

        let joined = reply(&emulator, &iterator, Encoding::Cbor).await.collect().await.unwrap().to_bytes();
        let start = cpu_ns();
        let reply: Reply = ciborium::from_reader(&*joined).unwrap();
        assert_eq!(reply.records.len(), RECORDS);
        drop((reply, joined));
        read_cbor.push(cpu_ns() - start);

        let start = cpu_ns();
        let reply = client.get_records().shard_iterator(&iterator).send().await.unwrap();
        read.push(cpu_ns() - start);
        assert_eq!(reply.records.len(), RECORDS);
    }
    let (make, join, read) = (median(make), median(join), median(read));
    let (make_cbor, read_cbor) = (median(make_cbor), median(read_cbor));
    let sdk = read - join;
    #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
    let per_record_us = |ns: f64| ns / RECORDS as f64 / 1000.0;
    println!("| | µs/record | of the client's |");
    println!("|---|---|---|");
    println!("| the emulator makes the reply | {:.3} | {:.2} |", per_record_us(make), make / sdk);
    println!("| the SDK's client reads it | {:.3} | 1.00 |", per_record_us(sdk));
    println!("| the emulator makes the reply in CBOR | {:.3} | {:.2} |", per_record_us(make_cbor), make_cbor / sdk);
    println!("| serde reads it | {:.3} | {:.2} |", per_record_us(read_cbor), read_cbor / sdk);
}
