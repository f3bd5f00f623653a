use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;

use kinesink_emulator::{Fault, FaultKind};

use crate::client::{STREAM, code, create, emulator, get, in_process, put_one, shard_ids, start, texts, trim_horizon};
use crate::consumers::register;

const SHARD: &str = "shardId-000000000000";

#[tokio::test]
async fn an_iterator_lives_for_five_minutes_of_the_clock() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let iterator = trim_horizon(&client, SHARD).await;
    clock.advance(Duration::from_secs(300));
    let renewed = get(&client, &iterator).await.next_shard_iterator.unwrap();
    clock.advance(Duration::from_millis(1));
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), "ExpiredIteratorException");
    assert!(client.get_records().shard_iterator(&renewed).send().await.is_ok());
}

#[tokio::test]
async fn records_are_kept_for_the_retention_and_no_longer() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "old").await;
    clock.advance(Duration::from_secs(3600));
    put_one(&client, "k", "young").await;
    clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!(texts(&get(&client, &trim_horizon(&client, SHARD).await).await), ["old", "young"]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(texts(&get(&client, &trim_horizon(&client, SHARD).await).await), ["young"]);

    let longer = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(48);
    longer.send().await.unwrap();
    clock.advance(Duration::from_secs(20 * 3600));
    assert_eq!(texts(&get(&client, &trim_horizon(&client, SHARD).await).await), ["young"]);
    let wrong = client.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(24);
    assert_eq!(code(wrong.send().await), "InvalidArgumentException");
    let shorter = client.decrease_stream_retention_period().stream_name(STREAM).retention_period_hours(24);
    shorter.send().await.unwrap();
    assert!(get(&client, &trim_horizon(&client, SHARD).await).await.records.is_empty());
}

#[tokio::test]
async fn arrival_is_the_clocks_time_and_never_goes_back() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_millis(1234));
    put_one(&client, "k", "first").await;
    clock.set(start());
    put_one(&client, "k", "second").await;
    let read = get(&client, &trim_horizon(&client, SHARD).await).await;
    let arrivals = read.records.iter().filter_map(|record| record.approximate_arrival_timestamp);
    // The client reads the time as a float of seconds, and its own milliseconds are cut off, not rounded.
    let arrivals: Vec<_> = arrivals.map(|at| (at.as_secs_f64() * 1000.0).round()).collect();
    assert_eq!(arrivals, [1_772_366_401_734.0; 2]);
    assert!(read.records[0].sequence_number < read.records[1].sequence_number);
}

/// The position of a reader by time, as records behind it.
async fn from_time(client: &Client, at_ms: i64) -> Result<Vec<String>, String> {
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
    let request = request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(at_ms));
    let iterator = match request.send().await {
        Ok(reply) => reply.shard_iterator.unwrap(),
        error => return Err(code(error)),
    };
    Ok(texts(&get(client, &iterator).await))
}

#[tokio::test]
async fn a_time_is_a_place_to_the_millisecond() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    let zero_ms = start().as_millisecond();
    for data in ["0", "10", "20"] {
        put_one(&client, "k", data).await;
        clock.advance(Duration::from_millis(10));
    }
    put_one(&client, "k", "30").await;
    put_one(&client, "k", "30 too").await;
    let at = async |after_ms: i64| from_time(&client, zero_ms + after_ms).await;
    assert_eq!(at(0).await.unwrap(), ["0", "10", "20", "30", "30 too"]);
    assert_eq!(at(1).await.unwrap(), ["10", "20", "30", "30 too"]);
    assert_eq!(at(10).await.unwrap(), ["10", "20", "30", "30 too"]);
    assert_eq!(at(30).await.unwrap(), ["30", "30 too"]);
    // Before everything there is, it is the oldest record; in the future the service takes no time at all.
    assert_eq!(at(-1_000_000_000).await.unwrap().len(), 5);
    assert_eq!(at(31).await.unwrap_err(), "InvalidArgumentException");
    clock.advance(Duration::from_millis(1));
    assert_eq!(at(31).await.unwrap(), [""; 0]);

    // Before the horizon, it is the oldest record that is left.
    clock.advance(Duration::from_millis(24 * 3_600_000 - 15));
    assert_eq!(at(0).await.unwrap(), ["20", "30", "30 too"]);
}

#[tokio::test]
async fn the_end_of_the_shard_by_time_waits_for_what_comes() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    put_one(&client, "k", "before").await;
    clock.advance(Duration::from_millis(5));
    let request = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
    let now = DateTime::from_millis(start().as_millisecond() + 5);
    let request = request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(now);
    let iterator = request.send().await.unwrap().shard_iterator.unwrap();
    let empty = get(&client, &iterator).await;
    assert_eq!((empty.records.len(), empty.millis_behind_latest), (0, Some(0)));
    put_one(&client, "k", "after").await;
    assert_eq!(texts(&get(&client, &empty.next_shard_iterator.unwrap()).await), ["after"]);
}

