use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesink_emulator::{Emulator, Error, Limits, ManualClock};

use crate::client::{STREAM, code, create, get, in_process, put_one, raw, shard_ids, start, texts, trim_horizon};

const SHARD: &str = "shardId-000000000000";

pub(crate) fn open(directory: &Path, clock: &Arc<ManualClock>) -> Result<Emulator, Error> {
    Emulator::builder().clock(Arc::<ManualClock>::clone(clock)).limits(Limits::none()).directory(directory).build()
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(start()))
}

pub(crate) async fn read(client: &Client, shard: &str) -> Vec<String> {
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
    // A page that never reached the disk holds zeros; what was in it was never acknowledged for good.
    let whole = std::fs::read(&log).unwrap();
    for lost_bytes in 1..whole.len() - ends[1] {
        let mut bytes = whole.clone();
        let from = bytes.len() - lost_bytes;
        bytes[from..].fill(0);
        bytes.extend([0; 100]);
        std::fs::write(&log, &bytes).unwrap();
        assert_eq!(stored(&open(directory.path(), &clock).unwrap()).await, ["b25l"], "{lost_bytes} bytes lost");
        assert_eq!(length(), ends[1]);
    }
    std::fs::write(&log, &whole).unwrap();
    // The second byte from an entry's end is the brace that ends the record.
    let change_entry_before = |end: usize| {
        let mut bytes = std::fs::read(&log).unwrap();
        *bytes.get_mut(end - 2).unwrap() ^= 1;
        std::fs::write(&log, bytes).unwrap();
    };
    for (entry, end) in [(0, ends[1]), (1, ends[2])] {
        change_entry_before(end);
        assert_damaged_at(&open(directory.path(), &clock), ends[entry]);
        change_entry_before(end);
    }
    assert_eq!(stored(&open(directory.path(), &clock).unwrap()).await, ["b25l", "dHdv"]);
}

/// The error says where, and how to give up what is behind.
fn assert_damaged_at(opened: &Result<Emulator, Error>, start: usize) {
    let error = opened.as_ref().unwrap_err();
    assert!(matches!(error, Error::DamagedEntry { at_byte, .. } if *at_byte == start as u64), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("truncate --size {start} /")) && text.contains("kinesis.log"), "{text}");
}

/// A changed length makes an entry reach past the end of the file, as one that was not finished does. Changes each bit of
/// the head.
fn assert_no_bit_can_change(bytes: &[u8], start: usize, head_bytes: usize) {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let log = directory.path().join("kinesis.log");
    for (at, bit) in (0..head_bytes).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut damaged = bytes.to_vec();
        damaged[start + at] ^= 1 << bit;
        std::fs::write(&log, &damaged).unwrap();
        assert_damaged_at(&open(directory.path(), &clock), start);
        assert_eq!(std::fs::read(&log).unwrap(), damaged, "byte {at}, bit {bit}");
    }
}

#[tokio::test]
async fn a_damaged_length_is_no_unfinished_entry_and_nothing_behind_it_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("kinesis.log");
    let client = in_process(&open(directory.path(), &clock()).unwrap());
    create(&client, 1).await;
    let start = std::fs::read(&log).unwrap().len();
    put_one(&client, "k", "one").await;
    put_one(&client, "k", "two").await;
    assert_no_bit_can_change(&std::fs::read(&log).unwrap(), start, 16);
}

#[test]
fn a_damaged_length_in_the_first_format_is_no_unfinished_entry_either() {
    let header_bytes = 16 + 2 + 1 + 5;
    assert_no_bit_can_change(&std::fs::read(golden("format-1.log")).unwrap(), header_bytes, 12);
}

/// A stream with all that it can be created with, cut at any byte: a killed process leaves a whole stream or none.
#[tokio::test]
async fn a_stream_is_created_as_a_whole() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let build = |directory: &Path| {
        let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(Limits::none());
        builder.transitions(Duration::from_secs(1)).directory(directory).build().unwrap()
    };
    let emulator = build(directory.path());
    let log = directory.path().join("kinesis.log");
    let before = std::fs::read(&log).unwrap().len();
    let request = serde_json::json!({
        "StreamName": STREAM, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}, "MaxRecordSizeInKiB": 2048,
        "RecordDistributionStrategy": "AUTO", "Tags": {"team": "orders"},
    });
    assert_eq!(raw(&emulator, "CreateStream", request.to_string()).await.0, 200);
    drop(emulator);
    let bytes = std::fs::read(&log).unwrap();
    for cut in before..=bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("kinesis.log"), &bytes[..cut]).unwrap();
        let emulator = build(copy.path());
        let (_, streams) = raw(&emulator, "ListStreams", "{}").await;
        if cut < bytes.len() {
            assert_eq!(streams["StreamNames"], serde_json::json!([]), "cut at {cut}");
            continue;
        }
        let named = format!(r#"{{"StreamName":"{STREAM}"}}"#);
        let (_, summary) = raw(&emulator, "DescribeStreamSummary", named.clone()).await;
        let summary = &summary["StreamDescriptionSummary"];
        assert_eq!((&summary["StreamStatus"], &summary["MaxRecordSizeInKiB"]), (&"CREATING".into(), &2048.into()));
        assert_eq!(summary["RecordDistributionStrategy"], "AUTO");
        let (_, tags) = raw(&emulator, "ListTagsForStream", named).await;
        assert_eq!(tags["Tags"], serde_json::json!([{"Key": "team", "Value": "orders"}]));
    }
}

