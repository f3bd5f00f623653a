//! Logs as they were written when their format was made, and what is written today.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesink_emulator::{Clock as _, Emulator, Limits, ManualClock};

use crate::client::{STREAM, get, in_process, put_one, raw, shard_ids, texts, trim_horizon};
use crate::persistence::{clock, golden, open, read, told_of};

const SHARD: &str = "shardId-000000000000";

/// A log of format 1 as it was written when the format was made. It must open for ever; what it says is kept in the
/// format of today.
#[tokio::test]
async fn the_first_format_still_opens() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let log = directory.path().join("kinesis.log");
    std::fs::copy(golden("format-1.log"), &log).unwrap();
    assert_is_golden(&in_process(&open(directory.path(), &clock).unwrap())).await;
    assert_eq!(std::fs::read(&log).unwrap()[16..18], [4, 0]);
    assert_is_golden(&in_process(&open(directory.path(), &clock).unwrap())).await;
}

async fn assert_is_golden(client: &Client) {
    assert_eq!(shard_ids(client).await.len(), 4);
    let parent = get(client, &trim_horizon(client, SHARD).await).await;
    assert_eq!(texts(&parent), ["parent", ""]);
    assert_eq!(parent.records[0].sequence_number, "49672258771465835560701030492272030842587407545540804610");
    assert_eq!(read(client, "shardId-000000000003").await, ["child"]);
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().retention_period_hours, 36);
}

/// A log of format 2 as it was written when the format was made: anew, and then added to.
#[tokio::test]
async fn the_second_format_still_opens() {
    let (directory, clock) = opened_golden("format-2.log");
    assert_is_whole(directory.path(), &clock, &["next"]).await;
    assert_eq!(std::fs::read(directory.path().join("kinesis.log")).unwrap()[16..18], [4, 0]);
}

/// The same in format 3, to which one call has added three records of two shards.
#[tokio::test]
async fn the_third_format_still_opens() {
    let (directory, clock) = opened_golden("format-3.log");
    assert_is_whole(directory.path(), &clock, &["b", "next", "a", "c"]).await;
}

/// What is written today, byte for byte but for the version: that log written anew, and behind it every event there is.
#[tokio::test]
async fn what_is_written_is_the_fourth_format_as_it_was_made() {
    let (directory, clock) = opened_golden("format-3.log");
    drop(lived_in_again(directory.path(), &clock).await);
    let entries = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[16..18], [4, 0]);
        bytes[19 + usize::from(bytes[18])..].to_vec()
    };
    let (written, golden) = (entries(&directory.path().join("kinesis.log")), entries(&golden("format-4.log")));
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&golden));
    assert_eq!(written, golden);
    let names = String::from_utf8_lossy(&golden);
    for event in [
        "CreateStream",
        "DeleteStream",
        "PutRecords",
        "SplitShard",
        "MergeShards",
        "SetRetention",
        "Begin",
        "Activate",
        "UpdateShardCount",
        "SetMode",
        "Set",
        "Tag",
        "RegisterConsumer",
        "DeregisterConsumer",
        "RestoreCount",
        "RestoreStream",
        "RestoreRecords",
    ] {
        assert!(names.contains(&format!("{{\"{event}\":")), "there is no {event}");
    }
}

