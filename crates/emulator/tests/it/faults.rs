use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use axum::body::{Body, to_bytes};
use kinesink_emulator::{Error, Fault, FaultKind, Faults, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::any_request::OPERATIONS;
use crate::client::{
    answer, code, create, emulator, emulator_with, entry, get, in_process, over_socket, put_one, raw, shard_ids, texts,
    trim_horizon,
};
use crate::consumers::register;

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
    emulator.faults().push(Fault::on("GetRecords", error(throttle)).times(2)).unwrap();
    emulator.faults().push(Fault::on("GetRecords", error("InternalFailure"))).unwrap();
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
        emulator.faults().push(Fault::on("PutRecord", kind)).unwrap();
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
            emulator.faults().push(Fault::on("GetRecords", kind)).unwrap();
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
    emulator.faults().push(Fault::on_any(FaultKind::DelayMs(5000))).unwrap();
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

#[tokio::test]
async fn an_error_after_the_effect_hides_it() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let kind = FaultKind::ErrorAfter { code: "InternalFailure".to_owned(), message: String::new() };
    emulator.faults().push(Fault::on("PutRecord", kind)).unwrap();
    let put = || client.put_record().stream_name("orders").partition_key("k").data(Blob::new("twice")).send();
    let failure = put().await.unwrap_err();
    assert_eq!(failure.raw_response().unwrap().status().as_u16(), 500);
    put().await.unwrap();
    let read = get(&client, &trim_horizon(&client, SHARD).await).await;
    assert_eq!(texts(&read), ["twice", "twice"]);
}

#[tokio::test]
async fn an_iterator_and_a_token_expire_before_their_time() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 3).await;
    emulator.faults().push(Fault::on("GetRecords", FaultKind::Expire)).unwrap();
    emulator.faults().push(Fault::on("ListShards", FaultKind::Expire)).unwrap();
    let iterator = trim_horizon(&client, SHARD).await;
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    get(&client, &iterator).await;

    // A list without a token has nothing that could expire.
    let list = client.list_shards().stream_name("orders").max_results(1).send().await.unwrap();
    let next = client.list_shards().next_token(list.next_token.unwrap());
    assert_eq!(code(next.clone().send().await), "ExpiredNextTokenException");
    assert_eq!(next.send().await.unwrap().shards.unwrap().len(), 2);
    assert!(emulator.faults().list().is_empty());
}

#[tokio::test]
async fn a_stale_list_shows_the_shards_of_before() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(60));
    let split = client.split_shard().stream_name("orders").shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    let fresh = shard_ids(&client).await;
    clock.advance(Duration::from_secs(5));
    for stale_ms in [5001, 5000] {
        for operation in ["ListShards", "DescribeStream"] {
            emulator.faults().push(Fault::on(operation, FaultKind::StaleShardsMs(stale_ms))).unwrap();
        }
        let listed = client.list_shards().stream_name("orders").send().await.unwrap().shards.unwrap();
        let described = client.describe_stream().stream_name("orders").send().await.unwrap();
        assert_eq!(listed, described.stream_description.unwrap().shards);
        let parent_is_open = listed[0].sequence_number_range().unwrap().ending_sequence_number().is_none();
        assert_eq!((listed.len(), parent_is_open), if stale_ms == 5001 { (1, true) } else { (3, false) });
    }
    assert_eq!(shard_ids(&client).await, fresh);
}

#[tokio::test]
async fn the_clock_jumps_forward_and_back() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "old").await;
    let iterator = trim_horizon(&client, SHARD).await;
    emulator.faults().push(Fault::on("GetRecords", FaultKind::ClockJumpMs(300_001))).unwrap();
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    emulator.faults().jump_clock(-300_001);
    assert_eq!(texts(&get(&client, &iterator).await), ["old"]);
    emulator.faults().jump_clock(25 * 3_600_000);
    assert!(get(&client, &trim_horizon(&client, SHARD).await).await.records.is_empty());
}

