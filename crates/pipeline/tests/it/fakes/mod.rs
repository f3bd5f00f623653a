//! A shard whose records are numbered, destinations that remember what they made durable, and the lease between.

mod destination;
mod reader;
mod rig;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{
    Checkpoint, CheckpointError, Checkpointer, Durable, Position, Prepared, Record, Reject, ShardId, Transformer,
};

pub(crate) use self::destination::{Answer, Destination};
pub(crate) use self::reader::Step;
pub(crate) use self::rig::Rig;

pub(crate) fn shard() -> ShardId {
    "shardId-000000000000".parse().unwrap()
}

pub(crate) fn position(number: u64) -> Position {
    Position { sequence: number.to_string().parse().unwrap(), sub_sequence: 0 }
}

pub(crate) fn number(position: Position) -> u64 {
    position.sequence.to_string().parse().unwrap()
}

const ARRIVAL: &str = "2023-11-14T22:13:20Z";

pub(crate) fn record(number: u64, data: &str) -> Record {
    Record {
        shard: shard(),
        position: position(number),
        arrival: ARRIVAL.parse().unwrap(),
        partition_key: Some(format!("key-{number}").as_str().into()),
        data: Bytes::from(data.to_owned()),
    }
}

/// Each record's data is a list of outputs, split by commas; `bad` refuses the record while `refusing` says so.
#[derive(Default)]
pub(crate) struct Split {
    pub(crate) refusing: Arc<Mutex<bool>>,
}

impl Transformer for Split {
    type Model = String;
    type Output = String;

    fn to_model(&self, record: &Record, models: &mut Vec<String>) -> Result<(), Reject> {
        let text = std::str::from_utf8(&record.data).unwrap();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            models.push(part.to_owned());
            if part == "bad" && *self.refusing.lock().unwrap() {
                return Err(Reject::new("it is bad"));
            }
        }
        Ok(())
    }

    fn to_output(&self, model: String) -> Result<String, Reject> {
        if model == "unencodable" { Err(Reject::new("cannot be encoded")) } else { Ok(model) }
    }
}

/// One thing that happened, in order, across every fake of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The sink made these outputs durable.
    Durable {
        sink: String,
        outputs: Vec<(u64, u32, String)>,
    },
    /// A batch was begun.
    Begun {
        sink: String,
        first: u64,
        last: u64,
        keep_existing: bool,
    },
    /// The lease row announces a window that ends there.
    Announced(u64),
    Checkpointed(Checkpoint),
}

pub(crate) type Log = Arc<Mutex<Vec<Event>>>;

pub(crate) struct Lease {
    log: Log,
    pub(crate) answers: VecDeque<CheckpointError>,
    /// The lease is lost at the n-th commit.
    pub(crate) lost_at: Option<usize>,
    commits: usize,
    /// As the row has it.
    pub(crate) prepared: Arc<Mutex<Option<Prepared>>>,
}

#[async_trait]
impl Checkpointer for Lease {
    async fn prepare(&mut self, last: Position, plan: Bytes) -> Result<(), CheckpointError> {
        self.log.lock().unwrap().push(Event::Announced(number(last)));
        *self.prepared.lock().unwrap() = Some(Prepared { checkpoint: Checkpoint::At(last), plan: Some(plan) });
        Ok(())
    }

    async fn commit(&mut self, durable: Durable) -> Result<(), CheckpointError> {
        self.commits += 1;
        if self.lost_at.is_some_and(|at| self.commits >= at) {
            return Err(CheckpointError::LeaseLost);
        }
        if let Some(error) = self.answers.pop_front() {
            return Err(error);
        }
        self.log.lock().unwrap().push(Event::Checkpointed(durable.through()));
        *self.prepared.lock().unwrap() = None;
        Ok(())
    }
}

/// An envelope, read by other means than it was written by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) number: u64,
    pub(crate) ordinal: u32,
    pub(crate) stage: String,
    pub(crate) reason: String,
    pub(crate) data: String,
}

pub(crate) fn letter(json: &str) -> Letter {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    let text = |field: &str| value[field].as_str().unwrap().to_owned();
    assert_eq!((&value["version"], &value["sub_sequence"]), (&1.into(), &0.into()));
    assert_eq!((&*text("stream"), &*text("shard"), &*text("arrival")), ("orders", &*shard().to_string(), ARRIVAL));
    let number = text("sequence").parse().unwrap();
    assert_eq!(text("partition_key"), format!("key-{number}"));
    let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text("data")).unwrap();
    let ordinal = value["ordinal"].as_u64().unwrap().try_into().unwrap();
    Letter { number, ordinal, stage: text("stage"), reason: text("reason"), data: String::from_utf8(data).unwrap() }
}

pub(crate) fn reply(records: impl IntoIterator<Item = Record>) -> Step {
    Step::Reply(Duration::ZERO, records.into_iter().collect())
}

/// Records `from..=to`, one output each.
pub(crate) fn plain(from: u64, to: u64) -> Vec<Record> {
    (from..=to).map(|number| record(number, &format!("out-{number}"))).collect()
}
