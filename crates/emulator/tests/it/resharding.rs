use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::update_shard_count::{UpdateShardCountError, UpdateShardCountOutput};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{RecordDistributionStrategy, ScalingType, Shard, StreamMode, StreamModeDetails, Tag};
use kinesink_emulator::{Emulator, Limits, ManualClock};

use crate::client::{
    STREAM, code, create, emulator, entry, get, in_process, put_one, shard_ids, start, texts, trim_horizon,
};

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders";

async fn scale(client: &Client, count: i32) -> Result<UpdateShardCountOutput, SdkError<UpdateShardCountError>> {
    let request = client.update_shard_count().stream_name(STREAM).target_shard_count(count);
    request.scaling_type(ScalingType::UniformScaling).send().await
}

async fn shards(client: &Client) -> Vec<Shard> {
    client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap()
}

fn range(shard: &Shard) -> (u128, u128) {
    let range = shard.hash_key_range().unwrap();
    (range.starting_hash_key().parse().unwrap(), range.ending_hash_key().parse().unwrap())
}

fn ending(shard: &Shard) -> Option<&str> {
    shard.sequence_number_range().unwrap().ending_sequence_number()
}

/// Ranges of the open shards, in order.
fn open(shards: &[Shard]) -> Vec<(u128, u128)> {
    let mut open: Vec<_> = shards.iter().filter(|shard| ending(shard).is_none()).map(range).collect();
    open.sort_unstable();
    open
}

/// Parents are listed, closed, older than the child, and together have all of its hash keys.
fn assert_lineage(shards: &[Shard]) {
    let by_id: BTreeMap<&str, &Shard> = shards.iter().map(|shard| (shard.shard_id(), shard)).collect();
    for child in shards {
        let parents = child.parent_shard_id().into_iter().chain(child.adjacent_parent_shard_id());
        let parents: Vec<_> = parents.map(|id| by_id[id]).collect();
        for parent in &parents {
            let first = child.sequence_number_range().unwrap().starting_sequence_number();
            assert!(ending(parent).unwrap() < first, "{} after {}", child.shard_id(), parent.shard_id());
        }
        let covers = |key: u128| parents.iter().any(|parent| range(parent).0 <= key && key <= range(parent).1);
        let (start, end) = range(child);
        assert!(parents.is_empty() || (covers(start) && covers(end)), "{}", child.shard_id());
    }
}

/// All records, read from the shards without a parent down through the children that each end names.
async fn read_down(client: &Client) -> Vec<String> {
    let mut waiting: Vec<String> = {
        let roots = shards(client).await.into_iter().filter(|shard| shard.parent_shard_id().is_none());
        roots.map(|shard| shard.shard_id).collect()
    };
    let (mut seen, mut records) = (BTreeSet::new(), Vec::new());
    while let Some(id) = waiting.pop() {
        if seen.insert(id.clone()) {
            let reply = get(client, &trim_horizon(client, &id).await).await;
            records.extend(texts(&reply));
            waiting.extend(reply.child_shards().iter().map(|child| child.shard_id.clone()));
        }
    }
    records
}

#[tokio::test]
async fn scaling_leaves_even_shards_and_every_record() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 4).await;
    let mut expected = Vec::new();
    for count in [8, 5, 7, 4, 2, 3, 1, 6, 6] {
        for key in 0..20 {
            let data = format!("{key} before {count}");
            put_one(&client, &format!("key {key}"), data.clone()).await;
            expected.push(data);
        }
        let before = open(&shards(&client).await).len();
        let reply = scale(&client, count).await.unwrap();
        assert_eq!((reply.stream_name.as_deref(), reply.stream_arn.as_deref()), (Some(STREAM), Some(ARN)));
        let counts = (reply.current_shard_count, reply.target_shard_count);
        assert_eq!(counts, (i32::try_from(before).ok(), Some(count)));

        let all = shards(&client).await;
        let open = open(&all);
        assert_eq!((open.len(), open[0].0, open.last().unwrap().1), (usize::try_from(count).unwrap(), 0, u128::MAX));
        assert!(open.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "the ranges tile the hash keys");
        let width = u128::MAX / u128::try_from(count).unwrap();
        assert!(open.iter().all(|(start, end)| (end - start).abs_diff(width) < 20), "the ranges are even: {open:?}");
        assert_lineage(&all);
    }
    let mut read = read_down(&client).await;
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);

    // What is already as asked for stays as it is.
    let before = shard_ids(&client).await;
    scale(&client, 6).await.unwrap();
    assert_eq!(shard_ids(&client).await, before);
}

