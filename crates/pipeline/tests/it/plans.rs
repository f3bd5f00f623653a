//! Windows that are announced before they are published.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{Checkpoint, Failure, Prepared, Record};
use kinesink_pipeline::{Finished, ShardStatus, WindowLimits, finished_as_is};
use tokio::time::{Instant, sleep};

use crate::fakes::{Answer, Destination, Event, Rig, Step, plain, position, record, reply, shard};

const HALTED: &str = "shard_halted{shard=\"shardId-000000000000\",reason=\"plan\"}";

fn planned(script: Vec<Step>) -> Rig {
    let mut rig = Rig::new(script);
    rig.sinks = vec![Destination::new("one", &rig.log).planned()];
    rig
}

/// What a worker leaves that is killed after it has sent a window of records 1 to 5, and before its checkpoint.
async fn left_behind() -> Prepared {
    let mut rig = planned(vec![reply(plain(1, 7)), Step::End]);
    rig.limits.records = 5;
    rig.lease.lost_at = Some(1);
    assert_eq!(rig.run().await.unwrap(), Finished::LeaseLost);
    assert_eq!(rig.batches("one"), [[1, 2, 3, 4, 5]]);
    let left = rig.lease.prepared.lock().unwrap().clone();
    left.unwrap()
}

/// The next owner, whose windows hold 3 records.
async fn next_owner(script: Vec<Step>) -> Rig {
    let rig = planned(script);
    *rig.lease.prepared.lock().unwrap() = Some(left_behind().await);
    rig
}

/// Runs for a minute, in which the shard is halted, and drains. Why it was halted.
async fn halted(rig: &mut Rig) -> String {
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(60)).await;
        let report = rig.health.report(Instant::now());
        let ShardStatus::Halted { reason } = &report.shards[&shard()] else { panic!("{report:?}") };
        assert_eq!(rig.metric(HALTED), 1.0);
        assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes(), "a halted shard holds no memory");
        rig.drain.cancel();
        reason.clone()
    };
    let (finished, reason) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert!(rig.events().is_empty(), "{:?}", rig.events());
    assert!(rig.lease.prepared.lock().unwrap().is_some(), "what is announced stays announced");
    reason
}

