//! Shards that count together, and workers that count the same.

use std::collections::BTreeMap;

use futures::future::join_all;
use kinesink_core::Emitted;
use serde_json::json;

use super::super::dynamo::{Dynamo, Fault};
use super::{GUARDS, MINUTE, Random, Sent, counted, deliver, emit, number, of_a, open, scan, sink, totals};

#[tokio::test]
async fn one_key_in_200_shards_is_counted_in_one_item_that_has_nothing_of_any_shard() {
    let dynamo = Dynamo::new();
    // Two workers, each of which has all shards, as if each took them for its own.
    let (one, other) = (sink(&dynamo).await, open(&dynamo));
    let windows: Vec<(u64, Vec<Sent>)> =
        (0..200).map(|shard| (shard, (1..=5).map(|n| (n, number(shard * 5 + n))).collect())).collect();
    let of = |sink| windows.iter().map(move |(shard, window)| deliver(sink, *shard, window));
    join_all(of(&one).chain(of(&other))).await;
    // 1 + 2 + … + 1000.
    assert_eq!(of_a(&dynamo).await, totals("1000", "500500", "1", "1000"));
    let guards = scan(&dynamo.client(), GUARDS).await;
    assert_eq!(guards.len(), 200);
    let mut keys: Vec<_> = guards[0].keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["_position", "expires", "item", "source"]);
    // Longer than the stream keeps records, from when it was written.
    assert!(guards.iter().all(|guard| guard["expires"] == (super::ARRIVAL + 192 * 3600).to_string()));
}

#[tokio::test]
async fn after_a_reshard_the_child_counts_on_and_the_parent_once() {
    let dynamo = Dynamo::new();
    let (before, after) = (sink(&dynamo).await, open(&dynamo));
    let (parent, child, other) = ([(1, number(1)), (2, number(2))], [(101, number(3))], [(102, number(4))]);
    assert_eq!(emit(&before, 0, &parent).await.unwrap(), Emitted::all());
    for (shard, window) in [(1, &child[..]), (2, &other[..]), (1, &child[..]), (0, &parent[..])] {
        assert_eq!(emit(&after, shard, window).await.unwrap(), Emitted::all());
    }
    assert_eq!(of_a(&dynamo).await, totals("4", "10", "1", "4"));
}

#[tokio::test]
async fn a_zombie_that_wakes_after_its_shard_and_the_shards_lease_are_gone_counts_nothing() {
    let dynamo = Dynamo::new();
    let (zombie, next) = (sink(&dynamo).await, open(&dynamo));
    let window: Vec<Sent> = (1..=4).map(|n| (n, number(n))).collect();
    // It had sent none of it, and the next owner all. Then came the children, to whom the lease gave way.
    deliver(&next, 0, &window).await;
    deliver(&next, 1, &[(101, number(10))]).await;
    deliver(&next, 2, &[(102, number(20))]).await;
    let before = of_a(&dynamo).await;
    assert_eq!(before, totals("6", "40", "1", "20"));
    for part in [&window[..], &window[..1], &window[2..]] {
        assert_eq!(emit(&zombie, 0, part).await.unwrap(), Emitted::all());
        assert_eq!(of_a(&dynamo).await, before);
    }
}

