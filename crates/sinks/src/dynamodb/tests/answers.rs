//! What the service answers, and what becomes of the items.

use kinesink_aws::dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use kinesink_core::{Class, Emitted, Emitter, Exception, Failure};
use serde_json::{Value, json};

use super::dynamo::{Dynamo, Fault};
use super::{Sample, TABLE, config, emit, field, refusal, sample, sink, stored};
use crate::dynamodb::{DynamoDbConfig, DynamoDbEmitter, Guard, KeyAttribute, KeySource};

async fn check(sink: &DynamoDbEmitter) -> Result<(), Failure> {
    Emitter::<bytes::Bytes>::check(sink).await
}

/// Items of as many keys.
fn many(count: u64) -> Vec<(u64, String, Value)> {
    (0..count).map(|n| (n, format!("k{n}"), json!({ "id": format!("k{n}") }))).collect()
}

fn samples(many: &[(u64, String, Value)]) -> Vec<Sample<'_>> {
    many.iter().map(|(sequence, key, json)| (*sequence, key.as_str(), json.clone())).collect()
}

/// Indexes of what is to be sent again, and of what is refused.
pub(super) fn exceptions(emitted: &Emitted) -> (Vec<usize>, Vec<usize>) {
    let (mut again, mut refused) = (Vec::new(), Vec::new());
    for (index, exception) in emitted.exceptions() {
        if matches!(exception, Exception::Retry(_)) { again.push(*index) } else { refused.push(*index) }
    }
    again.sort_unstable();
    refused.sort_unstable();
    (again, refused)
}

#[tokio::test]
async fn answers_are_judged_and_nothing_is_retried() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let cases = [
        (
            "ProvisionedThroughputExceededException",
            "slow",
            Class::Transient,
            "ProvisionedThroughputExceededException: slow",
        ),
        ("ThrottlingException", "slow", Class::Transient, "cannot put an item into table items: ThrottlingException"),
        ("RequestLimitExceeded", "slow", Class::Transient, "RequestLimitExceeded"),
        ("InternalServerError", "oh", Class::Transient, "InternalServerError"),
        ("ReplicatedWriteConflictException", "oh", Class::Transient, "another write is on its way"),
        ("AccessDeniedException", "no", Class::Configuration, "grant the permission"),
        ("ResourceNotFoundException", "none", Class::Configuration, "there is none of this name: create it"),
        (
            "ValidationException",
            "The provided key element does not match the schema",
            Class::Configuration,
            "restore the table",
        ),
    ];
    for (code, message, class, text) in cases {
        let before = dynamo.calls("PutItem").len();
        dynamo.fail("PutItem", Fault::Answer(code, message));
        let failure = emit(&sink, &[(1, "a", json!({"id": "a"}))]).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
        assert!(failure.message.contains(text) && failure.message.contains("table items"), "{failure}");
        assert_eq!(dynamo.calls("PutItem").len(), before + 1, "{code} was retried");
    }
    for (message, said) in [
        ("Item size has exceeded the maximum allowed size", "Item size has exceeded the maximum allowed size"),
        ("The parameter cannot be converted to a numeric value: SECRET", "it says that the item is not valid"),
        (
            "One or more parameter values were invalid: Input collection [SECRET] contains duplicates.",
            "it says that the item",
        ),
    ] {
        dynamo.fail("PutItem", Fault::Answer("ValidationException", message));
        let why = refusal(&sink, json!({"id": "a"})).await;
        assert!(why.contains(said) && why.contains("table items") && !why.contains("SECRET"), "{why}");
    }
}

/// What no one has met so far is the record's fault alone if the service takes a request of the same kind without it.
#[tokio::test]
async fn a_refusal_for_an_unknown_reason_condemned_record_after_record() {
    let unknown = || Fault::Answer("ValidationException", "Requests of this kind are not taken today");
    for (guard, operation) in [(Guard::Always, "PutItem"), (Guard::Never, "BatchWriteItem")] {
        let dynamo = Dynamo::new();
        let sink = sink(DynamoDbConfig { guard, ..config(dynamo.client()) }).await;
        let one = [(1, "a", json!({"id": "a", "v": "SECRET"}))];
        dynamo.fail(operation, unknown());
        let emitted = emit(&sink, &one).await.unwrap();
        let said = format!("{:?}", emitted.exceptions());
        assert!(said.contains("it says that the item is not valid") && !said.contains("SECRET"), "{said}");
        assert_eq!(exceptions(&emitted), (vec![], vec![0]));
        // The same without a record.
        dynamo.fail(operation, unknown());
        dynamo.fail(operation, unknown());
        let failure = emit(&sink, &one).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        let said = "the service takes no such request, of no item: it says: Requests of this kind are not taken today";
        assert!(failure.message.ends_with(said) && failure.message.contains("table items"), "{failure}");
        // Nor is it known while the service has no room.
        dynamo.fail(operation, unknown());
        dynamo.fail(operation, Fault::Answer("ThrottlingException", "slow"));
        assert_eq!(emit(&sink, &one).await.unwrap_err().class, Class::Transient);
        assert_eq!((emit(&sink, &one).await.unwrap(), dynamo.faults_left()), (Emitted::all(), 0));
    }
}