/// The same in format 4, and behind it the life of another stream.
#[tokio::test]
async fn the_fourth_format_still_opens() {
    let (directory, clock) = opened_golden("format-4.log");
    let emulator = open(directory.path(), &clock).unwrap();
    let told = told_of(&emulator, "again").await;
    let expected = std::fs::read_to_string(golden("format-4.json")).unwrap();
    assert_eq!(serde_json::to_string_pretty(&told).unwrap(), expected.trim_end());
    raw(&emulator, "DeleteStream", r#"{"StreamName":"again"}"#).await;
    drop(emulator);
    assert_is_whole(directory.path(), &clock, &["b", "next", "a", "c"]).await;
}

/// Everything that can happen to a stream happens to one.
async fn lived_in_again(directory: &Path, clock: &Arc<ManualClock>) -> Emulator {
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(clock)).limits(Limits::none());
    let emulator = builder.transitions(Duration::from_secs(1)).directory(directory).build().unwrap();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/again";
    let create = r#"{"StreamName":"again","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"MaxRecordSizeInKiB":2048,
        "RecordDistributionStrategy":"AUTO","Tags":{"team":"orders"}}"#;
    let calls = [
        ("CreateStream", create.to_owned()),
        ("PutRecords", r#"{"StreamName":"again","Records":[{"Data":"YQ=="},{"Data":"YmI="},{"Data":""}]}"#.to_owned()),
        ("UpdateStreamMode", format!(r#"{{"StreamARN":"{arn}","StreamModeDetails":{{"StreamMode":"PROVISIONED"}}}}"#)),
        ("PutRecord", r#"{"StreamName":"again","PartitionKey":"é\"","Data":"Y2Nj","ExplicitHashKey":"0"}"#.to_owned()),
        (
            "SplitShard",
            r#"{"StreamName":"again","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"7"}"#.to_owned(),
        ),
        (
            "MergeShards",
            r#"{"StreamName":"again","ShardToMerge":"shardId-000000000002",
                "AdjacentShardToMerge":"shardId-000000000003"}"#
                .to_owned(),
        ),
        (
            "UpdateShardCount",
            r#"{"StreamName":"again","TargetShardCount":2,"ScalingType":"UNIFORM_SCALING"}"#.to_owned(),
        ),
        ("UpdateMaxRecordSize", format!(r#"{{"StreamARN":"{arn}","MaxRecordSizeInKiB":1024}}"#)),
        ("IncreaseStreamRetentionPeriod", r#"{"StreamName":"again","RetentionPeriodHours":48}"#.to_owned()),
        ("RegisterStreamConsumer", format!(r#"{{"StreamARN":"{arn}","ConsumerName":"app","Tags":{{"a":"1"}}}}"#)),
        ("AddTagsToStream", r#"{"StreamName":"again","Tags":{"cost":"7"}}"#.to_owned()),
        ("RemoveTagsFromStream", r#"{"StreamName":"again","TagKeys":["team"]}"#.to_owned()),
        ("DeregisterStreamConsumer", format!(r#"{{"StreamARN":"{arn}","ConsumerName":"app"}}"#)),
        ("DeleteStream", r#"{"StreamName":"again"}"#.to_owned()),
        ("CreateStream", r#"{"StreamName":"again","ShardCount":2}"#.to_owned()),
        ("PutRecord", r#"{"StreamName":"again","PartitionKey":"k","Data":"ZA=="}"#.to_owned()),
    ];
    for (operation, request) in calls {
        let (status, reply) = raw(&emulator, operation, request).await;
        assert_eq!(status, 200, "{operation}: {reply}");
        clock.advance(Duration::from_secs(1));
        if operation == "DeleteStream" {
            // Gone by then. Made again before that, or else it would be the clock that makes its numbers greater.
            raw(&emulator, "ListStreams", "{}").await;
            clock.set(clock.now() - Duration::from_secs(60));
        }
    }
    emulator
}

fn opened_golden(name: &str) -> (tempfile::TempDir, Arc<ManualClock>) {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    clock.advance(Duration::from_secs(25 * 3600 + 3));
    std::fs::copy(golden(name), directory.path().join("kinesis.log")).unwrap();
    (directory, clock)
}

async fn assert_is_whole(directory: &Path, clock: &Arc<ManualClock>, added: &[&str]) {
    let emulator = open(directory, clock).unwrap();
    let client = in_process(&emulator);
    assert_eq!(client.list_streams().send().await.unwrap().stream_names, [STREAM, "short"]);
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!((summary.open_shard_count, summary.retention_period_hours, summary.consumer_count), (4, 48, Some(1)));
    let tags = client.list_tags_for_stream().stream_name(STREAM).send().await.unwrap().tags;
    assert_eq!((tags[0].key.as_str(), tags[0].value.as_deref()), ("team", Some("orders")));
    assert_eq!(read(&client, SHARD).await, ["parent", "parent, while it is split"]);
    let mut texts = Vec::new();
    for shard in shard_ids(&client).await {
        texts.extend(read(&client, &shard).await);
    }
    let before = ["parent", "parent, while it is split", "child"];
    assert_eq!(texts, [&before, added].concat());
    let next = put_one(&client, "k", "one more").await;
    assert_eq!(read(&client, &next.shard_id).await.last().unwrap(), "one more");
}
