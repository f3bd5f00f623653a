//! `kill -9` of a `kinesink local DIR` that is writing: what it acknowledged is there after a restart, in order, once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use crate::harness::{Services, eventually, pause};
use crate::kills::Random;

const KILLS: usize = 8;
const SEED: u64 = 20_260_301;
const STREAM: &str = "orders";
const SHARDS: i32 = 4;
const RECORDS_PER_PUT: usize = 10;
/// Between two puts, so that what stays is less than what goes.
const PUT_PAUSE: Duration = Duration::from_millis(5);
/// So many streams of so many MiB come and go before a kill: more than the records that stay.
const CHURNED_MIN: usize = 6;
const CHURNED_MIB: usize = 2;

/// A record as it was acknowledged: number, shard, sequence number.
type Acknowledged = (usize, String, String);

/// A client that tries once: what it is not told has or has not happened.
fn client(environment: &BTreeMap<String, String>) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(&environment["AWS_ENDPOINT_URL_KINESIS"]);
    Client::from_conf(config.build())
}

/// Puts numbered records until the process is gone; answers the next number, and which were acknowledged.
async fn put_until_killed(client: &Client, mut next: usize) -> (usize, Vec<Acknowledged>) {
    let mut acknowledged = Vec::new();
    loop {
        let numbers = next..next + RECORDS_PER_PUT;
        next = numbers.end;
        let entries = numbers.clone().map(|n| {
            let data = Blob::new(format!("{n:0>200}"));
            PutRecordsRequestEntry::builder().data(data).partition_key(n.to_string()).build().unwrap()
        });
        let put = client.put_records().stream_name(STREAM).set_records(Some(entries.collect()));
        let Ok(reply) = put.send().await else { return (next, acknowledged) };
        tokio::time::sleep(PUT_PAUSE).await;
        let places = reply.records().iter().map(|record| (record.shard_id(), record.sequence_number()));
        acknowledged.extend(
            numbers
                .zip(places)
                .map(|(number, (shard, sequence))| (number, shard.unwrap().to_owned(), sequence.unwrap().to_owned())),
        );
    }
}

/// Streams come, get some megabytes, and go, so that the log is also written anew now and then. Counts them.
async fn churn_until_killed(client: &Client, churned: &AtomicUsize) {
    // A kill may have left one behind.
    drop(client.delete_stream().stream_name("churn").send().await);
    loop {
        let round = async {
            client.create_stream().stream_name("churn").shard_count(1).send().await.ok()?;
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(vec![7; 1024 * 1024 - 1])).partition_key("k");
            let entries = vec![entry.build().unwrap(); CHURNED_MIB];
            client.put_records().stream_name("churn").set_records(Some(entries)).send().await.ok()?;
            client.delete_stream().stream_name("churn").send().await.ok()
        };
        if round.await.is_none() {
            return;
        }
        churned.fetch_add(1, Ordering::Relaxed);
    }
}

fn log_bytes(directory: &Path) -> u64 {
    directory.join("kinesis/kinesis.log").metadata().map_or(0, |log| log.len())
}

#[test]
fn what_a_killed_local_kinesis_acknowledged_is_there_in_order_and_once() {
    let mut random = Random(SEED);
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let (mut next, mut shortened, mut in_flight) = (0, 0, 0);
    for kill in 0..KILLS {
        let before = log_bytes(&directory.path().join("local"));
        let (services, process) = Services::start_in(directory.path());
        // What is cut off as unfinished is less than a put.
        shortened += usize::from(log_bytes(&directory.path().join("local")) + 2_000_000 < before);
        if kill == 0 {
            services.create_stream(STREAM, SHARDS);
        }
        let (put_client, churn_client) = (client(services.environment()), client(services.environment()));
        let (killed, churned) = (AtomicBool::new(false), AtomicUsize::new(0));
        let put = std::thread::scope(|scope| {
            let puts = scope.spawn(|| services.block_on(put_until_killed(&put_client, next)));
            let churn = scope.spawn(|| services.block_on(churn_until_killed(&churn_client, &churned)));
            let watch = scope.spawn(|| {
                let (mut longest, mut shorter) = (0, 0);
                while !killed.load(Ordering::Relaxed) {
                    let now = log_bytes(&directory.path().join("local"));
                    shorter += usize::from(now < longest);
                    longest = if now < longest { now } else { now.max(longest) };
                    pause(Duration::from_millis(1));
                }
                shorter
            });
            eventually("streams come and go", || (churned.load(Ordering::Relaxed) >= CHURNED_MIN).then_some(()));
            pause(Duration::from_millis(random.below(300)));
            process.kill();
            killed.store(true, Ordering::Relaxed);
            shortened += watch.join().unwrap();
            churn.join().unwrap();
            puts.join().unwrap()
        });
        let churned = churned.into_inner();
        println!("kill {kill}: {} records acknowledged, {churned} streams came and went", put.1.len());
        in_flight += put.0 - next - put.1.len();
        next = put.0;
        acknowledged.extend(put.1);
    }
    println!("{in_flight} records were under way at a kill; the log was written anew {shortened} times (seed {SEED})");
    let (services, _process) = Services::start_in(directory.path());
    let stored = services.read_stream(STREAM);
    assert_acknowledged_is_stored(&acknowledged, &stored);
    assert_in_order_and_once(&stored, next);
    assert!(acknowledged.len() > KILLS * RECORDS_PER_PUT, "there was a load");
    assert!(in_flight >= KILLS * RECORDS_PER_PUT, "every kill hit a put");
    assert!(shortened > 0, "the log was written anew between kills");
}

fn number_in(data: &[u8]) -> usize {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

fn assert_acknowledged_is_stored(acknowledged: &[Acknowledged], stored: &[(String, String, Vec<u8>)]) {
    let places: BTreeMap<usize, (&str, &str)> =
        stored.iter().map(|(shard, sequence, data)| (number_in(data), (&**shard, &**sequence))).collect();
    for (number, shard, sequence) in acknowledged {
        assert_eq!(places.get(number), Some(&(&**shard, &**sequence)), "record {number}");
    }
}

/// The puts followed each other, so that in each shard numbers and sequence numbers grow; and a put is whole or absent.
fn assert_in_order_and_once(stored: &[(String, String, Vec<u8>)], next: usize) {
    let mut last: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (shard, sequence, data) in stored {
        let number = number_in(data);
        if let Some((number_before, sequence_before)) = last.insert(shard, (number, sequence)) {
            assert!(number_before < number, "{shard}: {number_before} before {number}");
            assert!((sequence_before.len(), sequence_before) < (sequence.len(), sequence), "{shard}: {sequence}");
        }
    }
    let numbers: BTreeSet<usize> = stored.iter().map(|(_, _, data)| number_in(data)).collect();
    assert_eq!(numbers.len(), stored.len(), "nothing is doubled");
    for first in (0..next).step_by(RECORDS_PER_PUT) {
        let present = numbers.range(first..first + RECORDS_PER_PUT).count();
        assert!(present == 0 || present == RECORDS_PER_PUT, "{present} records of the put at {first}");
    }
}