#[tokio::test]
async fn throttles_are_told_apart_and_the_busiest_key_is_told_by_its_hash() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    for (reason, remedy) in [
        ("TableWriteKeyRangeThroughputExceeded", "some keys are written more often than any key may be"),
        ("TableWriteProvisionedThroughputExceeded", "raise the table's write capacity, or pay by the request"),
        ("TableWriteMaxOnDemandThroughputExceeded", "raise the table's maximum throughput"),
        ("IndexWriteAccountLimitExceeded", "raise the account's quota"),
    ] {
        dynamo.fail("PutItem", Fault::Throttle(reason, TABLE));
        let failure = emit(&sink, &[(1, "a", json!({"id": "a"}))]).await.unwrap_err();
        assert_eq!(failure.class, Class::Transient);
        assert!(failure.message.contains(&format!("; {reason}: {remedy}")), "{failure}");
    }
    dynamo.fail("PutItem", Fault::Throttle("TableWriteKeyRangeThroughputExceeded", TABLE));
    let put = |sequence, id: &'static str| (sequence, id, json!({ "id": id }));
    let emitted = emit(&sink, &[put(2, "SECRET"), put(3, "SECRET"), put(4, "b")]).await.unwrap();
    let Some((0, Exception::Retry(why))) = emitted.exceptions().first() else { panic!("{emitted:?}") };
    let why = why.to_string();
    assert!(why.contains("; 1 keys wait, the busiest, of hash ") && why.ends_with(", with 2 records"), "{why}");
    assert!(!why.contains("SECRET"), "{why}");
}

#[tokio::test]
async fn what_fails_of_many_is_sent_again_alone() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let many = many(5);
    dynamo.fail("PutItem", Fault::Answer("ThrottlingException", "slow"));
    dynamo.fail("PutItem", Fault::Cut);
    dynamo.fail("PutItem", Fault::LoseAnswer);
    let emitted = emit(&sink, &samples(&many)).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![0, 1, 2], vec![]));
    assert_eq!(stored(&dynamo.client()).await.len(), 3, "the third is there, though nobody said so");
    assert_eq!(emit(&sink, &samples(&many)[..3]).await.unwrap(), Emitted::all());
    assert_eq!((stored(&dynamo.client()).await.len(), dynamo.faults_left()), (5, 0));
}

#[tokio::test]
async fn a_write_that_the_service_refuses_gives_way_to_the_one_before_it() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    let put = |sequence, v| (sequence, "a", json!({"id": "a", "v": v}));
    dynamo.fail("PutItem", Fault::Answer("ValidationException", "Nesting Levels have exceeded supported limits"));
    let emitted = emit(&sink, &[put(1, 1), put(2, 2), put(3, 3)]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![2]));
    assert_eq!(stored(&dynamo.client()).await["a"]["v"], json!({"N": "2"}));

    // In a batch too, and in the same attempt.
    let sink = DynamoDbEmitter::open(unguarded(&dynamo)).unwrap();
    let refused = || Fault::Answer("ValidationException", "Nesting Levels have exceeded supported limits");
    dynamo.fail("BatchWriteItem", refused());
    dynamo.fail("BatchWriteItem", refused());
    let emitted = emit(&sink, &[put(4, 4), put(5, 5), put(6, 6)]).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![1, 2]));
    assert_eq!(stored(&dynamo.client()).await["a"]["v"], json!({"N": "4"}));
}

