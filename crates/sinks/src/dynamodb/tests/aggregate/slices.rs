//! Windows that are folded in slices: those that memory does not hold, and large ones that it does.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{
    Class, Emitted, Emitter as _, Exception, Failure, Item, Partition, Piece, Pieces, Reject, Reservation, StreamName,
};
use serde_json::json;
use tokio::time::Instant;

use super::super::answers::exceptions;
use super::super::dynamo::{Dynamo, Fault};
use super::{GUARDS, MINUTE, Sent, counted, counting, emit, items, number, scan, shard, sink, totals};
use crate::dynamodb::{DynamoDbConfig, DynamoDbEmitter};

/// Items five by five, as a disk gives them, and those of them that were handed back.
struct Fives {
    items: Vec<(usize, Item<Bytes>)>,
    refused: Mutex<Vec<(usize, Reject)>>,
}

#[async_trait]
impl Pieces<Bytes> for Fives {
    async fn piece(&self, number: usize) -> Result<Option<Piece<Bytes>>, Failure> {
        let items = self.items.chunks(5).nth(number).map(<[_]>::to_vec);
        Ok(items.map(|items| Piece { items, memory: Reservation::none() }))
    }

    async fn refused(&self, number: usize, rejects: Vec<(usize, Reject)>) -> ControlFlow<()> {
        let piece = self.items.chunks(5).nth(number).unwrap();
        assert!(rejects.iter().all(|(index, _)| piece.iter().any(|(of_piece, _)| of_piece == index)), "{rejects:?}");
        self.refused.lock().unwrap().extend(rejects);
        ControlFlow::Continue(())
    }
}

/// What is handed back is told as if it were named.
async fn emit_spilled(sink: &DynamoDbEmitter, sent: &[Sent]) -> Result<Emitted, Failure> {
    let (stream, shard): (StreamName, _) = ("orders".parse().unwrap(), shard(0));
    let items = items(0, sent);
    let (first, last) = (items[0].record.position, items.last().unwrap().record.position);
    // Indexes of the window, of which other sinks' partitions have some.
    let items = items.into_iter().enumerate().map(|(index, item)| (index * 2, item)).collect();
    let pieces = Fives { items, refused: Mutex::default() };
    let partition = Partition {
        stream: &stream,
        shard: &shard,
        first,
        last,
        name: None,
        bytes: 1000,
        pieces: &pieces,
        keep_existing: false,
    };
    let mut emitted = sink.emit_partition(&partition).await?;
    assert_eq!(emitted.exceptions(), [], "however many are refused, none is named");
    pieces.refused.into_inner().unwrap().into_iter().for_each(|(index, why)| emitted.reject(index, why));
    Ok(emitted)
}

/// Some three items are folded at a time.
async fn narrow(dynamo: &Dynamo) -> DynamoDbEmitter {
    super::super::sink(DynamoDbConfig { encoded_bytes_max: 8 * 1024, ..counting(dynamo.client()) }).await
}

/// Of every other record one item, the others each of their own.
fn one_in_all_slices() -> Vec<Sent> {
    (0..40).map(|n| (n, if n % 2 == 0 { number(n) } else { json!({"id": format!("k{n}"), "n": n}) })).collect()
}

#[tokio::test]
async fn a_window_that_memory_does_not_hold_is_counted_piece_by_piece() {
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    // More keys than are folded at a time, one of them in all pieces; and a record that is refused.
    let mut window = one_in_all_slices();
    window[11].1["n"] = json!("text");
    for _ in 0..2 {
        let emitted = emit_spilled(&sink, &window).await.unwrap();
        assert!(matches!(emitted.exceptions(), [(22, Exception::Rejected(_))]), "{emitted:?}");
        let found = counted(&dynamo).await;
        assert_eq!(found.len(), 20);
        assert_eq!(found[&("a".to_owned(), MINUTE.to_owned())], totals("20", "380", "0", "38"));
        assert_eq!(found[&("k39".to_owned(), MINUTE.to_owned())], totals("1", "39", "39", "39"));
    }
    // Part of it was counted before, and the rest follows.
    let more: Vec<Sent> = (30..60).map(|n| (n, number(n))).collect();
    assert_eq!(emit_spilled(&sink, &more).await.unwrap(), Emitted::all());
    let sum = 380 + (39..60).sum::<u64>();
    assert_eq!(counted(&dynamo).await[&("a".to_owned(), MINUTE.to_owned())], totals("41", &sum.to_string(), "0", "59"));
}

