//! Many streams, many shards, and times in which nothing happens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use kinesink_emulator::{Clock, Emulator, Limits, ManualClock, Wait};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::client::{AUTHORIZATION, emulator, raw, start};

const STREAMS: usize = 1000;
const SHARDS: usize = 10_000;

/// A clock that stands still, and counts who looks at it.
#[derive(Debug)]
struct Watched {
    clock: ManualClock,
    looks: AtomicUsize,
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.clock.now()
    }

    fn wait_until(&self, moment: Timestamp) -> Wait<'_> {
        self.clock.wait_until(moment)
    }
}

async fn call(emulator: &Emulator, operation: &str, body: Value) -> Value {
    let (status, answer) = raw(emulator, operation, body.to_string()).await;
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// A new consumer of the stream.
async fn register(emulator: &Emulator, stream: &str) -> Value {
    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}");
    let registered = call(emulator, "RegisterStreamConsumer", json!({"StreamARN": arn, "ConsumerName": "app"})).await;
    registered["Consumer"]["ConsumerARN"].clone()
}

/// A subscription to the first shard, from its start; the body of its events.
async fn subscribe(emulator: &Emulator, consumer: &Value) -> Body {
    let body = json!({
        "ConsumerARN": consumer,
        "ShardId": "shardId-000000000000",
        "StartingPosition": {"Type": "TRIM_HORIZON"},
    });
    let request = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", AUTHORIZATION)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", "Kinesis_20131202.SubscribeToShard")
        .body(Body::from(body.to_string()))
        .unwrap();
    emulator.router().oneshot(request).await.unwrap().into_body()
}

#[tokio::test]
async fn a_thousand_streams_that_nobody_calls_do_nothing() {
    let clock = Arc::new(Watched { clock: ManualClock::new(start()), looks: AtomicUsize::new(0) });
    let builder = Emulator::builder().clock(Arc::<Watched>::clone(&clock)).limits(Limits::none());
    let emulator = builder.build().unwrap();
    let name = |number: usize| format!("stream-{number:04}");
    let mut open = Vec::new();
    for number in 0..STREAMS {
        call(&emulator, "CreateStream", json!({"StreamName": name(number), "ShardCount": 1})).await;
        let put = json!({"StreamName": name(number), "PartitionKey": "k", "Data": "aGVsbG8="});
        call(&emulator, "PutRecord", put).await;
        // Some have somebody who listens.
        if number % 10 == 0 {
            let mut events = subscribe(&emulator, &register(&emulator, &name(number)).await).await;
            for expected in ["initial-response", "aGVsbG8="] {
                let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(String::from_utf8_lossy(&frame).contains(expected));
            }
            open.push(events);
        }
    }
    let (mut listed, mut token) = (BTreeSet::new(), Value::Null);
    loop {
        let more = if token.is_null() { json!({}) } else { json!({"NextToken": token}) };
        let page = call(&emulator, "ListStreams", more).await;
        listed.extend(page["StreamNames"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        token = page["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(listed, (0..STREAMS).map(name).collect());

    let mut idle: Vec<_> = open.iter_mut().map(|events| Box::pin(events.frame())).collect();
    for event in &mut idle {
        assert!(futures::poll!(event.as_mut()).is_pending());
    }
    let looks = clock.looks.load(Ordering::Relaxed);
    for event in &mut idle {
        tokio::task::yield_now().await;
        assert!(futures::poll!(event.as_mut()).is_pending());
    }
    // A subscription that is asked looks once, and waits; nothing else runs by itself.
    assert_eq!(clock.looks.load(Ordering::Relaxed), looks);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn ten_thousand_shards_in_one_stream_take_a_record_each_and_give_it_back() {
    let (emulator, _) = emulator();
    call(&emulator, "CreateStream", json!({"StreamName": "wide", "ShardCount": SHARDS})).await;
    let mut shards = Vec::new();
    let mut request = json!({"StreamName": "wide", "MaxResults": SHARDS});
    loop {
        let mut page = call(&emulator, "ListShards", request).await;
        let listed = page["Shards"].as_array_mut().unwrap();
        assert_eq!(listed.len(), 1000, "more were asked for, and no more are given");
        shards.append(listed);
        if page["NextToken"].is_null() {
            break;
        }
        request = json!({"NextToken": page["NextToken"], "MaxResults": SHARDS});
    }
    assert_eq!(shards.len(), SHARDS);
    for some in shards.chunks(500) {
        let to = |shard: &Value| {
            let start = &shard["HashKeyRange"]["StartingHashKey"];
            json!({"Data": "aGVsbG8=", "PartitionKey": shard["ShardId"], "ExplicitHashKey": start})
        };
        let records: Vec<Value> = some.iter().map(to).collect();
        let put = call(&emulator, "PutRecords", json!({"StreamName": "wide", "Records": records})).await;
        let places = put["Records"].as_array().unwrap().iter().map(|placed| &placed["ShardId"]);
        assert!(places.eq(some.iter().map(|shard| &shard["ShardId"])));
    }
    for shard in shards.iter().step_by(10) {
        let from = json!({"StreamName": "wide", "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"});
        let iterator = call(&emulator, "GetShardIterator", from).await;
        let read = call(&emulator, "GetRecords", iterator).await;
        assert_eq!(read["Records"][0]["PartitionKey"], shard["ShardId"]);
        assert_eq!(read["Records"].as_array().unwrap().len(), 1);
    }
}

/// Tokio's paused time, which jumps to the next timer when nobody has anything to do.
#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        start() + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_a_subscription_pass_at_once_on_a_paused_clock() {
    let began = tokio::time::Instant::now();
    let emulator = Emulator::builder().clock(Arc::new(Paused(began))).transitions(Duration::from_secs(1));
    let emulator = emulator.limits(Limits::none()).build().unwrap();
    call(&emulator, "CreateStream", json!({"StreamName": "s", "ShardCount": 1})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let consumer = register(&emulator, "s").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut events = subscribe(&emulator, &consumer).await;
    let from = tokio::time::Instant::now();
    let mut texts = Vec::new();
    while let Some(frame) = events.frame().await {
        texts.push(String::from_utf8_lossy(&frame.unwrap().into_data().unwrap()).into_owned());
    }
    assert_eq!(from.elapsed(), Duration::from_secs(300));
    // One at once, then one every 5 seconds.
    assert_eq!(texts.iter().filter(|text| text.contains("SubscribeToShardEvent")).count(), 60);
}
