//! What a start finds, and what it says to whoever has to mend it.

use std::time::Duration;

use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TimeToLiveSpecification,
};
use kinesink_core::{Class, Emitter};

use super::dynamo::{Dynamo, Fault};
use super::{TABLE, config, sink, stored};
use crate::dynamodb::{Changes, Deletion, DynamoDbConfig, DynamoDbEmitter, Guard, TableReport};

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
async fn more_units_than_the_table_has_are_told() {
    let dynamo = Dynamo::new();
    provisioned(&dynamo.client(), 5).await;
    let limited = |write_units| DynamoDbConfig { write_units: Some(write_units), ..config(dynamo.client()) };
    let fine = report(limited(5)).await;
    assert_eq!((fine.facts[1].as_str(), fine.warnings.len()), ("it has 5 write units a second", 0));
    let warning = "`write_units` is 6, and table items has 5 in a second: lower the one, or raise the other";
    assert_eq!(report(limited(6)).await.warnings, [warning]);
}
