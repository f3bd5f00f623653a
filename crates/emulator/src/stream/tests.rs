//! Random histories of a stream, checked against what must hold after each step.

use proptest::prelude::*;

use super::event::{Creation, Event, Placement};
use super::snapshot::Restore;
use super::*;
use crate::limits::Limits;
use crate::log::Log;

const NAME: &str = "s";

#[derive(Debug, Clone)]
enum Step {
    Split {
        nth_open: usize,
        at: u128,
    },
    Merge {
        nth_open: usize,
    },
    /// One call's records.
    Put {
        records: Vec<Put>,
    },
    Clock {
        by_ms: i64,
    },
}

#[derive(Debug, Clone)]
struct Put {
    hash_key: u128,
    partition_key: String,
    data: Vec<u8>,
}

fn put(hash_key: u128) -> Step {
    Step::Put { records: vec![Put { hash_key, partition_key: "k".to_owned(), data: b"x".to_vec() }] }
}

fn any_put() -> impl Strategy<Value = Put> {
    (any::<u128>(), "\\PC{1,30}", prop::collection::vec(any::<u8>(), 0..1000))
        .prop_map(|(hash_key, partition_key, data)| Put { hash_key, partition_key, data })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<usize>(), any::<u128>()).prop_map(|(nth_open, at)| Step::Split { nth_open, at }),
        any::<usize>().prop_map(|nth_open| Step::Merge { nth_open }),
        prop::collection::vec(any_put(), 1..6).prop_map(|records| Step::Put { records }),
        (-5_000..20_000_i64).prop_map(|by_ms| Step::Clock { by_ms }),
    ]
}

/// Open shards by the start of their range.
fn open(stream: &Stream) -> Vec<(u128, u128, u32)> {
    let open = stream.shards.values().filter(|shard| shard.closed.is_none());
    let mut open: Vec<_> = open.map(|shard| (shard.range.start, shard.range.end, shard.number)).collect();
    open.sort_unstable();
    open
}

/// What the step does to the stream as it is, if it can be done.
fn event(stream: &Stream, step: &Step, now_ms: i64) -> Option<Event> {
    let (open, name) = (open(stream), NAME.to_owned());
    match step {
        Step::Split { nth_open, at } => {
            let (start, end, shard) = open[*nth_open % open.len()];
            let new_start = start + 1 + *at % (end - start).max(1);
            (start < end).then_some(Event::SplitShard { stream: name, shard, new_start, at_ms: now_ms })
        }
        Step::Merge { nth_open } => {
            let pair = open.windows(2).nth(*nth_open % open.len())?;
            Some(Event::MergeShards { stream: name, shard: pair[1].2, adjacent: pair[0].2, at_ms: now_ms })
        }
        Step::Put { records } => {
            let (records, json, last_hash_key) = placed(stream, records, now_ms);
            Some(Event::PutRecords { stream: name, records, json, last_hash_key })
        }
        Step::Clock { .. } => None,
    }
}

/// Where the records of one call go: those of a shard side by side.
fn placed(stream: &Stream, puts: &[Put], now_ms: i64) -> (Vec<Placement>, Bytes, Option<u128>) {
    let mut puts: Vec<_> = puts.iter().map(|put| (stream.shard_for(put.hash_key).unwrap(), put)).collect();
    puts.sort_by_key(|(shard, _)| shard.number);
    let (mut records, mut json) = (Vec::<Placement>::new(), String::new());
    for (shard, Put { partition_key, data, .. }) in &puts {
        let (first_index, arrival_ms) = shard.next_position(now_ms);
        let before = records.last().filter(|record| record.shard == shard.number);
        let index = before.map_or(first_index, |record| record.index + 1);
        let own = format!("{{\"key\":{partition_key:?},\"data\":{data:?}}},");
        let [size_bytes, json_bytes] = [partition_key.len() + data.len(), own.len()].map(|n| u32::try_from(n).unwrap());
        records.push(Placement { shard: shard.number, index, arrival_ms, size_bytes, json_bytes });
        json.push_str(&own);
    }
    (records, json.into(), puts.last().map(|(_, put)| put.hash_key))
}

