//! Destinations that remember what they made durable.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Batch, Emitted, Emitter, Failure, Fingerprint, Item, Reject};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{Event, Log, number};

/// How an emitter answers one batch.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Deliver,
    DeliverAfter(Duration),
    /// Nothing is durable.
    Fail(Failure),
    /// Nothing is reported durable, though everything is that is not refused.
    FailAfterDelivering(Failure),
    /// Items at these indexes, modulo the batch, are to be sent again.
    Retry(Vec<usize>),
    /// An item that is not in the batch is to be sent again.
    RetryBeyond,
    /// Waits until told.
    Hold(Arc<Notify>),
}

/// Answers as scripted, then delivers. Refuses the output `poison` while `refusing` says so.
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) answers: Mutex<VecDeque<Answer>>,
    pub(crate) refusing: Arc<Mutex<bool>>,
    refuses_all: bool,
    is_planned: bool,
    /// How often it was asked for a partition.
    pub(crate) asked: Arc<AtomicU64>,
}

impl Destination {
    pub(crate) fn new(name: &str, log: &Log) -> Self {
        Self {
            name: name.into(),
            log: Arc::clone(log),
            answers: Mutex::default(),
            refusing: Arc::new(Mutex::new(true)),
            refuses_all: false,
            is_planned: false,
            asked: Arc::default(),
        }
    }

    pub(crate) fn refusing_all(mut self) -> Self {
        self.refuses_all = true;
        self
    }

    /// Its windows are announced, as an object store's are.
    pub(crate) fn planned(mut self) -> Self {
        self.is_planned = true;
        self
    }

    pub(crate) fn answering(self, answers: impl IntoIterator<Item = Answer>) -> Self {
        *self.answers.lock().unwrap() = answers.into_iter().collect();
        self
    }

    fn deliver(&self, outputs: Vec<(u64, u32, String)>) {
        self.log.lock().unwrap().push(Event::Durable { sink: self.name.clone(), outputs });
    }

    async fn answer<U: Text>(&self, batch: &Batch<'_, U>) -> Result<Emitted, Failure> {
        self.log.lock().unwrap().push(Event::Begun {
            sink: self.name.clone(),
            first: number(batch.first),
            last: number(batch.last),
            keep_existing: batch.keep_existing,
        });
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Deliver);
        let mut again = Vec::new();
        match answer {
            Answer::Deliver => {}
            Answer::DeliverAfter(delay) => sleep(delay).await,
            Answer::Fail(failure) => return Err(failure),
            Answer::FailAfterDelivering(failure) => {
                let taken = batch.items.iter().filter(|item| item.value.text() != "poison");
                self.deliver(taken.map(|item| triple(item)).collect());
                return Err(failure);
            }
            Answer::Retry(indexes) => again = indexes.iter().map(|index| index % batch.items.len()).collect(),
            Answer::RetryBeyond => {
                let mut emitted = Emitted::all();
                emitted.retry(batch.items.len(), Reject::new("later"));
                return Ok(emitted);
            }
            Answer::Hold(notify) => notify.notified().await,
        }
        let mut emitted = Emitted::all();
        let mut durable = Vec::new();
        for (index, item) in batch.items.iter().enumerate() {
            if again.contains(&index) {
                emitted.retry(index, Reject::new("later"));
            } else if self.refuses_all || (item.value.text() == "poison" && *self.refusing.lock().unwrap()) {
                emitted.reject(index, Reject::new("poisonous"));
            } else {
                durable.push(triple(item));
            }
        }
        self.deliver(durable);
        Ok(emitted)
    }
}

fn triple<U: Text>(item: &Item<U>) -> (u64, u32, String) {
    (number(item.record.position), item.ordinal, item.value.text())
}

pub(crate) trait Text: Send + Sync {
    fn text(&self) -> String;
}

impl Text for String {
    fn text(&self) -> String {
        self.clone()
    }
}

impl Text for Bytes {
    fn text(&self) -> String {
        String::from_utf8(self.to_vec()).unwrap()
    }
}

#[async_trait]
impl Emitter<String> for Destination {
    async fn emit(&self, batch: &Batch<'_, String>) -> Result<Emitted, Failure> {
        self.answer(batch).await
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        self.is_planned
    }

    fn plan_item(&self, item: &Item<String>, partition: Option<&str>, content: &mut Fingerprint) {
        content.part(partition.unwrap_or_default().as_bytes());
        content.part(item.value.as_bytes());
    }

    /// What stands before a slash.
    fn partition(&self, item: &Item<String>) -> Option<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.is_planned.then(|| item.value.split_once('/')).flatten().map(|(partition, _)| partition.to_owned())
    }
}

#[async_trait]
impl Emitter<Bytes> for Destination {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        self.answer(batch).await
    }

    fn plan(&self, _: &mut Fingerprint) -> bool {
        self.is_planned
    }
}
