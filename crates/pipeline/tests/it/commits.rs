//! What becomes of a closed window.

use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{CheckpointError, Class, Failure};
use kinesink_pipeline::{Finished, ShardStatus};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::fakes::{Answer, Destination, Event, Rig, Step, letter, plain, record, reply, shard};

#[tokio::test(start_paused = true)]
async fn the_next_window_fills_while_one_commits_and_then_reading_stops() {
    let hold = Arc::new(Notify::new());
    let script = vec![reply(plain(1, 3)), reply(plain(4, 6)), reply(plain(7, 9)), Step::End];
    let mut rig = Rig::new(script);
    rig.bytes_per_reply = 100 * 1024;
    rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::Hold(Arc::clone(&hold))])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.budget.free_bytes(), 824 * 1024, "a window that commits holds its memory");
        assert_eq!(rig.metric("records_in_total"), 6.0, "one window commits, one is full, nothing more is read");
        assert!(rig.checkpoints().is_empty());
        hold.notify_one();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.delivered("one"), (1..=9).collect::<Vec<_>>());
    assert_eq!(rig.checkpoints(), ["3", "6", "9", "SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn only_items_to_be_retried_are_sent_again_with_the_windows_bounds() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::Retry(vec![0, 2]), Answer::Retry(vec![1])])];
    rig.run().await.unwrap();
    assert_eq!(rig.batches("one"), [vec![2], vec![1], vec![3]]);
    let begun: Vec<_> = rig.events().into_iter().filter(|event| matches!(event, Event::Begun { .. })).collect();
    assert_eq!(begun, vec![Event::Begun { sink: "one".into(), first: 1, last: 3, keep_existing: false }; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_pauses_the_shard_and_passes() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    let full = Failure::transient("cannot write to /data: no space left");
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(full); 12])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(60)).await;
        let report = rig.health.report(Instant::now());
        let ShardStatus::Paused { why, .. } = &report.shards[&shard()] else { panic!("{report:?}") };
        assert_eq!(why, "cannot write to /data: no space left");
        assert!(report.is_healthy(), "a pause needs nobody");
        assert!(rig.checkpoints().is_empty());
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.delivered("one"), [1, 2, 3]);
    assert_eq!(rig.metric("emit_failures_total{sink=\"one\",class=\"transient\"}"), 12.0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_halts_the_shard_until_it_is_mended() {
    let denied = Failure::configuration("access to bucket b is denied: grant s3:PutObject");
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(denied); 9])];
    let (pipeline, input) = rig.build();
    let halted = "shard_halted{shard=\"shardId-000000000000\",reason=\"configuration\"}";
    let watch = async {
        sleep(Duration::from_secs(30)).await;
        assert!(!rig.health.report(Instant::now()).is_healthy());
        assert_eq!(rig.metric(halted), 1.0);
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.metric(halted), 0.0);
    assert_eq!(rig.delivered("one"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_was_mended_does_not_hide_another_that_was_not() {
    let denied = |times| vec![Answer::Fail(Failure::configuration("denied")); times];
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![
        Destination::new("one", &rig.log).answering(denied(1)),
        Destination::new("two", &rig.log).answering(denied(2)),
    ];
    let (pipeline, input) = rig.build();
    let halted = "shard_halted{shard=\"shardId-000000000000\",reason=\"configuration\"}";
    let watch = async {
        while rig.delivered("one").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(rig.delivered("two").is_empty());
        assert_eq!(rig.metric(halted), 1.0);
        assert!(!rig.health.report(Instant::now()).is_healthy());
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert!(!rig.shows("shard_halted{"), "the series stays");
}

/// What is refused of a window comes in several batches, of which each later one would find other content at its name.
#[tokio::test(start_paused = true)]
async fn dead_letters_that_are_named_by_windows_are_refused_at_the_start() {
    let mut rig = Rig::new(Vec::new());
    rig.dead_letters = Some(Destination::new("dead_letters", &rig.log).planned());
    let (pipeline, _) = rig.build();
    let failure = pipeline.check().await.unwrap_err();
    assert!(failure.class == Class::Configuration && failure.message.contains("Naming::Unique"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_wrong_configuration() {
    let denied = Failure::configuration("denied");
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(denied); 1000])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(30)).await;
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert!(rig.checkpoints().is_empty());
    assert!(rig.health.report(Instant::now()).shards.is_empty(), "a shard that left is still reported");
}

#[tokio::test(start_paused = true)]
async fn a_fatal_failure_ends_the_shard() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::Fail(Failure::fatal("two answers"))])];
    assert_eq!(rig.run().await.unwrap_err().message, "two answers");
    assert!(rig.checkpoints().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_during_a_commit_finishes_it_and_the_open_window() {
    let hold = Arc::new(Notify::new());
    let mut rig = Rig::new(vec![reply(plain(1, 5))]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::Hold(Arc::clone(&hold))])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1)).await;
        rig.drain.cancel();
        sleep(Duration::from_secs(1)).await;
        assert!(rig.checkpoints().is_empty());
        hold.notify_one();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert_eq!(rig.checkpoints(), ["3", "5"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_once_the_lease_is_lost() {
    let mut rig = Rig::new(vec![reply(plain(1, 9)), Step::End]);
    rig.lease.lost_at = Some(2);
    assert_eq!(rig.run().await.unwrap(), Finished::LeaseLost);
    assert_eq!(rig.delivered("one"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(rig.checkpoints(), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_fails_is_tried_again_without_sending_again() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    let throttled = CheckpointError::Store(Failure::transient("throttled"));
    rig.lease.answers = vec![throttled; 4].into();
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [[1, 2, 3]]);
    assert_eq!(rig.checkpoints(), ["3", "SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_waits_for_the_slower_of_two_sinks() {
    let mut rig = Rig::new(vec![reply(plain(1, 6)), Step::End]);
    let slow = vec![Answer::DeliverAfter(Duration::from_secs(5)); 2];
    rig.sinks = vec![Destination::new("fast", &rig.log), Destination::new("slow", &rig.log).answering(slow)];
    rig.run().await.unwrap();
    let mut order = Vec::new();
    for event in rig.events() {
        match event {
            Event::Durable { sink, .. } => order.push(sink),
            Event::Checkpointed(_) => order.push("checkpoint".into()),
            Event::Begun { .. } | Event::Announced(_) => {}
        }
    }
    assert_eq!(order, ["fast", "slow", "checkpoint", "fast", "slow", "checkpoint", "checkpoint"]);
    assert_eq!(rig.delivered("fast"), rig.delivered("slow"));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_durable_before_the_checkpoint() {
    let records = [record(1, "bad"), record(2, "poison"), record(3, "unencodable"), record(4, "x,poison")];
    let mut rig = Rig::new(vec![reply(records), Step::End]).with_dead_letters();
    rig.limits.records = 100;
    let busy = Failure::transient("dead letters are busy");
    rig.dead_letters = rig.dead_letters.map(|dead| dead.answering([Answer::Fail(busy)]));
    rig.run().await.unwrap();
    let events = rig.events();
    let Some(Event::Durable { outputs, .. }) = events.get(events.len() - 2) else { panic!("{events:?}") };
    assert_eq!(events.last(), Some(&Event::Checkpointed(kinesink_core::Checkpoint::ShardEnd)));
    let letters: Vec<_> = outputs.iter().map(|(.., json)| letter(json)).collect();
    let summary: Vec<_> = letters.iter().map(|letter| (letter.number, letter.ordinal, &*letter.stage)).collect();
    assert_eq!(summary, [(1, 0, "transform"), (2, 0, "sink:one"), (3, 0, "transform"), (4, 1, "sink:one")]);
    assert_eq!(letters[1].reason, "poisonous");
    assert_eq!(letters[1].data, "poison");
    assert_eq!(rig.delivered("one"), [4]);
    assert_eq!(rig.metric("dead_letters_total{stage=\"sink:one\"}"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_reader_is_tried_again() {
    let script = vec![
        Step::Fail(Failure::transient("cut")),
        reply(plain(1, 1)),
        Step::Fail(Failure::configuration("denied")),
        reply(plain(2, 2)),
        Step::End,
    ];
    let mut rig = Rig::new(script);
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.delivered("one"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_makes_the_shard_stuck_and_a_quiet_stream_does_not_hide_it() {
    let quiet = (0..600).map(|_| Step::Reply(Duration::from_secs(1), Vec::new()));
    for after in [Vec::new(), quiet.collect()] {
        let mut rig = Rig::new([vec![reply(plain(1, 3))], after].concat());
        rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::Hold(Arc::default())])];
        let (pipeline, input) = rig.build();
        let watch = async {
            sleep(Duration::from_secs(299)).await;
            assert!(rig.health.report(Instant::now()).is_healthy());
            sleep(Duration::from_secs(2)).await;
            let report = rig.health.report(Instant::now());
            assert!(matches!(report.shards[&shard()], ShardStatus::Stuck { .. }), "{report:?}");
        };
        tokio::select! {
            _ = pipeline.run_shard(input) => panic!("it ended"),
            () = watch => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_waits_for_more_is_not_stuck() {
    let mut rig = Rig::new(vec![reply(plain(1, 2)), reply([])]);
    rig.limits.age = Duration::from_secs(3600);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(1800)).await;
        let report = rig.health.report(Instant::now());
        assert!(matches!(report.shards[&shard()], ShardStatus::Running { busy: false, .. }), "{report:?}");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_lasts_makes_the_shard_stuck() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    let full = Failure::transient("cannot write to /data: no space left");
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(full); 40])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(310)).await;
        let report = rig.health.report(Instant::now());
        let ShardStatus::Stuck { why: Some(why), .. } = &report.shards[&shard()] else { panic!("{report:?}") };
        assert_eq!(why, "cannot write to /data: no space left");
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.delivered("one"), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_may_run_on_any_thread() {
    fn may_move<F: Send>(run: F) -> F {
        run
    }
    let mut rig = Rig::new(vec![Step::End]);
    let (pipeline, input) = rig.build();
    assert_eq!(may_move(pipeline.run_shard(input)).await.unwrap(), Finished::ShardEnd);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_passed_is_no_longer_reported() {
    let mut rig = Rig::new(vec![reply(plain(1, 3))]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering(vec![Answer::Fail(Failure::transient("cut")); 2])];
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(10)).await;
        let report = rig.health.report(Instant::now());
        assert!(matches!(report.shards[&shard()], ShardStatus::Running { busy: false, .. }), "{report:?}");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
}

#[tokio::test(start_paused = true)]
async fn an_emitter_that_answers_about_an_item_it_was_not_given_ends_the_shard() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).answering([Answer::RetryBeyond])];
    let message = rig.run().await.unwrap_err().message;
    assert!(message.contains("sink one") && message.contains("item 3 of a batch of 3"), "{message}");
    assert!(rig.checkpoints().is_empty());
}
