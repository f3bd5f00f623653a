//! The leases of an application, as anybody may see and mend them.
//!
//! ```text
//! leases = Leases::new(client, table).all()           // one scan
//! lag(kinesis, stream, lease, clock)                  // what the stream says at a lease's checkpoint
//! after = leases.edit(lease, edit)                    // one conditional write; edit.undo(lease) leads back
//! ```

mod edit;
mod lag;
mod place;

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::KeyType;
use kinesink_aws::{code, failure};
use kinesink_core::{Checkpoint, Failure, ShardId};
use tracing::warn;

pub use self::edit::LeaseEdit;
pub use self::lag::{Look, look};
pub use self::place::Place;
use crate::Error;
use crate::lease::{Item, KEY, LeaseRow, LeaseTable, Scan, THROUGHPUT};

/// KCL 3.x keeps its state of migration in a row of this key, in the lease table or in one of its own.
const MIGRATION: &str = "Migration3.0";
const CLIENT_VERSION: &str = "cv";

/// The lease table of an application. Creates nothing; writes only what an edit says.
#[derive(Debug, Clone)]
pub struct Leases {
    client: Client,
    table: LeaseTable,
    name: String,
}

/// One lease, as one read of the table found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    row: LeaseRow,
    throughput_kb_per_s: Option<f64>,
}

/// What the last owner announced and did not commit: KCL's `pendingCheckpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the checkpoint would become.
    pub checkpoint: Checkpoint,
    /// The application's state beside it.
    pub state: Option<Bytes>,
    /// Whether it goes on from the checkpoint. One that does not is what a version of KCL without plans left behind.
    pub is_valid: bool,
}

/// A lease on its way to its next owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handoff {
    /// A worker of ours has asked the owner for it.
    Asked(String),
    /// The leader of KCL 3.x has assigned it; the owner still finishes.
    Assigned(String),
}

/// What one look at the whole table shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// In the order of the shards.
    pub leases: Vec<Lease>,
    /// The `cv` of KCL 3.x' row `Migration3.0`, such as `CLIENT_VERSION_3X`, if such workers have used the table.
    pub client_version: Option<String>,
}

impl Leases {
    /// The lease table `table`.
    #[must_use]
    pub fn new(client: Client, table: &str) -> Self {
        Self { table: LeaseTable::new(client.clone(), table), client, name: table.to_owned() }
    }

    /// Reads the whole table.
    ///
    /// # Errors
    /// [`Error::NoTable`]; [`Error::Start`] if it cannot be read or has another key; [`Error::Row`] if no row is a lease.
    /// One among others that is none is left out with a warning.
    pub async fn all(&self) -> Result<Seen, Error> {
        self.is_keyed_by_lease().await?;
        let items = self.table.rows().await?;
        let Scan { leases: rows, unreadable } = self.table.leases(&items)?;
        for row in unreadable {
            warn!(%row, "not shown");
        }
        let throughputs: HashMap<_, _> =
            items.iter().filter_map(|item| Some((key(item)?, throughput(item)?))).collect();
        let lease = |row: LeaseRow| Lease { throughput_kb_per_s: throughputs.get(row.shard.as_str()).copied(), row };
        let mut leases: Vec<_> = rows.into_iter().map(lease).collect();
        leases.sort_by(|a, b| a.row.shard.cmp(&b.row.shard));
        let migration = items.iter().find(|item| key(item) == Some(MIGRATION));
        Ok(Seen { leases, client_version: migration.and_then(client_version) })
    }

    /// The same `cv` where KCL 3.0 to 3.4 keeps it: in the table `<app>-CoordinatorState`, which most do not have.
    ///
    /// # Errors
    /// The table is there, perhaps, and cannot be read.
    pub async fn client_version_beside(&self, app: &str) -> Result<Option<String>, Failure> {
        let table = format!("{app}-CoordinatorState");
        let key = kinesink_aws::dynamodb::types::AttributeValue::S(MIGRATION.into());
        match self.client.get_item().table_name(&table).key("key", key).send().await {
            Ok(reply) => Ok(reply.item().and_then(client_version)),
            Err(error) if code(&error) == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(failure("read", &format!("table {table}"), &error)),
        }
    }

