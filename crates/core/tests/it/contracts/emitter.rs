use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::testkit::{Broken, EmitterPromises, emitter_contract};
use kinesink_core::{Batch, Emitted, Emitter, Failure, Item, Record, Reject, ShardId};
use tokio::task::yield_now;

use crate::assert_breaks;

const ALL: EmitterPromises = EmitterPromises { ordered: true, idempotent: true };
const NONE: EmitterPromises = EmitterPromises { ordered: false, idempotent: false };

/// What an emitter does otherwise than it should, or may.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Right,
    /// Right: it takes the first half of the first batch and asks for the rest again.
    TakesHalf,
    /// Right: the first batch of all fails as a whole.
    FailsOnce,
    DropsOne,
    DropsBeyond500,
    AltersOne,
    AddsATrailer,
    Reorders,
    DoublesOne,
    DoublesOnARepeat,
    IsIdempotentOnlyWhenItEnds,
    IdentifiesByPositionAlone,
    IdentifiesWithoutTheOrdinal,
    ReportsTooEarly,
    ForgetsOnClose,
    RefusesOne,
    NeverEnds,
    NamesAnItemOutsideTheBatch,
    NamesAnItemTwice,
    CannotBeChecked,
    CannotBeClosed,
}

/// A stored item and what identifies it.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    shard: Option<ShardId>,
    id: String,
    value: Bytes,
}

/// A destination in memory that knows items by shard, position and ordinal.
struct InMemory {
    way: Way,
    rows: Mutex<Vec<Row>>,
    unwritten: Mutex<Vec<Row>>,
    calls: Mutex<u32>,
}

impl InMemory {
    fn new(way: Way) -> Self {
        Self { way, rows: Mutex::default(), unwritten: Mutex::default(), calls: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap()
    }

    fn row(&self, item: &Item<Bytes>) -> Row {
        let Item { record, ordinal, value, .. } = item;
        let id = match self.way {
            Way::IdentifiesWithoutTheOrdinal => record.position.to_string(),
            _ => format!("{}.{ordinal}", record.position),
        };
        let shard = (self.way != Way::IdentifiesByPositionAlone).then(|| record.shard.clone());
        Row { shard, id, value: value.clone() }
    }

    fn store(&self, row: Row) {
        let mut rows = self.rows();
        let known = rows.iter().any(|other| (&other.shard, &other.id) == (&row.shard, &row.id));
        if !known || self.way == Way::DoublesOnARepeat {
            rows.push(row);
        }
    }

    /// What the way makes of a batch's rows.
    fn bend(&self, rows: &mut Vec<Row>, call: u32) {
        match self.way {
            Way::DropsOne => drop(rows.remove(rows.len() / 2)),
            Way::DropsBeyond500 => rows.truncate(500),
            Way::AltersOne => rows[0].value = Bytes::from_static(b"{}"),
            Way::AddsATrailer => {
                rows.push(Row { shard: None, id: call.to_string(), value: Bytes::from_static(b"end") });
            }
            Way::Reorders => rows.swap(0, 1),
            Way::DoublesOne => {
                let twin = Row { id: format!("{}'", rows[0].id), ..rows[0].clone() };
                rows.push(twin);
            }
            // Its ids are those of the call, until the call has ended.
            Way::IsIdempotentOnlyWhenItEnds => {}
            _ => {}
        }
    }
}

#[async_trait]
impl Emitter<Bytes> for InMemory {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        let call = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        if self.way == Way::FailsOnce && call == 1 || self.way == Way::NeverEnds {
            return Err(Failure::transient("throttled"));
        }
        let mut emitted = Emitted::all();
        let mut rows: Vec<Row> = batch.items.iter().map(|item| self.row(item)).collect();
        match self.way {
            Way::TakesHalf if call == 1 => {
                for index in rows.len() / 2..rows.len() {
                    emitted.retry(index, Reject::new("throttled"));
                }
                rows.truncate(rows.len() / 2);
            }
            Way::RefusesOne => emitted.reject(0, Reject::new("too long")),
            Way::NamesAnItemOutsideTheBatch => emitted.retry(rows.len(), Reject::new("throttled")),
            Way::NamesAnItemTwice => {
                emitted.retry(0, Reject::new("throttled"));
                emitted.reject(0, Reject::new("too long"));
            }
            _ => {}
        }
        self.bend(&mut rows, call);
        if self.way == Way::ReportsTooEarly {
            let earlier = std::mem::replace(&mut *self.unwritten.lock().unwrap(), rows);
            rows = earlier;
        }
        if self.way == Way::IsIdempotentOnlyWhenItEnds {
            let known = self.rows().iter().any(|row| row.id == rows[0].id);
            for row in rows.iter().filter(|_| !known) {
                self.rows().push(Row { id: String::new(), ..row.clone() });
            }
            yield_now().await;
            for (row, new) in self.rows().iter_mut().filter(|row| row.id.is_empty()).zip(&rows) {
                row.id.clone_from(&new.id);
            }
            return Ok(emitted);
        }
        for row in rows {
            self.store(row);
            yield_now().await;
        }
        Ok(emitted)
    }

