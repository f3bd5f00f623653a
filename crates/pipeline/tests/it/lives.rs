//! A shard whose owners are killed or drained one after the other, whatever its windows are and its sink answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kinesink_core::{Checkpoint, Failure};
use kinesink_pipeline::{Finished, WindowLimits};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, proptest};
use proptest::test_runner::RngSeed;
use tokio::time::{sleep, timeout};

use crate::fakes::{Answer, Destination, Event, Rig, Step, letter, number, record, reply};

/// One owner of the shard: how it cuts windows, how its replies are cut, what its sink and its dead letters answer, and
/// when it is killed, or drained.
#[derive(Debug, Clone)]
struct Life {
    records: usize,
    age_ms: u64,
    replies: Vec<(u64, usize)>,
    answers: Vec<u8>,
    buried: Vec<u8>,
    ends_after_ms: u64,
    drains: bool,
}

const RECORDS: u64 = 40;

fn life() -> impl Strategy<Value = Life> {
    let windows = (1..15_usize, 50..3_000_u64, vec((0..1_000_u64, 1..15_usize), 1..12));
    (windows, vec(0..8_u8, 0..12), vec(0..8_u8, 0..6), 0..15_000_u64, any::<bool>()).prop_map(
        |((records, age_ms, replies), answers, buried, ends_after_ms, drains)| Life {
            records,
            age_ms,
            replies,
            answers,
            buried,
            ends_after_ms,
            drains,
        },
    )
}

/// What the records hold, over and over; and what must become of each: outputs in the sink, and dead letters.
const DATA: [&str; 7] = ["a,b", "skip", "y,skip", "x", "bad", "x,poison", "unencodable,z"];

fn fate(number: u64) -> (&'static [u32], &'static [(u32, &'static str)]) {
    match (number - 1) % 7 {
        0 => (&[0, 1], &[]),
        2 | 3 => (&[0], &[]),
        4 => (&[], &[(0, "transform")]),
        5 => (&[0], &[(1, "sink:one")]),
        6 => (&[1], &[(0, "transform")]),
        _ => (&[], &[]),
    }
}

impl Life {
    fn rig(&self, before: Option<&Rig>) -> Rig {
        let mut left: Vec<_> = (1..=RECORDS).zip(DATA.into_iter().cycle()).map(|(n, data)| record(n, data)).collect();
        let mut script = Vec::new();
        for (delay_ms, count) in &self.replies {
            let rest = left.split_off((*count).min(left.len()));
            script.push(Step::Reply(Duration::from_millis(*delay_ms), std::mem::replace(&mut left, rest)));
        }
        script.extend([reply(left), Step::End]);
        let mut rig = Rig::new(script);
        rig.limits = WindowLimits { records: self.records, bytes: 1_000_000, age: Duration::from_millis(self.age_ms) };
        if let Some(before) = before {
            rig.log = Arc::clone(&before.log);
            rig.start = before.committed();
            rig.lease = before.next_lease();
        }
        // The stream goes on after the checkpoint.
        let start = rig.start;
        for step in &mut rig.script {
            if let Step::Reply(_, records) = step {
                records.retain(|record| start.is_before(record.position));
            }
        }
        let answer = |answer: &u8| match answer {
            0 => Answer::Fail(Failure::transient("cut")),
            1 => Answer::FailAfterDelivering(Failure::transient("no answer")),
            2 => Answer::Fail(Failure::configuration("denied")),
            slow => Answer::DeliverAfter(Duration::from_millis(u64::from(*slow) * 100)),
        };
        rig.sinks = vec![Destination::new("one", &rig.log).planned().answering(self.answers.iter().map(answer))];
        rig.dead_letters = Some(Destination::new("dead_letters", &rig.log).answering(self.buried.iter().map(answer)));
        rig
    }

    /// Runs until it is killed, or has drained.
    async fn live(&self, rig: &mut Rig) {
        let (pipeline, input) = rig.build();
        let end = Duration::from_millis(self.ends_after_ms);
        if self.drains {
            let drain = async {
                sleep(end).await;
                rig.drain.cancel();
            };
            let (finished, ()) = tokio::join!(pipeline.run_shard(input), drain);
            finished.unwrap();
        } else {
            drop(timeout(end, pipeline.run_shard(input)).await);
        }
    }
}

/// What is durable, as the events come.
#[derive(Default)]
struct World {
    objects: BTreeMap<(u64, u64), BTreeSet<(u64, u32)>>,
    delivered: BTreeMap<(u64, u32), (u64, u64)>,
    dead: BTreeSet<(u64, u32, String)>,
}

impl World {
    /// A destination of objects that are named by their window and written once.
    fn object(&mut self, window: (u64, u64), outputs: &[(u64, u32, String)]) {
        let object: BTreeSet<_> = outputs.iter().map(|(number, ordinal, _)| (*number, *ordinal)).collect();
        if let Some(there) = self.objects.get(&window) {
            assert_eq!(*there, object, "an object was written again with other content");
            return;
        }
        for output in &object {
            assert_eq!(self.delivered.insert(*output, window), None, "{output:?} is in two objects");
        }
        self.objects.insert(window, object);
    }

    fn bury(&mut self, outputs: &[(u64, u32, String)]) {
        self.dead.extend(outputs.iter().map(|(.., json)| letter(json)).map(|it| (it.number, it.ordinal, it.stage)));
    }

    /// Whether everything up to the checkpoint became what it must, and nothing else.
    fn is_settled(&self, through: u64) {
        let delivered = self.delivered.keys().filter(|(number, _)| *number <= through);
        let outputs = (1..=through).flat_map(|n| fate(n).0.iter().map(move |ordinal| (n, *ordinal)));
        assert_eq!(delivered.copied().collect::<Vec<_>>(), outputs.collect::<Vec<_>>(), "up to {through}");
        let dead = self.dead.iter().filter(|(number, ..)| *number <= through).cloned();
        let letters = (1..=through)
            .flat_map(|n| fate(n).1.iter().map(move |(ordinal, stage)| (n, *ordinal, (*stage).to_owned())));
        assert_eq!(dead.collect::<Vec<_>>(), letters.collect::<Vec<_>>(), "dead letters up to {through}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_killed_each_output_is_in_one_object_and_each_refusal_in_the_dead_letters(lives in vec(life(), 1..8)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut last: Option<Rig> = None;
            for life in &lives {
                let mut rig = life.rig(last.as_ref());
                if rig.start != Checkpoint::ShardEnd {
                    life.live(&mut rig).await;
                }
                last = Some(rig);
            }
            let calm = Life { answers: Vec::new(), buried: Vec::new(), ..lives[0].clone() };
            let mut rig = calm.rig(last.as_ref());
            if rig.start != Checkpoint::ShardEnd {
                assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
            }
            let mut world = World::default();
            let mut window = (0, 0);
            for event in rig.events() {
                match event {
                    Event::Begun { sink, first, last, .. } if sink == "one" => window = (first, last),
                    Event::Durable { sink, outputs } if sink == "one" => world.object(window, &outputs),
                    Event::Durable { outputs, .. } => world.bury(&outputs),
                    Event::Checkpointed(Checkpoint::At(position)) => world.is_settled(number(position)),
                    Event::Checkpointed(_) => world.is_settled(RECORDS),
                    Event::Begun { .. } | Event::Announced(_) => {}
                }
            }
            world.is_settled(RECORDS);
        });
    }
}
