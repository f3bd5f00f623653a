//! When the lease of a finished shard goes.

use std::future::pending;
use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_core::{Checkpoint, Failure, ShardId, StreamName};
use tokio::time::sleep;
use tracing::{debug, error, info};

use crate::lease::{HeldLease, LeaseError, LeaseRow, Purpose};
use crate::planted::{Fault, planted};
use crate::shard_list::{self, Listing};
use crate::shard_sync;

/// The lease of a finished shard, held until it may be deleted.
pub(super) struct Leftover<'a> {
    pub(super) lease: &'a HeldLease,
    pub(super) client: &'a Client,
    pub(super) stream: &'a StreamName,
    /// None: it is never deleted.
    pub(super) cleanup: Option<Duration>,
}

impl Leftover<'_> {
    /// Until the lease is deleted. Cancel safe.
    pub(super) async fn delete_when_due(&self) {
        let Some(period) = self.cleanup else { return pending().await };
        loop {
            sleep(period).await;
            let shard = self.lease.shard();
            match self.is_due().await {
                Ok(false) => debug!(%shard, "the lease of the finished shard is still needed"),
                Ok(true) => match self.lease.delete().await {
                    Ok(()) => return info!(%shard, "lease of a finished shard deleted"),
                    Err(LeaseError::Lost) => {}
                    Err(LeaseError::Failed(failure)) => debug!(%shard, %failure, "lease not deleted; trying again"),
                },
                Err(failure) => debug!(%shard, %failure, "not known whether the lease is needed; trying again"),
            }
        }
    }

    /// Whether what follows has been started, and nothing before it is left.
    async fn is_due(&self) -> Result<bool, Failure> {
        if planted(Fault::DeletesEarly) {
            return Ok(true);
        }
        let row = self.lease.row().await;
        let table = self.lease.table().by(Purpose::Cleanup);
        for parent in &row.parents {
            if table.get(parent).await?.is_some() {
                return Ok(false);
            }
        }
        let Some(children) = self.children(&row).await? else { return Ok(true) };
        for child in &children {
            match table.get(child).await? {
                Some(child) if is_started(&child) => {}
                Some(_) => return Ok(false),
                None => {
                    error!(shard = %row.shard, %child, "a shard that follows a finished one has no lease");
                    return Ok(false);
                }
            }
        }
        Ok(!children.is_empty())
    }

    /// The shards that follow. `None` if the stream knows neither them nor this one any more.
    async fn children(&self, row: &LeaseRow) -> Result<Option<Vec<ShardId>>, Failure> {
        if !row.children.is_empty() {
            return Ok(Some(row.children.clone()));
        }
        let listed = shard_list::list(self.client, self.stream, None, Listing::ONCE).await?;
        let children = listed.iter().filter(|shard| shard.parents.contains(&row.shard));
        let children: Vec<_> = children.map(|shard| shard.id.clone()).collect();
        let gone = children.is_empty() && shard_sync::is_trimmed(&listed, &row.shard);
        Ok((!gone).then_some(children))
    }
}

fn is_started(child: &LeaseRow) -> bool {
    !matches!(child.checkpoint, Checkpoint::TrimHorizon | Checkpoint::AtTimestamp)
}
