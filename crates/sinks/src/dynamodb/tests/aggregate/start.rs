//! What a start and its settings refuse.

use kinesink_aws::dynamodb::types::ScalarAttributeType;
use kinesink_core::{Class, Emitted, Emitter, Failure};

use super::super::dynamo::{Dynamo, Fault};
use super::super::{TABLE, field};
use super::{GUARDS, counting, emit, named, number, of_a, open, scan, sink};
use crate::dynamodb::{DynamoDbConfig, DynamoDbEmitter, Guard, KeyAttribute, KeySource};

async fn check(sink: &DynamoDbEmitter) -> Result<(), Failure> {
    Emitter::<bytes::Bytes>::check(sink).await
}

#[tokio::test]
async fn tables_that_do_not_go_with_the_sink_are_named_at_the_start() {
    let dynamo = Dynamo::new();
    let missing = check(&open(&dynamo)).await.unwrap_err();
    assert!(missing.message.starts_with("cannot describe table items: there is none of this name"), "{missing}");
    let sink = sink(&dynamo).await;
    let facts = sink.prove().await.unwrap().facts.join("; ");
    for fact in [
        "its key is `id` (text) and `minute` (text)",
        "dynamodb:DescribeTable may be used",
        "of the guards in table guards: its key is `item` (text) and `source` (text)",
        "of the guards in table guards: dynamodb:DescribeTable may be used",
        "dynamodb:UpdateItem, with dynamodb:PutItem of the guards, may be used in a transaction",
        "of the guards in table guards: items expire by `expires`",
    ] {
        assert!(facts.contains(fact), "{fact}: {facts}");
    }
    assert!(scan(&dynamo.client(), TABLE).await.is_empty() && scan(&dynamo.client(), GUARDS).await.is_empty());
    let expiry = dynamo.client().describe_time_to_live().table_name(GUARDS).send().await.unwrap();
    let expiry = expiry.time_to_live_description().unwrap().clone();
    assert_eq!(expiry.attribute_name(), Some("expires"), "guards expire");
    let mut other = counting(dynamo.client());
    other.aggregate.as_mut().unwrap().guards = "none".into();
    let failure = check(&DynamoDbEmitter::open(other.clone()).unwrap()).await.unwrap_err();
    assert!(
        failure.message.contains("cannot describe table none") && failure.message.contains("--create"),
        "{failure}"
    );
    // A table of another key.
    let by_id = DynamoDbConfig {
        table: "by-id".into(),
        key: vec![field("id", ".id")],
        ..super::super::config(dynamo.client())
    };
    super::super::sink(by_id).await;
    other.aggregate.as_mut().unwrap().guards = "by-id".into();
    let failure = check(&DynamoDbEmitter::open(other).unwrap()).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    assert!(failure.message.contains("table by-id: its key is `id`"), "{failure}");
    assert!(failure.message.contains("is the table of the guards"), "{failure}");
}

/// A policy may allow transactions and nothing else, or all else.
#[tokio::test]
async fn a_start_asks_for_the_transaction_and_for_no_other_write() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    for operation in ["UpdateItem", "PutItem"] {
        dynamo.fail(operation, Fault::Answer("AccessDeniedException", "no"));
    }
    check(&sink).await.unwrap();
    assert_eq!(dynamo.faults_left(), 2, "neither was sent by itself");
    let none = ("None", "");
    for (fault, said) in [
        (
            Fault::Answer("AccessDeniedException", "no"),
            &["dynamodb:UpdateItem", "table/items", "dynamodb:PutItem", "table/guards"][..],
        ),
        (
            Fault::Answer("UnknownOperationException", "no"),
            &["table guards: UnknownOperationException", "name a service that has transactions"],
        ),
        (
            Fault::Cancel([none, ("ValidationError", "no")]),
            &["table guards: the service takes no such request, of no item: it says: no"],
        ),
    ] {
        dynamo.fail("TransactWriteItems", fault);
        let failure = check(&sink).await.unwrap_err();
        assert_ne!(failure.class, Class::Transient, "{failure}");
        for said in said {
            assert!(failure.message.contains(said), "{said}: {failure}");
        }
    }
    let failed = ("ConditionalCheckFailed", "");
    let conflict = ("TransactionConflict", "x");
    for (fault, warnings) in [
        (Fault::Cancel([conflict, failed]), 0),
        (Fault::Cancel([("ThrottlingError", "slow"), none]), 1),
        (Fault::Answer("ThrottlingException", "slow"), 1),
        (Fault::Cut, 1),
    ] {
        dynamo.fail("TransactWriteItems", fault.clone());
        assert_eq!(sink.prove().await.unwrap().warnings.len(), warnings, "{fault:?}");
    }
    assert!(scan(&dynamo.client(), TABLE).await.is_empty() && scan(&dynamo.client(), GUARDS).await.is_empty());
}

