//! Subscriptions as a stock SDK client sees them, in process and on a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::subscribe_to_shard::{SubscribeToShardError, SubscribeToShardOutput};
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream};
use futures::FutureExt as _;
use kinesink_emulator::{Clock as _, Emulator, Fault, FaultKind, Limit, Limits, ManualClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{
    STREAM, code, create, emulator, emulator_with, in_process, over_socket, put_one, start, trim_horizon,
};
use crate::consumers::register;

const PATIENCE: Duration = Duration::from_secs(60);
const SHARD: &str = "shardId-000000000000";

fn position(kind: ShardIteratorType, number: Option<&str>, at: Option<DateTime>) -> StartingPosition {
    let position = StartingPosition::builder().r#type(kind).set_timestamp(at);
    position.set_sequence_number(number.map(str::to_owned)).build().unwrap()
}

fn oldest() -> StartingPosition {
    position(ShardIteratorType::TrimHorizon, None, None)
}

async fn try_subscribe(
    client: &Client,
    arn: &str,
    at: StartingPosition,
) -> Result<Subscribed, SdkError<SubscribeToShardError>> {
    client.subscribe_to_shard().consumer_arn(arn).shard_id(SHARD).starting_position(at).send().await.map(Subscribed)
}

async fn subscribe(client: &Client, arn: &str, at: StartingPosition) -> Subscribed {
    try_subscribe(client, arn, at).await.unwrap()
}

struct Subscribed(SubscribeToShardOutput);

impl Subscribed {
    /// What comes next; the error is the service's, unless the connection broke. A test whose event never comes ends.
    async fn result(
        &mut self,
    ) -> Result<Option<SubscribeToShardEventStream>, Option<SubscribeToShardEventStreamError>> {
        let next = tokio::time::timeout(PATIENCE, self.0.event_stream.recv()).await;
        next.unwrap().map_err(|error| match error {
            SdkError::ServiceError(error) => Some(error.into_err()),
            _ => None,
        })
    }

    /// The next event.
    async fn next(&mut self) -> SubscribeToShardEvent {
        match self.result().await.unwrap() {
            Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) => event,
            other => unreachable!("{other:?} is no event"),
        }
    }

    /// Nothing comes while the clock stands still.
    async fn is_quiet(&mut self) -> bool {
        self.result().now_or_never().is_none()
    }

    async fn error(&mut self) -> SubscribeToShardEventStreamError {
        self.result().await.unwrap_err().unwrap()
    }
}

fn texts(event: &SubscribeToShardEvent) -> Vec<String> {
    event.records.iter().map(|record| String::from_utf8(record.data.as_ref().to_vec()).unwrap()).collect()
}

/// An emulator with a stream of one shard and a consumer, whose ARN is given.
async fn subscribable() -> (Emulator, Arc<ManualClock>, Client, String) {
    subscribable_without(&[Limit::ControlPlaneCalls]).await
}

/// The same, where all limits hold but these.
async fn subscribable_without(off: &[Limit]) -> (Emulator, Arc<ManualClock>, Client, String) {
    let clock = Arc::new(ManualClock::new(start()));
    let limits = off.iter().copied().fold(Limits::default(), Limits::without);
    let emulator = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(limits).build().unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let arn = register(&client, "app").await.consumer_arn;
    (emulator, clock, client, arn)
}

