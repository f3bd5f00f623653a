use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::primitives::Blob;
use axum::body::Body;
use kinesink_emulator::{Fault, FaultKind};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::client::{
    answer, code, create, emulator, entry, get, in_process, over_socket, put_one, raw, texts, trim_horizon,
};

const SHARD: &str = "shardId-000000000000";

fn error(code: &str) -> FaultKind {
    FaultKind::Error { code: code.to_owned(), message: "injected".to_owned() }
}

#[tokio::test]
async fn the_chosen_calls_fail_and_then_all_is_well() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let throttle = "ProvisionedThroughputExceededException";
    emulator.faults().push(Fault::on("GetRecords", error(throttle)).times(2));
    emulator.faults().push(Fault::on("GetRecords", error("InternalFailure")));
    let iterator = trim_horizon(&client, SHARD).await;
    let read = || client.get_records().shard_iterator(&iterator).send();
    for _ in 0..2 {
        assert!(read().await.unwrap_err().into_service_error().is_provisioned_throughput_exceeded_exception());
    }
    let failure = read().await.unwrap_err();
    assert_eq!(failure.raw_response().unwrap().status().as_u16(), 500);
    assert!(read().await.is_ok());
    assert!(emulator.faults().list().is_empty());
}

#[tokio::test]
async fn an_injected_error_has_no_effect_and_a_cut_reply_has() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    for kind in [error("InternalFailure"), FaultKind::Cut, FaultKind::Truncate] {
        emulator.faults().push(Fault::on("PutRecord", kind));
    }
    let put = |data: &str| {
        let put = client.put_record().stream_name("orders").partition_key("k");
        put.data(Blob::new(data)).send()
    };
    assert_eq!(code(put("refused").await), "InternalFailure");
    assert!(matches!(put("cut").await, Err(SdkError::DispatchFailure(_))));
    assert!(matches!(put("truncated").await, Err(SdkError::DispatchFailure(_))));
    let read = get(&client, &trim_horizon(&client, SHARD).await).await;
    assert_eq!(texts(&read), ["cut", "truncated"]);
}

#[tokio::test]
async fn a_broken_connection_is_seen_over_a_socket() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_socket(listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (served, ()) = tokio::join!(emulator.serve(listener, stopped), async {
        create(&client, 1).await;
        let batch = client.put_records().stream_name("orders").set_records(Some(vec![entry("k", "x"); 500]));
        batch.send().await.unwrap();
        let iterator = trim_horizon(&client, SHARD).await;
        for kind in [FaultKind::Cut, FaultKind::Truncate] {
            emulator.faults().push(Fault::on("GetRecords", kind));
            let broken = client.get_records().shard_iterator(&iterator).send().await.unwrap_err();
            assert!(broken.as_service_error().is_none(), "{broken:?}");
        }
        assert_eq!(get(&client, &iterator).await.records.len(), 500);
        drop(client);
        stop.cancel();
    });
    served.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delayed_call_waits_and_then_succeeds() {
    let (emulator, _) = emulator();
    emulator.faults().push(Fault::on_any(FaultKind::DelayMs(5000)));
    let before = tokio::time::Instant::now();
    let (status, _) = raw(&emulator, "ListStreams", "{}").await;
    assert_eq!((status, before.elapsed().as_millis()), (200, 5000));
}

#[tokio::test]
async fn faults_are_set_listed_and_cleared_over_http() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let request = |method: &str, body: &str| {
        let request = http::Request::builder().method(method).uri("/_kinesink/faults");
        request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap()
    };
    let body = r#"[{"operation": "PutRecord", "times": 2, "kind": {"error": {"code": "ExpiredIteratorException"}}},
        {"kind": "truncate"}, {"operation": "GetRecords", "kind": {"delay_ms": 1}}]"#;
    let (status, listed) = answer(&emulator, request("POST", body)).await;
    assert_eq!((status, listed.as_array().unwrap().len()), (200, 3));
    let put = client.put_record().stream_name("orders").partition_key("k");
    let put = put.data(Blob::new("x")).send().await;
    assert_eq!(code(put), "ExpiredIteratorException");
    let (_, listed) = answer(&emulator, request("GET", "")).await;
    assert_eq!(listed[0]["times"], 1);
    let (_, listed) = answer(&emulator, request("DELETE", "")).await;
    assert_eq!(listed.as_array().unwrap().len(), 0);
    put_one(&client, "k", "x").await;

    // What a page of a web browser can send unasked is not taken.
    let plain = http::Request::post("/_kinesink/faults").header("content-type", "text/plain");
    let plain = plain.body(Body::from(r#"[{"kind": "cut"}]"#)).unwrap();
    assert_eq!(emulator.router().oneshot(plain).await.unwrap().status(), 415);
    assert!(emulator.faults().list().is_empty());
}
