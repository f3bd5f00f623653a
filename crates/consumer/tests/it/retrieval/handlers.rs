use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Checkpoint, Failure, Read, Records};
use tokio::sync::watch;
use tokio::time::timeout;

fn text(record: &kinesink_core::Record) -> String {
    String::from_utf8(record.data.to_vec()).unwrap()
}

/// Gives up each read after a moment and asks again.
#[derive(Default)]
pub(super) struct Impatient {
    pub(super) texts: Mutex<Vec<String>>,
    pub(super) given_up: Mutex<u32>,
}

#[async_trait]
impl ShardHandler for Impatient {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        while !shard.drain.is_cancelled() {
            match timeout(Duration::from_millis(7), shard.reader.next()).await {
                Ok(Ok(Read::Records(read))) => self.texts.lock().unwrap().extend(read.records.iter().map(text)),
                Ok(Ok(Read::ShardEnd)) => break,
                Ok(Err(failure)) => return Err(failure),
                Err(_) => *self.given_up.lock().unwrap() += 1,
            }
        }
        Ok(Finished::Drained)
    }
}

/// Reads until it has thirty records, goes back to after the tenth, and reads on.
#[derive(Default)]
pub(super) struct Rewinder {
    pub(super) before: Mutex<Vec<String>>,
    pub(super) after: Mutex<Vec<String>>,
}

#[async_trait]
impl ShardHandler for Rewinder {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        let mut tenth = None;
        let mut is_rewound = false;
        loop {
            let read = tokio::select! {
                () = shard.drain.cancelled() => break,
                read = shard.reader.next() => read?,
            };
            let Read::Records(read) = read else { break };
            let texts = if is_rewound { &self.after } else { &self.before };
            for record in &read.records {
                texts.lock().unwrap().push(text(record));
                if texts.lock().unwrap().len() == 10 {
                    tenth.get_or_insert(record.position);
                }
            }
            if let (false, Some(position)) = (is_rewound, tenth)
                && self.before.lock().unwrap().len() >= 30
            {
                shard.reader.rewind(Checkpoint::At(position));
                is_rewound = true;
            }
        }
        Ok(Finished::Drained)
    }
}

/// Holds everything it is given.
#[derive(Default)]
pub(super) struct Hoarder {
    pub(super) held: Mutex<Vec<Records>>,
}

#[async_trait]
impl ShardHandler for Hoarder {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        loop {
            tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = shard.reader.next() => match read? {
                    Read::Records(records) => self.held.lock().unwrap().push(records),
                    Read::ShardEnd => return Ok(Finished::Drained),
                },
            }
        }
    }
}

impl Hoarder {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }
}

/// Reads, but not while it is paused.
#[derive(Default)]
pub(super) struct Pausing {
    pub(super) texts: Mutex<Vec<String>>,
    pub(super) paused: watch::Sender<bool>,
}

#[async_trait]
impl ShardHandler for Pausing {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        let mut paused = self.paused.subscribe();
        loop {
            let read = async {
                paused.wait_for(|paused| !paused).await.unwrap();
                shard.reader.next().await
            };
            let read = tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = read => read?,
            };
            match read {
                Read::Records(read) => self.texts.lock().unwrap().extend(read.records.iter().map(text)),
                Read::ShardEnd => return Ok(Finished::Drained),
            }
        }
    }
}
