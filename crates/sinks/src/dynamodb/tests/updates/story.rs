//! Seeded windows, mended programs, faults and replays against what the stream says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::super::{Sample, emit, sink, stored};
use super::Random;
use super::last::{deleting, replaying};

/// A record counts, by a worker or by a replay.
#[derive(Debug, Default)]
struct Story {
    seed: u64,
    records: Vec<(u64, String, Value)>,
    /// Those that a worker refused.
    letters: BTreeSet<u64>,
}

impl Story {
    fn new(seed: u64) -> (Self, Random) {
        let mut random = Random(seed);
        let records = (1..=60)
            .map(|n| {
                let op = if random.below(12) == 0 { "D" } else { "U" };
                let key = format!("k{}", random.below(4));
                (n, key.clone(), json!({"id": key, "op": op, "count": n, "log": [n]}))
            })
            .collect();
        (Self { seed, records, ..Self::default() }, random)
    }

    /// As a program reads them, a mended one or one that cannot read every third.
    fn samples(&self, numbers: impl Iterator<Item = u64>, is_mended: bool) -> Vec<Sample<'_>> {
        let of = |n: u64| &self.records[usize::try_from(n - 1).unwrap()];
        let read = |(n, key, json): &(u64, String, Value)| {
            let mut json = json.clone();
            if n % 3 == 0 && !is_mended && json["op"] == "U" {
                json["count"] = "unreadable".into();
            }
            (*n, json, key.clone())
        };
        let read = numbers.map(|n| read(of(n)));
        read.map(|(n, json, _)| (n, self.records[usize::try_from(n - 1).unwrap()].1.as_str(), json)).collect()
    }

    async fn replay(&self, dynamo: &Dynamo, random: &mut Random) {
        if self.letters.is_empty() {
            return;
        }
        let emitter = replaying(deleting(dynamo));
        fail(dynamo, random);
        for tries in 0.. {
            assert!(tries < 20, "seed {}: no end", self.seed);
            let letters = self.samples(self.letters.iter().copied(), true);
            if emit(&emitter, &letters).await.is_ok_and(|emitted| exceptions(&emitted).0.is_empty()) {
                return;
            }
        }
    }

    /// Numbers of each key since it was last deleted.
    fn wanted(&self) -> BTreeMap<&str, (u64, Vec<u64>)> {
        let mut wanted = BTreeMap::<&str, Vec<u64>>::new();
        for (n, key, json) in &self.records {
            if json["op"] == "D" {
                wanted.remove(key.as_str());
            } else {
                wanted.entry(key).or_default().push(*n);
            }
        }
        wanted.into_iter().map(|(key, log)| (key, (log.iter().sum(), log))).collect()
    }
}

fn fail(dynamo: &Dynamo, random: &mut Random) {
    let fault = match random.below(5) {
        0 => Fault::Cut,
        1 => Fault::LoseAnswer,
        2 => Fault::Answer("ThrottlingException", "slow"),
        _ => return,
    };
    for _ in 0..random.below(3) {
        dynamo.fail("UpdateItem", Fault::None);
    }
    dynamo.fail(if random.below(3) == 0 { "PutItem" } else { "UpdateItem" }, fault);
}

/// Windows that begin anew anywhere before where the last ended, by a program that is mended at some time, with replays between them.
#[tokio::test]
async fn each_record_counts_once_by_a_worker_or_a_replay_for_every_seed() {
    for seed in 0..30 {
        let dynamo = Dynamo::new();
        let (mut story, mut random) = Story::new(seed);
        let sink = sink(deleting(&dynamo)).await;
        let mended_from = random.below(90);
        let (mut end, mut windows) = (0, 0);
        while end < 60 {
            windows += 1;
            assert!(windows < 1_000, "seed {seed}: no end");
            fail(&dynamo, &mut random);
            let from = end - random.below(12).min(end);
            let to = (from + 1 + random.below(20)).min(60);
            let window: Vec<u64> = (from + 1..=to).collect();
            let samples = story.samples(window.iter().copied(), end >= mended_from);
            let Ok(emitted) = emit(&sink, &samples).await else { continue };
            let (again, refused) = exceptions(&emitted);
            if again.is_empty() {
                end = end.max(to);
                story.letters.extend(refused.iter().map(|place| window[*place]));
            }
            if random.below(4) == 0 {
                story.replay(&dynamo, &mut random).await;
            }
        }
        story.replay(&dynamo, &mut random).await;
        story.replay(&dynamo, &mut random).await;
        let items = stored(&dynamo.client()).await;
        let number = |value: &Value| value["N"].as_str().unwrap().parse::<u64>().unwrap();
        let read = |item: &Value| {
            let mut log: Vec<u64> = item["log"]["L"].as_array().unwrap().iter().map(number).collect();
            log.sort_unstable();
            (number(&item["count"]), log)
        };
        let live = items.iter().filter(|(_, item)| item.get("_deleted").is_none());
        let found: BTreeMap<_, _> = live.map(|(key, item)| (key.as_str(), read(item))).collect();
        assert_eq!(found, story.wanted(), "seed {seed}");
    }
}
