//! A lease as a row of the lease table: the attributes that Java KCL writes and reads, and six of our own.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::dynamodb::primitives::Blob;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Checkpoint, Prepared, SequenceNumber, ShardId};

pub(crate) const KEY: &str = "leaseKey";
pub(crate) const OWNER: &str = "leaseOwner";
pub(crate) const COUNTER: &str = "leaseCounter";
pub(crate) const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
pub(crate) const PARENTS: &str = "parentShardId";
pub(crate) const CHILDREN: &str = "childShardIds";
pub(crate) const STARTING_HASH_KEY: &str = "startingHashKey";
pub(crate) const ENDING_HASH_KEY: &str = "endingHashKey";
pub(crate) const CHECKPOINT_OWNER: &str = "checkpointOwner";
pub(crate) const PENDING: &str = "pendingCheckpoint";
pub(crate) const PENDING_SUB_SEQUENCE: &str = "pendingCheckpointSubSequenceNumber";
pub(crate) const PENDING_STATE: &str = "pendingCheckpointState";
pub(crate) const THROUGHPUT: &str = "throughputKBps";
const ENTITY_TYPE: &str = "entityType";
/// Foreign to Java, which keeps it: set by each of our counter writes, so that a write whose answer was lost is known.
pub(crate) const TOKEN: &str = "kinesink_token";
/// Foreign to Java, which keeps it: where a lease that began at LATEST or AT_TIMESTAMP resumes, in epoch milliseconds.
pub(crate) const START_MS: &str = "kinesink_start_ms";
/// Foreign to Java, which keeps it: the sequence number of the last checkpoint before `SHARD_END`. It tells whether a
/// shard of the same id is another one.
pub(crate) const ENDED_AFTER: &str = "kinesink_ended_after";
/// Foreign to Java, which keeps it: who made the last counter write of ours. It marks the lease as held by one of us
/// only while it equals the owner.
pub(crate) const MARK: &str = "kinesink_owner";
/// Foreign to Java, which keeps it: the worker of ours that asks the lease's owner for it.
pub(crate) const WISH: &str = "kinesink_wanted_by";

/// Foreign to Java, which keeps it: the end of the window that one of us announced. Java's own checkpoint removes what is
/// announced, and this is then left to tell of it.
pub(crate) const ANNOUNCED: &str = "kinesink_announced";

/// A checkpoint as one text.
pub(crate) fn place(checkpoint: Checkpoint) -> AttributeValue {
    text(format!("{} {}", checkpoint.sequence_text(), checkpoint.sub_sequence()))
}

fn from_place(text: &str) -> Option<Checkpoint> {
    let (sequence, sub_sequence) = text.split_once(' ')?;
    Checkpoint::from_row(sequence, sub_sequence.parse().ok()?).ok()
}

/// An item of the lease table.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The range of hash keys of a shard, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HashRange {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

/// What a change of ownership is conditional on, besides or instead of the counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    pub(crate) owner: Option<String>,
    pub(crate) checkpoint_owner: Option<String>,
}

/// A checkpoint that was announced and not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) state: Option<Bytes>,
}

/// A worker's request to be given a lease: its id after a number that tells one request from the next, since the
/// table has no clock and an observer times how long a wish has been the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) number: u64,
    pub(crate) by: String,
}

impl Wish {
    pub(crate) fn to_text(&self) -> String {
        format!("{} {}", self.number, self.by)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (number, by) = text.split_once(' ')?;
        Some(Self { number: number.parse().ok()?, by: by.to_owned() })
    }
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) shard: ShardId,
    pub(crate) owner: Option<String>,
    /// The present owner while the owner is the next one: a handoff of KCL 3.x is under way.
    pub(crate) checkpoint_owner: Option<String>,
    pub(crate) counter: u64,
    pub(crate) switches: u64,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) parents: Vec<ShardId>,
    /// Known once the shard ended.
    pub(crate) children: Vec<ShardId>,
    pub(crate) hash_range: Option<HashRange>,
    pub(crate) pending: Option<Pending>,
    /// Rows are held in futures, and few have one.
    pub(crate) announced: Option<Box<Checkpoint>>,
    pub(crate) token: Option<String>,
    pub(crate) start: Option<Timestamp>,
    pub(crate) mark: Option<String>,
    pub(crate) wish: Option<Wish>,
    /// The last position of a finished shard, if a worker of ours finished it and had checkpointed before.
    pub(crate) ended_after: Option<SequenceNumber>,
}

