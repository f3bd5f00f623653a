//! A handler that notes what it was given, in one order for all shards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Checkpoint, Durable, Failure, Position, Read, Settlement, ShardId};

/// When a recorder commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// After each reply and at a shard's end.
    Each,
    /// Never.
    Never,
    /// After the record with this text, and never again.
    After(&'static str),
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Started(ShardId, Checkpoint),
    Record(ShardId, Position, String),
    Committed(ShardId, Checkpoint),
    /// The handler returned, or was dropped before it could.
    Stopped(ShardId, Option<Finished>),
}

#[derive(Debug)]
pub(crate) struct Recorder {
    commit: Commit,
    events: Mutex<Vec<Event>>,
}

/// Notes a handler that is dropped.
struct Guard<'a> {
    recorder: &'a Recorder,
    shard: ShardId,
    finished: Option<Finished>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.recorder.note(Event::Stopped(self.shard.clone(), self.finished));
    }
}

impl Recorder {
    pub(crate) fn new(commit: Commit) -> Arc<Self> {
        Arc::new(Self { commit, events: Mutex::default() })
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// What was delivered, by shard, in order.
    pub(crate) fn records(&self) -> BTreeMap<String, Vec<String>> {
        let mut records = BTreeMap::<String, Vec<String>>::new();
        for event in self.events() {
            if let Event::Record(shard, _, text) = event {
                records.entry(shard.to_string()).or_default().push(text);
            }
        }
        records
    }

    /// Everything delivered, sorted.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<_> = self.records().into_values().flatten().collect();
        texts.sort();
        texts
    }

    /// How often a handler was started.
    pub(crate) fn starts(&self) -> Vec<(String, Checkpoint)> {
        let started = |event| match event {
            Event::Started(shard, from) => Some((shard.to_string(), from)),
            _ => None,
        };
        self.events().into_iter().filter_map(started).collect()
    }

    async fn process(&self, shard: &mut Shard) -> Result<Finished, Failure> {
        loop {
            let read = tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = shard.reader.next() => read?,
            };
            let records = match read {
                Read::Records(records) => records.records,
                Read::ShardEnd if self.commit == Commit::Each => {
                    self.committed(shard, Checkpoint::ShardEnd).await?;
                    return Ok(Finished::ShardEnd);
                }
                Read::ShardEnd => {
                    shard.drain.cancelled().await;
                    return Ok(Finished::Drained);
                }
            };
            for record in &records {
                let text = String::from_utf8(record.data.to_vec()).unwrap();
                let after = matches!(self.commit, Commit::After(last) if last == text);
                self.note(Event::Record(record.shard.clone(), record.position, text));
                if after {
                    self.committed(shard, Checkpoint::At(record.position)).await?;
                }
            }
            if let (Some(last), Commit::Each) = (records.last(), self.commit) {
                self.committed(shard, Checkpoint::At(last.position)).await?;
            }
        }
    }

    async fn committed(&self, shard: &mut Shard, through: Checkpoint) -> Result<(), Failure> {
        // A transient failure is tried again, as a pipeline does.
        for _ in 0..20_000 {
            match shard.checkpointer.commit(durable(through)).await {
                Ok(()) => {
                    self.note(Event::Committed(shard.id.clone(), through));
                    return Ok(());
                }
                Err(kinesink_core::CheckpointError::LeaseLost) => std::future::pending().await,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
        Err(Failure::transient("the checkpoint did not get through"))
    }
}

#[async_trait]
impl ShardHandler for Recorder {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        self.note(Event::Started(shard.id.clone(), shard.start));
        let mut guard = Guard { recorder: self, shard: shard.id.clone(), finished: None };
        let finished = self.process(&mut shard).await?;
        guard.finished = Some(finished);
        Ok(finished)
    }
}

/// The proof for a window without items.
pub(crate) fn durable(through: Checkpoint) -> Durable {
    Settlement::new(through, 0, 0, 0).finish().unwrap()
}