#[tokio::test]
async fn records_are_pushed_as_they_are_put() {
    let (_emulator, clock, client, arn) = subscribable().await;
    put_one(&client, "k", "a").await;
    let b = put_one(&client, "k", "b").await;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    let event = subscribed.next().await;
    assert_eq!((texts(&event), event.millis_behind_latest), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert_eq!(event.continuation_sequence_number, b.sequence_number);
    assert_eq!(event.records[0].partition_key.as_deref(), Some("k"));
    assert!(subscribed.is_quiet().await);

    let (event, c) = tokio::join!(subscribed.next(), put_one(&client, "k", "c"));
    assert_eq!((texts(&event), event.continuation_sequence_number), (vec!["c".to_owned()], c.sequence_number.clone()));
    clock.advance(Duration::from_secs(4));
    assert!(subscribed.is_quiet().await);
    // On an idle shard an event says every 5 s where the consumer is.
    clock.advance(Duration::from_secs(1));
    let event = subscribed.next().await;
    assert_eq!((texts(&event).len(), event.continuation_sequence_number), (0, c.sequence_number));
    assert!(subscribed.is_quiet().await);
}

#[tokio::test]
async fn each_position_starts_where_it_says() {
    let (_emulator, clock, client, _) = subscribable().await;
    let mut numbers = Vec::new();
    for data in ["a", "b", "c"] {
        numbers.push(put_one(&client, "k", data).await.sequence_number);
        clock.advance(Duration::from_secs(1));
    }
    let at = |ms: i64| Some(DateTime::from_millis(start().as_millisecond() + ms));
    let second = Some(numbers[1].as_str());
    let expected = [
        (position(ShardIteratorType::TrimHorizon, None, None), &["a", "b", "c"][..]),
        (position(ShardIteratorType::AtSequenceNumber, second, None), &["b", "c"]),
        (position(ShardIteratorType::AfterSequenceNumber, second, None), &["c"]),
        (position(ShardIteratorType::AtTimestamp, None, at(1000)), &["b", "c"]),
        (position(ShardIteratorType::AtTimestamp, None, at(1001)), &["c"]),
        (position(ShardIteratorType::Latest, None, None), &[]),
    ];
    for (number, (position_given, texts_expected)) in expected.into_iter().enumerate() {
        let arn = register(&client, &format!("app-{number}")).await.consumer_arn;
        let mut subscribed = subscribe(&client, &arn, position_given.clone()).await;
        let event = subscribed.next().await;
        assert_eq!(texts(&event), texts_expected, "{position_given:?}");
        // Whatever came, its number continues without a gap or a repeat.
        clock.advance(Duration::from_secs(5));
        drop(subscribed);
        let continued = event.continuation_sequence_number;
        for kind in [ShardIteratorType::AfterSequenceNumber, ShardIteratorType::AtSequenceNumber] {
            let again = position(kind.clone(), Some(&continued), None);
            let event = subscribe(&client, &arn, again).await.next().await;
            let repeats = kind == ShardIteratorType::AtSequenceNumber && !texts_expected.is_empty();
            assert_eq!(texts(&event).len(), usize::from(repeats), "{kind} {continued}");
            clock.advance(Duration::from_secs(5));
        }
    }
}

#[tokio::test]
async fn a_subscription_ends_after_five_minutes() {
    let (_emulator, clock, client, arn) = subscribable().await;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    for _ in 0..60 {
        assert!(subscribed.next().await.records.is_empty());
        clock.advance(Duration::from_secs(5));
    }
    assert!(subscribed.result().await.unwrap().is_none());
    let mut renewed = subscribe(&client, &arn, oldest()).await;
    renewed.next().await;
    clock.advance(Duration::from_millis(299_999));
    renewed.next().await;
    clock.advance(Duration::from_millis(1));
    assert!(renewed.result().await.unwrap().is_none());
}

#[tokio::test]
async fn a_closed_shard_ends_with_its_children_after_its_last_record() {
    let (_emulator, _, client, arn) = subscribable().await;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    subscribed.next().await;
    put_one(&client, "k", "last").await;
    let middle = (1_u128 << 127).to_string();
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD);
    split.new_starting_hash_key(middle).send().await.unwrap();
    let event = subscribed.next().await;
    assert_eq!((texts(&event), event.child_shards().len()), (vec!["last".to_owned()], 0));
    assert!(!event.continuation_sequence_number.is_empty());
    let event = subscribed.next().await;
    assert!(event.records.is_empty());
    // The client has no other way to say that the number was left out.
    assert_eq!(event.continuation_sequence_number, "");
    let children: Vec<_> = event.child_shards().iter().map(|child| (&*child.shard_id, &*child.parent_shards)).collect();
    let parent = [SHARD.to_owned()];
    assert_eq!(children, [("shardId-000000000001", &parent[..]), ("shardId-000000000002", &parent[..])]);
    assert!(subscribed.result().await.unwrap().is_none());
}

