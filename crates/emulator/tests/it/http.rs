//! The protocols below the operations: HTTP/2 with prior knowledge, and TLS.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use kinesink_emulator::{Certificate, Emulator};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::client::{AUTHORIZATION, STREAM, code, config, create, emulator, in_process, put_one};
use crate::consumers::register;

const SHARD: &str = "shardId-000000000000";

/// Sends the request on its own HTTP/2 stream; answers the body.
async fn send(mut client: h2::client::SendRequest<Bytes>, operation: &str, body: String) -> (u16, h2::RecvStream) {
    let request = http::Request::post("http://localhost/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", AUTHORIZATION)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(())
        .unwrap();
    std::future::poll_fn(|context| client.poll_ready(context)).await.unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
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