    /// Writes one lease, if its owners, its checkpoint and its plan are still as `shown`, and moves its counter, so that
    /// an owner that is alive loses it. Gives the lease as the write left it.
    ///
    /// # Errors
    /// [`Error::Running`]: it has changed, with what it is now; or it is not known whether it was written.
    pub async fn edit(&self, shown: &Lease, edit: &LeaseEdit) -> Result<Lease, Error> {
        let failed = |failure: Failure| Error::Running(failure);
        let shard = shown.shard();
        let written = self.table.edit(&shown.row, &edit.change(&shown.row)).await.map_err(failed)?;
        if let Some(row) = written {
            return Ok(Lease { row, throughput_kb_per_s: shown.throughput_kb_per_s });
        }
        let now = match self.table.get(shard).await.map_err(failed)? {
            Some(row) => {
                format!("it is owned by {} now, at {}", row.owner.as_deref().unwrap_or("nobody"), Place::of(&row))
            }
            None => "it was deleted".to_owned(),
        };
        let message = format!("cannot write lease {shard}: it has changed since it was shown: {now}; look at it again");
        Err(Error::Running(Failure::transient(message)))
    }

    async fn is_keyed_by_lease(&self) -> Result<(), Error> {
        let reply =
            self.client.describe_table().table_name(&self.name).send().await.map_err(|error| match code(&error) {
                Some("ResourceNotFoundException") => Error::NoTable(self.name.clone()),
                _ => Error::Start(failure("read", &format!("lease table {}", self.name), &error)),
            })?;
        let keys = reply.table().map(|table| table.key_schema()).unwrap_or_default();
        match keys {
            [key] if key.attribute_name() == KEY && *key.key_type() == KeyType::Hash => Ok(()),
            _ => {
                let keys: Vec<_> = keys.iter().map(|key| key.attribute_name()).collect();
                let keys = keys.join(" and ");
                let message = format!("table {} is no lease table: its key is {keys} and not {KEY}", self.name);
                Err(Error::Start(Failure::configuration(message)))
            }
        }
    }
}

fn key(item: &Item) -> Option<&str> {
    item.get(KEY)?.as_s().ok().map(String::as_str)
}

fn client_version(item: &Item) -> Option<String> {
    item.get(CLIENT_VERSION)?.as_s().ok().cloned()
}

fn throughput(item: &Item) -> Option<f64> {
    item.get(THROUGHPUT)?.as_n().ok()?.parse().ok()
}

impl Lease {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &ShardId {
        &self.row.shard
    }

    /// The worker that holds it, or held it last; a row does not say whether that worker is alive.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        // While KCL 3.x hands a lease over, the row's owner is the next one.
        self.row.checkpoint_owner.as_deref().or(self.row.owner.as_deref())
    }

    /// Whether the owner is a worker of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.row.is_marked()
    }

    /// Who gets it next.
    #[must_use]
    pub fn handoff(&self) -> Option<Handoff> {
        if self.row.checkpoint_owner.is_some() {
            return self.row.owner.clone().map(Handoff::Assigned);
        }
        let wish = self.row.wish.as_ref().filter(|wish| self.row.owner.as_ref() != Some(&wish.by));
        wish.map(|wish| Handoff::Asked(wish.by.clone()))
    }

    /// How far its shard is done.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        self.row.checkpoint
    }

    /// Where it resumes: the checkpoint, or the time that stands in for one.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::of(&self.row)
    }

    /// The time that stands in for a position, where a worker of ours has stored one.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        self.row.start
    }

    /// A prepared checkpoint.
    #[must_use]
    pub fn plan(&self) -> Option<Plan> {
        self.row.pending.as_ref().map(|pending| Plan {
            checkpoint: pending.checkpoint,
            state: pending.state.clone(),
            is_valid: pending.checkpoint > self.row.checkpoint,
        })
    }

    /// What its owner last measured, in kilobytes a second: KCL's `throughputKBps`.
    #[must_use]
    pub fn throughput_kb_per_s(&self) -> Option<f64> {
        self.throughput_kb_per_s
    }

    /// Moves with each write of the owner.
    #[must_use]
    pub fn counter(&self) -> u64 {
        self.row.counter
    }

    /// The shards that the shard came from.
    #[must_use]
    pub fn parents(&self) -> &[ShardId] {
        &self.row.parents
    }

    /// The shards that follow, once the shard has ended.
    #[must_use]
    pub fn children(&self) -> &[ShardId] {
        &self.row.children
    }

    /// The lease as `edit` would leave it.
    #[must_use]
    pub fn after(&self, edit: &LeaseEdit) -> Self {
        Self { row: edit.row_after(&self.row), throughput_kb_per_s: self.throughput_kb_per_s }
    }
}