#[tokio::test]
async fn a_waiting_subscription_sees_the_shard_close() {
    let (_emulator, _, client, arn) = subscribable().await;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    subscribed.next().await;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD);
    let split = split.new_starting_hash_key((1_u128 << 127).to_string()).send();
    let (event, split) = tokio::join!(subscribed.next(), split);
    split.unwrap();
    assert_eq!(event.child_shards().len(), 2);
}

#[tokio::test]
async fn a_second_subscription_is_refused_for_5_s_and_then_takes_over() {
    let (_emulator, clock, client, arn) = subscribable().await;
    let mut first = subscribe(&client, &arn, oldest()).await;
    first.next().await;
    clock.advance(Duration::from_secs(4));
    let refused = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(refused.is_resource_in_use_exception(), "{refused:?}");
    assert!(first.is_quiet().await);
    clock.advance(Duration::from_secs(1));
    let (ended, second) =
        tokio::join!(async { (first.next().await, first.error().await).1 }, subscribe(&client, &arn, oldest()));
    assert!(ended.is_resource_in_use_exception(), "{ended:?}");
    assert!(first.result().await.unwrap().is_none());
    let mut second = second;
    second.next().await;

    // Another consumer is not in the way, and nobody is without the limit.
    let other = register(&client, "other").await.consumer_arn;
    subscribe(&client, &other, oldest()).await.next().await;
    let (_emulator, clock, client, arn) = subscribable_without(&[Limit::SubscriptionTakeOver]).await;
    let _first = subscribe(&client, &arn, oldest()).await;
    clock.advance(Duration::from_secs(1));
    subscribe(&client, &arn, oldest()).await.next().await;
}

#[tokio::test]
async fn calls_are_limited_to_one_a_second() {
    let (_emulator, clock, client, arn) = subscribable().await;
    let _first = subscribe(&client, &arn, oldest()).await;
    let refused = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(refused.is_limit_exceeded_exception(), "{refused:?}");
    clock.advance(Duration::from_secs(1));
    let refused = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(refused.is_resource_in_use_exception(), "{refused:?}");
    clock.advance(Duration::from_secs(4));
    subscribe(&client, &arn, oldest()).await.next().await;

    // Without the limit, what refuses the second is that there is a first.
    let (_emulator, _, client, arn) = subscribable_without(&[Limit::SubscribeCalls]).await;
    let _first = subscribe(&client, &arn, oldest()).await;
    let refused = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(refused.is_resource_in_use_exception(), "{refused:?}");
}

#[tokio::test]
async fn what_goes_away_ends_its_subscriptions() {
    let (_emulator, _, client, arn) = subscribable().await;
    let other = register(&client, "other").await.consumer_arn;
    let mut one = subscribe(&client, &arn, oldest()).await;
    let mut two = subscribe(&client, &other, oldest()).await;
    one.next().await;
    two.next().await;
    let deregister = client.deregister_stream_consumer().consumer_arn(&arn).send();
    let (ended, deregistered) = tokio::join!(one.error(), deregister);
    deregistered.unwrap();
    assert!(ended.is_resource_not_found_exception(), "{ended:?}");
    assert!(two.is_quiet().await);
    let delete = client.delete_stream().stream_name(STREAM).enforce_consumer_deletion(true).send();
    let (ended, deleted) = tokio::join!(two.error(), delete);
    deleted.unwrap();
    assert!(ended.is_resource_not_found_exception(), "{ended:?}");
    let gone = try_subscribe(&client, &other, oldest()).await.err().unwrap().into_service_error();
    assert!(gone.is_resource_not_found_exception(), "{gone:?}");
}