/// A stream of that many shards, and nothing else.
fn created(shard_count: u32, at_ms: i64) -> Streams {
    let mut streams = Streams::default();
    streams.apply(creation(shard_count, at_ms)).unwrap();
    streams
}

fn creation(shard_count: u32, at_ms: i64) -> Event {
    let (stream, mode, settings, tags) = (NAME.to_owned(), StreamMode::Provisioned, Vec::new(), BTreeMap::new());
    let number = 1;
    let (active_at_ms, epoch_s_min) = (None, 0);
    Event::CreateStream(Creation {
        stream,
        mode,
        shard_count,
        at_ms,
        number,
        settings,
        tags,
        active_at_ms,
        epoch_s_min,
    })
}

/// The streams as they are made again from a snapshot that was written and read.
fn restored(streams: &Streams) -> Streams {
    let mut restored = Streams::default();
    let mut apply = |restore: &Restore<'_>, json: &[u8]| {
        let mut event: Event = serde_json::from_slice(&serde_json::to_vec(restore).unwrap()).unwrap();
        event.set_json(Bytes::copy_from_slice(json));
        restored.apply(event).map_err(std::io::Error::other)
    };
    streams.snapshot(&mut apply).unwrap();
    restored
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
    for shard in stream.shards.values() {
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
    let mut streams = created(1, 5000);
    for step in [put(0), Step::Split { nth_open: 0, at: 7 }] {
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
fn expired_shards_leave_the_memory_and_a_longer_retention_brings_none_back() {
    let mut streams = created(2, 0);
    let past_ms = i64::from(RETENTION_HOURS_DEFAULT) * 3_600_000 + 1;
    for (step, at_ms) in
        [(put(0), 0), (Step::Split { nth_open: 0, at: 7 }, 0), (Step::Split { nth_open: 0, at: 3 }, past_ms - 1)]
    {
        let event = event(streams.get(NAME).unwrap(), &step, at_ms).unwrap();
        streams.apply(event).unwrap();
    }
    let numbers = |streams: &Streams| streams.get(NAME).unwrap().shards.keys().copied().collect::<Vec<_>>();
    let before_bytes = streams.file_bytes();
    streams.trim(past_ms - 1);
    assert_eq!(numbers(&streams), [0, 1, 2, 3, 4, 5]);
    streams.apply(Event::SetRetention { stream: NAME.to_owned(), hours: 48, at_ms: past_ms }).unwrap();
    assert_eq!(numbers(&streams), [1, 2, 3, 4, 5], "shard 0 was closed a day ago, its child 2 just now");
    assert!(streams.file_bytes() < before_bytes);
    let split = event(streams.get(NAME).unwrap(), &Step::Split { nth_open: 0, at: 1 }, past_ms).unwrap();
    streams.apply(split).unwrap();
    assert_eq!(numbers(&streams).last(), Some(&7), "no number is used twice");
    assert_eq!(format!("{:?}", restored(&streams)), format!("{streams:?}"));
}

#[test]
fn a_snapshot_remembers_how_many_streams_there_were_and_what_numbers_they_had() {
    let mut streams = created(1, 7000);
    let split = event(streams.get(NAME).unwrap(), &Step::Split { nth_open: 0, at: 7 }, 7000).unwrap();
    streams.apply(split).unwrap();
    streams.apply(Event::DeleteStream { stream: NAME.to_owned() }).unwrap();
    let restored = restored(&streams);
    assert_eq!((restored.next_number(), restored.epoch_s_min()), (2, 9), "the child's epoch was 8");
}

/// What is read from the log in one piece stays in memory until the last record of it is gone, and a shard's records may be
/// of different days.
#[test]
fn after_a_restart_one_record_kept_a_mebibyte_of_others_in_memory() {
    let mut streams = created(1, 0);
    for at_ms in 0..2000 {
        let event = event(streams.get(NAME).unwrap(), &put(0), at_ms).unwrap();
        streams.apply(event).unwrap();
    }
    let large = Put { hash_key: 0, partition_key: "k".to_owned(), data: vec![b'x'; 20_000] };
    let event = event(streams.get(NAME).unwrap(), &Step::Put { records: vec![large; 20] }, 2000).unwrap();
    streams.apply(event).unwrap();
    let restored = restored(&streams);
    let records = || restored.get(NAME).unwrap().shard(0).unwrap().records_from(0);
    let (pieces, largest) =
        (records().map(|record| record.json_and_rest.len()), records().map(|record| record.json_bytes));
    assert!(pieces.max().unwrap() <= 64 * 1024 + largest.max().unwrap() as usize);
}

#[test]
fn what_a_consumer_had_subscribed_to_was_remembered_long_after_it_was_gone() {
    let mut streams = created(1, 0);
    let (stream, consumer, tags) = (NAME.to_owned(), "c".to_owned(), BTreeMap::new());
    streams.apply(Event::RegisterConsumer { stream, consumer, tags, at_ms: 0, active_at_ms: 0 }).unwrap();
    let claimed =
        |streams: &mut Streams| format!("{:?}", streams.get_mut(NAME).unwrap().consumers.claims("c").unwrap());
    let none = claimed(&mut streams);
    let claims = streams.get_mut(NAME).unwrap().consumers.claims("c").unwrap();
    claims.try_call(0, Limits::default(), 0).unwrap();
    claims.take(0, Limits::default(), 0).unwrap();
    let split = event(streams.get(NAME).unwrap(), &Step::Split { nth_open: 0, at: 7 }, 0).unwrap();
    streams.apply(split).unwrap();
    let retention_ms = i64::from(RETENTION_HOURS_DEFAULT) * 3_600_000;
    streams.trim(retention_ms);
    assert_ne!(claimed(&mut streams), none);
    streams.trim(retention_ms + 1);
    assert_eq!(claimed(&mut streams), none);
}

proptest! {
    #[test]
    fn whatever_happens_ranges_tile_and_numbers_grow(
        shard_count in 1..6_u32,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut now_ms = 1_700_000_000_000;
        let directory = tempfile::tempdir().unwrap();
        let mut streams = Streams::default();
        let mut log = Log::open(directory.path(), &mut streams).unwrap();
        log.append(&creation(shard_count, now_ms)).unwrap();
        streams.apply(creation(shard_count, now_ms)).unwrap();
        for step in &steps {
            if let Step::Clock { by_ms } = step {
                now_ms += by_ms;
            }
            if let Some(event) = event(streams.get(NAME).unwrap(), step, now_ms) {
                log.append(&event).unwrap();
                streams.apply(event).unwrap();
            }
            assert_ranges_tile(streams.get(NAME).unwrap());
        }
        assert_lineage(streams.get(NAME).unwrap());
        drop(log);
        let mut read = Streams::default();
        Log::open(directory.path(), &mut read).unwrap();
        let expected = format!("{streams:?}");
        prop_assert_eq!(&format!("{read:?}"), &expected, "the log says the same");
        prop_assert_eq!(format!("{:?}", restored(&streams)), expected, "so does one that was written anew");
    }

    #[test]
    fn the_shard_for_a_key_is_the_one_whose_range_holds_it(keys in prop::collection::vec(any::<u128>(), 1..20)) {
        let Event::CreateStream(creation) = creation(3, 0) else { unreachable!() };
        let mut stream = Stream::new(creation).unwrap();
        stream.split(1, u128::MAX / 2, 0).unwrap();
        stream.merge(0, 3, 0).unwrap();
        for key in keys {
            let holders = open(&stream).into_iter().filter(|(start, end, _)| *start <= key && key <= *end);
            let holders: Vec<_> = holders.map(|(_, _, number)| number).collect();
            prop_assert_eq!(holders, vec![stream.shard_for(key).unwrap().number]);
        }
    }
}
