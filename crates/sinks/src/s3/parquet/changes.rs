//! Partitions of windows to files, and which types have changed since this process began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kinesink_core::{Batch, Failure, Item, Position, Reject, ShardId};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::file::{Encoded, Encoder};
use super::rows::{Mismatch, Outcome, Refusal};
use super::schema::{ParquetSettings, SchemaError};

/// Where the first value stood that was not as its field is declared.
type Place = (ShardId, Position);

/// The columns of a sink.
#[derive(Debug)]
pub(in crate::s3) struct Columns {
    encoder: Arc<Encoder>,
    /// As many as there are fields, and things that may be found in one, at most.
    first_seen: Mutex<BTreeMap<(Mismatch, Outcome), Place>>,
}

impl Columns {
    pub(in crate::s3) fn open(settings: &ParquetSettings) -> Result<Self, SchemaError> {
        let encoder = Arc::new(Encoder::new(&settings.schema, settings.codec)?);
        Ok(Self { encoder, first_seen: Mutex::default() })
    }

    /// The file of these items, and which of them are not in it. On a thread that may block: a MiB takes tens of
    /// milliseconds. Dropped, the thread goes on to the end of the file.
    pub(in crate::s3) async fn encode(
        &self,
        batch: &Batch<'_, Bytes>,
        items: &[(usize, &Item<Bytes>)],
    ) -> Result<(Vec<Bytes>, Vec<(usize, Reject)>), Failure> {
        let encoder = Arc::clone(&self.encoder);
        let records: Vec<Bytes> = items.iter().map(|(_, item)| item.value.clone()).collect();
        let footer = vec![
            ("kinesink-stream", batch.stream.to_string()),
            ("kinesink-shard", batch.shard.to_string()),
            ("kinesink-first", batch.first.to_string()),
            ("kinesink-last", batch.last.to_string()),
        ];
        let encoded = spawn_blocking(move || encoder.encode(&records, footer)).await;
        let encoded = encoded.map_err(|error| Failure::transient(format!("cannot encode a window: {error}")))?;
        let encoded = encoded.map_err(|error| {
            let (first, last, shard) = (batch.first, batch.last, batch.shard);
            Failure::fatal(format!("cannot make a Parquet file of records {first} to {last} of {shard}: {error}"))
        })?;
        self.note(batch.shard, items, &encoded);
        let reject =
            |(place, refusal): (usize, Refusal)| Some((items.get(place)?.0, Reject::new(self.reason(refusal))));
        let rejects = encoded.refused.into_iter().filter_map(reject).collect();
        Ok((encoded.blocks, rejects))
    }

    /// Each change of a type is told once.
    fn note(&self, shard: &ShardId, items: &[(usize, &Item<Bytes>)], encoded: &Encoded) {
        for change in &encoded.changes {
            let Some((_, item)) = items.get(change.first) else { continue };
            let position = item.record.position;
            let key = (change.mismatch, change.outcome);
            let mut first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
            if first_seen.contains_key(&key) {
                continue;
            }
            first_seen.insert(key, (shard.clone(), position));
            drop(first_seen);
            let what = self.encoder.describe(change.mismatch);
            let outcome = match change.outcome {
                Outcome::Refused => "its record is refused",
                Outcome::Null => "it becomes null, and its field goes to the rest column",
                Outcome::Coerced => "it is made to fit",
            };
            warn!(%shard, %position, values = change.values, "{what}: {outcome}; told once");
        }
    }

    fn reason(&self, refusal: Refusal) -> String {
        let Refusal::Mismatch(mismatch) = refusal else { return refusal.to_string() };
        let what = self.encoder.describe(mismatch);
        let first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        match first_seen.get(&(mismatch, Outcome::Refused)) {
            Some((shard, position)) => format!("{what}, first at {position} of {shard}"),
            None => what,
        }
    }
}