#[tokio::test]
async fn two_mib_a_second_and_the_lag_that_it_makes() {
    let clock = Arc::new(ManualClock::new(start()));
    let limits = Limits::none().with(Limit::SubscriptionBytes);
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(limits);
    let emulator = builder.build().unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let arn = register(&client, "app").await.consumer_arn;
    for _ in 0..5 {
        client
            .put_record()
            .stream_name(STREAM)
            .partition_key("k")
            .data(Blob::new(vec![7; 1024 * 1024 - 1]))
            .send()
            .await
            .unwrap();
        clock.advance(Duration::from_millis(100));
    }
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    for behind_ms in [500, 400] {
        let event = subscribed.next().await;
        assert_eq!((event.records.len(), event.millis_behind_latest), (1, behind_ms));
    }
    assert!(subscribed.is_quiet().await);
    clock.advance(Duration::from_secs(1));
    for behind_ms in [1300, 1200] {
        assert_eq!(subscribed.next().await.millis_behind_latest, behind_ms);
    }
    assert!(subscribed.is_quiet().await);
    clock.advance(Duration::from_secs(1));
    assert_eq!(subscribed.next().await.millis_behind_latest, 0);

    let (_emulator, clock, client, arn) = subscribable_without(&[Limit::SubscriptionBytes]).await;
    for _ in 0..5 {
        put_one(&client, "k", vec![7; 1024 * 1024 - 1]).await;
        clock.advance(Duration::from_secs(1));
    }
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    for _ in 0..5 {
        assert_eq!(subscribed.next().await.records.len(), 1);
    }
}

#[tokio::test]
async fn a_subscription_that_waits_hears_of_a_split_that_begins_later_when_it_is_done() {
    let (emulator, clock) = emulator_with(|builder| builder.limits(Limits::none()).transitions(Duration::from_secs(1)));
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    let arn = register(&client, "app").await.consumer_arn;
    clock.advance(Duration::from_secs(1));
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    subscribed.next().await;
    assert!(subscribed.is_quiet().await);
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    let split_at = clock.now();
    // A second later nobody calls, and it is the only one who can notice.
    let (end, ()) = tokio::join!(subscribed.next(), async {
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
    });
    assert_eq!((end.child_shards().len(), clock.now().duration_since(split_at).as_secs()), (2, 1));
}

#[tokio::test]
async fn a_consumer_that_is_not_active_cannot_subscribe() {
    let clock = Arc::new(ManualClock::new(start()));
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).transitions(Duration::from_secs(1));
    let client = in_process(&builder.build().unwrap());
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    let arn = register(&client, "app").await.consumer_arn;
    let early = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(early.is_resource_in_use_exception(), "{early:?}");
    clock.advance(Duration::from_secs(1));
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    subscribed.next().await;
    client.deregister_stream_consumer().consumer_arn(&arn).send().await.unwrap();
    assert!(subscribed.error().await.is_resource_not_found_exception());
}

