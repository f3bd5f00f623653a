use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesink_emulator::{Emulator, Error, Limits, ManualClock};

use crate::client::{STREAM, code, create, get, in_process, put_one, raw, shard_ids, start, texts, trim_horizon};

const SHARD: &str = "shardId-000000000000";

fn open(directory: &Path, clock: &Arc<ManualClock>) -> Result<Emulator, Error> {
    Emulator::builder().clock(Arc::<ManualClock>::clone(clock)).limits(Limits::none()).directory(directory).build()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(start()))
}

async fn read(client: &Client, shard: &str) -> Vec<String> {
    texts(&get(client, &trim_horizon(client, shard).await).await)
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let emulator = open(directory.path(), &clock).unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    client.create_stream().stream_name("other").shard_count(1).send().await.unwrap();
    client.delete_stream().stream_name("other").send().await.unwrap();
    let longer = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(48);
    longer.send().await.unwrap();
    let first = put_one(&client, "é\"", "first").await.sequence_number;
    let iterator = trim_horizon(&client, SHARD).await;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    put_one(&client, "b", "child").await;
    let before = format!("{:?}", client.list_shards().stream_name(STREAM).send().await.unwrap().shards);
    drop((client, emulator));

    let emulator = open(directory.path(), &clock).unwrap();
    let client = in_process(&emulator);
    let after = format!("{:?}", client.list_shards().stream_name(STREAM).send().await.unwrap().shards);
    assert_eq!(before, after);
    assert_eq!(client.list_streams().send().await.unwrap().stream_names, [STREAM]);
    let reply = get(&client, &iterator).await;
    assert_eq!((texts(&reply), reply.records[0].partition_key.as_deref()), (vec!["first".to_owned()], Some("é\"")));
    assert_eq!((reply.records[0].sequence_number.as_str(), reply.next_shard_iterator), (first.as_str(), None));
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().retention_period_hours, 48);

    let put = put_one(&client, "b", "after restart").await;
    let shard = get(&client, &trim_horizon(&client, &put.shard_id).await).await;
    assert_eq!(texts(&shard), ["child", "after restart"]);
    assert!(shard.records[0].sequence_number < shard.records[1].sequence_number);
}

#[tokio::test]
async fn a_longer_retention_brings_nothing_back_also_after_a_restart() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let emulator = open(directory.path(), &clock).unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "expired").await;
    clock.advance(Duration::from_secs(25 * 3600));
    put_one(&client, "k", "kept").await;
    let longer = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(48);
    longer.send().await.unwrap();
    assert_eq!(read(&client, SHARD).await, ["kept"]);
    drop((client, emulator));
    let emulator = open(directory.path(), &clock).unwrap();
    assert_eq!(read(&in_process(&emulator), SHARD).await, ["kept"]);
}

/// A killed process leaves the file cut at any byte. Whatever was whole is there, what was not is gone, and the next
/// record does not follow rubbish.
#[tokio::test]
async fn a_log_cut_at_any_byte_opens_with_a_prefix() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let emulator = open(directory.path(), &clock).unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let log = directory.path().join("kinesis.log");
    let mut whole_at = vec![std::fs::metadata(&log).unwrap().len()];
    for data in ["one", "two"] {
        put_one(&client, "k", data).await;
        whole_at.push(std::fs::metadata(&log).unwrap().len());
    }
    let bytes = std::fs::read(&log).unwrap();
    for cut in 0..=bytes.len() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("kinesis.log");
        std::fs::write(&copy, bytes.get(..cut).unwrap()).unwrap();
        let survivors = whole_at.iter().filter(|end| **end <= cut as u64).count();
        let emulator = open(directory.path(), &clock).unwrap();
        if survivors == 0 {
            raw(&emulator, "CreateStream", r#"{"StreamName":"orders","ShardCount":1}"#).await;
        }
        let mut expected = ["b25l", "dHdv"].into_iter().take(survivors.saturating_sub(1)).collect::<Vec<_>>();
        assert_eq!(stored(&emulator).await, expected, "cut at {cut}");
        raw(&emulator, "PutRecord", r#"{"StreamName":"orders","PartitionKey":"k","Data":"bmV4dA=="}"#).await;
        drop(emulator);
        expected.push("bmV4dA==");
        assert_eq!(stored(&open(directory.path(), &clock).unwrap()).await, expected, "cut at {cut}");
    }
}

