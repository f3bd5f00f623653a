//! What a sink refuses of a window that is larger than memory, at its end or handed back before it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_core::{Batch, Emitted, Emitter, Failure, Fingerprint, Partition, Reject};
use kinesink_pipeline::{Finished, Pipeline, ShardInput, Sink};
use tokio::time::sleep;

use crate::fakes::{Answer, Destination, Event, Log, Rig, Split, Step, number, record, reply};
use crate::spills::{MIB, rig};

/// What is refused is buried before the window's end, and some more at its end.
const RECORD_BYTES: usize = 512 * 1024;
const RECORDS: u64 = 64;
const DISK_BYTES: usize = 100 * MIB;
const PADDING: &str = "padding";

fn is_refused(number: &u64) -> bool {
    !number.is_multiple_of(4)
}

/// Makes what is not refused durable, and then hands the rest back.
struct Sifts {
    log: Log,
    /// Its next answer is lost.
    fails: AtomicBool,
}

#[async_trait]
impl Emitter<String> for Sifts {
    async fn emit(&self, _: &Batch<'_, String>) -> Result<Emitted, Failure> {
        panic!("the window is spilled");
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        true
    }

    async fn emit_partition(&self, partition: &Partition<'_, String>) -> Result<Emitted, Failure> {
        let (mut outputs, mut refused) = (Vec::new(), Vec::new());
        while let Some(piece) = partition.pieces.piece(refused.len()).await? {
            let mut rejects = Vec::new();
            for (index, item) in piece.items {
                match &*item.value {
                    "poison" => rejects.push((index, Reject::new("poisonous"))),
                    _ => outputs.push((number(item.record.position), item.ordinal, item.value)),
                }
            }
            refused.push(rejects);
        }
        self.log.lock().unwrap().push(Event::Durable { sink: "one".into(), outputs });
        for (piece, rejects) in refused.into_iter().enumerate().filter(|(_, rejects)| !rejects.is_empty()) {
            if partition.pieces.refused(piece, rejects).await == ControlFlow::Break(()) {
                return Ok(Emitted::all());
            }
        }
        match self.fails.swap(false, Ordering::Relaxed) {
            true => Err(Failure::transient("its answer is lost")),
            false => Ok(Emitted::all()),
        }
    }
}

fn sifting(directory: &tempfile::TempDir, fails: bool) -> (Rig, Pipeline<Split>, ShardInput, Arc<Destination>) {
    let poison = format!("poison,{PADDING}{}", "x".repeat(RECORD_BYTES));
    let value = |number| if is_refused(&number) { poison.clone() } else { format!("out-{number}") };
    let steps = (1..=RECORDS).map(|number| reply([record(number, &value(number))]));
    let mut rig = rig(steps.chain([Step::End]).collect(), directory, DISK_BYTES);
    rig.bytes_per_reply = RECORD_BYTES;
    rig.limits.bytes = 1024 * MIB;
    let (_, input) = rig.build();
    let sifts = Sifts { log: Arc::clone(&rig.log), fails: AtomicBool::new(fails) };
    let dead_letters = Arc::new(Destination::new("dead_letters", &rig.log));
    let pipeline = Pipeline::new(Split { refusing: Arc::clone(&rig.refusing) }, Sink::new("one", Arc::new(sifts)))
        .filter(Arc::new(|model: &String| !model.starts_with(PADDING)))
        .limits(rig.limits)
        .spill(rig.spill.clone().unwrap())
        .dead_letters(Arc::clone(&dead_letters) as Arc<dyn Emitter<_>>);
    (rig, pipeline, input, dead_letters)
}

fn each_is_delivered_or_buried_once(rig: &Rig, attempts: usize) {
    let (refused, kept): (Vec<u64>, Vec<u64>) = (1..=RECORDS).partition(is_refused);
    assert_eq!(rig.delivered("dead_letters"), refused, "in order, each once");
    assert!(rig.batches("dead_letters").len() > 1, "some of them before the window's end");
    assert_eq!(rig.batches("one"), vec![kept.clone(); attempts], "the same at each attempt");
    assert_eq!(rig.metric("dead_letters_total{stage=\"sink:one\"}"), refused.len() as f64);
    assert_eq!(rig.metric("records_emitted_total{sink=\"one\"}"), kept.len() as f64);
    assert_eq!(rig.checkpoints().last().unwrap(), "SHARD_END");
}