#[tokio::test]
async fn faults_hit_the_call_or_an_event() {
    let (emulator, clock, client, arn) = subscribable().await;
    let error = |code: &str| FaultKind::Error { code: code.to_owned(), message: "injected".to_owned() };
    put_one(&client, "k", "a").await;
    for (kind, is_known) in
        [(error("InternalFailureException"), true), (FaultKind::Cut, false), (FaultKind::Truncate, false)]
    {
        clock.advance(Duration::from_secs(5));
        emulator.faults().push(Fault::on("SubscribeToShardEvent", kind.clone())).unwrap();
        let mut subscribed = subscribe(&client, &arn, oldest()).await;
        let ended = subscribed.result().await.unwrap_err();
        assert_eq!(ended.is_some_and(|error| error.is_internal_failure_exception()), is_known, "{kind:?}");
        assert!(emulator.faults().list().is_empty());
    }
    clock.advance(Duration::from_secs(5));
    emulator.faults().push(Fault::on("SubscribeToShard", error("LimitExceededException"))).unwrap();
    let refused = try_subscribe(&client, &arn, oldest()).await.err().unwrap().into_service_error();
    assert!(refused.is_limit_exceeded_exception());
    emulator.faults().push(Fault::on("SubscribeToShard", FaultKind::Cut)).unwrap();
    assert!(try_subscribe(&client, &arn, oldest()).await.err().unwrap().as_service_error().is_none());
    clock.advance(Duration::from_secs(5));
    emulator.faults().push(Fault::on("SubscribeToShard", FaultKind::Truncate)).unwrap();
    let mut broken = subscribe(&client, &arn, oldest()).await;
    assert!(broken.result().await.unwrap_err().is_none());
    clock.advance(Duration::from_secs(5));
    assert_eq!(texts(&subscribe(&client, &arn, oldest()).await.next().await), ["a"]);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_subscriptions() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_socket(listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (served, ()) = tokio::join!(emulator.serve(listener, stopped), async {
        create(&client, 1).await;
        let arn = register(&client, "app").await.consumer_arn;
        let mut subscribed = subscribe(&client, &arn, oldest()).await;
        subscribed.next().await;
        let (event, _) = tokio::join!(subscribed.next(), put_one(&client, "k", "pushed"));
        assert_eq!(texts(&event), ["pushed"]);
        stop.cancel();
        assert!(subscribed.result().await.unwrap().is_none());
        drop(client);
    });
    served.unwrap();
}

#[tokio::test]
async fn an_open_subscription_leaves_faults_to_the_calls_that_they_are_meant_for() {
    let (emulator, clock, client, arn) = subscribable().await;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    subscribed.next().await;
    let error = FaultKind::Error { code: "InternalFailure".to_owned(), message: String::new() };
    for kind in [error, FaultKind::Cut, FaultKind::Expire] {
        emulator.faults().push(Fault::on_any(kind)).unwrap();
    }
    // While they wait, the subscription goes on.
    clock.advance(Duration::from_secs(5));
    assert!(subscribed.next().await.records.is_empty());
    assert!(subscribed.is_quiet().await);
    assert_eq!(emulator.faults().list().len(), 3);
    for _ in 0..2 {
        client.list_streams().send().await.unwrap_err();
    }
    let iterator = trim_horizon(&client, SHARD).await;
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    assert!(emulator.faults().list().is_empty());

    // Nor has it any of those by chance, whose calls would otherwise be others at each run.
    emulator.faults().seed(1, 1.0);
    clock.advance(Duration::from_secs(5));
    assert!(subscribed.next().await.records.is_empty());
    assert!(subscribed.is_quiet().await);
    emulator.faults().clear();
    emulator.faults().push(Fault::on("SubscribeToShard", FaultKind::Expire)).unwrap();
    assert!(subscribed.result().await.unwrap().is_none());
}

#[tokio::test]
async fn a_cut_subscription_is_a_broken_connection_and_the_next_goes_on_where_it_was() {
    let (emulator, clock, client, arn) = subscribable().await;
    let read = put_one(&client, "k", "read").await.sequence_number;
    let mut subscribed = subscribe(&client, &arn, oldest()).await;
    assert_eq!(texts(&subscribed.next().await), ["read"]);
    assert!(subscribed.is_quiet().await);
    emulator.faults().push(Fault::on_any(FaultKind::CutSubscription)).unwrap();
    // No error of the service, but the connection's.
    assert!(subscribed.result().await.unwrap_err().is_none());
    assert!(emulator.faults().list().is_empty());
    put_one(&client, "k", "missed").await;
    clock.advance(Duration::from_secs(5));
    let behind = position(ShardIteratorType::AfterSequenceNumber, Some(&read), None);
    assert_eq!(texts(&subscribe(&client, &arn, behind).await.next().await), ["missed"]);
}

#[tokio::test]
async fn a_subscription_that_has_much_to_send_ends_when_a_test_asks_for_it() {
    let (emulator, clock, client, arn) = subscribable_without(&[Limit::SubscriptionBytes, Limit::WriteBytes]).await;
    for _ in 0..4 {
        put_one(&client, "k", vec![7; 1024 * 1024 - 1]).await;
    }
    for (end, is_broken) in [
        (Fault::on_any(FaultKind::CutSubscription), true),
        (Fault::on("SubscribeToShard", FaultKind::CutSubscription), true),
        (Fault::on("SubscribeToShard", FaultKind::Expire), false),
    ] {
        clock.advance(Duration::from_secs(5));
        let mut subscribed = subscribe(&client, &arn, oldest()).await;
        assert_eq!(subscribed.next().await.records.len(), 1);
        emulator.faults().push(end).unwrap();
        assert_eq!(subscribed.result().await.is_err(), is_broken);
        assert!(emulator.faults().list().is_empty());
    }
}
