//! Tables that are short of room.

use kinesink_core::Emitted;
use serde_json::json;

use super::super::dynamo::{Dynamo, Fault};
use super::super::{TABLE, sample};
use super::{GUARDS, counting, emit, number};
use crate::dynamodb::DynamoDbConfig;

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