/// Of each round some transactions are throttled, for as long as the window lasts, and for as long as what is sent again is all of it.
#[tokio::test(start_paused = true)]
async fn a_window_that_memory_does_not_hold_ends_though_the_table_is_lastingly_short_of_room() {
    let dynamo = Dynamo::new();
    let sink = sink(&dynamo).await;
    let window: Vec<Sent> = (0..120).map(|n| (n, json!({"id": format!("k{}", n % 40), "n": n}))).collect();
    dynamo.has_room_for(3);
    // So often the pipeline would send all of it.
    let mut attempts = 0;
    while emit_spilled(&sink, &window).await.is_err() {
        attempts += 1;
        assert!(attempts < 20, "no end");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let expected: BTreeMap<_, _> = (0..40)
        .map(|n| {
            let sum = (n + (n + 40) + (n + 80)).to_string();
            let totals = totals("3", &sum, &n.to_string(), &(n + 80).to_string());
            ((format!("k{n}"), MINUTE.to_owned()), totals)
        })
        .collect();
    assert_eq!(counted(&dynamo).await, expected);
    assert_eq!(scan(&dynamo.client(), GUARDS).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_waits_of_a_window_that_memory_does_not_hold_counts_before_what_is_behind_it() {
    let key = ("a".to_owned(), MINUTE.to_owned());
    let window = one_in_all_slices();
    for fault in [Fault::Cut, Fault::Answer("ThrottlingException", "slow"), Fault::LoseAnswer] {
        let dynamo = Dynamo::new();
        let sink = narrow(&dynamo).await;
        // Of the first slice, the item that all have.
        (0..3).for_each(|_| dynamo.fail("TransactWriteItems", fault.clone()));
        assert_eq!(emit_spilled(&sink, &window).await.unwrap(), Emitted::all());
        assert_eq!(dynamo.faults_left(), 0);
        assert_eq!(counted(&dynamo).await[&key], totals("20", "380", "0", "38"));
    }
    // What does not pass by itself is not waited for, and what is behind it is not counted.
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    dynamo.fail("TransactWriteItems", Fault::Answer("AccessDeniedException", "no"));
    let begun = Instant::now();
    assert_eq!(emit_spilled(&sink, &window).await.unwrap_err().class, Class::Configuration);
    assert!(counted(&dynamo).await.len() < 4 && begun.elapsed().is_zero());
    assert_eq!(emit_spilled(&sink, &window).await.unwrap(), Emitted::all());
    assert_eq!(counted(&dynamo).await[&key], totals("20", "380", "0", "38"));
    // And what is refused of it takes what is behind it along: whoever sends it again refuses the same.
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    let refused = Fault::Cancel([("ValidationError", "Number overflow"), ("None", "")]);
    dynamo.fail("TransactWriteItems", refused);
    let emitted = emit_spilled(&sink, &window).await.unwrap();
    assert_eq!(exceptions(&emitted), (vec![], (0..40).step_by(2).map(|n| n * 2).collect()));
    assert_eq!(counted(&dynamo).await.len(), 20, "the others are counted");
}

#[tokio::test]
async fn a_record_that_adds_nothing_is_not_refused_with_others_of_its_item() {
    let dynamo = Dynamo::new();
    let mut config = counting(dynamo.client());
    config.aggregate.as_mut().unwrap().count = None;
    let sink = super::super::sink(config).await;
    dynamo.fail("TransactWriteItems", Fault::Cancel([("ValidationError", "Number overflow"), ("None", "")]));
    let window = [(1, number(1)), (2, json!({"id": "a"})), (3, number(3))];
    assert_eq!(exceptions(&emit_spilled(&sink, &window).await.unwrap()), (vec![], vec![0, 4]));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_memory_does_not_hold_is_given_back_once_it_becomes_no_less() {
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    let window = one_in_all_slices();
    dynamo.has_room_for(0);
    let begun = Instant::now();
    let failure = emit_spilled(&sink, &window).await.unwrap_err();
    assert_eq!(failure.class, Class::Transient);
    assert!(failure.message.contains("cannot update an item in table items: ThrottlingError"), "{failure}");
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(20) && waited < Duration::from_secs(60), "{waited:?}");
    dynamo.has_room_for(1000);
    assert_eq!(emit_spilled(&sink, &window).await.unwrap(), Emitted::all());
    assert_eq!(counted(&dynamo).await[&("a".to_owned(), MINUTE.to_owned())], totals("20", "380", "0", "38"));
}

/// It is folded no further than what waits, and what is refused before that takes what is behind it along all the same.
#[tokio::test]
async fn of_a_window_in_memory_that_is_more_than_a_slice_only_what_waits_and_what_is_behind_it_is_sent_again() {
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    let mut window = one_in_all_slices();
    // `k1` waits, `a` is refused, and the others of the first slice are counted.
    window[0].1 = json!({"id": "k1", "n": 1});
    let refused = Fault::Cancel([("ValidationError", "Number overflow"), ("None", "")]);
    dynamo.fail("TransactWriteItems", Fault::Cut);
    dynamo.fail("TransactWriteItems", refused);
    let emitted = emit(&sink, 0, &window).await.unwrap();
    let first_slice = 1 + counted(&dynamo).await.len() as u64;
    assert!((2..5).contains(&first_slice), "{first_slice}");
    let (again, refused) = exceptions(&emitted);
    assert_eq!(refused, (2..40).step_by(2).collect::<Vec<_>>());
    let behind = (1..40).step_by(2).skip(usize::try_from(first_slice).unwrap());
    assert_eq!(again, [0, 1].into_iter().chain(behind).collect::<Vec<_>>());
    let again: Vec<Sent> = again.into_iter().map(|index| window[index].clone()).collect();
    assert_eq!(emit(&sink, 0, &again).await.unwrap(), Emitted::all());
    let found = counted(&dynamo).await;
    assert_eq!(found.len(), 20);
    assert_eq!(found[&("k1".to_owned(), MINUTE.to_owned())], totals("2", "2", "1", "1"));
}

#[tokio::test]
async fn what_is_folded_takes_no_more_memory_than_the_sink_may() {
    let dynamo = Dynamo::new();
    let sink = narrow(&dynamo).await;
    let of_one = sink.encoding.reserve(8 * 1024).await;
    let window = one_in_all_slices();
    let mut waiting = Box::pin(emit(&sink, 0, &window));
    assert!(futures::poll!(&mut waiting).is_pending(), "another window has it");
    drop(of_one);
    assert_eq!(waiting.await.unwrap(), Emitted::all());
    assert_eq!(sink.encoding.free_bytes(), sink.encoding.total_bytes());
}