/// What a client saw of so many calls, under faults from the seed.
async fn seen(seed: u64, rate: f64) -> Vec<String> {
    let (emulator, _) = emulator_with(|builder| builder.limits(Limits::none()).faults(Faults::seeded(seed, rate)));
    let client = in_process(&emulator);
    let mut seen = Vec::new();
    for number in 0..200 {
        let name = format!("s{number}");
        let reply = client.create_stream().stream_name(&name).shard_count(1).send().await;
        seen.push(match reply {
            Ok(_) => "ok".to_owned(),
            Err(SdkError::DispatchFailure(_)) => "broken".to_owned(),
            error => code(error),
        });
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_seed_gives_the_same_faults_again_and_no_rate_gives_none() {
    let faulty = seen(7, 0.3).await;
    assert_eq!(faulty, seen(7, 0.3).await);
    assert_ne!(faulty, seen(8, 0.3).await);
    let kinds: BTreeSet<&str> = faulty.iter().map(String::as_str).collect();
    assert_eq!(kinds, BTreeSet::from(["InternalFailure", "LimitExceededException", "broken", "ok"]));
    let fine = faulty.iter().filter(|seen| *seen == "ok").count();
    assert!((120..180).contains(&fine), "{fine} of 200");
    assert!(seen(7, 0.0).await.iter().all(|seen| seen == "ok"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_starts_again_gets_every_record_through_seeded_faults() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    for number in 0..50 {
        put_one(&client, "k", format!("{number}")).await;
    }
    emulator.faults().seed(1, 0.3);
    let (mut read, mut iterator, mut failures) = (Vec::new(), None, BTreeSet::new());
    while read.len() < 50 {
        let Some(current) = iterator.take() else {
            let request = client.get_shard_iterator().stream_name("orders").shard_id(SHARD);
            let last = read.last().map(|(_, number): &(String, String)| number.clone());
            let kind = if last.is_some() { "AFTER_SEQUENCE_NUMBER" } else { "TRIM_HORIZON" };
            let request = request.shard_iterator_type(kind.into()).set_starting_sequence_number(last);
            iterator = request.send().await.ok().and_then(|reply| reply.shard_iterator);
            continue;
        };
        match client.get_records().shard_iterator(current).limit(3).send().await {
            Ok(reply) => {
                let numbers = reply.records.iter().map(|record| record.sequence_number.clone());
                read.extend(texts(&reply).into_iter().zip(numbers));
                iterator = reply.next_shard_iterator;
            }
            Err(SdkError::DispatchFailure(_)) => drop(failures.insert("broken".to_owned())),
            failure => drop(failures.insert(code(failure))),
        }
    }
    let texts: Vec<_> = read.into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    let throttle = "ProvisionedThroughputExceededException";
    let all = ["ExpiredIteratorException", "InternalFailure", throttle, "broken"];
    assert_eq!(failures, BTreeSet::from(all.map(str::to_owned)));
    let stale =
        async || client.list_shards().stream_name("orders").send().await.is_ok_and(|reply| reply.shards().is_empty());
    // The stream is younger than any stale list.
    let mut seen_stale = false;
    for _ in 0..50 {
        seen_stale |= stale().await;
    }
    assert!(seen_stale);
}

#[tokio::test]
async fn the_new_faults_the_seed_and_the_clock_are_set_over_http() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let post = |path: &str, body: &str| {
        let request = http::Request::post(path).header("content-type", "application/json");
        answer(&emulator, request.body(Body::from(body.to_owned())).unwrap())
    };
    let body = r#"[{"operation": "GetRecords", "kind": "expire"}, {"kind": {"stale_shards_ms": 5}},
        {"operation": "PutRecord", "kind": {"error_after": {"code": "InternalFailure"}}}, {"kind": "cut_subscription"},
        {"operation": "ListStreams", "kind": {"clock_jump_ms": -5}}]"#;
    assert_eq!(post("/_kinesink/faults", body).await.0, 200);
    let iterator = trim_horizon(&client, SHARD).await;
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    assert_eq!(emulator.faults().list().len(), 4);
    assert_eq!(post("/_kinesink/clock", r#"{"jump_ms": 300001}"#).await.0, 204);
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    emulator.faults().clear();
    assert_eq!(post("/_kinesink/faults/seeded", r#"{"seed": 1, "rate": 1.0}"#).await.0, 204);
    assert!(client.delete_stream().stream_name("none").send().await.is_err());
    emulator.faults().clear();
    client.list_streams().send().await.unwrap();
    let partial = http::Request::post("/_kinesink/faults/seeded").header("content-type", "application/json");
    let partial = partial.body(Body::from(r#"{"seed": 1}"#)).unwrap();
    assert_eq!(emulator.router().oneshot(partial).await.unwrap().status(), 422);
}

fn outcome<T, E: ProvideErrorMetadata, R>(reply: Result<T, SdkError<E, R>>, said: impl FnOnce(T) -> String) -> String {
    match reply {
        Ok(reply) => said(reply),
        Err(error) => error.code().unwrap_or("broken").to_owned(),
    }
}

/// What a client sees that puts, reads, lists and subscribes, and how long it takes.
async fn round(client: &Client, consumer: &str) -> Vec<String> {
    let began = tokio::time::Instant::now();
    let put = client.put_record().stream_name("orders").partition_key("k").data(Blob::new("x")).send().await;
    let iterator = trim_horizon(client, SHARD).await;
    let read = client.get_records().shard_iterator(iterator).limit(1).send().await;
    let listed = client.list_shards().stream_name("orders").send().await;
    let oldest = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let subscribed = client.subscribe_to_shard().consumer_arn(consumer).shard_id(SHARD).starting_position(oldest);
    let event = match subscribed.send().await {
        Ok(mut events) => {
            outcome(events.event_stream.recv().await, |event| event.map_or("end", |_| "event").to_owned())
        }
        refused => outcome(refused, |_| String::new()),
    };
    vec![
        outcome(put, |_| "put".to_owned()),
        outcome(read, |read| format!("read {}", read.records.len())),
        outcome(listed, |listed| format!("listed {}", listed.shards().len())),
        event,
        format!("{} ms", began.elapsed().as_millis()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_each_fault_once_recovers_and_sees_none_that_was_taken_back() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let consumer = register(&client, "app").await.consumer_arn;
    put_one(&client, "k", "the first").await;
    let calm = ["put", "read 1", "listed 1", "event", "0 ms"];
    let after = FaultKind::ErrorAfter { code: "InternalFailure".to_owned(), message: String::new() };
    let throttle = "ProvisionedThroughputExceededException";
    for (fault, place, seen) in [
        (Fault::on("PutRecord", error(throttle)), 0, throttle),
        (Fault::on("PutRecord", after), 0, "InternalFailure"),
        (Fault::on("GetRecords", FaultKind::Cut), 1, "broken"),
        (Fault::on("GetRecords", FaultKind::Truncate), 1, "broken"),
        (Fault::on("GetRecords", FaultKind::Expire), 1, "ExpiredIteratorException"),
        (Fault::on("GetRecords", FaultKind::ClockJumpMs(300_001)), 1, "ExpiredIteratorException"),
        (Fault::on("ListShards", FaultKind::StaleShardsMs(3_600_000)), 2, "listed 0"),
        (Fault::on("ListShards", FaultKind::DelayMs(5000)), 4, "5000 ms"),
        (Fault::on("SubscribeToShard", error("LimitExceededException")), 3, "LimitExceededException"),
        (Fault::on("SubscribeToShard", FaultKind::Expire), 3, "end"),
        (Fault::on("SubscribeToShard", FaultKind::CutSubscription), 3, "broken"),
        (Fault::on("SubscribeToShardEvent", error("InternalFailureException")), 3, "InternalFailureException"),
        (Fault::on("SubscribeToShardEvent", FaultKind::Truncate), 3, "broken"),
    ] {
        emulator.faults().push(fault.clone()).unwrap();
        let mut expected = calm;
        expected[place] = seen;
        assert_eq!(round(&client, &consumer).await, expected, "{fault:?}");
        assert_eq!(round(&client, &consumer).await, calm, "after {fault:?}");
        emulator.faults().push(fault.clone()).unwrap();
        emulator.faults().clear();
        assert_eq!(round(&client, &consumer).await, calm, "{fault:?} was taken back");
    }
}

/// Faults that no call can have, each with what its refusal names.
fn impossible() -> Vec<(Fault, &'static str)> {
    let (expire, stale, cut) = (FaultKind::Expire, FaultKind::StaleShardsMs(1), FaultKind::CutSubscription);
    vec![
        (Fault::on_any(FaultKind::Cut).times(0), "1 or more"),
        (Fault::on("GetRecord", FaultKind::Cut), "GetRecords"),
        (Fault::on("StartStreamEncryption", FaultKind::Cut), "GetRecords"),
        (Fault::on("PutRecords", expire.clone()), "GetRecords, ListShards"),
        (Fault::on("SubscribeToShardEvent", expire), "SubscribeToShard"),
        (Fault::on("GetRecords", stale.clone()), "DescribeStream, ListShards"),
        (Fault::on("SubscribeToShardEvent", stale), "DescribeStream, ListShards"),
        (Fault::on("GetRecords", cut.clone()), "SubscribeToShard"),
        (Fault::on("SubscribeToShardEvent", cut), "SubscribeToShard"),
    ]
}

#[tokio::test]
async fn a_fault_that_no_call_can_have_is_refused_and_the_refusal_names_what_can() {
    let (emulator, _) = emulator();
    for (fault, named) in impossible() {
        let body = serde_json::to_string(&[&Fault::on_any(FaultKind::Cut), &fault]).unwrap();
        let error = emulator.faults().push(fault.clone()).unwrap_err();
        assert!(matches!(&error, Error::ImpossibleFault { .. }) && error.to_string().contains(named), "{error}");
        let request = http::Request::post("/_kinesink/faults").header("content-type", "application/json");
        let response = emulator.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!((status, &*String::from_utf8_lossy(&body)), (422, error.to_string().as_str()));
        assert!(emulator.faults().list().is_empty(), "none of those beside it is added");
    }
}

#[tokio::test]
async fn a_fault_that_there_is_no_room_for_is_refused() {
    let (emulator, _) = emulator();
    let fault = || Fault::on("ListStreams", FaultKind::Cut);
    for _ in 0..999 {
        emulator.faults().push(fault()).unwrap();
    }
    let body = serde_json::to_string(&[fault(), fault()]).unwrap();
    let request = http::Request::post("/_kinesink/faults").header("content-type", "application/json");
    let (status, waiting) = answer(&emulator, request.body(Body::from(body)).unwrap()).await;
    assert_eq!((status, waiting.as_array().unwrap().len()), (507, 1000));
    assert!(matches!(emulator.faults().push(fault()), Err(Error::TooManyFaults { max: 1000 })));
}

#[tokio::test]
async fn a_fault_that_would_never_come_is_refused_over_http() {
    let (emulator, _) = emulator();
    let post = async |path: &str, body: String| {
        let request = http::Request::post(format!("/_kinesink/{path}")).header("content-type", "application/json");
        let response = emulator.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap())
    };
    let fault = |operation: &str| format!(r#"{{"operation": "{operation}", "kind": "cut"}}"#);
    for wrong in ["GetRecord", "StartStreamEncryption", ""] {
        let both = format!("[{}, {}]", fault("PutRecord"), fault(wrong));
        let (status, message) = post("faults", both).await;
        assert_eq!(status, 422);
        assert!(message.contains(&format!("{wrong:?}")) && message.contains("GetRecords"), "{message}");
        assert!(emulator.faults().list().is_empty());
    }
    let emulated = OPERATIONS.iter().filter(|operation| **operation != "StartStreamEncryption");
    for operation in emulated.chain(&["SubscribeToShardEvent"]) {
        assert_eq!(post("faults", format!("[{}]", fault(operation))).await.0, 200, "{operation}");
    }
    emulator.faults().clear();
    for rate in ["-0.1", "1.5"] {
        let (status, message) = post("faults/seeded", format!(r#"{{"seed": 1, "rate": {rate}}}"#)).await;
        assert!(status == 422 && message.contains(rate), "{status} {message}");
    }
    raw(&emulator, "ListStreams", "{}").await;
}
