//! The leases of an application, as anybody may see them.

use kinesink_aws::dynamodb::Client;
use tracing::warn;

use crate::Error;
use crate::lease::{LeaseRow, LeaseTable, Scan};

/// One lease, as one scan of the table found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The shard.
    pub shard: String,
    /// The worker that holds it, or held it last; a row does not say whether that worker is alive.
    pub owner: Option<String>,
    /// Whether the owner is a worker of ours.
    pub ours: bool,
    /// The worker that gets it next: it asked the owner, or KCL 3.x is handing it over.
    pub next_owner: Option<String>,
    /// A sequence number or one of KCL's words for a position, such as `TRIM_HORIZON`.
    pub checkpoint: String,
    /// Within the aggregate at `checkpoint`.
    pub sub_sequence: u64,
    /// Moves with each write of the owner.
    pub counter: u64,
    /// The shards that the shard came from.
    pub parents: Vec<String>,
}

/// Reads the lease table of an application, in the order of the shards. Writes nothing and creates no table. A row that
/// cannot be read is left out with a warning.
///
/// # Errors
/// [`Error::Start`] if the table cannot be read, [`Error::Row`] if it is not a lease table.
pub async fn leases(client: &Client, table: &str) -> Result<Vec<Lease>, Error> {
    let Scan { leases: mut rows, unreadable } = LeaseTable::new(client.clone(), table).scan().await?;
    for row in unreadable {
        warn!(%row, "not shown");
    }
    rows.sort_by(|a, b| a.shard.cmp(&b.shard));
    Ok(rows.into_iter().map(Lease::from).collect())
}

impl From<LeaseRow> for Lease {
    fn from(row: LeaseRow) -> Self {
        let ours = row.is_marked();
        let wanted_by = row.wish.map(|wish| wish.by).filter(|worker| row.owner.as_ref() != Some(worker));
        // While KCL 3.x hands a lease over, the row's owner is the next one.
        let (owner, next_owner) = match row.checkpoint_owner {
            Some(present) => (Some(present), row.owner),
            None => (row.owner, wanted_by),
        };
        Self {
            shard: row.shard.to_string(),
            owner,
            ours,
            next_owner,
            checkpoint: row.checkpoint.sequence_text(),
            sub_sequence: row.checkpoint.sub_sequence(),
            counter: row.counter,
            parents: row.parents.iter().map(ToString::to_string).collect(),
        }
    }
}
