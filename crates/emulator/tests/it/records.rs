use aws_sdk_kinesis::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{STREAM, create, emulator, entry, get, in_process, over_socket, texts, trim_horizon};

async fn put_and_read(client: &Client) {
    create(client, 1).await;
    let put = client.put_records().stream_name(STREAM);
    let reply = put.records(entry("a", "first")).records(entry("b", "")).records(entry("é\"\\", "third")).send().await;
    let reply = reply.unwrap();
    assert_eq!(reply.failed_record_count, Some(0));
    let iterator = trim_horizon(client, "shardId-000000000000").await;
    let read = get(client, &iterator).await;
    assert_eq!(texts(&read), ["first", "", "third"]);
    let keys: Vec<_> = read.records.iter().map(|record| record.partition_key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "é\"\\"]);
    let put_numbers: Vec<_> = reply.records.iter().map(|record| record.sequence_number.as_deref().unwrap()).collect();
    let read_numbers: Vec<_> = read.records.iter().map(|record| record.sequence_number.as_str()).collect();
    assert_eq!(put_numbers, read_numbers);
    assert!(read_numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(read.millis_behind_latest, Some(0));
    assert!(read.next_shard_iterator.is_some());
}

#[tokio::test]
async fn an_sdk_client_puts_and_reads_in_process() {
    let (emulator, _) = emulator();
    put_and_read(&in_process(&emulator)).await;
}

#[tokio::test]
async fn an_sdk_client_puts_and_reads_over_a_socket() {
    let (emulator, _) = emulator();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = over_socket(listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let (served, ()) = tokio::join!(emulator.serve(listener, stopped), async {
        put_and_read(&client).await;
        drop(client);
        stop.cancel();
    });
    served.unwrap();
}
