//! What cannot be seen from outside: a full disk, and a write that takes long.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use futures::poll;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::json;
use tower::ServiceExt as _;

use crate::clock::{Clock, ManualClock, Wait};
use crate::emulator::Emulator;
use crate::limits::Limits;

/// Longer than this nothing takes that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOKS_MAX: usize = 1000;

/// A clock that stands still, and counts who looks at it.
#[derive(Debug)]
struct Watched {
    clock: ManualClock,
    looks: AtomicUsize,
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        // A panic, and not a test that hangs.
        assert!(self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX, "somebody does nothing else");
        self.clock.now()
    }

    fn wait_until(&self, moment: Timestamp) -> Wait<'_> {
        self.clock.wait_until(moment)
    }
}

fn request(operation: &str, body: &serde_json::Value) -> Request<Body> {
    let authorization = "AWS4-HMAC-SHA256 Credential=a/20260301/us-east-1/kinesis/aws4_request, SignedHeaders=host, \
                         Signature=00";
    Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", authorization)
        .header("x-amz-date", "20260301T120000Z")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn call(emulator: &Emulator, operation: &str, body: serde_json::Value) -> Response<Body> {
    emulator.router().oneshot(request(operation, &body)).await.unwrap()
}

/// A subscription to the only shard of a stream, whose split is not done yet.
async fn subscribed(emulator: &Emulator, clock: &ManualClock) -> Body {
    let second = Duration::from_secs(1);
    assert_eq!(call(emulator, "CreateStream", json!({"StreamName": "s", "ShardCount": 1})).await.status(), 200);
    clock.advance(second);
    let stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let registered = call(emulator, "RegisterStreamConsumer", json!({"StreamARN": stream, "ConsumerName": "c"})).await;
    let registered = registered.into_body().collect().await.unwrap().to_bytes();
    let registered: serde_json::Value = serde_json::from_slice(&registered).unwrap();
    clock.advance(second);
    let split = json!({"StreamName": "s", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "7"});
    assert_eq!(call(emulator, "SplitShard", split).await.status(), 200);
    let subscribe = json!({
        "ConsumerARN": registered["Consumer"]["ConsumerARN"],
        "ShardId": "shardId-000000000000",
        "StartingPosition": {"Type": "TRIM_HORIZON"},
    });
    call(emulator, "SubscribeToShard", subscribe).await.into_body()
}

#[tokio::test]
async fn a_subscription_rests_while_a_change_that_is_due_cannot_be_written() {
    let clock = Arc::new(Watched { clock: ManualClock::new(Timestamp::UNIX_EPOCH), looks: AtomicUsize::new(0) });
    let builder = Emulator::builder().clock(Arc::<Watched>::clone(&clock)).limits(Limits::none());
    let emulator = builder.transitions(Duration::from_secs(1)).build().unwrap();
    let mut events = subscribed(&emulator, &clock.clock).await;
    let directory = tempfile::tempdir().unwrap();
    emulator.0.fill_the_disk(directory.path());
    clock.clock.advance(Duration::from_secs(1));
    for expected in ["initial-response", "SubscribeToShardEvent"] {
        let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8_lossy(&frame).contains(expected));
    }
    let looks = || clock.looks.load(Ordering::Relaxed);
    let before = looks();
    assert!(poll!(events.frame()).is_pending());
    assert!(looks() - before < 20, "it looked {} times", looks() - before);
}

fn stored_in(directory: &Path) -> Emulator {
    Emulator::builder().directory(directory).build().unwrap()
}

#[tokio::test]
async fn a_call_that_waits_for_the_file_keeps_no_worker_from_its_other_tasks() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = stored_in(directory.path());
    let shared = Arc::clone(&emulator.0);
    let (holds, held) = tokio::sync::oneshot::channel();
    let (other_task, other_tasks) = mpsc::channel();
    // Whoever writes has the streams for as long as the file system takes.
    let writing = tokio::task::spawn_blocking(move || {
        let store = shared.store();
        holds.send(()).unwrap();
        let went_on = other_tasks.recv_timeout(PATIENCE).is_ok();
        drop(store);
        went_on
    });
    held.await.unwrap();
    let call = call(&emulator, "ListStreams", json!({}));
    tokio::pin!(call);
    // This thread is the only worker there is.
    assert!(poll!(call.as_mut()).is_pending());
    other_task.send(()).unwrap();
    assert!(writing.await.unwrap());
    assert_eq!(call.await.status(), 200);
}
