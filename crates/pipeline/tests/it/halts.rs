//! A record that has nowhere to go.

use std::time::Duration;

use kinesink_core::{Failure, Record};
use kinesink_pipeline::{Finished, ShardStatus};
use tokio::time::{Instant, sleep};

use crate::fakes::{Answer, Destination, Rig, Step, plain, position, record, reply, shard};

fn with_record_4(data: &str) -> Rig {
    let mut records = plain(1, 8);
    records[3] = record(4, data);
    let mut rig = Rig::new(vec![reply(records), Step::End]);
    rig.bytes_per_reply = 512 * 1024;
    rig.limits.records = 3;
    rig
}

/// Runs until the shard has been halted for a while, mends the cause, and runs to the end.
async fn halts_and_resumes(rig: &mut Rig, stage: &str, mend: impl Fn()) {
    let (pipeline, input) = rig.build();
    let halted = format!("shard_halted{{shard=\"shardId-000000000000\",reason=\"{stage}\"}}");
    let watch = async {
        sleep(Duration::from_secs(100)).await;
        assert_eq!(rig.checkpoints().last().unwrap(), "3", "what came before is committed");
        assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes(), "a halted shard holds no memory");
        assert_eq!(rig.metric(&halted), 1.0);
        let report = rig.health.report(Instant::now());
        let ShardStatus::Halted { reason } = &report.shards[&shard()] else { panic!("{report:?}") };
        assert!(reason.contains("record 4.0") && reason.contains("dead-letter destination"), "{reason}");
        mend();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.metric(&halted), 0.0);
    assert_eq!(rig.checkpoints().last().unwrap(), "SHARD_END");
    let mut delivered = rig.delivered("one");
    // What the sink took beside the refused record is sent again: at least once.
    delivered.sort_unstable();
    delivered.dedup();
    assert_eq!(delivered, (1..=8).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_transformed_halts_the_shard_until_it_can() {
    let mut rig = with_record_4("bad");
    let refusing = std::sync::Arc::clone(&rig.refusing);
    halts_and_resumes(&mut rig, "transform", || *refusing.lock().unwrap() = false).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_sink_refuses_halts_the_shard_until_it_takes_it() {
    let mut rig = with_record_4("poison");
    let refusing = std::sync::Arc::clone(&rig.sinks[0].refusing);
    halts_and_resumes(&mut rig, "sink:one", || *refusing.lock().unwrap() = false).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_refused_record_in_its_window_is_committed_first() {
    let mut rig = Rig::new(vec![reply([record(1, "a"), record(2, "poison"), record(3, "c")]), Step::End]);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(10)).await;
        assert_eq!(rig.checkpoints(), ["1"]);
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert_eq!(rig.metric("windows_closed_total{reason=\"halt\"}").min(2.0), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_halted_shard_tries_again_ever_more_slowly() {
    let mut rig = with_record_4("bad");
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(600)).await;
        let tries = rig.rewinds.lock().unwrap().len();
        // 1, 2, 4, 8, 16 s, then every 15 to 30 s.
        assert!((22..=45).contains(&tries), "{tries} tries in ten minutes");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
}

/// What says that a shard is halted, as the registry and the health page show it.
fn shown(rig: &Rig) -> (f64, usize) {
    (rig.metric(TRANSFORM), rig.health.report(Instant::now()).shards.len())
}

const TRANSFORM: &str = "shard_halted{shard=\"shardId-000000000000\",reason=\"transform\"}";

#[tokio::test(start_paused = true)]
async fn a_halt_does_not_outlive_its_shard_on_this_worker() {
    for drained in [true, false] {
        let mut rig = with_record_4("bad");
        let (pipeline, input) = rig.build();
        let watch = async {
            sleep(Duration::from_secs(100)).await;
            assert_eq!(shown(&rig), (1.0, 1));
            if drained {
                rig.drain.cancel();
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            finished = pipeline.run_shard(input) => assert_eq!(finished.unwrap(), Finished::Halted),
            // The lease is lost: the shard's task is dropped.
            () = watch => {}
        }
        assert_eq!(shown(&rig), (0.0, 0), "drained: {drained}");
        assert!(!rig.shows("shard_halted{"), "the series stays");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_halts_the_shard() {
    let mut rig = Rig::new(vec![reply([record(1, "a"), record(2, "bad")]), Step::End]);
    let log = std::sync::Arc::clone(&rig.log);
    rig.dead_letters = Some(Destination::new("dead_letters", &log).refusing_all());
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(10)).await;
        assert_eq!(rig.checkpoints(), ["1"]);
        assert_eq!(rig.metric("shard_halted{shard=\"shardId-000000000000\",reason=\"sink:dead_letters\"}"), 1.0);
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
}

/// A rig whose first window, 1 to 3, holds a record that the sink refuses, after a second.
fn with_a_slow_refusal(number: u64, later: Vec<Record>) -> Rig {
    let mut records = plain(1, 3);
    let refused = records.iter_mut().find(|each| each.position == position(number)).unwrap();
    *refused = record(number, "poison");
    let mut rig = Rig::new(vec![reply(records), reply(later)]);
    let slow = Answer::DeliverAfter(Duration::from_secs(1));
    rig.sinks = vec![Destination::new("one", &rig.log).answering([slow])];
    rig
}

#[tokio::test(start_paused = true)]
async fn a_halt_met_beyond_a_refused_record_is_not_reported_before_it() {
    let mut later = plain(4, 5);
    later[1] = record(5, "bad");
    let mut rig = with_a_slow_refusal(3, later);
    let (pipeline, input) = rig.build();
    let watch = async {
        let mut reasons = Vec::new();
        for _ in 0..100 {
            sleep(Duration::from_millis(100)).await;
            if let Some(ShardStatus::Halted { reason }) = rig.health.report(Instant::now()).shards.get(&shard()) {
                reasons.push(reason.clone());
            }
        }
        assert!(!reasons.is_empty());
        assert!(reasons.iter().all(|reason| reason.contains("record 3.0")), "{reasons:?}");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
}

#[tokio::test(start_paused = true)]
async fn a_drain_commits_nothing_beyond_a_refused_record() {
    let mut rig = with_a_slow_refusal(2, plain(4, 5));
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_millis(500)).await;
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert!(rig.checkpoints().is_empty(), "{:?}", rig.checkpoints());
}

const MISCONFIGURED: &str = "shard_halted{shard=\"shardId-000000000000\",reason=\"configuration\"}";

/// A window that commits, one that is full and a read-ahead, all with memory, before a sink that fails so often.
fn misconfigured(failures: usize) -> Rig {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), reply(plain(4, 6)), reply(plain(7, 9)), Step::End]);
    rig.bytes_per_reply = 256 * 1024;
    let exists = Failure::configuration("object a exists with other content: remove it");
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(exists); failures])];
    rig
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_that_lasts_holds_no_memory_and_resumes_when_mended() {
    let mut rig = misconfigured(12);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(10)).await;
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes(), "a halted shard holds no memory");
            assert_eq!(rig.metric(MISCONFIGURED), 1.0);
            let report = rig.health.report(Instant::now());
            let ShardStatus::Halted { reason } = &report.shards[&shard()] else { panic!("{report:?}") };
            assert!(reason.contains("sink one") && reason.contains("remove it"), "{reason}");
        }
        assert!(rig.checkpoints().is_empty());
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.metric(MISCONFIGURED), 0.0);
    assert_eq!(rig.delivered("one"), (1..=9).collect::<Vec<_>>());
    assert_eq!(rig.checkpoints(), ["3", "6", "9", "SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_that_passes_at_once_reads_nothing_again() {
    let mut rig = misconfigured(2);
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert!(rig.rewinds.lock().unwrap().is_empty());
    assert_eq!(rig.delivered("one"), (1..=9).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_shard_that_a_wrong_configuration_halts() {
    let mut rig = misconfigured(1000);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(100)).await;
        assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes());
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert!(rig.checkpoints().is_empty());
}
