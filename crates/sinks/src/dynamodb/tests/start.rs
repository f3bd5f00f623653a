//! What a start finds, and what it says to whoever has to mend it.

use std::time::Duration;

use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TimeToLiveSpecification,
};
use kinesink_core::{Class, Emitted, Emitter};
use serde_json::json;

use super::dynamo::{Dynamo, Fault};
use super::{TABLE, config, emit, sample, sink, stored};
use crate::dynamodb::{
    Changes, Deletion, DynamoDbConfig, DynamoDbEmitter, Guard, Provisioned, TableMetrics, TableReport,
};

fn counting(dynamo: &Dynamo) -> DynamoDbConfig {
    let mut config = config(dynamo.client());
    config.changes = Some(Changes { add: vec!["count".into()], ..Changes::default() });
    config.delete =
        Some(Deletion { field: ".op".parse().unwrap(), values: vec!["D".into()], keep: Duration::from_secs(1000) });
    config.ttl = Some("expires".into());
    config
}

async fn report(config: DynamoDbConfig) -> TableReport {
    DynamoDbEmitter::open(config).unwrap().prove().await.unwrap()
}

fn denied(dynamo: &Dynamo, operation: &'static str) {
    dynamo.fail(operation, Fault::Answer("AccessDeniedException", "not authorized"));
}

#[tokio::test]
async fn a_start_says_what_it_found_and_changes_nothing() {
    let dynamo = Dynamo::new();
    sink(counting(&dynamo)).await;
    let uses = |guard| {
        let config = DynamoDbConfig { guard, ..config(dynamo.client()) };
        async { report(config).await.facts.remove(2) }
    };
    assert_eq!(uses(Guard::Always).await, "dynamodb:DescribeTable and dynamodb:PutItem may be used");
    assert_eq!(uses(Guard::Never).await, "dynamodb:DescribeTable and dynamodb:BatchWriteItem may be used");
    let both = "dynamodb:DescribeTable and dynamodb:PutItem and dynamodb:BatchWriteItem may be used";
    assert_eq!(uses(Guard::Takeover).await, both);
    let facts = [
        "its key is `id` (text)",
        "it is paid by the request",
        "dynamodb:DescribeTable and dynamodb:UpdateItem and dynamodb:PutItem may be used",
        "items expire by `expires`",
    ];
    assert_eq!(
        report(counting(&dynamo)).await,
        TableReport { facts: facts.map(String::from).into(), warnings: vec![] }
    );
    let without_deletes = DynamoDbConfig { delete: None, ttl: None, ..counting(&dynamo) };
    assert_eq!(report(without_deletes).await.facts[2], "dynamodb:DescribeTable and dynamodb:UpdateItem may be used");
    assert!(stored(&dynamo.client()).await.is_empty());
}

#[tokio::test]
async fn every_refused_action_is_named_with_the_statement_that_allows_it() {
    let dynamo = Dynamo::new();
    let sink = sink(counting(&dynamo)).await;
    denied(&dynamo, "UpdateItem");
    denied(&dynamo, "PutItem");
    let failure = sink.prove().await.unwrap_err();
    let statement = |action: &str| {
        format!(
            r#"{{"Effect": "Allow", "Action": "dynamodb:{action}", "Resource": "arn:aws:dynamodb:*:*:table/items"}}"#
        )
    };
    let said = |attempt: &str, action: &str| {
        let remedy = "AccessDeniedException: not authorized; grant the permission to this role";
        format!("cannot {attempt} table items: {remedy}: {}", statement(action))
    };
    let both = [said("update an item in", "UpdateItem"), said("put an item into", "PutItem")].join("; ");
    assert_eq!((failure.class, failure.message), (Class::Configuration, both));
    denied(&dynamo, "DescribeTable");
    let failure = Emitter::<bytes::Bytes>::check(&sink).await.unwrap_err();
    assert_eq!((failure.class, failure.message), (Class::Configuration, said("describe", "DescribeTable")));
}

#[tokio::test]
async fn an_expiry_that_nobody_turned_on_is_told_and_ends_nothing() {
    let dynamo = Dynamo::new();
    sink(config(dynamo.client())).await;
    let warning = report(counting(&dynamo)).await.warnings.remove(0);
    assert!(warning.starts_with("table items expires no items"), "{warning}");
    assert!(warning.contains("update-time-to-live --table-name items"), "{warning}");
    for (operation, said) in [("AccessDeniedException", "dynamodb:DescribeTimeToLive"), ("Throttling", "cannot see")] {
        dynamo.fail("DescribeTimeToLive", Fault::Answer(operation, "no"));
        let warning = report(counting(&dynamo)).await.warnings.remove(0);
        assert!(warning.contains(said), "{warning}");
    }
    let by = TimeToLiveSpecification::builder().enabled(true).attribute_name("other").build().unwrap();
    let request = dynamo.client().update_time_to_live().table_name(TABLE).time_to_live_specification(by);
    request.send().await.unwrap();
    let warning = report(counting(&dynamo)).await.warnings.remove(0);
    assert!(warning.contains("by `other`, not by `ttl`, which is `expires`"), "{warning}");
}