#[tokio::test]
async fn a_table_that_is_deleted_meanwhile_stops_the_sink_until_it_is_there_again() {
    for table in [TABLE, GUARDS] {
        let dynamo = Dynamo::new();
        let client = dynamo.client();
        let sink = sink(&dynamo).await;
        assert_eq!(emit(&sink, 0, &[(1, number(1))]).await.unwrap(), Emitted::all());
        client.delete_table().table_name(table).send().await.unwrap();
        let failure = emit(&sink, 0, &[(2, number(2))]).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration, "{failure}");
        sink.create_table().await.unwrap();
        assert_eq!(emit(&sink, 0, &[(2, number(2))]).await.unwrap(), Emitted::all());
        assert_eq!(of_a(&dynamo).await[3], "2");
    }
}

/// A change of the settings, and what is said of it.
type Contradiction<'a> = (&'a dyn Fn(&mut DynamoDbConfig), &'a str);

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let dynamo = Dynamo::new();
    let refused = |change: &dyn Fn(&mut DynamoDbConfig)| {
        let mut config = counting(dynamo.client());
        change(&mut config);
        DynamoDbEmitter::open(config).unwrap_err().to_string()
    };
    let position_key =
        KeyAttribute { name: "x".into(), source: KeySource::Position, key_type: Some(ScalarAttributeType::S) };
    let by_position = |config: &mut DynamoDbConfig| config.key[0] = position_key.clone();
    let cases: [Contradiction<'_>; 12] = [
        (&|config| config.aggregate.as_mut().unwrap().max = named(&[("", ".n")]), "has no name"),
        (&|config| config.key[1] = field("minute", ".minute"), "one part of the key is that"),
        (&by_position, "none a position"),
        (&|config| config.guard = Guard::Never, "always guarded"),
        (&|config| config.partition_key = Some("id".into()), "leave `guard`, `ordered_by`, `partition_key`"),
        (&|config| config.ttl = Some("expires".into()), "set both"),
        (&|config| config.aggregate.as_mut().unwrap().guards = TABLE.into(), "a table of their own"),
        (&|config| config.aggregate.as_mut().unwrap().count = Some("sum".into()), "`sum` stands once"),
        (&|config| config.aggregate.as_mut().unwrap().count = Some("id".into()), "`id` is a part of the key"),
        (&|config| config.aggregate.as_mut().unwrap().window = std::time::Duration::from_millis(1500), "whole seconds"),
        (&|config| config.aggregate = None, "where records are counted alone"),
        (
            &|config| {
                let aggregate = config.aggregate.as_mut().unwrap();
                aggregate.count = None;
                (aggregate.sum, aggregate.min, aggregate.max) = Default::default();
            },
            "nothing is counted",
        ),
    ];
    for (change, why) in cases {
        let said = refused(change);
        assert!(said.contains(why), "{said}");
    }
}

/// The service in process knows the 4 KB of an expression.
#[tokio::test]
async fn as_many_numbers_as_a_request_can_count_are_counted_and_more_are_refused_at_the_start() {
    for (extremes, sums) in [(75, 0), (75, 223), (0, 298)] {
        let config = |extremes: usize, sums: usize| {
            let dynamo = Dynamo::new();
            let mut config = counting(dynamo.client());
            let fields = |prefix: &str, places: std::ops::Range<usize>| {
                places.map(|place| (format!("{prefix}{place}"), ".n".parse().unwrap())).collect()
            };
            (config.ttl, config.expire_after) = (Some("expires".into()), Some(std::time::Duration::from_secs(60)));
            let aggregate = config.aggregate.as_mut().unwrap();
            aggregate.min = fields("min", 0..extremes / 2);
            aggregate.max = fields("max", extremes / 2..extremes);
            aggregate.sum = fields("sum", 0..sums);
            config
        };
        let sink = super::super::sink(config(extremes, sums)).await;
        // The second meets every condition.
        for sequence in [1, 2] {
            assert_eq!(emit(&sink, 0, &[(sequence, number(7))]).await.unwrap(), Emitted::all(), "{extremes} {sums}");
        }
        let more = if sums == 0 { config(extremes + 1, 0) } else { config(extremes, sums + 1) };
        let said = DynamoDbEmitter::open(more).unwrap_err().to_string();
        assert!(said.contains("more attributes than a request can"), "{said}");
    }
}
