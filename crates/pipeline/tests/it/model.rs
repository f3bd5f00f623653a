//! Random shards, limits and failures, held against a model that only knows what each record must become.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesink_core::{Checkpoint, CheckpointError, Failure};
use kinesink_pipeline::{Finished, WindowLimits};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::RngSeed;
use tokio::time::sleep;

use crate::fakes::{Answer, Destination, Event, Rig, Step, letter, number, record};

#[derive(Debug, Clone)]
struct Plan {
    replies: Vec<(u64, Vec<&'static str>)>,
    records: usize,
    bytes: usize,
    age_ms: u64,
    reply_kib: usize,
    sinks: Vec<Vec<Answer>>,
    dead_letters: Vec<Answer>,
    throttles: usize,
    drain_after_ms: Option<u64>,
}

fn data() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just("plain"),
        2 => Just("a,b,c"),
        2 => Just("skip"),
        1 => Just("skip,x,skip,y"),
        1 => Just(""),
        1 => Just("a,bad,b"),
        1 => Just("a,poison"),
        1 => Just("unencodable,z"),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Deliver),
        2 => (0..2_000_u64).prop_map(|ms| Answer::DeliverAfter(Duration::from_millis(ms))),
        1 => Just(Answer::Fail(Failure::transient("cut"))),
        1 => Just(Answer::Fail(Failure::configuration("denied"))),
        1 => Just(Answer::FailAfterDelivering(Failure::transient("no answer"))),
        2 => vec(0..10_usize, 1..4).prop_map(Answer::Retry),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let shard = (vec((0..3_000_u64, vec(data(), 0..12)), 0..8), 1..8_usize, 1..60_usize, 100..4_000_u64);
    let world = (vec(vec(answer(), 0..8), 1..3), vec(answer(), 0..4), 0..3_usize, 0..600_usize);
    let drain = proptest::option::weighted(0.5, 0..30_000_u64);
    (shard, world, drain, any::<bool>()).prop_map(
        |((replies, records, bytes, age_ms), (sinks, dead_letters, throttles, kib), drain_after_ms, reserves)| Plan {
            replies,
            records,
            bytes,
            age_ms,
            reply_kib: if reserves { kib } else { 0 },
            sinks,
            dead_letters,
            throttles,
            drain_after_ms,
        },
    )
}

/// What one record must become: outputs delivered to every sink, and dead letters by (ordinal, stage).
#[derive(Debug, Default)]
struct Fate {
    delivered: BTreeSet<u32>,
    dead: BTreeSet<(u32, String)>,
}

fn fate(data: &str, sinks: usize) -> Fate {
    let mut fate = Fate::default();
    if data.contains("bad") {
        fate.dead.insert((0, "transform".into()));
        return fate;
    }
    for (ordinal, part) in (0..).zip(data.split(',')) {
        match part {
            "" | "skip" => {}
            "unencodable" => {
                fate.dead.insert((ordinal, "transform".into()));
            }
            "poison" => fate.dead.extend((0..sinks).map(|sink| (ordinal, format!("sink:{sink}")))),
            _ => {
                fate.delivered.insert(ordinal);
            }
        }
    }
    fate
}

fn rig(plan: &Plan) -> (Rig, BTreeMap<u64, &'static str>) {
    let mut numbers = 1..;
    let mut all = BTreeMap::new();
    let mut script = Vec::new();
    for (delay_ms, reply) in &plan.replies {
        let mut records = Vec::new();
        for (number, data) in numbers.by_ref().zip(reply) {
            records.push(record(number, data));
            all.insert(number, *data);
        }
        script.push(Step::Reply(Duration::from_millis(*delay_ms), records));
    }
    if plan.drain_after_ms.is_none() {
        script.push(Step::End);
    }
    let mut rig = Rig::new(script);
    rig.limits = WindowLimits { records: plan.records, bytes: plan.bytes, age: Duration::from_millis(plan.age_ms) };
    rig.bytes_per_reply = plan.reply_kib * 1024;
    let log = std::sync::Arc::clone(&rig.log);
    rig.sinks = (0..)
        .zip(&plan.sinks)
        .map(|(index, answers)| Destination::new(&index.to_string(), &log).answering(answers.clone()))
        .collect();
    rig.dead_letters = Some(Destination::new("dead_letters", &log).answering(plan.dead_letters.clone()));
    rig.lease.answers = vec![CheckpointError::Store(Failure::transient("throttled")); plan.throttles].into();
    (rig, all)
}

