//! Windows that are larger than memory.

use std::cell::Cell;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Batch, Budget, Emitted, Emitter, Failure, Fingerprint, Partition};
use kinesink_pipeline::{Finished, Pipeline, ShardStatus, Sink, Spill};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::fakes::{Answer, Destination, Event, Rig, Split, Step, letter, plain, record, reply, shard};

pub(crate) const MIB: usize = 1024 * 1024;
const REPLY_BYTES: usize = 256 * 1024;
const REPLIES: u64 = 20;
const RECORDS_PER_REPLY: u64 = 10;
pub(crate) const RECORDS: u64 = REPLIES * RECORDS_PER_REPLY;

fn spill(directory: &Path, bytes_max: usize) -> Spill<String> {
    // Pieces of a few items.
    let read = |bytes: Bytes| String::from_utf8(bytes.to_vec()).ok();
    Spill::of(directory.into(), bytes_max, 4096, MIB, |text: &String| Bytes::copy_from_slice(text.as_bytes()), read)
}

fn all() -> Vec<u64> {
    (1..=RECORDS).collect()
}

/// Five times the records that the budget holds, the last of them late.
pub(crate) fn script(value: impl Fn(u64) -> String) -> Vec<Step> {
    let reply_of = |number: u64| {
        let numbers = number * RECORDS_PER_REPLY + 1..=(number + 1) * RECORDS_PER_REPLY;
        let delay = Duration::from_secs(if number == REPLIES - 1 { 30 } else { 0 });
        Step::Reply(delay, numbers.map(|number| record(number, &value(number))).collect())
    };
    (0..REPLIES).map(reply_of).chain([Step::End]).collect()
}

pub(crate) fn rig(script: Vec<Step>, directory: &TempDir, bytes_max: usize) -> Rig {
    let mut rig = Rig::new(script);
    rig.sinks = vec![Destination::new("one", &rig.log).planned()];
    rig.limits.records = 10_000;
    rig.limits.age = Duration::from_secs(3600);
    rig.bytes_per_reply = REPLY_BYTES;
    rig.budget = Budget::new(MIB);
    rig.spill = Some(spill(directory.path(), bytes_max));
    rig
}

pub(crate) fn plainly(number: u64) -> String {
    format!("out-{number}")
}

#[tokio::test(start_paused = true)]
async fn a_window_of_five_times_the_memory_is_committed_as_one_and_its_room_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(script(plainly), &directory, MIB);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(20)).await;
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "what is spilled has no name");
        assert!(rig.metric("spilled_bytes_total") > 0.0);
        assert!(rig.spill.as_ref().unwrap().free_bytes() < MIB);
        assert_eq!(rig.events(), [], "nothing of it is to be seen before it is committed");
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    drop(pipeline);
    assert_eq!(rig.batches("one"), [all()]);
    assert_eq!(rig.checkpoints(), ["SHARD_END"]);
    assert_eq!(rig.metric("windows_closed_total{reason=\"memory\"}"), 0.0);
    assert_eq!(rig.metric("records_committed_total"), RECORDS as f64);
    assert_eq!(rig.metric("records_emitted_total{sink=\"one\"}"), RECORDS as f64);
    assert_eq!(rig.budget.free_bytes(), MIB);
    assert_eq!(rig.spill.as_ref().unwrap().free_bytes(), MIB);
}