#[tokio::test]
async fn a_table_whose_expiry_was_refused_once_kept_its_items_for_ever() {
    let dynamo = Dynamo::new();
    let sink = DynamoDbEmitter::open(counting(&dynamo)).unwrap();
    dynamo.fail("UpdateTimeToLive", Fault::Answer("ThrottlingException", "slow"));
    assert_eq!(sink.create_table().await.unwrap_err().class, Class::Transient);
    assert!(sink.create_table().await.unwrap(), "it is made by now, and not before");
    assert_eq!(sink.prove().await.unwrap().warnings, [""; 0]);
    assert!(!sink.create_table().await.unwrap());
}

/// A table with so many write units.
async fn provisioned(client: &Client, units: i64) {
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
    let hash = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let throughput = ProvisionedThroughput::builder().read_capacity_units(1).write_capacity_units(units).build();
    let request = client.create_table().table_name(TABLE).billing_mode(BillingMode::Provisioned);
    let request = request.attribute_definitions(id.unwrap()).key_schema(hash.unwrap());
    request.provisioned_throughput(throughput.unwrap()).send().await.unwrap();
}

#[tokio::test]
async fn a_table_and_that_of_its_guards_are_made_with_the_units_that_were_asked_for() {
    let dynamo = Dynamo::new();
    let units = Some(Provisioned { read_units: 3, write_units: 7 });
    sink(DynamoDbConfig { provisioned: units, ..super::aggregate::counting(dynamo.client()) }).await;
    for table in [TABLE, "guards"] {
        let described = dynamo.client().describe_table().table_name(table).send().await.unwrap();
        let found = described.table().unwrap().provisioned_throughput().unwrap().clone();
        assert_eq!((found.read_capacity_units(), found.write_capacity_units()), (Some(3), Some(7)), "{table}");
    }
    // One that is there stays as it is.
    let without = DynamoDbEmitter::open(super::aggregate::counting(dynamo.client())).unwrap();
    assert!(!without.create_table().await.unwrap());
    let facts = report(super::aggregate::counting(dynamo.client())).await.facts;
    assert_eq!(facts[1], "it has 7 write units a second");
}

#[tokio::test]
async fn more_units_than_the_table_has_are_told() {
    let dynamo = Dynamo::new();
    provisioned(&dynamo.client(), 5).await;
    let limited = |write_units| DynamoDbConfig { write_units: Some(write_units), ..config(dynamo.client()) };
    let fine = report(limited(5)).await;
    let facts = ["it has 5 write units a second", "this worker takes 5 write units a second at most"];
    assert_eq!((&fine.facts[1..3], fine.warnings.len()), (&facts.map(String::from)[..], 0));
    let warning = "`write_units` is 6, and table items has 5 in a second: lower the one, or raise the other";
    assert_eq!(report(limited(6)).await.warnings, [warning]);
    // A part of them is never more.
    let part = |fraction| DynamoDbConfig { max_write_fraction: Some(fraction), ..limited(6) };
    let facts = [(0.5, "2.5"), (1.0, "5"), (0.01, "1")];
    for (fraction, units) in facts {
        let report = report(part(fraction)).await;
        let said = format!("this worker takes {units} write units a second at most");
        assert_eq!((&report.facts[2], report.warnings.len()), (&said, 0));
    }
}

