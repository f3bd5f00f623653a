//! The protocols below the operations: HTTP/2 with prior knowledge, TLS, and the end of connections.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use axum::body::{Body, to_bytes};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use kinesink_emulator::{Certificate, Emulator, Fault, FaultKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::client::{AUTHORIZATION, STREAM, code, config, create, emulator, in_process, put_one};
use crate::consumers::register;

const SHARD: &str = "shardId-000000000000";
/// Whatever is waited for comes sooner than this, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn request_to(operation: &str) -> http::Request<()> {
    http::Request::post("http://localhost/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", AUTHORIZATION)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(())
        .unwrap()
}

/// Sends the request on its own HTTP/2 stream; answers the body.
async fn send(mut client: h2::client::SendRequest<Bytes>, operation: &str, body: String) -> (u16, h2::RecvStream) {
    std::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let (response, mut sending) = client.send_request(request_to(operation), false).unwrap();
    sending.send_data(Bytes::from(body), true).unwrap();
    let response = response.await.unwrap();
    (response.status().as_u16(), response.into_body())
}

async fn whole(mut body: h2::RecvStream) -> String {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served_on_the_same_port() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let in_process = in_process(&emulator);
    create(&in_process, 1).await;
    let consumer = register(&in_process, "app").await.consumer_arn;
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let talk = async {
        // Many at once, and a subscription that stays open beside them, on one connection.
        let subscribe = serde_json::json!({
            "ConsumerARN": consumer, "ShardId": SHARD, "StartingPosition": {"Type": "LATEST"},
        });
        let (status, mut events) = send(client.clone(), "SubscribeToShard", subscribe.to_string()).await;
        assert_eq!(status, 200);
        let puts = (0..50).map(|number| {
            let put = serde_json::json!({"StreamName": STREAM, "PartitionKey": number.to_string(), "Data": "aGVsbG8="});
            send(client.clone(), "PutRecord", put.to_string())
        });
        for (status, body) in join_all(puts).await {
            assert_eq!(status, 200);
            assert!(whole(body).await.contains("SequenceNumber"));
        }
        let mut pushed = String::new();
        while pushed.matches("aGVsbG8=").count() < 50 {
            let chunk = events.data().await.unwrap().unwrap();
            events.flow_control().release_capacity(chunk.len()).unwrap();
            pushed.push_str(&String::from_utf8_lossy(&chunk));
        }
        let (status, body) = send(client.clone(), "DescribeStream", r#"{"StreamName":"none"}"#.to_owned()).await;
        assert_eq!(status, 400);
        assert!(whole(body).await.contains("ResourceNotFoundException"));
        stop.cancel();
        while events.data().await.is_some() {}
        drop(client);
    };
    let (served, connected, ()) = tokio::join!(emulator.serve(listener, stopped), connection, talk);
    served.unwrap();
    connected.unwrap();
}

/// A client that connects in TLS and trusts these authorities.
fn trusting(address: std::net::SocketAddr, pem: &str) -> Client {
    let context =
        TlsContext::builder().with_trust_store(TrustStore::empty().with_pem_certificate(pem)).build().unwrap();
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https();
    Client::from_conf(config().endpoint_url(format!("https://{address}")).http_client(http_client).build())
}

#[tokio::test]
async fn tls_is_served_to_who_trusts_the_certificate() {
    let (emulator, _): (Emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (certificate, other) = (Certificate::self_signed().unwrap(), Certificate::self_signed().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (served, ()) = tokio::join!(emulator.serve_tls(listener, &certificate, stopped), async {
        // Neither a client that never speaks nor one that trusts somebody else is in the way.
        let silent = TcpStream::connect(address).await.unwrap();
        let distrusting = trusting(address, other.authority_pem());
        assert!(distrusting.list_streams().send().await.unwrap_err().as_service_error().is_none());
        let client = trusting(address, certificate.authority_pem());
        create(&client, 1).await;
        let arn = register(&client, "app").await.consumer_arn;
        let position = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
        let subscribe = client.subscribe_to_shard().consumer_arn(arn).shard_id(SHARD).starting_position(position);
        put_one(&client, "k", "in TLS").await;
        let mut events = subscribe.send().await.unwrap().event_stream;
        let Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) = events.recv().await.unwrap() else {
            unreachable!("there is a record")
        };
        assert_eq!(event.records[0].data.as_ref(), b"in TLS");
        assert_eq!(code(client.describe_stream().stream_name("none").send().await), "ResourceNotFoundException");
        stop.cancel();
        assert!(events.recv().await.unwrap().is_none());
        drop((client, silent));
    });
    served.unwrap();
}

/// A call without an SDK, on a connection that stays open; answers what comes back, if the server says anything.
async fn send_on(connection: &mut TcpStream, operation: &str) {
    let head = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-amz-json-1.1\r\n\
         authorization: {AUTHORIZATION}\r\nx-amz-date: 20260301T120000Z\r\n\
         x-amz-target: Kinesis_20131202.{operation}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
}

/// The first bytes of a reply: its status line.
async fn status_of(connection: &mut TcpStream) -> String {
    let mut line = [0; 12];
    connection.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line).into_owned()
}

/// Two clients: one with a connection that waits for its next request, one whose call is delayed for an hour.
async fn idle_and_delayed(emulator: &Emulator, address: std::net::SocketAddr) -> [TcpStream; 2] {
    let mut idle = TcpStream::connect(address).await.unwrap();
    send_on(&mut idle, "ListStreams").await;
    assert_eq!(status_of(&mut idle).await, "HTTP/1.1 200");
    emulator.faults().push(Fault::on("DescribeLimits", FaultKind::DelayMs(3_600_000))).unwrap();
    let mut delayed = TcpStream::connect(address).await.unwrap();
    send_on(&mut delayed, "DescribeLimits").await;
    while !emulator.faults().list().is_empty() {
        tokio::task::yield_now().await;
    }
    [idle, delayed]
}

/// Reads to the end of the connection, which is expected soon.
async fn rest_of(mut connection: TcpStream) -> String {
    let mut rest = Vec::new();
    // A connection that is cut may also be reset.
    let read = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    drop(read.unwrap());
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn stopping_ends_delayed_calls_and_idle_connections_and_leaves_no_task() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = emulator.serve(listener, stop.clone().cancelled_owned());
    let talk = async {
        let [idle, delayed] = idle_and_delayed(&emulator, address).await;
        stop.cancel();
        rest_of(idle).await;
        assert!(rest_of(delayed).await.starts_with("HTTP/1.1 503"));
    };
    let both = async { tokio::join!(served, talk) };
    tokio::time::timeout(PATIENCE, both).await.expect("serving ends").0.unwrap();
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_server_that_is_dropped_takes_its_connections_with_it() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = emulator.serve(listener, std::future::pending());
    let talk = async {
        let [idle, delayed] = idle_and_delayed(&emulator, address).await;
        let (mut client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
        emulator.faults().push(Fault::on("DescribeLimits", FaultKind::DelayMs(3_600_000))).unwrap();
        let request = async {
            let (_, body) = send(client.clone(), "ListStreams", "{}".to_owned()).await;
            whole(body).await;
            let _delayed = client.send_request(request_to("DescribeLimits"), true).unwrap();
            while !emulator.faults().list().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::pin!(connection);
        tokio::select! {
            () = request => {}
            ended = connection.as_mut() => ended.unwrap(),
        }
        (idle, delayed)
    };
    let (idle, delayed) = tokio::select! {
        _ = served => unreachable!("nobody stops it"),
        connections = talk => connections,
    };
    rest_of(idle).await;
    assert_eq!(rest_of(delayed).await, "");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// As the Kinesis Producer Library asks; what it does with the answer is tested with itself.
#[tokio::test]
async fn who_asks_sts_for_its_identity_is_told_the_account_of_the_streams() {
    let (emulator, _) = emulator();
    let ask = async |form: &'static str| {
        let request =
            http::Request::post("/").header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let response = emulator.router().oneshot(request.body(Body::from(form)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, body) = ask("Action=GetCallerIdentity&Version=2011-06-15").await;
    assert_eq!(status, 200);
    assert!(body.contains("<Account>000000000000</Account>"), "{body}");
    let (status, body) = ask("Action=AssumeRole&Version=2011-06-15").await;
    assert_eq!(status, 400);
    assert!(body.contains("UnknownOperationException"), "{body}");
}