    async fn check(&self) -> Result<(), Failure> {
        if self.way == Way::CannotBeChecked { Err(Failure::configuration("no such bucket")) } else { Ok(()) }
    }

    async fn close(&self) -> Result<(), Failure> {
        match self.way {
            Way::ForgetsOnClose => self.rows().truncate(10),
            Way::CannotBeClosed => return Err(Failure::transient("cut")),
            _ => {}
        }
        Ok(())
    }
}

async fn check(way: Way, promises: EmitterPromises) -> Result<(), Broken> {
    let emitter = InMemory::new(way);
    let stored = async || emitter.rows().iter().map(|row| row.value.clone()).collect();
    emitter_contract(&emitter, promises, |record: &Record| record.data.clone(), stored).await
}

#[tokio::test]
async fn right_ones_pass() {
    for way in [Way::Right, Way::TakesHalf, Way::FailsOnce] {
        check(way, ALL).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_promised_is_not_demanded() {
    check(Way::Reorders, EmitterPromises { ordered: false, ..ALL }).await.unwrap();
    check(Way::DoublesOnARepeat, EmitterPromises { idempotent: false, ..ALL }).await.unwrap();
}

#[tokio::test]
async fn each_wrong_one_is_found() {
    let there = "what is reported as delivered is stored";
    for promises in [ALL, NONE] {
        assert_breaks(check(Way::DropsOne, promises).await, there);
        assert_breaks(check(Way::DropsBeyond500, promises).await, there);
        assert_breaks(check(Way::IdentifiesByPositionAlone, promises).await, there);
        assert_breaks(check(Way::IdentifiesWithoutTheOrdinal, promises).await, there);
        assert_breaks(check(Way::ReportsTooEarly, promises).await, there);
        assert_breaks(check(Way::ForgetsOnClose, promises).await, there);
        assert_breaks(check(Way::AltersOne, promises).await, there);
        assert_breaks(check(Way::AddsATrailer, promises).await, "nothing is stored that was not sent");
        assert_breaks(check(Way::DoublesOne, promises).await, "what is sent once is stored once");
        let few = "a healthy destination takes every item in few attempts";
        assert_breaks(check(Way::RefusesOne, promises).await, few);
        assert_breaks(check(Way::NeverEnds, promises).await, few);
        let named = "an outcome names items of its batch, each once";
        assert_breaks(check(Way::NamesAnItemOutsideTheBatch, promises).await, named);
        assert_breaks(check(Way::NamesAnItemTwice, promises).await, named);
        assert_breaks(check(Way::CannotBeChecked, promises).await, "check passes");
        assert_breaks(check(Way::CannotBeClosed, promises).await, "close passes");
    }
    assert_breaks(check(Way::Reorders, ALL).await, "order is kept");
    assert_breaks(check(Way::DoublesOnARepeat, ALL).await, "what is sent again is stored once");
    assert_breaks(check(Way::IsIdempotentOnlyWhenItEnds, ALL).await, "what is sent again is stored once");
}

#[tokio::test]
async fn a_destination_in_use_is_refused() {
    let emitter = InMemory::new(Way::Right);
    let stored = async || vec![Bytes::from_static(b"older")];
    let outcome = emitter_contract(&emitter, ALL, |record: &Record| record.data.clone(), stored).await;
    assert_breaks(outcome, "the suite starts on an empty destination");
}

#[tokio::test]
async fn outputs_that_are_not_distinct_are_refused() {
    let emitter = InMemory::new(Way::Right);
    let stored = async || Vec::new();
    let outcome = emitter_contract(&emitter, ALL, |_: &Record| Bytes::from_static(b"same"), stored).await;
    assert_breaks(outcome, "the suite's outputs are distinct");
}