#[tokio::test(start_paused = true)]
async fn a_window_is_announced_before_any_sink_has_a_part_of_it() {
    let mut rig = planned(vec![reply(plain(1, 4)), Step::End]);
    let unplanned = Destination::new("two", &rig.log);
    rig.sinks.push(unplanned);
    rig.run().await.unwrap();
    let order: Vec<_> = rig.events().into_iter().filter(|event| !matches!(event, Event::Begun { .. })).collect();
    let durable = |sink: &str, numbers: std::ops::RangeInclusive<u64>| {
        let outputs = numbers.map(|number| (number, 0, format!("out-{number}"))).collect();
        Event::Durable { sink: sink.into(), outputs }
    };
    let wanted = [
        Event::Announced(3),
        durable("one", 1..=3),
        durable("two", 1..=3),
        Event::Checkpointed(Checkpoint::At(position(3))),
        Event::Announced(4),
        durable("one", 4..=4),
        durable("two", 4..=4),
        Event::Checkpointed(Checkpoint::ShardEnd),
    ];
    assert_eq!(order, wanted);
    assert_eq!(rig.metric("plans_total{outcome=\"written\"}"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_announced_where_boundaries_do_not_matter_or_nothing_is_sent() {
    let mut rig = Rig::new(vec![reply(plain(1, 3)), Step::End]);
    rig.run().await.unwrap();
    let mut filtered = planned(vec![reply([record(1, "skip"), record(2, "bad")]), Step::End]).with_dead_letters();
    filtered.run().await.unwrap();
    for rig in [rig, filtered] {
        assert!(!rig.events().iter().any(|event| matches!(event, Event::Announced(_))), "{:?}", rig.events());
        assert_eq!(rig.checkpoints().last().unwrap(), "SHARD_END");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_finishes_exactly_the_window_that_was_announced() {
    // Other replies, other limits, and one record that comes late: the window is the same.
    let late = Step::Reply(Duration::from_secs(300), plain(5, 8));
    let mut rig = next_owner(vec![reply(plain(1, 2)), reply(plain(3, 4)), late, Step::End]).await;
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![1, 2, 3, 4, 5], vec![6, 7, 8]]);
    assert_eq!(rig.checkpoints(), ["5", "8", "SHARD_END"]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"plan\"}"), 1.0);
    assert_eq!(rig.metric("plans_total{outcome=\"finished\"}"), 1.0);
    let announced: Vec<_> = rig.events().into_iter().filter(|event| matches!(event, Event::Announced(_))).collect();
    assert_eq!(announced, [Event::Announced(8)], "the first is announced already");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_comes_out_differently_halts_the_shard_before_anything_is_sent() {
    let mut records = plain(1, 7);
    records[2] = record(3, "otherwise");
    let mut rig = next_owner(vec![reply(records), Step::End]).await;
    let reason = halted(&mut rig).await;
    assert!(reason.contains("records 1.0 to 5.0") && reason.contains("--drop-plan"), "{reason}");
    assert!(reason.contains("its code has changed"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_window_whose_records_have_left_the_stream_halts_the_shard_and_names_them() {
    let mut rig = next_owner(vec![reply(plain(4, 7)), Step::End]).await;
    let reason = halted(&mut rig).await;
    assert!(reason.contains("records 1.0 to 5.0") && reason.contains("only records 4.0 to 5.0 left"), "{reason}");
    let nothing: [Vec<Record>; 3] = [plain(6, 7), Vec::new(), Vec::new()];
    for (index, records) in nothing.into_iter().enumerate() {
        let end = if index == 1 { vec![Step::End] } else { Vec::new() };
        let mut rig = next_owner([vec![reply(records)], end].concat()).await;
        let reason = halted(&mut rig).await;
        assert!(reason.contains("no records left in the stream"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_to_be_finished_as_it_is_keeps_its_end_and_is_published_as_far_as_it_can_be_made() {
    let mut changed = plain(1, 7);
    changed[2] = record(3, "otherwise");
    let all: (&[u64], &[u64]) = (&[1, 2, 3, 4, 5], &[6, 7]);
    for (records, (announced, next)) in [
        (changed, all),
        (plain(4, 7), (&[4, 5], &[6, 7])),
        // Its end has left the stream, or all of it.
        ([plain(1, 3), plain(6, 7)].concat(), (&[1, 2, 3], &[6, 7])),
        (plain(6, 7), (&[], &[6, 7])),
        (plain(2, 4), (&[2, 3, 4], &[])),
        (Vec::new(), (&[], &[])),
    ] {
        let mut rig = next_owner(vec![reply(records), Step::End]).await;
        let left = rig.lease.prepared.lock().unwrap().take().unwrap();
        let plan = Some(finished_as_is(&left, rig.start).unwrap());
        *rig.lease.prepared.lock().unwrap() = Some(Prepared { plan, ..left });
        assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
        let wanted: Vec<_> = [announced, next].into_iter().filter(|batch| !batch.is_empty()).collect();
        assert_eq!(rig.batches("one"), wanted);
        assert_eq!(rig.checkpoints()[0], "5", "a record that was announced is passed only with its window");
        assert_eq!(rig.checkpoints().last().unwrap(), "SHARD_END");
        for event in rig.events() {
            if let Event::Begun { last, keep_existing, .. } = event {
                assert_eq!(keep_existing, last <= 5, "only for the window that somebody asked that of");
            }
        }
    }
}

/// It was named by records without outputs once those had left the stream: what was there of it was not found, and there twice.
#[tokio::test(start_paused = true)]
async fn a_window_whose_records_without_outputs_left_the_stream_keeps_its_name() {
    let quiet = |number| record(number, "");
    let window = [vec![quiet(1)], plain(2, 4), vec![quiet(5)]].concat();
    for left_of_it in [window.clone(), window[1..].to_vec(), window[..4].to_vec(), window[2..3].to_vec()] {
        let mut rig = planned(vec![reply(window.clone()), Step::End]);
        rig.limits.records = 5;
        rig.lease.lost_at = Some(1);
        assert_eq!(rig.run().await.unwrap(), Finished::LeaseLost);
        let left = rig.lease.prepared.lock().unwrap().take().unwrap();

        let mut rig = planned(vec![reply([left_of_it, plain(6, 7)].concat()), Step::End]);
        let plan = Some(finished_as_is(&left, rig.start).unwrap());
        *rig.lease.prepared.lock().unwrap() = Some(Prepared { plan, ..left });
        assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
        let begun = |event: &Event| matches!(event, Event::Begun { first: 2, last: 4, keep_existing: true, .. });
        assert_eq!(rig.events().iter().filter(|event| begun(event)).count(), 1, "{:?}", rig.events());
    }
}

#[tokio::test(start_paused = true)]
async fn who_finishes_an_announced_window_alone_reads_nothing_behind_it_while_it_commits() {
    const REPLY_BYTES: usize = 1024;
    let mut rig = next_owner(vec![reply(plain(1, 5)), reply(plain(6, 7)), reply(plain(8, 9)), Step::End]).await;
    let slow = Answer::DeliverAfter(Duration::from_secs(60));
    rig.sinks = vec![Destination::new("one", &rig.log).planned().answering([slow])];
    rig.bytes_per_reply = REPLY_BYTES;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(30)).await;
        assert!(matches!(rig.events()[..], [Event::Begun { first: 1, last: 5, .. }]), "{:?}", rig.events());
        assert_eq!(rig.budget.total_bytes() - rig.budget.free_bytes(), REPLY_BYTES, "it holds its window and no more");
    };
    let (finished, ()) = tokio::join!(pipeline.finish_plan(input), watch);
    let ControlFlow::Continue(rest) = finished.unwrap() else { panic!("the shard goes on") };
    assert_eq!((rest.start, rest.prepared.is_some()), (Checkpoint::At(position(5)), false));
    assert_eq!(pipeline.run_shard(rest).await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![1, 2, 3, 4, 5], vec![6, 7, 8], vec![9]], "each once");
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_a_newer_version_halts_the_shard() {
    let mut rig = planned(vec![reply(plain(1, 7)), Step::End]);
    let plan = Some(bytes::Bytes::from_static(b"KNSP\x07"));
    *rig.lease.prepared.lock().unwrap() = Some(Prepared { checkpoint: Checkpoint::At(position(5)), plan });
    let reason = halted(&mut rig).await;
    assert!(reason.contains("version 7") && reason.contains("newer kinesink"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_could_not_be_read_is_still_there_for_who_goes_on() {
    let mut rig = planned(vec![reply(plain(1, 7)), Step::End]);
    let plan = Some(bytes::Bytes::from_static(b"KNSP\x07"));
    let prepared = Prepared { checkpoint: Checkpoint::At(position(5)), plan };
    *rig.lease.prepared.lock().unwrap() = Some(prepared.clone());
    let (pipeline, input) = rig.build();
    let ControlFlow::Continue(rest) = pipeline.finish_plan(input).await.unwrap() else {
        panic!("nothing was finished")
    };
    assert_eq!(rest.prepared, Some(prepared));
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_a_java_owner_has_overtaken_is_left_aside() {
    let mut rig = next_owner(vec![reply(plain(3, 7)), Step::End]).await;
    rig.start = Checkpoint::At(position(2));
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![3, 4, 5], vec![6, 7]]);
    assert_eq!(rig.metric("plans_total{outcome=\"dropped\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_while_an_announced_window_is_read_again_publishes_no_part_of_it() {
    let never = Step::Reply(Duration::from_secs(3600), plain(4, 7));
    let mut rig = next_owner(vec![reply(plain(1, 3)), never]).await;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(100)).await;
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert!(rig.events().is_empty(), "{:?}", rig.events());
    assert!(rig.lease.prepared.lock().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_halts_an_announced_window_gets_exactly_that_window_when_it_is_mended() {
    let denied = Failure::configuration("access to bucket b is denied: grant s3:PutObject");
    let mut rig = Rig::new(vec![reply(plain(1, 2)), reply(plain(3, 9)), Step::End]);
    let wrong = Destination::new("two", &rig.log).planned().answering(vec![Answer::Fail(denied); 8]);
    rig.sinks = vec![Destination::new("one", &rig.log).planned(), wrong];
    rig.limits = WindowLimits { records: 100, bytes: 1_000_000, age: Duration::from_secs(1) };
    // The first window closes by its age after two records; read again, all nine are there at once.
    rig.script[1] = Step::Reply(Duration::from_secs(5), plain(3, 9));
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert!(!rig.rewinds.lock().unwrap().is_empty() || rig.batches("one").len() > 2, "the shard was halted");
    for batch in rig.batches("one").iter().chain(&rig.batches("two")) {
        assert!(*batch == [1, 2] || *batch == [3, 4, 5, 6, 7, 8, 9], "{batch:?}");
    }
    assert_eq!(rig.checkpoints(), ["2", "SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_refused_in_an_announced_window_halts_the_window_as_a_whole() {
    let mut rig = Rig::new(vec![reply([record(1, "a"), record(2, "poison"), record(3, "c")]), Step::End]);
    rig.sinks = vec![Destination::new("one", &rig.log).planned()];
    let refusing = Arc::clone(&rig.sinks[0].refusing);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(60)).await;
        let report = rig.health.report(Instant::now());
        assert!(matches!(report.shards[&shard()], ShardStatus::Halted { .. }), "{report:?}");
        assert!(rig.checkpoints().is_empty());
        *refusing.lock().unwrap() = false;
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    for event in rig.events() {
        if let Event::Begun { first, last, .. } = event {
            assert_eq!((first, last), (1, 3), "an announced window was cut");
        }
    }
    assert_eq!(rig.checkpoints().last().unwrap(), "SHARD_END");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_transformer_refuses_now_halts_the_announced_window_and_is_named() {
    let mut records = plain(1, 7);
    records[2] = record(3, "bad");
    let mut rig = next_owner(vec![reply(records), Step::End]).await;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(60)).await;
        let report = rig.health.report(Instant::now());
        let ShardStatus::Halted { reason } = &report.shards[&shard()] else { panic!("{report:?}") };
        assert!(reason.contains("record 3.0 is refused by transform"), "{reason}");
        assert!(reason.contains("records 1.0 to 5.0") && reason.contains("dead-letter destination"), "{reason}");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
    assert!(rig.events().is_empty(), "{:?}", rig.events());
}

#[tokio::test(start_paused = true)]
async fn an_announced_window_is_not_given_up_while_its_records_come() {
    let slowly = (1..=7).map(|n| Step::Reply(Duration::from_secs(6), plain(n, n))).collect();
    let mut rig = next_owner(slowly).await;
    rig.bytes_per_reply = 100 * 1024;
    let other = rig.budget.reserve(500 * 1024).await;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(8)).await;
        // Somebody wants more than is free, for a while in which nothing comes either.
        let wanted = rig.budget.reserve(500 * 1024);
        let freed = async {
            sleep(Duration::from_secs(5)).await;
            drop(other);
        };
        let (got, ()) = tokio::join!(wanted, freed);
        drop(got);
        sleep(Duration::from_secs(20)).await;
        assert_eq!(rig.metric(HALTED), 0.0);
        sleep(Duration::from_secs(60)).await;
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert_eq!(rig.batches("one"), [vec![1, 2, 3, 4, 5], vec![6], vec![7]]);
}

#[tokio::test(start_paused = true)]
async fn an_announced_window_that_memory_is_wanted_for_is_given_up_and_finished_later() {
    let mut rig = next_owner(vec![reply(plain(1, 3)), reply(plain(4, 7)), Step::End]).await;
    rig.bytes_per_reply = 400 * 1024;
    let other = rig.budget.reserve(400 * 1024).await;
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(30)).await;
        assert_eq!(rig.metric(HALTED), 1.0);
        assert!(rig.events().is_empty(), "{:?}", rig.events());
        drop(other);
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.batches("one"), [vec![1, 2, 3, 4, 5], vec![6, 7]]);
}
