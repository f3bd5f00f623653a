use std::time::Duration;

use crate::client::{STREAM, code, create, emulator, get, in_process, put_one, start, texts, trim_horizon};

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
