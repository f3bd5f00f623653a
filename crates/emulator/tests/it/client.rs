use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::put_record::PutRecordOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use axum::body::{Body, to_bytes};
use jiff::Timestamp;
use kinesink_emulator::{Builder, Emulator, Limits, ManualClock};
use tower::ServiceExt as _;

pub(crate) const STREAM: &str = "orders";

/// A signature that is whole, which is all that is asked of one.
pub(crate) const AUTHORIZATION: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260301/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00";

pub(crate) fn start() -> Timestamp {
    "2026-03-01T12:00:00.5Z".parse().unwrap()
}

/// An emulator whose clock stands still, and which limits no rates, as a still clock would never let a call pass again.
pub(crate) fn emulator() -> (Emulator, Arc<ManualClock>) {
    emulator_with(|builder| builder.limits(Limits::none()))
}

/// An emulator whose clock stands still, with these settings besides.
pub(crate) fn emulator_with(settings: impl FnOnce(Builder) -> Builder) -> (Emulator, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(start()));
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock));
    (settings(builder).build().unwrap(), clock)
}

pub(crate) fn config() -> aws_sdk_kinesis::config::Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

/// A client that calls the emulator without a socket.
pub(crate) fn in_process(emulator: &Emulator) -> Client {
    let config = config().endpoint_url("http://in-process").http_client(emulator.http_client());
    Client::from_conf(config.build())
}

/// A client that connects.
pub(crate) fn over_socket(address: std::net::SocketAddr) -> Client {
    Client::from_conf(config().endpoint_url(format!("http://{address}")).build())
}

pub(crate) async fn create(client: &Client, shards: i32) {
    client.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
}

pub(crate) fn entry(key: &str, data: impl Into<Vec<u8>>) -> PutRecordsRequestEntry {
    PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build().unwrap()
}

/// An iterator at the shard's oldest record.
pub(crate) async fn trim_horizon(client: &Client, shard_id: &str) -> String {
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id(shard_id);
    let reply = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    reply.shard_iterator.unwrap()
}

pub(crate) async fn get(client: &Client, iterator: &str) -> GetRecordsOutput {
    client.get_records().shard_iterator(iterator).send().await.unwrap()
}

/// The data of the records as text.
pub(crate) fn texts(reply: &GetRecordsOutput) -> Vec<String> {
    reply.records.iter().map(|record| String::from_utf8(record.data.as_ref().to_vec()).unwrap()).collect()
}

/// Calls the operation without an SDK; answers the status and the JSON of the body.
pub(crate) async fn raw(emulator: &Emulator, operation: &str, body: impl Into<Body>) -> (u16, serde_json::Value) {
    let request = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", AUTHORIZATION)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(body.into())
        .unwrap();
    answer(emulator, request).await
}

/// Sends the request; answers the status and the JSON of the body, null if it is empty.
pub(crate) async fn answer(emulator: &Emulator, request: http::Request<Body>) -> (u16, serde_json::Value) {
    let response = emulator.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    if body.is_empty() {
        return (status, serde_json::Value::Null);
    }
    (status, serde_json::from_slice(&body).unwrap())
}

/// The service's type of the error.
pub(crate) fn code<T: std::fmt::Debug, E: ProvideErrorMetadata>(reply: Result<T, SdkError<E>>) -> String {
    reply.unwrap_err().code().unwrap_or("none").to_owned()
}

pub(crate) async fn put_one(client: &Client, key: &str, data: impl Into<Vec<u8>>) -> PutRecordOutput {
    client.put_record().stream_name(STREAM).partition_key(key).data(Blob::new(data)).send().await.unwrap()
}

/// Ids of all shards that the stream lists.
pub(crate) async fn shard_ids(client: &Client) -> Vec<String> {
    let reply = client.list_shards().stream_name(STREAM).send().await.unwrap();
    reply.shards.unwrap().into_iter().map(|shard| shard.shard_id).collect()
}