/// Everything that the emulator says about its streams, and where all their records are.
async fn told(emulator: &Emulator) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    let (_, streams) = raw(emulator, "ListStreams", "{}").await;
    for stream in streams["StreamNames"].as_array().unwrap() {
        told.extend(told_of(emulator, stream.as_str().unwrap()).await);
    }
    told
}

pub(crate) async fn told_of(emulator: &Emulator, stream: &str) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    let named = serde_json::json!({"StreamName": stream}).to_string();
    for operation in ["DescribeStreamSummary", "ListShards", "ListTagsForStream"] {
        told.push(raw(emulator, operation, named.clone()).await.1);
    }
    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}");
    told.push(raw(emulator, "ListStreamConsumers", format!(r#"{{"StreamARN":"{arn}"}}"#)).await.1);
    let (_, shards) = raw(emulator, "ListShards", named).await;
    for shard in shards["Shards"].as_array().unwrap() {
        let from = serde_json::json!({
            "StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON",
        });
        let (_, iterator) = raw(emulator, "GetShardIterator", from.to_string()).await;
        let (_, reply) = raw(emulator, "GetRecords", iterator.to_string()).await;
        told.extend([reply["Records"].clone(), reply["ChildShards"].clone()]);
    }
    told
}

/// A stream of everything, in a directory: shards with parents, open and closed, with records; tags; a consumer; a
/// change that is under way.
async fn lived_in(directory: &Path, clock: &Arc<ManualClock>) -> Emulator {
    let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(clock)).limits(Limits::none());
    let emulator = builder.transitions(Duration::from_secs(1)).directory(directory).build().unwrap();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(1));
    let longer = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(48);
    longer.send().await.unwrap();
    client.add_tags_to_stream().stream_name(STREAM).tags("team", "orders").send().await.unwrap();
    crate::consumers::register(&client, "app").await;
    put_one(&client, "é\"", "parent").await;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    put_one(&client, "k", "parent, while it is split").await;
    clock.advance(Duration::from_secs(1));
    put_one(&client, "k", "child").await;
    let scale = client.update_shard_count().stream_name(STREAM).target_shard_count(4);
    scale.scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling).send().await.unwrap();
    emulator
}

/// A day's records in another stream, more than the log keeps of what is gone.
async fn fill(emulator: &Emulator) {
    let client = in_process(emulator);
    client.create_stream().stream_name("short").shard_count(1).send().await.unwrap();
    // A second, and the stream is there.
    emulator.faults().jump_clock(1000);
    for _ in 0..15 {
        let put = client.put_record().stream_name("short").partition_key("k");
        put.data(vec![7; 1024 * 1024 - 1].into()).send().await.unwrap();
    }
}

#[tokio::test]
async fn what_retention_removes_leaves_the_file_and_all_else_stays() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let emulator = lived_in(directory.path(), &clock).await;
    fill(&emulator).await;
    let length = || std::fs::metadata(directory.path().join("kinesis.log")).unwrap().len();
    assert!(length() > 20_000_000, "{}", length());
    clock.advance(Duration::from_secs(25 * 3600));
    let before = told(&emulator).await;
    assert!(length() < 10_000, "{}", length());
    assert!(before.iter().any(|told| told.to_string().contains("cGFyZW50")), "the other stream's records are younger");
    let (_, put) = raw(&emulator, "PutRecord", r#"{"StreamName":"orders","PartitionKey":"k","Data":"bmV4dA=="}"#).await;
    let after_put = told(&emulator).await;
    assert_ne!(before, after_put);
    drop(emulator);
    let emulator = open(directory.path(), &clock).unwrap();
    // The clock of a restart is not ahead any more.
    emulator.faults().jump_clock(1000);
    assert_eq!(told(&emulator).await, after_put);
    let (_, next) =
        raw(&emulator, "PutRecord", r#"{"StreamName":"orders","PartitionKey":"k","Data":"bmV4dA=="}"#).await;
    let number = |put: &serde_json::Value| put["SequenceNumber"].as_str().unwrap().to_owned();
    assert_eq!(put["ShardId"], next["ShardId"]);
    assert!(number(&put) < number(&next));
}

/// A process that is killed while it writes the log anew leaves the old one, or the new one, each whole.
#[tokio::test]
async fn a_new_log_that_was_not_finished_is_nothing() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), clock());
    let emulator = lived_in(directory.path(), &clock).await;
    let before = told(&emulator).await;
    drop(emulator);
    for unfinished in ["", "kinesink-kinesis", "kinesink-kinesis\u{2}\0\u{5}0.1.0 and then rubbish"] {
        std::fs::write(directory.path().join("kinesis.log.next"), unfinished).unwrap();
        assert_eq!(told(&open(directory.path(), &clock).unwrap()).await, before);
    }
    // What is longer than what is written over it does not shine through.
    std::fs::write(directory.path().join("kinesis.log.next"), [b'x'; 100_000]).unwrap();
    std::fs::copy(golden("format-1.log"), directory.path().join("kinesis.log")).unwrap();
    drop(open(directory.path(), &clock).unwrap());
    assert!(!directory.path().join("kinesis.log.next").exists());
    assert!(std::fs::metadata(directory.path().join("kinesis.log")).unwrap().len() < 10_000);
    open(directory.path(), &clock).unwrap();
}

pub(crate) fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name)
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
