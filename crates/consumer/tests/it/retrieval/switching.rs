use std::time::Duration;

use kinesink_aws::kinesis::primitives::Blob;
use kinesink_kpl::Aggregator;
use tokio::time::sleep;

use super::{Way, numbered};
use crate::recorder::{Commit, Recorder};
use crate::world::{STREAM, World, run, until};

#[tokio::test(start_paused = true)]
async fn one_lease_table_is_read_either_way_in_turn() {
    let world = World::new(2).await;
    let mut delivered = Vec::new();
    let all = numbered(600);
    let ways = [Way::Polling, Way::FanOut, Way::FanOut, Way::Polling, Way::FanOut, Way::Polling];
    for (part, way) in all.chunks(100).zip(ways) {
        let recorder = Recorder::new(Commit::Each);
        let running = run(way.consumer(&world), &recorder);
        for (number, text) in part.iter().enumerate() {
            world.put(&format!("key{}", number % 7), std::slice::from_ref(text)).await;
        }
        until("the part came", async || recorder.texts().len() >= part.len()).await;
        running.drained().await;
        delivered.extend(recorder.texts());
        // Long enough for a subscription to be forgotten, and for an iterator.
        sleep(Duration::from_secs(400)).await;
    }
    assert_eq!(delivered, all);
}

#[tokio::test(start_paused = true)]
async fn a_half_checkpointed_aggregate_is_finished_the_other_way() {
    for [first, second] in [[Way::Polling, Way::FanOut], [Way::FanOut, Way::Polling]] {
        let world = World::new(1).await;
        let mut aggregator = Aggregator::default();
        for text in ["one", "two", "three"] {
            aggregator.push("key", None, text.as_bytes()).unwrap();
        }
        let envelope = aggregator.finish().unwrap();
        let put = world.kinesis.put_record().stream_name(STREAM).partition_key(&envelope.partition_key);
        put.data(Blob::new(envelope.data.clone())).send().await.unwrap();
        let recorder = Recorder::new(Commit::After("two"));
        let running = run(first.consumer(&world), &recorder);
        until("all are delivered", async || recorder.texts().len() >= 3).await;
        running.killed().await;
        world.put("key", &["four".to_owned()]).await;
        let recorder = Recorder::new(Commit::Each);
        let running = run(second.consumer(&world), &recorder);
        until("the rest is delivered", async || recorder.texts().len() >= 2).await;
        running.drained().await;
        assert_eq!(recorder.records()["shardId-000000000000"], ["three", "four"], "{first:?} {second:?}");
    }
}