/// Which attribute of which row is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row:?} has no valid attribute {attribute}: {why}")]
pub(crate) struct RowError {
    row: String,
    attribute: &'static str,
    why: String,
}

impl RowError {
    /// The row's key.
    pub(crate) fn row(&self) -> &str {
        &self.row
    }
}

impl LeaseRow {
    /// A lease that nobody has held.
    pub(crate) fn new(
        shard: ShardId,
        checkpoint: Checkpoint,
        parents: Vec<ShardId>,
        hash_range: Option<HashRange>,
    ) -> Self {
        Self {
            shard,
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            switches: 0,
            checkpoint,
            parents,
            children: Vec::new(),
            hash_range,
            pending: None,
            announced: None,
            token: None,
            start: None,
            mark: None,
            wish: None,
            ended_after: None,
        }
    }

    /// What the last owner announced and did not commit; without its plan where another program has removed that.
    pub(crate) fn prepared(&self) -> Option<Prepared> {
        match &self.pending {
            Some(pending) => Some(Prepared { checkpoint: pending.checkpoint, plan: pending.state.clone() }),
            None => self.announced.as_ref().map(|checkpoint| Prepared { checkpoint: **checkpoint, plan: None }),
        }
    }

    /// Whether the shard is fully processed.
    pub(crate) fn is_finished(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }

    /// Who renews it: while a handoff of KCL 3.x is under way, the row's owner is the next one.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// Who is to get the lease from `me`, its holder. `None` also for a row that names `me` twice: nobody writes that.
    pub(crate) fn asked_for(&self, me: &str) -> Option<&str> {
        let next = self.owner.as_deref()?;
        (self.checkpoint_owner.as_deref() == Some(me) && next != me).then_some(next)
    }

    /// Owner and checkpoint owner.
    pub(crate) fn owners(&self) -> Owners {
        Owners { owner: self.owner.clone(), checkpoint_owner: self.checkpoint_owner.clone() }
    }

    /// Whether its owner is one of ours. Java's take keeps the mark and changes the owner.
    pub(crate) fn is_marked(&self) -> bool {
        self.owner.is_some() && self.owner == self.mark
    }

    /// Reads an item; `None` for the rows of other kinds that KCL 3.x keeps in the same table.
    pub(crate) fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        if item.get(ENTITY_TYPE).is_some_and(|kind| kind.as_s().is_ok_and(|kind| kind != "LEASE")) {
            return Ok(None);
        }
        let row = item.get(KEY).and_then(|key| key.as_s().ok()).map_or("", String::as_str);
        let reader = Reader { item, row };
        let checkpoint = reader.checkpoint(CHECKPOINT, SUB_SEQUENCE)?;
        let checkpoint = checkpoint.ok_or_else(|| reader.error(CHECKPOINT, "it is missing"))?;
        // A state of a wrong type was written by a known quirk of Java and means nothing.
        let state = item.get(PENDING_STATE).and_then(|state| state.as_b().ok());
        let pending = reader.checkpoint(PENDING, PENDING_SUB_SEQUENCE)?;
        Ok(Some(Self {
            shard: row.parse().map_err(|error: kinesink_core::Error| reader.error(KEY, &error.to_string()))?,
            owner: reader.text(OWNER).filter(|owner| !owner.is_empty()).map(str::to_owned),
            checkpoint_owner: reader.text(CHECKPOINT_OWNER).map(str::to_owned),
            counter: reader.number(COUNTER)?.ok_or_else(|| reader.error(COUNTER, "it is missing"))?,
            switches: reader.number(SWITCHES)?.ok_or_else(|| reader.error(SWITCHES, "it is missing"))?,
            checkpoint,
            parents: reader.shards(PARENTS)?,
            children: reader.shards(CHILDREN)?,
            hash_range: reader.hash_range()?,
            pending: pending.map(|checkpoint| Pending {
                checkpoint,
                state: state.map(|state| Bytes::copy_from_slice(state.as_ref())),
            }),
            announced: reader.text(ANNOUNCED).and_then(from_place).map(Box::new),
            token: reader.text(TOKEN).map(str::to_owned),
            start: reader.start()?,
            mark: reader.text(MARK).map(str::to_owned),
            wish: reader.text(WISH).and_then(Wish::from_text),
            ended_after: reader.text(ENDED_AFTER).and_then(|digits| digits.parse().ok()),
        }))
    }

    /// The item that creates this lease in an application of KCL 3.x, where rows say what they are.
    pub(crate) fn to_typed_item(&self) -> Item {
        let mut item = self.to_item();
        item.insert(ENTITY_TYPE.into(), text("LEASE"));
        item
    }

    /// The item that creates this lease: what every Java version needs, and no more.
    pub(crate) fn to_item(&self) -> Item {
        let mut item = Item::from([
            (KEY.into(), text(self.shard.as_str())),
            (COUNTER.into(), number(self.counter)),
            (SWITCHES.into(), number(self.switches)),
            (CHECKPOINT.into(), text(self.checkpoint.sequence_text())),
            (SUB_SEQUENCE.into(), number(self.checkpoint.sub_sequence())),
        ]);
        if !self.parents.is_empty() {
            item.insert(PARENTS.into(), shards(&self.parents));
        }
        // Java refuses to read a range of one value.
        if let Some(range) = self.hash_range.filter(|range| range.first < range.last) {
            item.insert(STARTING_HASH_KEY.into(), text(range.first.to_string()));
            item.insert(ENDING_HASH_KEY.into(), text(range.last.to_string()));
        }
        item
    }
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A number with the six digits after the point that KCL writes.
pub(crate) fn decimal(value: f64) -> AttributeValue {
    AttributeValue::N(format!("{value:.6}"))
}

