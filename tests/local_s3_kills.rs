//! `kill -9` of a `kinesink local DIR` whose S3 is being written to: what it acknowledged is there and whole, and nothing
//! else is there by half.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig};

use crate::harness::{Services, eventually, pause};
use crate::kills::Random;

const KILLS: usize = 8;
const SEED: u64 = 20_260_302;
const WRITERS: usize = 4;
const BUCKET: &str = "orders";
const BODY_BYTES_MAX: u64 = 300_000;

fn client(endpoint: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{endpoint}"))
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id("any")
        .with_secret_access_key("any")
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

/// A body that says its number and length, and is made of nothing else.
fn body(number: u64, length: u64) -> Bytes {
    let line = format!("{number} {length}\n");
    line.bytes().cycle().take(usize::try_from(length).unwrap()).collect()
}

/// The number of a whole body.
fn number_of(found: &[u8]) -> u64 {
    let line = found.split(|byte| *byte == b'\n').next().unwrap();
    let (number, length) = str::from_utf8(line).unwrap().split_once(' ').unwrap();
    let number = number.parse().unwrap();
    assert_eq!(found, body(number, length.parse().unwrap()), "not a whole body");
    number
}

/// By put, by upload in parts, or over an object that is there; whether it was acknowledged.
async fn write(client: &AmazonS3, kind: u64, key: &Path, body: Bytes) -> bool {
    match kind {
        0 => {
            let Ok(mut upload) = client.put_multipart(key).await else { return false };
            upload.put_part(PutPayload::from(body)).await.is_ok() && upload.complete().await.is_ok()
        }
        1 => client.put(key, body.into()).await.is_ok(),
        _ => client.put_opts(key, body.into(), PutMode::Create.into()).await.is_ok(),
    }
}

/// Answers, by key, the last number that was acknowledged.
async fn write_until_killed(
    client: &AmazonS3,
    writer: usize,
    mut random: Random,
    count: &AtomicUsize,
) -> BTreeMap<String, u64> {
    let mut acknowledged = BTreeMap::new();
    for _ in 0..100_000 {
        let (number, kind) = (random.below(1 << 40), random.below(3));
        let key = match kind {
            1 => format!("overwritten/{writer}"),
            _ => format!("written/{writer}/{number}"),
        };
        let body = body(number, 20 + random.below(BODY_BYTES_MAX));
        if !write(client, kind, &Path::from(key.clone()), body).await {
            break;
        }
        acknowledged.insert(key, number);
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// All that is there, by key; each is whole.
async fn stored(client: &AmazonS3) -> BTreeMap<String, u64> {
    let listed: Vec<_> = client.list(None).try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for object in listed {
        let bytes = client.get(&object.location).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, object.size);
        found.insert(object.location.to_string(), number_of(&bytes));
    }
    found
}

#[test]
fn what_a_killed_local_s3_acknowledged_is_there_and_whole() {
    let mut random = Random(SEED);
    let directory = tempfile::tempdir().unwrap();
    let bucket = directory.path().join("local/s3").join(BUCKET);
    std::fs::create_dir_all(&bucket).unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut unacknowledged = 0;
    for _ in 0..KILLS {
        let (services, process) = Services::start_in(directory.path());
        let client = client(services.endpoint("S3"));
        let seeds: Vec<_> = (0..WRITERS).map(|_| random.below(u64::MAX)).collect();
        let count = AtomicUsize::new(0);
        let wrote = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                services.block_on(async {
                    let writers = seeds.iter().enumerate();
                    let writers =
                        writers.map(|(writer, seed)| write_until_killed(&client, writer, Random(*seed), &count));
                    futures::future::join_all(writers).await
                })
            });
            eventually("enough is written to mean something", || {
                (count.load(Ordering::Relaxed) > 3 * WRITERS).then_some(())
            });
            pause(Duration::from_millis(random.below(200)));
            process.kill();
            writing.join().unwrap()
        });
        acknowledged.extend(wrote.into_iter().flatten());

        let (services, process) = Services::start_in(directory.path());
        let found = services.block_on(stored(&self::client(services.endpoint("S3"))));
        for (key, number) in &acknowledged {
            let there = found.get(key);
            assert!(there.is_some(), "{key} was acknowledged and is gone");
            // What was not acknowledged may have taken the place of what was.
            unacknowledged += usize::from(there != Some(number));
            assert!(key.starts_with("overwritten") || there == Some(number), "{key} is another object");
        }
        unacknowledged += found.len() - acknowledged.len();
        for (key, number) in &found {
            assert_eq!(number_of(&std::fs::read(bucket.join(key)).unwrap()), *number, "the file {key}");
            acknowledged.insert(key.clone(), *number);
        }
        let staging = directory.path().join("local/s3/.state/staging");
        assert_eq!(staging.read_dir().unwrap().count(), 0, "what was unfinished is gone");
        process.kill();
    }
    assert!(acknowledged.len() > KILLS * WRITERS, "too little was written to mean anything: {}", acknowledged.len());
    println!("{} objects, {unacknowledged} of them not acknowledged", acknowledged.len());
}
