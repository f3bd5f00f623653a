//! A shard that left the stream before it was read to its end.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kinesink_core::{Checkpoint, Class, Failure, Position, Read, ShardReader};
use tracing::{debug, error};

use crate::fetch::{Child, ReaderSettings};
use crate::lease::HeldLease;
use crate::shard_list::{self, Listing};
use crate::shard_sync;

/// A reader that ends with its shard also where the stream has forgotten the shard: its records are gone, and what
/// follows it must not wait for ever. A shard that the stream does not show yet is tried again.
pub(super) struct UntilTrimmed<R> {
    pub(super) reader: R,
    pub(super) settings: Arc<ReaderSettings>,
    pub(super) lease: Arc<HeldLease>,
    /// Receives the shards that follow, before the end is given.
    pub(super) children: Arc<Mutex<Vec<Child>>>,
    pub(super) ended: bool,
}

#[async_trait]
impl<R: ShardReader> ShardReader for UntilTrimmed<R> {
    /// Cancel safe: a failure that is forgotten comes again.
    async fn next(&mut self) -> Result<Read, Failure> {
        if self.ended {
            return Ok(Read::ShardEnd);
        }
        let failure = match self.reader.next().await {
            Err(failure) if failure.class == Class::Configuration => failure,
            read => return read,
        };
        let Some(children) = Box::pin(follows(&self.settings, &self.lease)).await else { return Err(failure) };
        error!(%failure, "the stream has trimmed the shard; what was not read of it is lost");
        *self.children.lock().unwrap_or_else(PoisonError::into_inner) = children;
        self.ended = true;
        Ok(Read::ShardEnd)
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        self.reader.rewind(checkpoint);
    }

    fn seek(&mut self, first: Position) {
        self.reader.seek(first);
    }
}

/// What comes after a shard that the stream has forgotten.
async fn follows(settings: &ReaderSettings, lease: &HeldLease) -> Option<Vec<Child>> {
    let row = lease.row().await;
    match shard_list::list(&settings.client, &settings.stream, None, Listing::ONCE).await {
        Ok(listed) => shard_sync::is_trimmed(&listed, &row.shard).then(|| shard_sync::after_trimmed(&listed, &row)),
        Err(failure) => {
            debug!(%failure, "not known whether the stream still has the shard");
            None
        }
    }
}