#[tokio::test(start_paused = true)]
async fn letters_of_what_is_handed_back_that_cannot_be_written_are_tried_again_and_then_halt_the_shard() {
    let directory = tempfile::tempdir().unwrap();
    let (rig, pipeline, input, dead_letters) = sifting(&directory, false);
    let busy = std::iter::repeat_n(Answer::Fail(Failure::transient("busy")), 3);
    let denied = std::iter::repeat_n(Answer::Fail(Failure::configuration("denied")), 1_000);
    *dead_letters.answers.lock().unwrap() = busy.chain(denied).collect();
    let watch = async {
        sleep(Duration::from_secs(15)).await;
        assert_eq!(rig.metric("shard_halted{shard=\"shardId-000000000000\",reason=\"configuration\"}"), 1.0);
        assert_eq!(rig.budget.free_bytes(), MIB, "a halted shard holds no memory");
        assert_eq!(rig.spill.as_ref().unwrap().free_bytes(), DISK_BYTES, "nor room on disk");
        assert_eq!(rig.metric("emit_failures_total{sink=\"dead_letters\",class=\"transient\"}"), 3.0);
        assert!(rig.checkpoints().is_empty() && rig.delivered("dead_letters").is_empty());
        let attempts = rig.batches("one").len();
        assert!(attempts > 1, "it is tried again as a whole");
        dead_letters.answers.lock().unwrap().clear();
        attempts
    };
    let (finished, attempts) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::ShardEnd);
    each_is_delivered_or_buried_once(&rig, attempts + 1);
}

/// It was buried once more, and counted so.
#[tokio::test(start_paused = true)]
async fn what_a_sink_hands_back_before_its_attempt_fails_is_buried_once() {
    let directory = tempfile::tempdir().unwrap();
    let (rig, pipeline, input, _) = sifting(&directory, true);
    assert_eq!(pipeline.run_shard(input).await.unwrap(), Finished::ShardEnd);
    each_is_delivered_or_buried_once(&rig, 2);
}

/// A producer changes a type: the sink refuses every record of one partition, however large that is.
#[tokio::test(start_paused = true)]
async fn refused_records_of_a_spilled_partition_are_buried_as_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let poison = format!("{},poison", ",".repeat(RECORD_BYTES));
    let steps = (1..=48).map(|number| reply([record(number, &poison)])).chain([Step::End]);
    let mut rig = rig(steps.collect(), &directory, 100 * MIB).with_dead_letters();
    rig.bytes_per_reply = RECORD_BYTES;
    rig.limits.bytes = 1024 * MIB;
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(rig.metric("dead_letters_total{stage=\"sink:one\"}"), 48.0);
    assert!(rig.delivered("one").is_empty() && rig.metric("windows_closed_total{reason=\"memory\"}") == 0.0);
    let buried = rig.batches("dead_letters");
    assert_eq!(buried.concat(), (1..=48).collect::<Vec<_>>(), "in order, each once");
    for batch in &buried {
        assert!(batch.len() <= 34, "{} records of {RECORD_BYTES} bytes at once", batch.len());
    }
    assert_eq!(rig.checkpoints(), ["SHARD_END"]);
}

/// What was buried while the window was sent had the name of its outputs, and the rest that of all its records: a replay took them
/// for two windows.
#[tokio::test(start_paused = true)]
async fn letters_of_a_spilled_window_have_its_name_whenever_they_are_buried() {
    let directory = tempfile::tempdir().unwrap();
    let poison = format!("{},poison", ",".repeat(RECORD_BYTES));
    let value = |number: u64| if [1, 50].contains(&number) { "bad" } else { &*poison };
    let steps = (1..=50).map(|number| reply([record(number, value(number))])).chain([Step::End]);
    let mut rig = rig(steps.collect(), &directory, 100 * MIB).with_dead_letters();
    rig.bytes_per_reply = RECORD_BYTES;
    rig.limits.bytes = 1024 * MIB;
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    let named = |event| match event {
        Event::Begun { sink, first, last, .. } if sink == "dead_letters" => Some((first, last)),
        _ => None,
    };
    let names: Vec<_> = rig.events().into_iter().filter_map(named).collect();
    assert!(names.len() > 1 && names.iter().all(|name| *name == (1, 50)), "{names:?}");
}