#[tokio::test]
async fn doubling_splits_each_shard_once_and_halving_merges_each_pair() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 2).await;
    scale(&client, 4).await.unwrap();
    let doubled = shards(&client).await;
    assert_eq!(doubled.len(), 2 + 4);
    assert!(doubled[2..].iter().all(|shard| shard.adjacent_parent_shard_id().is_none()));
    scale(&client, 2).await.unwrap();
    let halved = shards(&client).await;
    assert_eq!(halved.len(), 6 + 2);
    assert!(halved[6..].iter().all(|shard| shard.adjacent_parent_shard_id().is_some()));
    assert_eq!(open(&halved), doubled[..2].iter().map(range).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_scaled_is_refused() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    assert_eq!(code(scale(&client, 2).await), "ResourceNotFoundException");
    create(&client, 1).await;
    for wrong in [0, -1] {
        assert_eq!(code(scale(&client, wrong).await), "ValidationException");
    }
    assert_eq!(code(scale(&client, 10_001).await), "LimitExceededException");
    let unknown = client.update_shard_count().stream_name(STREAM).target_shard_count(2);
    assert_eq!(code(unknown.scaling_type("OTHER".into()).send().await), "ValidationException");
    set_mode(&client, StreamMode::OnDemand).await;
    assert_eq!(code(scale(&client, 2).await), "ValidationException");
    set_mode(&client, StreamMode::Provisioned).await;
    scale(&client, 2).await.unwrap();
}

async fn set_mode(client: &Client, mode: StreamMode) {
    let mode = StreamModeDetails::builder().stream_mode(mode).build().unwrap();
    client.update_stream_mode().stream_arn(ARN).stream_mode_details(mode).send().await.unwrap();
}

async fn distribute(client: &Client, strategy: RecordDistributionStrategy) -> String {
    let request = client.update_stream_record_distribution_strategy().stream_arn(ARN);
    match request.record_distribution_strategy(strategy).send().await {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code().unwrap_or_default().to_owned(),
    }
}

#[tokio::test]
async fn a_stream_on_demand_may_distribute_records_itself() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 4).await;
    let keyless = || client.put_record().stream_name(STREAM).data(Blob::new("x"));
    assert_eq!(code(keyless().send().await), "ValidationException");
    assert_eq!(distribute(&client, RecordDistributionStrategy::Auto).await, "InvalidArgumentException");
    set_mode(&client, StreamMode::OnDemand).await;
    assert_eq!(distribute(&client, RecordDistributionStrategy::Auto).await, "ok");

    // Neither keys nor hash keys are heeded, so that no shard gets far more than another.
    let mut per_shard = BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        let keyed = keyless().partition_key("always the same").explicit_hash_key("0");
        for put in [keyless().send().await, keyed.send().await] {
            *per_shard.entry(put.unwrap().shard_id).or_default() += 1;
        }
    }
    assert!(per_shard.len() == 4 && per_shard.values().all(|count| (90..=110).contains(count)), "{per_shard:?}");
    let read = get(&client, &trim_horizon(&client, "shardId-000000000000").await).await;
    let keys: BTreeSet<_> = read.records.iter().map(|record| record.partition_key.clone()).collect();
    assert_eq!(keys, BTreeSet::from([None, Some("always the same".to_owned())]));
    let ordered = keyless().sequence_number_for_ordering(&read.records[0].sequence_number);
    assert_eq!(code(ordered.send().await), "InvalidArgumentException");
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let strategy = summary.stream_description_summary.unwrap().record_distribution_strategy;
    assert_eq!(strategy, Some(RecordDistributionStrategy::Auto));

    assert_eq!(distribute(&client, RecordDistributionStrategy::UserPartitionKey).await, "ok");
    assert_eq!(code(keyless().send().await), "ValidationException");
    let one = put_one(&client, "k", "x").await.shard_id;
    let ordered = keyless().partition_key("k").sequence_number_for_ordering(&read.records[0].sequence_number);
    assert_eq!(ordered.send().await.unwrap().shard_id, one);
    assert_eq!(put_one(&client, "k", "x").await.shard_id, one);
}