#[tokio::test]
async fn millis_behind_latest_is_the_age_of_the_last_record_read_until_all_are() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    for number in 0..4 {
        put_one(&client, "k", format!("{number}")).await;
        clock.advance(Duration::from_secs(10));
    }
    let mut iterator = trim_horizon(&client, SHARD).await;
    for (text, behind_ms) in [("0", 40_000), ("1", 30_000), ("2", 20_000), ("3", 0)] {
        let reply = client.get_records().shard_iterator(&iterator).limit(1).send().await.unwrap();
        assert_eq!((texts(&reply), reply.millis_behind_latest), (vec![text.to_owned()], Some(behind_ms)));
        iterator = reply.next_shard_iterator.unwrap();
    }

    // An iterator whose place was trimmed goes on with the oldest record that is left, and is behind by that one.
    let old = trim_horizon(&client, SHARD).await;
    clock.advance(Duration::from_secs(200));
    clock.advance(Duration::from_secs(24 * 3600 - 225));
    let first = client.get_records().shard_iterator(trim_horizon(&client, SHARD).await).limit(1).send().await.unwrap();
    assert_eq!((texts(&first), first.millis_behind_latest), (vec!["2".to_owned()], Some(24 * 3_600_000 - 5_000)));
    assert_eq!(code(client.get_records().shard_iterator(old).send().await), "ExpiredIteratorException");
}

#[tokio::test]
async fn a_closed_shard_is_listed_as_long_as_its_last_moment_is_retained() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    create(&client, 1).await;
    clock.advance(Duration::from_secs(3600));
    let split = client.split_shard().stream_name(STREAM).shard_to_split(SHARD).new_starting_hash_key("1000");
    split.send().await.unwrap();
    let described = async || {
        let reply = client.describe_stream().stream_name(STREAM).send().await.unwrap();
        reply.stream_description.unwrap().shards.into_iter().map(|shard| shard.shard_id).collect::<Vec<_>>()
    };
    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!((shard_ids(&client).await.len(), described().await.len()), (3, 3));
    clock.advance(Duration::from_millis(1));
    let left = ["shardId-000000000001", "shardId-000000000002"];
    assert_eq!(
        (shard_ids(&client).await, described().await),
        (left.map(str::to_owned).to_vec(), left.map(str::to_owned).to_vec())
    );
    let gone = client.get_shard_iterator().stream_name(STREAM).shard_id(SHARD);
    let gone = gone.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    assert_eq!(code(gone), "ResourceNotFoundException");
}

#[tokio::test]
async fn a_stream_made_again_on_a_still_clock_is_another_stream() {
    let (emulator, _) = emulator();
    let client = in_process(&emulator);
    create(&client, 2).await;
    let arn = register(&client, "a").await.consumer_arn;
    register(&client, "b").await;
    put_one(&client, "k", "of the first").await;
    let iterator = trim_horizon(&client, SHARD).await;
    let shards = client.list_shards().stream_name(STREAM).max_results(1).send().await.unwrap().next_token.unwrap();
    let stream_arn = arn.split_once("/consumer/").unwrap().0;
    let consumers = client.list_stream_consumers().stream_arn(stream_arn);
    let more = consumers.clone().max_results(1).send().await.unwrap().next_token.unwrap();

    client.delete_stream().stream_name(STREAM).enforce_consumer_deletion(true).send().await.unwrap();
    create(&client, 2).await;
    put_one(&client, "k", "of the second").await;
    let not_found = "ResourceNotFoundException";
    assert_eq!(code(client.get_records().shard_iterator(&iterator).send().await), not_found);
    assert_eq!(code(client.list_shards().next_token(shards).send().await), not_found);
    assert_eq!(code(consumers.next_token(more).send().await), not_found);
    get(&client, &trim_horizon(&client, SHARD).await).await;
}

#[tokio::test]
async fn a_token_of_list_streams_lives_for_five_minutes() {
    let (emulator, clock) = emulator();
    let client = in_process(&emulator);
    for name in ["a", "b"] {
        client.create_stream().stream_name(name).shard_count(1).send().await.unwrap();
    }
    let token = client.list_streams().limit(1).send().await.unwrap().next_token.unwrap();
    let next = client.list_streams().next_token(token);
    clock.advance(Duration::from_secs(300));
    assert_eq!(next.clone().send().await.unwrap().stream_names, ["b"]);
    emulator.faults().push(Fault::on("ListStreams", FaultKind::Expire)).unwrap();
    for _ in 0..2 {
        let expired = next.clone().send().await.unwrap_err().into_service_error();
        assert!(expired.is_expired_next_token_exception(), "{expired:?}");
        clock.advance(Duration::from_millis(1));
    }
}