#[tokio::test]
async fn a_start_never_passed_where_a_key_has_a_number() {
    let number = |name: &str| KeyAttribute { key_type: Some(ScalarAttributeType::N), ..field(name, ".n") };
    for key in [vec![number("id")], vec![field("id", ".id"), number("at")]] {
        for guard in [Guard::Always, Guard::Never] {
            let dynamo = Dynamo::new();
            let sink = sink(DynamoDbConfig { key: key.clone(), guard, ..config(dynamo.client()) }).await;
            check(&sink).await.unwrap();
        }
    }
}

fn unguarded(dynamo: &Dynamo) -> DynamoDbConfig {
    DynamoDbConfig { guard: Guard::Never, ..config(dynamo.client()) }
}

#[tokio::test]
async fn a_batch_has_25_items_and_what_it_had_no_room_for_is_sent_again_alone() {
    let dynamo = Dynamo::new();
    let config = unguarded(&dynamo);
    let metrics = config.metrics.clone();
    let sink = sink(config).await;
    let many = many(60);
    dynamo.fail("BatchWriteItem", Fault::RoomFor(20));
    let emitted = emit(&sink, &samples(&many)).await.unwrap();
    let sizes: Vec<_> = dynamo
        .calls("BatchWriteItem")
        .iter()
        .map(|call| call["RequestItems"][TABLE].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [25, 25, 10]);
    assert_eq!(exceptions(&emitted), (vec![20, 21, 22, 23, 24], vec![]));
    let throttles = sample(&metrics, "table_throttles_total{table=\"items\",limit=\"unknown\"}");
    assert_eq!(throttles.as_deref(), Some("5"), "each is a write that met a limit");
    assert_eq!(stored(&dynamo.client()).await.len(), 55);
}

#[tokio::test]
async fn one_bad_item_never_condemns_its_batch() {
    let dynamo = Dynamo::new();
    let mut config = unguarded(&dynamo);
    config.key = vec![field("id", ".id")];
    let sink = sink(config).await;
    let mut many = many(25);
    // No check of ours knows of it, and the service says of which batch, not of which item: by halves 25, 13, 7, 4, 2, 1.
    many[17].2["long"] = json!("x".repeat(409_470));
    many[17].2["numbers"] = json!(vec![1; 50]);
    let emitted = emit(&sink, &samples(&many)).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![17]));
    let Some((_, Exception::Rejected(why))) = emitted.exceptions().first() else { panic!("{emitted:?}") };
    assert!(why.to_string().starts_with("table items refuses the item: Item size"), "{why}");
    assert_eq!(stored(&dynamo.client()).await.len(), 24);
    assert!(dynamo.calls("BatchWriteItem").len() <= 11, "{}", dynamo.calls("BatchWriteItem").len());
}

#[tokio::test]
async fn a_table_that_does_not_go_with_the_sink_is_named_at_the_start() {
    let dynamo = Dynamo::new();
    let missing = DynamoDbEmitter::open(config(dynamo.client())).unwrap();
    let failure = check(&missing).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    assert!(
        failure.message.starts_with("cannot describe table items: there is none of this name: create it"),
        "{failure}"
    );

    check(&sink(config(dynamo.client())).await).await.unwrap();
    assert!(stored(&dynamo.client()).await.is_empty(), "a start leaves nothing behind");
    check(&DynamoDbEmitter::open(unguarded(&dynamo)).unwrap()).await.unwrap();
    let attribute = |name: &str, source, key_type| KeyAttribute { name: name.into(), source, key_type };
    let id = |source, key_type| attribute("id", source, key_type);
    let a_field = || KeySource::Field(".id".parse().unwrap());
    for (key, why) in [
        (vec![field("pk", ".id")], "its key is `id` (text), and `key` gives `pk` in the place of `id`"),
        (vec![field("id", ".id"), field("sk", ".sk")], "`key` gives 2 attributes"),
        (vec![id(a_field(), Some(ScalarAttributeType::N))], "`key` gives `id` another type"),
    ] {
        let sink = DynamoDbEmitter::open(DynamoDbConfig { key, ..config(dynamo.client()) }).unwrap();
        let failure = check(&sink).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.contains(why) && failure.message.contains("mend `key`"), "{failure}");
    }
    for (operation, guard) in [("PutItem", Guard::Always), ("BatchWriteItem", Guard::Never)] {
        dynamo.fail(operation, Fault::Answer("AccessDeniedException", "no"));
        let sink = DynamoDbEmitter::open(DynamoDbConfig { guard, ..config(dynamo.client()) }).unwrap();
        let failure = check(&sink).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration, "{failure}");
    }
}