#[tokio::test(start_paused = true)]
async fn without_room_on_disk_the_window_closes_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut small = rig(script(plainly), &directory, 8 * 1024);
    let mut nowhere = rig(script(plainly), &directory, MIB);
    nowhere.spill = Some(spill(&file, MIB));
    for rig in [&mut small, &mut nowhere] {
        assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
        assert_eq!(rig.delivered("one"), all(), "in order, each once");
        assert!(rig.metric("windows_closed_total{reason=\"memory\"}") >= 1.0);
        assert_eq!(rig.budget.free_bytes(), MIB);
    }
    assert!(small.metric("spilled_bytes_total") > 0.0, "what fitted was spilled");
    let mut nowhere = rig(Vec::new(), &directory, MIB);
    nowhere.spill = Some(spill(&file, MIB));
    let (pipeline, _) = nowhere.build();
    let failure = pipeline.check().await.unwrap_err();
    assert!(failure.message.contains(&file.display().to_string()), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_more_partitions_than_memory_can_note_closes_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(script(|number| format!("{number}/out")), &directory, MIB);
    let read = |bytes: Bytes| String::from_utf8(bytes.to_vec()).ok();
    let write = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    // For some of the partitions.
    rig.spill = Some(Spill::of(directory.path().into(), MIB, 4096, 8 * 1024, write, read));
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    let mut delivered = rig.delivered("one");
    delivered.sort_unstable();
    assert_eq!(delivered, all(), "each once");
    assert!(rig.metric("spilled_bytes_total") > 0.0, "what could be noted was spilled");
    assert!(rig.metric("windows_closed_total{reason=\"memory\"}") >= 1.0);
    assert_eq!(rig.budget.free_bytes(), MIB);
}

