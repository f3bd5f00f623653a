//! When a window closes, and what it holds.

use std::time::Duration;

use kinesink_pipeline::{Finished, WindowLimits};
use tokio::time::{Instant, sleep};

use crate::fakes::{Rig, Step, plain, record, reply};

#[tokio::test(start_paused = true)]
async fn a_reply_is_cut_into_windows_by_count_and_the_shard_ends_after_the_last_record() {
    let mut rig = Rig::new(vec![reply(plain(1, 8)), Step::End]);
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8]]);
    assert_eq!(rig.checkpoints(), ["3", "6", "SHARD_END"]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"count\"}"), 2.0);
    assert_eq!(rig.metric("windows_closed_total{reason=\"shard_end\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_shard_ends_too() {
    let mut rig = Rig::new(vec![Step::End]);
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.checkpoints(), ["SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn the_outputs_of_a_record_are_never_split() {
    let mut rig = Rig::new(vec![reply([record(1, "a,b"), record(2, "c,d,e,f"), record(3, "g")]), Step::End]);
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![1, 1, 2, 2, 2, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn bytes_close_a_window_after_the_record_that_passes_the_limit() {
    let mut rig = Rig::new(vec![reply(plain(1, 5)), Step::End]);
    rig.limits = WindowLimits { records: 100, bytes: 8, age: Duration::from_secs(60) };
    rig.run().await.unwrap();
    assert_eq!(rig.batches("one"), [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"bytes\"}"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn age_closes_a_window_without_traffic() {
    let mut rig = Rig::new(vec![reply(plain(1, 1))]);
    let (pipeline, input) = rig.build();
    let begun = Instant::now();
    let watch = async {
        while rig.checkpoints().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_secs(60) && waited < Duration::from_secs(61), "after {waited:?}");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert_eq!(rig.metric("windows_closed_total{reason=\"age\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_filtered_stretch_moves_the_watermark_at_the_age_limit() {
    let skipped = (1..=50).map(|number| record(number, "skip"));
    let mut rig = Rig::new(vec![reply(skipped)]);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(61)).await;
        assert_eq!(rig.checkpoints(), ["50"]);
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert!(rig.batches("one").is_empty(), "a sink was called for nothing");
    assert_eq!(rig.metric("filtered_total"), 50.0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_flushes_what_was_read() {
    let mut rig = Rig::new(vec![reply(plain(1, 2))]);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert_eq!(rig.checkpoints(), ["2"]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"drain\"}"), 1.0);
    assert!(rig.health.report(Instant::now()).shards.is_empty(), "a drained shard is still reported");
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_waits_closes_the_window_that_holds_the_memory() {
    let mut rig = Rig::new(vec![reply(plain(1, 1)), reply(plain(2, 2)), reply(plain(3, 3)), Step::End]);
    rig.limits.age = Duration::from_secs(3600);
    rig.bytes_per_reply = 1024 * 1024;
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [[1], [2], [3]]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"memory\"}"), 2.0);
    assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_reply_cut_by_windows_keeps_its_memory_until_its_last_window_is_settled() {
    let mut rig = Rig::new(vec![reply(plain(1, 4))]);
    rig.bytes_per_reply = 512 * 1024;
    rig.limits.age = Duration::from_secs(10);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.checkpoints(), ["3"]);
        assert_eq!(rig.budget.free_bytes(), 512 * 1024, "record 4 is still in memory");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(rig.checkpoints(), ["3", "4"]);
        assert_eq!(rig.budget.free_bytes(), 1024 * 1024);
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    finished.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_filtered_reply_gives_its_memory_back_at_once() {
    let mut rig = Rig::new(vec![reply([record(1, "skip")])]);
    rig.bytes_per_reply = 512 * 1024;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes());
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    finished.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_reply_gives_its_memory_back_at_once() {
    let mut rig = Rig::new(vec![reply([])]);
    rig.bytes_per_reply = 512 * 1024;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes());
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    finished.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_age_that_no_clock_reaches_is_none() {
    let mut rig = Rig::new(vec![reply([record(1, "skip")]), reply(plain(2, 3)), Step::End]);
    rig.limits.age = Duration::MAX;
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [[2, 3]]);
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_first_record_however_many_follow() {
    let trickle = (1..=2).map(|number| Step::Reply(Duration::from_secs(40), plain(number, number)));
    let mut rig = Rig::new(trickle.collect());
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(101)).await;
        assert_eq!(rig.checkpoints(), ["2"], "60 s after the first record, 20 s after the second");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    finished.unwrap();
}