/// The records of the first shard, in base64. Without an SDK client, which takes longer to make than all the rest.
async fn stored(emulator: &Emulator) -> Vec<String> {
    let request = r#"{"StreamName":"orders","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}"#;
    let (_, iterator) = raw(emulator, "GetShardIterator", request).await;
    let (_, reply) = raw(emulator, "GetRecords", iterator.to_string()).await;
    reply["Records"].as_array().unwrap().iter().map(|record| record["Data"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_later_format_is_refused_with_the_version_that_wrote_it() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let mut header = b"kinesink-kinesis".to_vec();
    header.extend([7, 0, 5]);
    header.extend(b"9.8.7");
    std::fs::write(directory.path().join("kinesis.log"), &header).unwrap();
    let error = open(directory.path(), &clock).unwrap_err();
    assert!(matches!(&error, Error::NewerFormat { format: 7, written_by, .. } if written_by == "9.8.7"), "{error:?}");
    assert!(error.to_string().contains("written by kinesink 9.8.7"), "{error}");
    assert_eq!(std::fs::read(directory.path().join("kinesis.log")).unwrap(), header);
}

#[tokio::test]
async fn what_is_not_a_log_or_was_changed_is_refused_and_left_alone() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let log = directory.path().join("kinesis.log");
    for other in ["a file of the user's, longer than a header", "short"] {
        std::fs::write(&log, other).unwrap();
        assert!(matches!(open(directory.path(), &clock), Err(Error::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), other);
    }
    std::fs::remove_file(&log).unwrap();

    let client = in_process(&open(directory.path(), &clock).unwrap());
    create(&client, 1).await;
    let length = || usize::try_from(std::fs::metadata(&log).unwrap().len()).unwrap();
    let mut ends = vec![length()];
    for data in ["one", "two"] {
        put_one(&client, "k", data).await;
        ends.push(length());
    }
    drop(client);
    // The second byte from an entry's end is the quote that ends the record's partition key.
    let change_entry_before = |end: usize| {
        let mut bytes = std::fs::read(&log).unwrap();
        *bytes.get_mut(end - 2).unwrap() ^= 1;
        std::fs::write(&log, bytes).unwrap();
    };
    change_entry_before(ends[1]);
    let error = open(directory.path(), &clock).unwrap_err();
    let expected = format!("its entry at byte {} was changed", ends[0]);
    assert!(matches!(&error, Error::Damaged { reason, .. } if *reason == expected), "{error}");
    // The last entry may not have reached the disk whole, and then it was never acknowledged for good.
    change_entry_before(ends[1]);
    change_entry_before(ends[2]);
    assert_eq!(stored(&open(directory.path(), &clock).unwrap()).await, ["b25l"]);
    assert_eq!(length(), ends[1]);
}

#[tokio::test]
async fn one_directory_has_one_emulator() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let first = open(directory.path(), &clock).unwrap();
    assert!(matches!(open(directory.path(), &clock), Err(Error::InUse { .. })));
    drop(first);
    assert!(open(directory.path(), &clock).is_ok());
}

#[tokio::test]
async fn time_that_passed_while_nothing_ran_counts() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let client = in_process(&open(directory.path(), &clock).unwrap());
    create(&client, 1).await;
    put_one(&client, "k", "old").await;
    let iterator = trim_horizon(&client, SHARD).await;
    drop(client);
    clock.advance(Duration::from_secs(24 * 3600 + 1));
    let client = in_process(&open(directory.path(), &clock).unwrap());
    assert!(read(&client, SHARD).await.is_empty());
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    assert_eq!(shard_ids(&client).await, [SHARD]);
}

/// A log of format 1 as it was written when the format was made. It must open for ever.
#[tokio::test]
async fn the_first_format_still_opens() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/format-1.log");
    std::fs::copy(golden, directory.path().join("kinesis.log")).unwrap();
    let client = in_process(&open(directory.path(), &clock).unwrap());
    assert_eq!(shard_ids(&client).await.len(), 4);
    let parent = get(&client, &trim_horizon(&client, SHARD).await).await;
    assert_eq!(texts(&parent), ["parent", ""]);
    assert_eq!(parent.records[0].sequence_number, "49672258771465835560701030492272030842587407545540804610");
    assert_eq!(read(&client, "shardId-000000000003").await, ["child"]);
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    assert_eq!(summary.stream_description_summary.unwrap().retention_period_hours, 36);
}
