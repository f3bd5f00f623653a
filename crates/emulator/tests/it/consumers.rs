use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Consumer, ConsumerDescription, ConsumerStatus};
use kinesink_emulator::{Emulator, Limit, Limits, ManualClock};

use crate::client::{STREAM, code, create, emulator, emulator_with, in_process, start};

const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";

pub(crate) async fn register(client: &Client, name: &str) -> Consumer {
    let request = client.register_stream_consumer().stream_arn(STREAM_ARN).consumer_name(name);
    request.send().await.unwrap().consumer.unwrap()
}

async fn describe(client: &Client, name: &str) -> ConsumerDescription {
    let request = client.describe_stream_consumer().stream_arn(STREAM_ARN).consumer_name(name);
    request.send().await.unwrap().consumer_description.unwrap()
}

/// An emulator without limits on calls, whose consumers take a second to be created and deleted.
fn slow() -> (Emulator, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(start()));
    let limits = Limits::default().without(Limit::ControlPlaneCalls);
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(limits);
    (builder.transitions(Duration::from_secs(1)).build().unwrap(), clock)
}

#[tokio::test]
async fn a_consumer_is_created_described_and_deleted_by_the_clock() {
    let (emulator, clock) = slow();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    let registered = register(&client, "app").await;
    let arn = format!("{STREAM_ARN}/consumer/app:1772366401");
    assert_eq!((registered.consumer_name.as_str(), registered.consumer_arn.as_str()), ("app", arn.as_str()));
    assert_eq!(registered.consumer_status, ConsumerStatus::Creating);
    assert_eq!(describe(&client, "app").await.consumer_status, ConsumerStatus::Creating);
    clock.advance(Duration::from_millis(999));
    assert_eq!(describe(&client, "app").await.consumer_status, ConsumerStatus::Creating);
    clock.advance(Duration::from_millis(1));
    let by_arn = client.describe_stream_consumer().consumer_arn(&arn).send().await.unwrap();
    let described = by_arn.consumer_description.unwrap();
    assert_eq!(described, describe(&client, "app").await);
    assert_eq!((described.consumer_status, described.stream_arn.as_str()), (ConsumerStatus::Active, STREAM_ARN));
    assert_eq!(described.consumer_creation_timestamp, DateTime::from_millis(1_772_366_401_500));
    let again = client.register_stream_consumer().stream_arn(STREAM_ARN).consumer_name("app").send().await;
    assert_eq!(code(again), "ResourceInUseException");

    client.deregister_stream_consumer().consumer_arn(&arn).send().await.unwrap();
    assert_eq!(describe(&client, "app").await.consumer_status, ConsumerStatus::Deleting);
    assert_eq!(code(client.deregister_stream_consumer().consumer_arn(&arn).send().await), "ResourceInUseException");
    clock.advance(Duration::from_secs(1));
    let gone = client.describe_stream_consumer().consumer_arn(&arn).send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");

    // Its name is free, and its ARN is not that of its namesake.
    register(&client, "app").await;
    assert_eq!(code(client.describe_stream_consumer().consumer_arn(&arn).send().await), "ResourceNotFoundException");
}

