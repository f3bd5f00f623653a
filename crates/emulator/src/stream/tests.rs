//! Random histories of a stream, checked against what must hold after each step.

use proptest::prelude::*;

use super::event::{Event, PutRecord};
use super::*;

const NAME: &str = "s";

#[derive(Debug, Clone)]
enum Step {
    Split { nth_open: usize, at: u128 },
    Merge { nth_open: usize },
    Put { hash_key: u128 },
    Clock { by_ms: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<usize>(), any::<u128>()).prop_map(|(nth_open, at)| Step::Split { nth_open, at }),
        any::<usize>().prop_map(|nth_open| Step::Merge { nth_open }),
        any::<u128>().prop_map(|hash_key| Step::Put { hash_key }),
        (-5_000..20_000_i64).prop_map(|by_ms| Step::Clock { by_ms }),
    ]
}

/// Open shards by the start of their range.
fn open(stream: &Stream) -> Vec<(u128, u128, u32)> {
    let open = stream.shards.iter().filter(|shard| shard.closed.is_none());
    let mut open: Vec<_> = open.map(|shard| (shard.range.start, shard.range.end, shard.number)).collect();
    open.sort_unstable();
    open
}

/// What the step does to the stream as it is, if it can be done.
fn event(stream: &Stream, step: &Step, now_ms: i64) -> Option<Event> {
    let (open, name) = (open(stream), NAME.to_owned());
    match *step {
        Step::Split { nth_open, at } => {
            let (start, end, shard) = open[nth_open % open.len()];
            let new_start = start + 1 + at % (end - start).max(1);
            (start < end).then_some(Event::SplitShard { stream: name, shard, new_start, at_ms: now_ms })
        }
        Step::Merge { nth_open } => {
            let pair = open.windows(2).nth(nth_open % open.len())?;
            Some(Event::MergeShards { stream: name, shard: pair[1].2, adjacent: pair[0].2, at_ms: now_ms })
        }
        Step::Put { hash_key } => {
            let shard = stream.shard_for(hash_key).unwrap();
            let (index, arrival_ms) = shard.next_position(now_ms);
            let record = PutRecord { shard: shard.number, index, arrival_ms, size_bytes: 1, json_bytes: 2 };
            Some(Event::PutRecords { stream: name, records: vec![record], json: "{}".into() })
        }
        Step::Clock { .. } => None,
    }
}

fn numbers(shard: &Shard) -> Vec<String> {
    let mut numbers = vec![shard.sequence_number(0, shard.created_ms).to_string()];
    numbers.extend(shard.records_from(0).map(|r| shard.sequence_number(r.index, r.arrival_ms).to_string()));
    numbers.extend(shard.closed.as_ref().map(|c| shard.sequence_number(c.ending_index, c.at_ms).to_string()));
    numbers
}

fn assert_ranges_tile(stream: &Stream) {
    let open = open(stream);
    assert_eq!((open[0].0, open.last().unwrap().1), (0, u128::MAX));
    for pair in open.windows(2) {
        assert_eq!(pair[0].1.checked_add(1), Some(pair[1].0));
    }
}

fn assert_lineage(stream: &Stream) {
    for shard in &stream.shards {
        let own = numbers(shard);
        assert!(own.is_sorted_by(|a, b| a < b), "numbers of a shard grow");
        let arrivals = shard.records_from(0).map(|record| record.arrival_ms);
        assert!(arrivals.is_sorted(), "arrivals of a shard do not go back");
        for parent in shard.parent.into_iter().chain(shard.adjacent_parent) {
            let parent = stream.shard(parent).unwrap();
            assert!(numbers(parent).last() < own.first(), "a child's numbers are above its parents'");
            let closed = parent.closed.as_ref().unwrap();
            assert!(closed.children.contains(&shard.number));
            assert!(closed.at_ms <= shard.created_ms || shard.adjacent_parent.is_some());
        }
    }
}

#[test]
fn a_shard_knows_the_numbers_it_gave_out_and_no_others() {
    let mut streams = Streams::default();
    let (name, mode) = (NAME.to_owned(), StreamMode::Provisioned);
    streams.apply(Event::CreateStream { stream: name, mode, shard_count: 1, at_ms: 5000, number: 1 }).unwrap();
    for step in [Step::Put { hash_key: 0 }, Step::Split { nth_open: 0, at: 7 }] {
        let stream = streams.get(NAME).unwrap();
        let shard = stream.shard(0).unwrap();
        let (next, _) = shard.next_position(5000);
        assert!((0..next).all(|index| shard.knows(shard.sequence_number(index, 5000))));
        assert!(!shard.knows(shard.sequence_number(next, 5000)));
        let event = event(stream, &step, 5000).unwrap();
        streams.apply(event).unwrap();
    }
    let [parent, child] = [0, 1].map(|number| streams.get(NAME).unwrap().shard(number).unwrap());
    let ending = parent.sequence_number(parent.closed.as_ref().unwrap().ending_index, 5000);
    assert!(parent.knows(ending) && !child.knows(ending));
}

#[test]
fn shards_that_nobody_uses_are_trimmed_in_their_turn() {
    let mut stream = Stream::new(StreamMode::Provisioned, 5, 0, 1);
    for number in 0..5 {
        let put = PutRecord { shard: number, index: 1, arrival_ms: 0, size_bytes: 1, json_bytes: 2 };
        stream.put(&[put], &"{}".into()).unwrap();
    }
    let left = |stream: &Stream| stream.shards.iter().map(|shard| shard.records_from(0).count()).sum::<usize>();
    let past_ms = i64::from(RETENTION_HOURS_DEFAULT) * 3_600_000 + 1;
    for used in 1..=4 {
        stream.trim_shards(&[0], past_ms);
        assert_eq!(left(&stream), 4 - used);
    }
}

proptest! {
    #[test]
    fn whatever_happens_ranges_tile_and_numbers_grow(
        shard_count in 1..6_u32,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut now_ms = 1_700_000_000_000;
        let mut streams = Streams::default();
        let mode = StreamMode::Provisioned;
        streams.apply(Event::CreateStream { stream: NAME.to_owned(), mode, shard_count, at_ms: now_ms, number: 1 }).unwrap();
        for step in &steps {
            if let Step::Clock { by_ms } = step {
                now_ms += by_ms;
            }
            if let Some(event) = event(streams.get(NAME).unwrap(), step, now_ms) {
                streams.apply(event).unwrap();
            }
            assert_ranges_tile(streams.get(NAME).unwrap());
        }
        assert_lineage(streams.get(NAME).unwrap());
    }

    #[test]
    fn the_shard_for_a_key_is_the_one_whose_range_holds_it(keys in prop::collection::vec(any::<u128>(), 1..20)) {
        let mut stream = Stream::new(StreamMode::Provisioned, 3, 0, 1);
        stream.split(1, u128::MAX / 2, 0).unwrap();
        stream.merge(0, 3, 0).unwrap();
        for key in keys {
            let holders = open(&stream).into_iter().filter(|(start, end, _)| *start <= key && key <= *end);
            let holders: Vec<_> = holders.map(|(_, _, number)| number).collect();
            prop_assert_eq!(holders, vec![stream.shard_for(key).unwrap().number]);
        }
    }
}