#[tokio::test]
async fn a_start_that_was_throttled_ended_the_process() {
    let dynamo = Dynamo::new();
    let sink = sink(config(dynamo.client())).await;
    for fault in [Fault::Throttle("TableWriteKeyRangeThroughputExceeded", TABLE), Fault::Cut] {
        dynamo.fail("PutItem", fault);
        check(&sink).await.unwrap();
    }
    assert_eq!((dynamo.calls("PutItem").len(), dynamo.faults_left()), (2, 0));
}

#[tokio::test]
async fn a_table_that_is_deleted_meanwhile_stops_the_sink_until_it_is_there_again() {
    let dynamo = Dynamo::new();
    let client = dynamo.client();
    let sink = sink(config(client.clone())).await;
    let put = [(1, "a", json!({"id": "a"}))];
    assert_eq!(emit(&sink, &put).await.unwrap(), Emitted::all());
    client.delete_table().table_name(TABLE).send().await.unwrap();
    for _ in 0..2 {
        let failure = emit(&sink, &put).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.contains("table items: there is none of this name"), "{failure}");
    }
    sink.create_table().await.unwrap();
    assert_eq!(emit(&sink, &put).await.unwrap(), Emitted::all());
}

/// Five million bytes of a list of ones are as many more in a request, which the service does not read: nothing of it is sent, and the
/// others are.
#[tokio::test]
async fn a_list_of_ones_had_counted_as_nothing_and_ended_the_process_at_each_start() {
    for guard in [Guard::Always, Guard::Never] {
        let dynamo = Dynamo::new();
        let sink = sink(DynamoDbConfig { guard, ..config(dynamo.client()) }).await;
        let ones = json!({"id": "b", "list": vec![1; 2_500_000]});
        let window = [(1, "a", json!({"id": "a"})), (2, "b", ones), (3, "c", json!({"id": "c"}))];
        let emitted = emit(&sink, &window).await.unwrap();
        assert_eq!(exceptions(&emitted), (vec![], vec![1]));
        assert_eq!(stored(&dynamo.client()).await.into_keys().collect::<Vec<_>>(), ["a", "c"]);
        let sent = dynamo.calls("PutItem").len() + dynamo.calls("BatchWriteItem").len();
        assert_eq!(sent, if guard == Guard::Always { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_divided() {
    let dynamo = Dynamo::new();
    let sink = sink(DynamoDbConfig { guard: Guard::Never, ..config(dynamo.client()) }).await;
    let many = many(4);
    for _ in 0..3 {
        dynamo.fail("BatchWriteItem", Fault::TooLarge);
    }
    let emitted = emit(&sink, &samples(&many)).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], vec![0]), "of four, of two, and of one");
    assert_eq!(stored(&dynamo.client()).await.len(), 3);
    let Some((0, Exception::Rejected(why))) = emitted.exceptions().first() else { panic!("{emitted:?}") };
    assert_eq!(why.to_string(), "table items refuses the item: a request with it is larger than the 16 MB of one");
}

#[tokio::test]
async fn what_an_index_cannot_hold_is_refused_by_name() {
    let dynamo = Dynamo::new();
    let definition = |name: &str, attribute_type| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(attribute_type).build().unwrap()
    };
    let hash = |name: &str| KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash).build().unwrap();
    let all = Projection::builder().projection_type(ProjectionType::All).build();
    let index =
        GlobalSecondaryIndex::builder().index_name("by-city").key_schema(hash("city")).projection(all).build().unwrap();
    let request = dynamo.client().create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let request = request.attribute_definitions(definition("id", ScalarAttributeType::S)).key_schema(hash("id"));
    let request =
        request.attribute_definitions(definition("city", ScalarAttributeType::S)).global_secondary_indexes(index);
    request.send().await.unwrap();
    let sink = DynamoDbEmitter::open(config(dynamo.client())).unwrap();
    assert_eq!(
        refusal(&sink, json!({"id": "a", "city": 7})).await,
        "key attribute `city` of table items is text there and a number here: convert it in the transform, or name its type in `types` before the table is made"
    );
    assert!(refusal(&sink, json!({"id": "a", "city": ""})).await.contains("is empty, which no key may be"));
    let fine = [(1, "a", json!({"id": "a", "city": "Bonn"})), (2, "b", json!({"id": "b"}))];
    assert_eq!(emit(&sink, &fine).await.unwrap(), Emitted::all());
}
