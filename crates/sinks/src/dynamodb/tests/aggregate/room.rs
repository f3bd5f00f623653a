//! Tables that are short of room.

use std::time::Duration;

use kinesink_aws::dynamodb::types::{BillingMode, ProvisionedThroughput};
use kinesink_core::Emitted;
use serde_json::json;
use tokio::time::Instant;

use super::super::dynamo::{Dynamo, Fault};
use super::super::{TABLE, sample};
use super::{GUARDS, counting, emit, number};
use crate::dynamodb::{DynamoDbConfig, DynamoDbEmitter};

const NONE: (&str, &str) = ("None", "");
const SLOW: (&str, &str) = ("ThrottlingError", "slow");

#[tokio::test]
async fn a_throttle_of_a_transaction_is_of_its_key_until_a_second_key_meets_one() {
    let dynamo = Dynamo::new();
    let config = DynamoDbConfig { requests_max: 8, ..counting(dynamo.client()) };
    let metrics = config.metrics.clone();
    let sink = super::super::sink(config).await;
    let requests = || sample(&metrics, "table_requests_max{table=\"items\"}").unwrap();
    let throttled = async |sequence: u64, id: &str| {
        dynamo.fail("TransactWriteItems", Fault::Cancel([SLOW, NONE]));
        emit(&sink, 0, &[(sequence, json!({"id": id, "n": 1}))]).await.unwrap_err();
    };
    for sequence in 1..5 {
        throttled(sequence, "a").await;
    }
    assert_eq!(requests(), "8", "one hot key slows no other down");
    // As many others as may be on their way are taken: what comes after that comes by itself.
    let taken =
        |first: u64| (first..first + 8).map(|n| (n, json!({"id": format!("k{n}"), "n": 1}))).collect::<Vec<_>>();
    assert_eq!(emit(&sink, 0, &taken(10)).await.unwrap(), Emitted::all());
    throttled(20, "b").await;
    assert_eq!(requests(), "8");
    throttled(30, "c").await;
    assert_eq!(requests(), "4", "two keys at once: it is the table");
}

#[tokio::test]
async fn a_throttle_is_counted_for_the_table_whose_limit_was_met() {
    let dynamo = Dynamo::new();
    let config = counting(dynamo.client());
    let metrics = config.metrics.clone();
    let sink = super::super::sink(config).await;
    let of = |table: &str, limit: &str| {
        let throttles = sample(&metrics, &format!("table_throttles_total{{table=\"{table}\",limit=\"{limit}\"}}"));
        throttles.map_or(0, |throttles| throttles.parse().unwrap())
    };
    let reason = "TableWriteProvisionedThroughputExceeded";
    for (fault, table, limit) in [
        (Fault::Cancel([NONE, SLOW]), GUARDS, "unknown"),
        (Fault::Cancel([SLOW, NONE]), TABLE, "unknown"),
        (Fault::Throttle(reason, GUARDS), GUARDS, "table"),
        (Fault::Throttle(reason, TABLE), TABLE, "table"),
        (Fault::Throttle("SomethingNew", GUARDS), TABLE, "unknown"),
    ] {
        let before = of(table, limit);
        dynamo.fail("TransactWriteItems", fault.clone());
        emit(&sink, 0, &[(1, number(1))]).await.unwrap_err();
        assert_eq!(of(table, limit), before + 1, "{fault:?}");
    }
    assert_eq!(of(TABLE, "table") + of(TABLE, "unknown") + of(GUARDS, "table") + of(GUARDS, "unknown"), 5);
}

/// So many transactions, of two units of each table; how long they take.
async fn seconds_of(sinks: &[&DynamoDbEmitter], first: u64, transactions: u64) -> f64 {
    let begun = Instant::now();
    for (sequence, sink) in (first..first + transactions).zip(sinks.iter().cycle()) {
        assert_eq!(emit(sink, 0, &[(sequence, json!({"id": sequence.to_string()}))]).await.unwrap(), Emitted::all());
    }
    begun.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_of_the_table_of_the_guards_has_its_limits_too() {
    let dynamo = Dynamo::new();
    let client = dynamo.client();
    super::super::sink(counting(client.clone())).await;
    let fixed = DynamoDbEmitter::open(DynamoDbConfig { write_units: Some(4), ..counting(client.clone()) }).unwrap();
    seconds_of(&[&fixed], 0, 10).await;
    assert!((9.9..10.1).contains(&seconds_of(&[&fixed], 10, 20).await), "four units a second of each");
    // The items' table is paid by the request, and has no end.
    let throughput = ProvisionedThroughput::builder().read_capacity_units(1).write_capacity_units(8).build().unwrap();
    let request = client.update_table().table_name(GUARDS).billing_mode(BillingMode::Provisioned);
    request.provisioned_throughput(throughput).send().await.unwrap();
    let half = DynamoDbEmitter::open(DynamoDbConfig { max_write_fraction: Some(0.25), ..counting(client) }).unwrap();
    seconds_of(&[&half], 100, 10).await;
    assert!((9.9..10.1).contains(&seconds_of(&[&half], 110, 10).await), "a quarter of the guards' eight");
}

#[tokio::test(start_paused = true)]
async fn sinks_that_share_what_is_on_its_way_take_no_more_together_than_one_alone() {
    let dynamo = Dynamo::new();
    let config = DynamoDbConfig { write_units: Some(4), requests_max: 1, ..counting(dynamo.client()) };
    let one = super::super::sink(config.clone()).await;
    let other = DynamoDbEmitter::open(config).unwrap();
    seconds_of(&[&one, &other], 0, 10).await;
    assert!((9.9..10.1).contains(&seconds_of(&[&one, &other], 10, 20).await), "four units a second of both");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let lane = one.traffic.lanes.enter().await;
    let window = [(100, number(1))];
    let mut waiting = Box::pin(emit(&other, 0, &window));
    assert!(futures::poll!(&mut waiting).is_pending(), "one request at a time");
    drop(lane);
    assert_eq!(waiting.await.unwrap(), Emitted::all());
}

/// Two slices: the second is not sent while the first waits.
#[tokio::test]
async fn large_records_were_read_beside_the_memory_of_their_slice() {
    let dynamo = Dynamo::new();
    let sink = super::super::sink(DynamoDbConfig { encoded_bytes_max: 100 * 1024, ..counting(dynamo.client()) }).await;
    let large = |id: &str| json!({"id": id, "n": 1, "pad": "x".repeat(60 * 1024)});
    dynamo.fail("TransactWriteItems", Fault::Cancel([SLOW, NONE]));
    let calls = dynamo.calls("TransactWriteItems").len();
    emit(&sink, 0, &[(1, large("a")), (2, large("b"))]).await.unwrap_err();
    assert_eq!(dynamo.calls("TransactWriteItems").len(), calls + 1);
    let small = |id: &str| json!({"id": id, "n": 1});
    dynamo.fail("TransactWriteItems", Fault::Cancel([SLOW, NONE]));
    let _one_waits = emit(&sink, 1, &[(1, small("a")), (2, small("b"))]).await.unwrap();
    assert_eq!(dynamo.calls("TransactWriteItems").len(), calls + 3);
}