#[tokio::test]
async fn a_part_of_no_end_is_told() {
    let dynamo = Dynamo::new();
    sink(config(dynamo.client())).await;
    let part = DynamoDbConfig { max_write_fraction: Some(0.5), ..config(dynamo.client()) };
    let TableReport { facts, warnings } = report(part.clone()).await;
    assert!(
        warnings[0].starts_with("`max_write_fraction` is 0.5, and table items is paid by the request"),
        "{warnings:?}"
    );
    assert!(!facts.iter().any(|fact| fact.contains("at most")), "{facts:?}");
    let fixed = report(DynamoDbConfig { write_units: Some(7), ..part }).await;
    assert_eq!(
        (fixed.facts[2].as_str(), fixed.warnings.len()),
        ("this worker takes 7 write units a second at most", 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_tables_units_follows_what_the_table_has() {
    let dynamo = Dynamo::new();
    let client = dynamo.client();
    provisioned(&client, 8).await;
    let half = DynamoDbConfig { max_write_fraction: Some(0.5), ..config(client.clone()) };
    let sink = DynamoDbEmitter::open(half).unwrap();
    let mut written = 0;
    // How long so many units take.
    let mut seconds_of = async |units: u64| {
        let start = tokio::time::Instant::now();
        for _ in 0..units {
            written += 1;
            let written = emit(&sink, &[(written, "a", json!({"id": "a"}))]).await;
            assert_eq!(written.unwrap(), Emitted::all());
        }
        start.elapsed().as_secs_f64()
    };
    seconds_of(8).await;
    assert!((9.9..10.1).contains(&seconds_of(40).await), "four a second");
    let throughput = ProvisionedThroughput::builder().read_capacity_units(1).write_capacity_units(80).build();
    let request = client.update_table().table_name(TABLE).provisioned_throughput(throughput.unwrap());
    request.send().await.unwrap();
    assert!((9.9..10.1).contains(&seconds_of(40).await), "nobody has looked yet");
    tokio::time::advance(Duration::from_secs(300)).await;
    dynamo.fail("DescribeTable", Fault::Cut);
    seconds_of(8).await;
    assert!((9.9..10.1).contains(&seconds_of(40).await), "what it was is what is known");
    tokio::time::advance(Duration::from_secs(300)).await;
    seconds_of(40).await;
    assert!((0.9..1.1).contains(&seconds_of(40).await), "forty a second");
}

#[tokio::test]
async fn throttles_are_counted_by_their_limit_and_only_those_of_all_keys_slow_all_down() {
    let dynamo = Dynamo::new();
    let metrics = TableMetrics::default();
    let config = DynamoDbConfig { requests_max: 8, metrics: metrics.clone(), ..config(dynamo.client()) };
    let sink = sink(config).await;
    let sample = |line: &str| sample(&metrics, line).unwrap();
    let put = async |sequence: u64| emit(&sink, &[(sequence, "a", json!({"id": "a"}))]).await;
    assert_eq!(put(1).await.unwrap(), Emitted::all());
    assert_eq!(sample("table_write_units_total{table=\"items\"}"), "1.0");
    for (reason, limit, requests) in [
        ("TableWriteKeyRangeThroughputExceeded", "key-range", "8"),
        ("TableWriteProvisionedThroughputExceeded", "table", "4"),
        ("TableWriteAccountLimitExceeded", "account", "2"),
        ("SomethingNew", "unknown", "1"),
    ] {
        dynamo.fail("PutItem", Fault::Throttle(reason, TABLE));
        put(2).await.unwrap_err();
        assert_eq!(sample(&format!("table_throttles_total{{table=\"items\",limit=\"{limit}\"}}")), "1");
        assert_eq!(sample("table_requests_max{table=\"items\"}"), requests, "{reason}");
    }
    for sequence in 3..6 {
        assert_eq!(put(sequence).await.unwrap(), Emitted::all());
    }
    assert_eq!(sample("table_requests_max{table=\"items\"}"), "3");
}

/// Each record would be refused, by what the table has now and by what it has again later.
#[tokio::test]
async fn a_table_that_was_made_again_with_a_key_of_another_type_made_dead_letters_of_all() {
    for guard in [Guard::Always, Guard::Never] {
        for counts in [false, true] {
            if counts && guard == Guard::Never {
                continue;
            }
            let dynamo = Dynamo::new();
            let config = || {
                let config = if counts { counting(&dynamo) } else { config(dynamo.client()) };
                DynamoDbConfig { guard, ..config }
            };
            let running = sink(config()).await;
            let record = |n: u64| [(n, "a", json!({"id": "a", "count": 1}))];
            assert_eq!(emit(&running, &record(1)).await.unwrap(), Emitted::all());
            let again = async |key_type: ScalarAttributeType| {
                dynamo.client().delete_table().table_name(TABLE).send().await.unwrap();
                let mut config = config();
                config.key[0].key_type = Some(key_type);
                sink(config).await;
            };
            again(ScalarAttributeType::N).await;
            for n in 2..4 {
                let failure = emit(&running, &record(n)).await.unwrap_err();
                assert_eq!(failure.class, Class::Configuration, "{failure}");
                let is_told = |failure: &str| {
                    failure.contains("its key is `id` (a number), and was `id` (text) when this worker began")
                };
                assert!(n == 2 || is_told(&failure.message), "{failure}");
            }
            again(ScalarAttributeType::S).await;
            assert_eq!(emit(&running, &record(4)).await.unwrap(), Emitted::all());
            assert_eq!(stored(&dynamo.client()).await["a"]["count"], json!({"N": "1"}));
        }
    }
}