#[tokio::test]
async fn what_is_sent_again_after_its_answer_was_lost_is_counted_once() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let window = [(1, number(5)), (2, json!({"id": "b", "n": 7}))];
    for fault in [Fault::LoseAnswer, Fault::Cut] {
        dynamo.fail("TransactWriteItems", fault);
    }
    assert_eq!(deliver(&sink, 0, &window).await, 2);
    assert_eq!(dynamo.faults_left(), 0);
    let expected = [("a", "5"), ("b", "7")].map(|(id, n)| ((id.to_owned(), MINUTE.to_owned()), totals("1", n, n, n)));
    assert_eq!(counted(&dynamo).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_window_that_is_half_counted_is_counted_once_by_its_next_owner() {
    let window: Vec<Sent> = (1..=6).map(|n| (n, json!({"id": format!("k{}", n % 2), "n": n}))).collect();
    let expected = [("k0", totals("3", "12", "2", "6")), ("k1", totals("3", "9", "1", "5"))];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(id, totals)| ((id.to_owned(), MINUTE.to_owned()), totals)).collect();
    let cancelled = Fault::Cancel([("TransactionConflict", "conflict"), ("None", "")]);
    for (fault, there) in [(cancelled, 1), (Fault::Cut, 1), (Fault::LoseAnswer, 2)] {
        let dynamo = Dynamo::new();
        let (before, after) = (sink(&dynamo).await, open(&dynamo));
        dynamo.fail("TransactWriteItems", fault.clone());
        assert_ne!(emit(&before, 0, &window).await.unwrap(), Emitted::all());
        assert_eq!(counted(&dynamo).await.len(), there, "{fault:?}: it dies here");
        assert_eq!(emit(&after, 0, &window).await.unwrap(), Emitted::all());
        assert_eq!(counted(&dynamo).await, expected, "{fault:?}");
        // What it had on its way comes late.
        assert_eq!(emit(&before, 0, &window).await.unwrap(), Emitted::all());
        assert_eq!(counted(&dynamo).await, expected, "{fault:?}");
    }
}

/// A window is announced, and so is never cut elsewhere. Where an operator has dropped the announcement, or a Java worker has
/// overtaken it, the guard alone says what is counted.
#[tokio::test]
async fn windows_that_begin_and_end_elsewhere_count_only_what_was_not_counted() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let dynamo = Dynamo::new();
        let sinks = [sink(&dynamo).await, open(&dynamo)];
        let records: Vec<Sent> = (1..=80)
            .map(|n| {
                let key = format!("k{}", random.below(3));
                let minute = random.below(2);
                (n, json!({"id": key, "n": random.below(2000) as i64 - 1000, "ts": format!("2026-01-31T12:0{minute}:30Z")}))
            })
            .collect();
        let (mut end, mut windows) = (0, 0);
        while end < records.len() {
            windows += 1;
            let fault = match random.below(5) {
                0 => Some(Fault::Cut),
                1 => Some(Fault::LoseAnswer),
                2 => Some(Fault::Cancel([("TransactionConflict", "conflict"), ("None", "")])),
                _ => None,
            };
            if let Some(fault) = fault {
                dynamo.fail("TransactWriteItems", fault);
            }
            let from = end - usize::try_from(random.below(20)).unwrap().min(end);
            let to = records.len().min(from + 1 + usize::try_from(random.below(30)).unwrap());
            let sink = &sinks[usize::from(random.below(2) == 0)];
            let done = emit(sink, 0, &records[from..to]).await.is_ok_and(|emitted| emitted == Emitted::all());
            end = if done { end.max(to) } else { end };
            assert!(windows < 1_000, "seed {seed}: no end");
        }
        let mut expected = BTreeMap::<(String, String), Vec<i64>>::new();
        for (_, json) in &records {
            let minute = json["ts"].as_str().unwrap().replace(":30Z", ":00Z");
            let key = (json["id"].as_str().unwrap().to_owned(), minute);
            expected.entry(key).or_default().push(json["n"].as_i64().unwrap());
        }
        let of = |numbers: Vec<i64>| {
            let (least, most) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
            [numbers.len().to_string(), numbers.iter().sum::<i64>().to_string(), least.to_string(), most.to_string()]
        };
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(key, numbers)| (key, of(numbers))).collect();
        assert_eq!(counted(&dynamo).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn a_lowest_or_highest_number_that_is_none_costs_one_more_request() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let mut sequence = 0;
    for (n, calls, least, most) in
        [(5, 1, 5, 5), (3, 2, 3, 5), (9, 2, 3, 9), (4, 2, 3, 9), (3, 2, 3, 9), (9, 2, 3, 9), (1, 2, 1, 9)]
    {
        let before = dynamo.calls("TransactWriteItems").len();
        sequence += 1;
        assert_eq!(emit(&sink, 0, &[(sequence, number(n))]).await.unwrap(), Emitted::all());
        assert_eq!(dynamo.calls("TransactWriteItems").len() - before, calls, "{n}");
        let [_, _, found_least, found_most] = of_a(&dynamo).await;
        assert_eq!((found_least, found_most), (least.to_string(), most.to_string()), "{n}");
    }
}