pub(crate) fn binary(value: Bytes) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// The attribute that names the shards after an ended one, of which there is at least one.
pub(crate) fn child_ids(children: &[ShardId]) -> (&'static str, AttributeValue) {
    (CHILDREN, shards(children))
}

/// A string set. DynamoDB has no empty ones: leave the attribute out instead.
fn shards(ids: &[ShardId]) -> AttributeValue {
    AttributeValue::Ss(ids.iter().map(ToString::to_string).collect())
}

struct Reader<'a> {
    item: &'a Item,
    row: &'a str,
}

impl<'a> Reader<'a> {
    fn error(&self, attribute: &'static str, why: &str) -> RowError {
        RowError { row: self.row.to_owned(), attribute, why: why.to_owned() }
    }

    fn text(&self, attribute: &'static str) -> Option<&'a str> {
        self.item.get(attribute)?.as_s().ok().map(String::as_str)
    }

    fn number(&self, attribute: &'static str) -> Result<Option<u64>, RowError> {
        let Some(value) = self.item.get(attribute) else { return Ok(None) };
        let digits = value.as_n().map_err(|_| self.error(attribute, "it is not a number"))?;
        digits.parse().map(Some).map_err(|_| self.error(attribute, "it is not a whole number from 0"))
    }

    fn checkpoint(&self, attribute: &'static str, sub: &'static str) -> Result<Option<Checkpoint>, RowError> {
        let Some(sequence) = self.text(attribute) else { return Ok(None) };
        let sub_sequence = self.number(sub)?.unwrap_or(0);
        let checkpoint = Checkpoint::from_row(sequence, sub_sequence);
        checkpoint.map(Some).map_err(|error| self.error(attribute, &error.to_string()))
    }

    fn shards(&self, attribute: &'static str) -> Result<Vec<ShardId>, RowError> {
        let Some(value) = self.item.get(attribute) else { return Ok(Vec::new()) };
        let ids = value.as_ss().map_err(|_| self.error(attribute, "it is not a set of strings"))?;
        let ids: Result<_, _> = ids.iter().map(|id| id.parse::<ShardId>()).collect();
        ids.map_err(|error: kinesink_core::Error| self.error(attribute, &error.to_string()))
    }

    fn hash_range(&self) -> Result<Option<HashRange>, RowError> {
        let (Some(first), Some(last)) = (self.text(STARTING_HASH_KEY), self.text(ENDING_HASH_KEY)) else {
            return Ok(None);
        };
        let parse = |digits: &str, attribute| {
            digits.parse().map_err(|_| self.error(attribute, "it is not a decimal number of 128 bits"))
        };
        Ok(Some(HashRange { first: parse(first, STARTING_HASH_KEY)?, last: parse(last, ENDING_HASH_KEY)? }))
    }

    fn start(&self) -> Result<Option<Timestamp>, RowError> {
        let Some(milliseconds) = self.number(START_MS)? else { return Ok(None) };
        let time = i64::try_from(milliseconds).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        time.map(Some).ok_or_else(|| self.error(START_MS, "it is not a time"))
    }
}
