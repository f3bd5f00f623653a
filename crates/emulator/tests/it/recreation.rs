//! A stream that was deleted and made again is another stream: each of its numbers is greater than all of the old one's,
//! whatever the clock did, so that an old checkpoint skips nothing of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use jiff::Timestamp;
use kinesink_emulator::{Emulator, Limits, ManualClock};

use crate::client::{STREAM, code, create, emulator, get, in_process, put_one, start, texts, trim_horizon};

const SHARD: &str = "shardId-000000000000";

/// Lets the stream live: a record, a split, a record behind it. Answers the greatest of its numbers, the second record's.
async fn live(client: &Client) -> String {
    put_one(client, "k", "before the split").await;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    put_one(client, "k", "behind the split").await.sequence_number
}

async fn delete(client: &Client) {
    client.delete_stream().stream_name(STREAM).send().await.unwrap();
}

/// The new stream has nothing but this record, whose number is greater, and does not know the old number.
async fn assert_is_above(client: &Client, old: &str) {
    let put = put_one(client, "k", "of the new stream").await;
    let shards = client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap();
    let starts = shards[0].sequence_number_range.as_ref().unwrap().starting_sequence_number.as_str();
    assert!(old < starts && starts < put.sequence_number.as_str(), "{old} is not below {starts}");
    let after = client.get_shard_iterator().stream_name(STREAM).shard_id(&put.shard_id).starting_sequence_number(old);
    let after = after.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).send().await;
    assert_eq!(code(after), "InvalidArgumentException");
    assert_eq!(texts(&get(client, &trim_horizon(client, &put.shard_id).await).await), ["of the new stream"]);
}

#[tokio::test]
async fn a_stream_made_again_within_a_second_gave_the_old_numbers_out_again() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let mut old = live(&client).await;
    for _ in 0..3 {
        delete(&client).await;
        create(&client, 1).await;
        assert_is_above(&client, &old).await;
        old = live(&client).await;
    }
}

#[tokio::test]
async fn a_clock_that_went_back_made_a_new_stream_of_lower_numbers() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let old = live(&client).await;
    delete(&client).await;
    clock.set(start() - Duration::from_secs(3600));
    create(&client, 1).await;
    assert_is_above(&client, &old).await;
}

fn open(directory: &Path, at: Timestamp) -> Emulator {
    let builder = Emulator::builder().clock(Arc::new(ManualClock::new(at))).limits(Limits::none());
    builder.directory(directory).build().unwrap()
}

#[tokio::test]
async fn a_restart_forgot_what_numbers_a_stream_that_is_gone_had() {
    let directory = tempfile::tempdir().unwrap();
    let client = in_process(&open(directory.path(), start()));
    create(&client, 1).await;
    let old = live(&client).await;
    delete(&client).await;
    drop(client);
    let client = in_process(&open(directory.path(), start() - Duration::from_secs(1)));
    create(&client, 1).await;
    assert_is_above(&client, &old).await;
    let made_again = live(&client).await;
    drop(client);
    // And the new one is what it was.
    let client = in_process(&open(directory.path(), start()));
    let last = put_one(&client, "k", "after the restart").await;
    assert!(made_again < last.sequence_number);
    let read = get(&client, &trim_horizon(&client, &last.shard_id).await).await;
    assert_eq!(texts(&read), ["behind the split", "after the restart"]);
    assert_eq!(read.records[0].sequence_number, made_again);
}