#[tokio::test]
async fn a_stream_has_20_consumers_and_five_of_them_in_creation() {
    let (emulator, clock) = slow();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    for number in 0..20 {
        if number > 0 && number % 5 == 0 {
            let sixth = client.register_stream_consumer().stream_arn(STREAM_ARN).consumer_name("sixth").send().await;
            assert!(sixth.unwrap_err().into_service_error().is_limit_exceeded_exception());
            clock.advance(Duration::from_secs(1));
        }
        register(&client, &format!("app-{number:02}")).await;
    }
    clock.advance(Duration::from_secs(1));
    let last = client.register_stream_consumer().stream_arn(STREAM_ARN).consumer_name("last").send().await;
    assert!(last.unwrap_err().into_service_error().is_limit_exceeded_exception());
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().consumer_count, Some(20));
    let gone = client.deregister_stream_consumer().stream_arn(STREAM_ARN).consumer_name("app-07");
    gone.send().await.unwrap();
    clock.advance(Duration::from_secs(1));
    register(&client, "last").await;

    let (emulator, clock) = emulator_with(|builder| builder.limits(Limits::default().without(Limit::Consumers)));
    let client = in_process(&emulator);
    create(&client, 1).await;
    for number in 0..21 {
        register(&client, &format!("app-{number:02}")).await;
        clock.advance(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn consumers_are_listed_by_pages_and_tokens_expire() {
    let (emulator, clock) = slow();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    for name in ["c", "a", "e", "b", "d"] {
        register(&client, name).await;
    }
    let list = || client.list_stream_consumers().stream_arn(STREAM_ARN).max_results(2);
    let pages: Vec<_> = list().into_paginator().send().try_collect().await.unwrap();
    let names = pages.into_iter().flat_map(|page| page.consumers.unwrap()).map(|consumer| consumer.consumer_name);
    let names: Vec<String> = names.collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let token = list().send().await.unwrap().next_token.unwrap();
    clock.advance(Duration::from_secs(300));
    assert!(list().next_token(&token).send().await.is_ok());
    clock.advance(Duration::from_millis(1));
    let expired = list().next_token(&token).send().await.unwrap_err().into_service_error();
    assert!(expired.is_expired_next_token_exception());
    let other = client.list_stream_consumers().stream_arn(STREAM_ARN).stream_creation_timestamp(DateTime::from_secs(1));
    assert_eq!(code(other.send().await), "ResourceNotFoundException");
}

#[tokio::test]
async fn a_stream_with_consumers_is_deleted_only_on_purpose() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    register(&client, "app").await;
    assert_eq!(code(client.delete_stream().stream_name(STREAM).send().await), "ResourceInUseException");
    client.delete_stream().stream_name(STREAM).enforce_consumer_deletion(true).send().await.unwrap();
    create(&client, 1).await;
    let gone = client.describe_stream_consumer().stream_arn(STREAM_ARN).consumer_name("app").send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test]
async fn consumers_survive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(start()));
    let open = || {
        let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).directory(directory.path());
        builder.build().unwrap()
    };
    let emulator = open();
    let client = in_process(&emulator);
    create(&client, 1).await;
    register(&client, "stays").await;
    register(&client, "goes").await;
    client.deregister_stream_consumer().stream_arn(STREAM_ARN).consumer_name("goes").send().await.unwrap();
    let before = describe(&client, "stays").await;
    drop((client, emulator));
    let client = in_process(&open());
    assert_eq!(describe(&client, "stays").await, before);
    let listed = client.list_stream_consumers().stream_arn(STREAM_ARN).send().await.unwrap();
    assert_eq!(listed.consumers.unwrap().len(), 1);
}

#[tokio::test]
async fn a_consumer_that_is_not_named_right_is_refused() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    register(&client, "app").await;
    let register = |arn: &str, name: &str| client.register_stream_consumer().stream_arn(arn).consumer_name(name).send();
    assert_eq!(code(register("orders", "new").await), "ValidationException");
    assert_eq!(code(register(STREAM_ARN, "a space").await), "ValidationException");
    assert_eq!(code(register(&STREAM_ARN.replace("orders", "none"), "new").await), "ResourceNotFoundException");
    let describe = client.describe_stream_consumer();
    assert_eq!(code(describe.clone().send().await), "InvalidArgumentException");
    assert_eq!(code(describe.clone().consumer_name("app").send().await), "InvalidArgumentException");
    assert_eq!(code(describe.clone().consumer_arn(STREAM_ARN).send().await), "ValidationException");
    let other = format!("{STREAM_ARN}/consumer/other:1");
    let both = describe.stream_arn(STREAM_ARN).consumer_name("app").consumer_arn(other);
    assert_eq!(code(both.send().await), "InvalidArgumentException");
}

#[tokio::test]
async fn tags_of_a_new_consumer_are_checked_as_those_of_any() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let register = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        client.register_stream_consumer().stream_arn(STREAM_ARN).consumer_name("app").set_tags(Some(tags)).send()
    };
    let (long_key, long_value) = ("k".repeat(129), "v".repeat(257));
    for (tags, expected) in [
        (&[("", "v")][..], "ValidationException"),
        (&[(&long_key, "v")], "ValidationException"),
        (&[("k", &long_value)], "ValidationException"),
        (&[("aws:mine", "v")], "InvalidArgumentException"),
        (&[("a*b", "v")], "InvalidArgumentException"),
        (&[("k", "v"), ("k2", "<v>")], "InvalidArgumentException"),
    ] {
        assert_eq!(code(register(tags).await), expected, "{tags:?}");
    }
    let arn = register(&[("team", "data")]).await.unwrap().consumer.unwrap().consumer_arn;
    let tags = client.list_tags_for_resource().resource_arn(arn).send().await.unwrap().tags.unwrap();
    assert_eq!((tags.len(), tags[0].key(), tags[0].value()), (1, "team", Some("data")));
}