/// Only streams on demand have the setting, so it went with the mode. One that is on demand again begins as a new one does.
#[tokio::test]
async fn a_provisioned_stream_went_on_to_distribute_records_itself() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Emulator::builder().limits(Limits::none()).directory(directory.path()).build().unwrap();
    let client = in_process(&open());
    create(&client, 4).await;
    set_mode(&client, StreamMode::OnDemand).await;
    assert_eq!(distribute(&client, RecordDistributionStrategy::Auto).await, "ok");
    set_mode(&client, StreamMode::Provisioned).await;
    let assert_keys_count = async |client: &Client| {
        let put = || client.put_record().stream_name(STREAM).data(Blob::new("x"));
        assert_eq!(code(put().send().await), "ValidationException");
        for _ in 0..5 {
            let put = put().partition_key("k").explicit_hash_key("0").send().await.unwrap();
            assert_eq!(put.shard_id, "shardId-000000000000");
        }
    };
    assert_keys_count(&client).await;
    set_mode(&client, StreamMode::OnDemand).await;
    assert_keys_count(&client).await;
    drop(client);
    let client = in_process(&open());
    assert_keys_count(&client).await;
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let strategy = summary.stream_description_summary.unwrap().record_distribution_strategy;
    assert_eq!(strategy, Some(RecordDistributionStrategy::UserPartitionKey));
}

#[tokio::test]
async fn a_restart_forgot_where_the_last_record_without_a_key_had_gone() {
    let [directory, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let open = |directory: &tempfile::TempDir| {
        Emulator::builder().limits(Limits::none()).directory(directory.path()).build().unwrap()
    };
    let first = in_process(&open(&directory));
    create(&first, 7).await;
    set_mode(&first, StreamMode::OnDemand).await;
    distribute(&first, RecordDistributionStrategy::Auto).await;
    let places = async |client: &Client| {
        let mut places = Vec::new();
        for _ in 0..10 {
            let put = client.put_record().stream_name(STREAM).data(Blob::new("x")).send().await.unwrap();
            places.push(put.shard_id);
        }
        places
    };
    places(&first).await;
    std::fs::copy(directory.path().join("kinesis.log"), copy.path().join("kinesis.log")).unwrap();
    assert_eq!(places(&in_process(&open(&copy))).await, places(&first).await);
}

/// "The shard whose ID immediately follows": of a shard that is gone or to come there is one or none, and what is no
/// shard's id at all has none.
#[tokio::test]
async fn a_list_that_was_to_start_behind_what_is_no_shard_began_anew() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 3).await;
    for (after, expected) in [
        ("shardId-000000000001", Some(1)),
        ("shardId-000000000003", Some(0)),
        ("shardId-004294967296", None),
        ("shardid-000000000001", None),
        ("orders", None),
    ] {
        let listed = client.list_shards().stream_name(STREAM).exclusive_start_shard_id(after).send().await;
        let described = client.describe_stream().stream_name(STREAM).exclusive_start_shard_id(after).send().await;
        let Some(count) = expected else {
            let codes = [code(listed), code(described)];
            assert_eq!(codes, ["ResourceNotFoundException"; 2], "{after}");
            continue;
        };
        assert_eq!(listed.unwrap().shards().len(), count, "{after}");
        assert_eq!(described.unwrap().stream_description.unwrap().shards.len(), count, "{after}");
    }
}

fn sorted(tags: Option<Vec<Tag>>) -> Vec<(String, String)> {
    tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())).collect()
}