/// What is durable so far, as the destinations say.
#[derive(Default)]
struct World {
    delivered: BTreeMap<String, BTreeSet<(u64, u32)>>,
    dead: BTreeSet<(u64, u32, String)>,
}

impl World {
    fn add(&mut self, sink: &str, outputs: &[(u64, u32, String)]) {
        for (number, ordinal, text) in outputs {
            if sink == "dead_letters" {
                let letter = letter(text);
                assert_eq!((letter.number, letter.ordinal), (*number, *ordinal));
                self.dead.insert((*number, *ordinal, letter.stage));
            } else {
                self.delivered.entry(sink.into()).or_default().insert((*number, *ordinal));
            }
        }
    }

    /// Whether the record became all it must, and nothing else.
    fn holds(&self, number: u64, data: &str, sinks: usize) -> bool {
        let fate = fate(data, sinks);
        let of_record = |(of, ordinal): &(u64, u32)| (*of == number).then_some(*ordinal);
        let everywhere = (0..sinks).all(|sink| {
            let outputs = self.delivered.get(&sink.to_string()).into_iter().flatten();
            outputs.filter_map(of_record).collect::<BTreeSet<_>>() == fate.delivered
        });
        let dead = self.dead.iter().filter(|(of, ..)| *of == number);
        everywhere && dead.map(|(_, ordinal, stage)| (*ordinal, stage.clone())).collect::<BTreeSet<_>>() == fate.dead
    }
}

fn check(plan: &Plan, records: &BTreeMap<u64, &'static str>, events: &[Event]) -> u64 {
    let sinks = plan.sinks.len();
    let mut world = World::default();
    let mut through = 0;
    let mut window: BTreeSet<u64> = BTreeSet::new();
    for event in events {
        match event {
            Event::Begun { .. } | Event::Announced(_) => {}
            Event::Durable { sink, outputs } => {
                window.extend(outputs.iter().map(|(number, ..)| *number));
                world.add(sink, outputs);
            }
            Event::Checkpointed(checkpoint) => {
                let to = match checkpoint {
                    Checkpoint::At(position) => number(*position),
                    _ => records.keys().next_back().copied().unwrap_or_default(),
                };
                assert!(to >= through, "the checkpoint moved back from {through} to {to}");
                for (number, data) in records.range(..=to) {
                    assert!(world.holds(*number, data, sinks), "checkpoint {to}, but {number} ({data}) is not settled");
                }
                for number in std::mem::take(&mut window) {
                    assert!(number > through && number <= to, "{number} was sent outside window ({through}, {to}]");
                }
                check_limits(plan, records, through, to);
                through = to;
            }
        }
    }
    through
}

/// Without its last record that gave an item, a window is below both limits.
fn check_limits(plan: &Plan, records: &BTreeMap<u64, &'static str>, from: u64, to: u64) {
    let kept = |data: &str| match data {
        "a,bad,b" => 0,
        data => data.split(',').filter(|part| !matches!(*part, "" | "skip")).count(),
    };
    let window = records.range(..=to).filter(|(number, _)| **number > from);
    let mut items: Vec<(usize, usize)> =
        window.map(|(_, data)| (kept(data), data.len())).filter(|(kept, _)| *kept > 0).collect();
    items.pop();
    let count: usize = items.iter().map(|(kept, _)| kept).sum();
    let bytes: usize = items.iter().map(|(kept, len)| kept * len).sum();
    assert!(count == 0 || count < plan.records, "window ({from}, {to}] went past {} records", plan.records);
    assert!(bytes == 0 || bytes < plan.bytes, "window ({from}, {to}] went past {} bytes", plan.bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_delivered_filtered_or_dead_lettered_before_the_watermark_passes_it(plan in plan()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut rig, records) = rig(&plan);
            let (pipeline, input) = rig.build();
            let drain = async {
                if let Some(ms) = plan.drain_after_ms {
                    sleep(Duration::from_millis(ms)).await;
                    rig.drain.cancel();
                }
            };
            let (finished, ()) = tokio::join!(pipeline.run_shard(input), drain);
            let through = check(&plan, &records, &rig.events());
            if plan.drain_after_ms.is_none() {
                assert_eq!(finished.unwrap(), Finished::ShardEnd);
                assert_eq!(through, records.keys().next_back().copied().unwrap_or_default());
            } else {
                assert!(matches!(finished.unwrap(), Finished::Drained | Finished::Halted));
            }
            assert_eq!(rig.budget.free_bytes(), rig.budget.total_bytes());
        });
    }
}