/// A partition of three, and of the second sink one of two; some are refused.
pub(crate) fn divided(number: u64) -> String {
    match (number, number % 3) {
        (17, _) => "poison".into(),
        (_, 0) => format!("a/{number}"),
        (_, 1) => format!("b/{number}"),
        _ => format!("c/{number}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_sink_gets_all_of_a_spilled_window_as_it_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(script(divided), &directory, MIB).with_dead_letters();
    let failed = Answer::Fail(Failure::transient("busy"));
    let partitioned = Destination::new("one", &rig.log).planned().answering([failed.clone(), failed]);
    let asked = Arc::clone(&partitioned.asked);
    rig.sinks = vec![partitioned, Destination::new("two", &rig.log).answering([Answer::Retry(vec![0, 2])])];
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(
        asked.load(Ordering::Relaxed),
        RECORDS,
        "a record's partition is computed once, however often it is sent"
    );
    let of = |rest: u64| (1..=RECORDS).filter(|number| *number != 17 && number % 3 == rest).collect::<Vec<_>>();
    let mut batches: Vec<_> = rig.batches("one").into_iter().filter(|batch| !batch.is_empty()).collect();
    batches.sort();
    assert_eq!(batches, [of(1), of(2), of(0)], "an object each, in order, whatever failed before");
    let mut delivered = rig.delivered("two");
    let retried = delivered.iter().position(|number| *number == 1).unwrap();
    assert!(retried > 0, "it was sent again");
    delivered.sort();
    assert_eq!(delivered, (1..=RECORDS).filter(|number| *number != 17).collect::<Vec<_>>());
    let mut letters = Vec::new();
    for event in rig.events() {
        if let Event::Durable { sink, outputs } = event
            && sink == "dead_letters"
        {
            letters.extend(outputs.into_iter().map(|(.., json)| letter(&json)));
        }
    }
    letters.sort_by(|a, b| a.stage.cmp(&b.stage));
    let told: Vec<_> = letters.iter().map(|letter| (letter.number, &*letter.stage, &*letter.data)).collect();
    assert_eq!(told, [(17, "sink:one", "poison"), (17, "sink:two", "poison")]);
    assert_eq!(rig.checkpoints(), ["SHARD_END"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_kept_the_memory_that_windows_of_other_shards_are_read_with() {
    let directory = tempfile::tempdir().unwrap();
    let shared = spill(directory.path(), 2 * MIB);
    let failing = std::iter::repeat_n(Answer::Fail(Failure::transient("no room")), 1_000);
    let retrying = std::iter::repeat_n(Answer::Retry(vec![0]), 1_000);
    for answers in [failing.collect::<Vec<_>>(), retrying.collect()] {
        let mut dead = rig(script(plainly), &directory, MIB);
        dead.sinks = vec![Destination::new("dead", &dead.log).answering(answers)];
        dead.spill = Some(shared.clone());
        let (pipeline, input) = dead.build();
        let others = async {
            // By then it has begun to send its window, again and again.
            sleep(Duration::from_secs(60)).await;
            for is_planned in [false, true] {
                let mut other = rig(script(plainly), &directory, MIB);
                let sink = Destination::new("one", &other.log);
                other.sinks = vec![if is_planned { sink.planned() } else { sink }];
                other.spill = Some(shared.clone());
                let finished = timeout(Duration::from_secs(120), other.run()).await;
                assert_eq!(finished.expect("it is read while the other waits").unwrap(), Finished::ShardEnd);
                assert_eq!(other.delivered("one"), all());
            }
        };
        tokio::select! {
            ended = pipeline.run_shard(input) => panic!("{ended:?}"),
            () = others => {}
        }
        assert!(dead.delivered("dead").len() < 20, "it has not got beyond its first piece");
        drop(pipeline);
    }
}

/// Takes twenty minutes to make a partition durable, bit by bit, and hangs for twenty more.
struct Slow;

#[async_trait]
impl Emitter<String> for Slow {
    async fn emit(&self, _: &Batch<'_, String>) -> Result<Emitted, Failure> {
        panic!("the window is spilled");
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        true
    }

    async fn emit_partition(&self, partition: &Partition<'_, String>) -> Result<Emitted, Failure> {
        for _ in 0..20 {
            sleep(Duration::from_secs(60)).await;
            partition.pieces.progressed();
        }
        sleep(Duration::from_secs(1200)).await;
        Ok(Emitted::all())
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_gets_on_with_a_spilled_window_is_not_stuck_and_one_that_hangs_is() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(script(plainly), &directory, MIB);
    let (_, input) = rig.build();
    let pipeline = Pipeline::new(Split { refusing: Arc::clone(&rig.refusing) }, Sink::new("slow", Arc::new(Slow)));
    let pipeline = pipeline.limits(rig.limits).spill(rig.spill.clone().unwrap());
    let watch = async {
        let mut stuck = Vec::new();
        for minute in 0..40 {
            let report = rig.health.report(Instant::now());
            if matches!(report.shards[&shard()], ShardStatus::Stuck { .. }) {
                stuck.push(minute);
            }
            sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(stuck, (26..40).collect::<Vec<_>>());
    };
    let begun = async {
        sleep(Duration::from_secs(1)).await;
        watch.await;
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), begun);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
}

#[tokio::test(start_paused = true)]
async fn a_refused_record_of_a_spilled_window_halts_its_shard_without_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    // All of it comes at once: between two attempts nothing is read.
    let mut steps = script(divided);
    steps.iter_mut().for_each(|step| {
        if let Step::Reply(delay, _) = step {
            *delay = Duration::ZERO;
        }
    });
    let mut rig = rig(steps, &directory, MIB);
    let (pipeline, input) = rig.build();
    let watch = async {
        sleep(Duration::from_secs(120)).await;
        let halted = "shard_halted{shard=\"shardId-000000000000\",reason=\"sink:one\"}";
        assert_eq!(rig.metric(halted), 1.0);
        assert_eq!(rig.budget.free_bytes(), MIB, "a halted shard holds no memory");
        assert_eq!(rig.spill.as_ref().unwrap().free_bytes(), MIB, "nor room on disk");
        rig.drain.cancel();
    };
    let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Halted);
}

/// The files that this process has open there, which have no names.
fn open_files(directory: &Path) -> Vec<std::fs::File> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_there = |path: &Path| std::fs::read_link(path).is_ok_and(|target| target.starts_with(directory));
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| is_there(path));
    paths.map(|path| std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn what_comes_back_from_the_disk_otherwise_is_read_from_the_stream_again() {
    let cut = |file: &std::fs::File| file.set_len(100).unwrap();
    let flip = |file: &std::fs::File| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 1_000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 1_000).unwrap();
    };
    let harms: [&dyn Fn(&std::fs::File); 2] = [&cut, &flip];
    for harm in harms {
        let directory = tempfile::tempdir().unwrap();
        let mut rig = rig(script(plainly), &directory, MIB);
        let (pipeline, input) = rig.build();
        let watch = async {
            sleep(Duration::from_secs(20)).await;
            let [file] = &open_files(directory.path())[..] else { panic!("one window, one file") };
            harm(file);
            sleep(Duration::from_millis(10_100)).await;
            let halted = "shard_halted{shard=\"shardId-000000000000\",reason=\"spill\"}";
            assert_eq!(rig.metric(halted), 1.0);
            assert_eq!(rig.events(), [], "nothing of it was sent");
        };
        let (finished, ()) = tokio::join!(pipeline.run_shard(input), watch);
        assert_eq!(finished.unwrap(), Finished::ShardEnd);
        assert_eq!(rig.batches("one"), [all()]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_window_leaves_in_memory_is_enough_for_the_next() {
    // Records of which the transformer refuses every second one stay in memory: it closes the window in the end.
    let directory = tempfile::tempdir().unwrap();
    let refused = |number: u64| if number.is_multiple_of(2) { "bad".into() } else { plainly(number) };
    let mut rig = rig(script(refused), &directory, MIB).with_dead_letters();
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert!(rig.metric("windows_closed_total{reason=\"memory\"}") >= 1.0);
    assert_eq!(rig.metric("dead_letters_total{stage=\"transform\"}"), (RECORDS / 2) as f64);
    let mut delivered = rig.delivered("one");
    delivered.sort();
    assert_eq!(delivered, (1..=RECORDS).filter(|number| !number.is_multiple_of(2)).collect::<Vec<_>>());
    let mut ordinary = Rig::new(vec![reply(plain(1, 4)), Step::End]);
    ordinary.spill = Some(spill(directory.path(), MIB));
    ordinary.run().await.unwrap();
    assert_eq!(ordinary.metric("spilled_bytes_total"), 0.0, "what memory holds is not spilled");
}

/// What a spill and a commit tell each other, from two threads.
static SPILLING: Notify = Notify::const_new();
static SENT: AtomicBool = AtomicBool::new(false);

/// Has a window once another one is being spilled.
struct Beside;

#[async_trait]
impl Emitter<String> for Beside {
    async fn emit(&self, _: &Batch<'_, String>) -> Result<Emitted, Failure> {
        if !SENT.load(Ordering::SeqCst) {
            SPILLING.notified().await;
            SENT.store(true, Ordering::SeqCst);
        }
        Ok(Emitted::all())
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_on_while_the_next_window_is_spilled() {
    thread_local! {
        // What is spilled is measured here, and written elsewhere.
        static IS_TEST: Cell<bool> = const { Cell::new(false) };
    }
    static BEGUN: AtomicBool = AtomicBool::new(false);
    static SENT_MEANWHILE: AtomicBool = AtomicBool::new(false);
    let directory = tempfile::tempdir().unwrap();
    let mut steps = script(plainly);
    let Step::Reply(delay, _) = &mut steps[1] else { panic!("a reply") };
    *delay = Duration::from_secs(20);
    let mut rig = rig(steps, &directory, MIB);
    rig.limits.age = Duration::from_secs(10);
    let write = |text: &String| {
        if !IS_TEST.get() && !BEGUN.swap(true, Ordering::SeqCst) {
            SPILLING.notify_one();
            // A disk that hangs until the commit has got on, or for five seconds.
            let meanwhile = (0..200).any(|_| {
                std::thread::park_timeout(Duration::from_millis(25));
                SENT.load(Ordering::SeqCst)
            });
            SENT_MEANWHILE.store(meanwhile, Ordering::SeqCst);
        }
        Bytes::copy_from_slice(text.as_bytes())
    };
    let read = |bytes: Bytes| String::from_utf8(bytes.to_vec()).ok();
    let spill = Spill::of(directory.path().into(), MIB, 4096, MIB, write, read);
    let (_, input) = rig.build();
    let pipeline = Pipeline::new(Split { refusing: Arc::clone(&rig.refusing) }, Sink::new("beside", Arc::new(Beside)));
    let pipeline = pipeline.limits(rig.limits).spill(spill);
    IS_TEST.set(true);
    assert_eq!(pipeline.run_shard(input).await.unwrap(), Finished::ShardEnd);
    assert!(SENT_MEANWHILE.load(Ordering::SeqCst), "the first window waited for the disk of the second one");
}