#[tokio::test]
async fn tags_are_kept_by_the_stream_and_by_its_consumers() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    client.create_stream().stream_name(STREAM).shard_count(1).tags("a", "1").send().await.unwrap();
    let add = client.add_tags_to_stream().stream_name(STREAM).tags("b", "2").tags("c", "3");
    add.send().await.unwrap();
    client.tag_resource().resource_arn(ARN).tags("a", "changed").send().await.unwrap();
    let page = client.list_tags_for_stream().stream_name(STREAM).limit(2).send().await.unwrap();
    assert!(page.has_more_tags);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(sorted(Some(page.tags)), [pair("a", "changed"), pair("b", "2")]);
    let rest = client.list_tags_for_stream().stream_name(STREAM).exclusive_start_tag_key("b").send().await.unwrap();
    assert!(!rest.has_more_tags);
    assert_eq!(sorted(Some(rest.tags)), [pair("c", "3")]);
    client.remove_tags_from_stream().stream_name(STREAM).tag_keys("a").send().await.unwrap();
    client.untag_resource().resource_arn(ARN).tag_keys("c").send().await.unwrap();
    let left = client.list_tags_for_resource().resource_arn(ARN).send().await.unwrap();
    assert_eq!(sorted(left.tags), [pair("b", "2")]);

    let many = (0..50).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    let many = client.add_tags_to_stream().stream_name(STREAM).set_tags(Some(many));
    assert_eq!(code(many.send().await), "InvalidArgumentException");
    let tag = |key: &str| client.add_tags_to_stream().stream_name(STREAM).tags(key, "v").send();
    for wrong in ["aws:mine", "a*b"] {
        assert_eq!(code(tag(wrong).await), "InvalidArgumentException", "{wrong}");
    }
    tag("ß 1_./=+-%@:").await.unwrap();
    client.remove_tags_from_stream().stream_name(STREAM).tag_keys("ß 1_./=+-%@:").send().await.unwrap();
    let none = client.tag_resource().resource_arn(format!("{ARN}s")).tags("a", "b").send().await;
    assert_eq!(code(none), "ResourceNotFoundException");

    let consumer = client.register_stream_consumer().stream_arn(ARN).consumer_name("fan").tags("x", "y").send().await;
    let consumer_arn = consumer.unwrap().consumer.unwrap().consumer_arn;
    client.tag_resource().resource_arn(&consumer_arn).tags("z", "0").send().await.unwrap();
    let tags = client.list_tags_for_resource().resource_arn(&consumer_arn).send().await.unwrap();
    assert_eq!(sorted(tags.tags), [pair("x", "y"), pair("z", "0")]);
}

#[tokio::test]
async fn what_was_scaled_set_and_tagged_is_there_after_a_restart() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(start())));
    let open = || -> Emulator {
        let builder = Emulator::builder().clock(Arc::<ManualClock>::clone(&clock)).limits(Limits::none());
        builder.directory(directory.path()).build().unwrap()
    };
    let describe = async |client: &Client| {
        let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
        let tags = client.list_tags_for_stream().stream_name(STREAM).send().await.unwrap().tags;
        format!("{:?} {tags:?} {:?}", summary.stream_description_summary, shards(client).await)
    };
    let client = in_process(&open());
    create(&client, 3).await;
    client.put_records().stream_name(STREAM).records(entry("k", "x")).send().await.unwrap();
    scale(&client, 5).await.unwrap();
    set_mode(&client, StreamMode::OnDemand).await;
    assert_eq!(distribute(&client, RecordDistributionStrategy::Auto).await, "ok");
    client.update_max_record_size().stream_arn(ARN).max_record_size_in_kib(4096).send().await.unwrap();
    client.add_tags_to_stream().stream_name(STREAM).tags("team", "ß").send().await.unwrap();
    let before = describe(&client).await;
    drop(client);
    let client = in_process(&open());
    assert_eq!(describe(&client).await, before);
    assert_eq!(read_down(&client).await, ["x"]);
}

#[tokio::test]
async fn warm_throughput_is_refused_instead_of_ignored() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    let mode = || StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
    let warm = client.create_stream().stream_name(STREAM).stream_mode_details(mode()).warm_throughput_mibps(100);
    let refused = warm.send().await.unwrap_err().into_service_error();
    assert!(refused.is_invalid_argument_exception(), "{refused:?}");
    assert_eq!(refused.meta().message(), Some("kinesink local does not emulate WarmThroughputMiBps"));
    create(&client, 1).await;
    let arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}");
    let warm = client.update_stream_mode().stream_arn(&arn).stream_mode_details(mode()).warm_throughput_mibps(100);
    assert_eq!(code(warm.send().await), "InvalidArgumentException");
    let summary = client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
    let mode = summary.stream_description_summary.unwrap().stream_mode_details.unwrap();
    assert_eq!(mode.stream_mode, StreamMode::Provisioned);
}
