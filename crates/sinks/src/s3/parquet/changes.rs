//! Partitions of windows to files, and which types have changed since this process began.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kinesink_core::{Failure, Position, Reject, ShardId};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::file::{EncodedFile, Encoder};
use super::rows::{Mismatch, Outcome, Refusal};
use super::schema::{ParquetSettings, SchemaError};
use crate::rows::Rows;
use crate::s3::blocks::{Blocks, Encoded, Overflow};
use crate::s3::contents::{Origin, Rejects};
use crate::s3::error;

/// Where records stand of which something is to be told, by their place among those of a file: their index and position.
type Told = BTreeMap<usize, (usize, Position)>;

/// The columns of a sink.
#[derive(Debug)]
pub(in crate::s3) struct Columns {
    encoder: Arc<Encoder>,
    /// Where the first value stood that was not as its field is declared: as many as there are fields, and things that may be found
    /// in one, at most.
    first_seen: Mutex<BTreeMap<(Mismatch, Outcome), (ShardId, Position)>>,
}

impl Columns {
    pub(in crate::s3) fn open(settings: &ParquetSettings) -> Result<Self, SchemaError> {
        let encoder = Arc::new(Encoder::new(&settings.schema, settings.codec, settings.file)?);
        Ok(Self { encoder, first_seen: Mutex::default() })
    }

    /// The file of these items, and which of them are not in it. On a thread that may block: a MiB takes tens of
    /// milliseconds. Dropped, the thread ends after the piece that it is at. It ends before its time once
    /// more than `refused_max` are refused.
    pub(in crate::s3) async fn encode(
        &self,
        origin: Origin<'_>,
        rows: &Rows<'_>,
        overflow: Option<Overflow>,
        refused_max: usize,
    ) -> Result<(Encoded, Rejects), Failure> {
        let Origin { stream, shard, first, last } = origin;
        let encoder = Arc::clone(&self.encoder);
        let footer = vec![
            ("kinesink-stream", stream.to_string()),
            ("kinesink-shard", shard.to_string()),
            ("kinesink-first", first.to_string()),
            ("kinesink-last", last.to_string()),
        ];
        let (pieces, mut received) = mpsc::channel::<Vec<Bytes>>(1);
        let encoded = spawn_blocking(move || {
            let records = std::iter::from_fn(|| received.blocking_recv()).flatten();
            encoder.encode(records, footer, Blocks::new(overflow), refused_max)
        });
        let mut number = 0;
        while let Some(piece) = rows.piece(number).await? {
            // An encoder that has ended says why below.
            if pieces.send(piece.iter().map(|(_, item)| item.value.clone()).collect()).await.is_err() {
                break;
            }
            number += 1;
        }
        drop(pieces);
        let encoded = encoded.await.map_err(|error| Failure::transient(format!("cannot encode a window: {error}")))?;
        let encoded = encoded.map_err(|error| {
            if let Some(error) = error.source().and_then(|error| error.downcast_ref::<io::Error>()) {
                return error::encoding(error);
            }
            Failure::fatal(format!("cannot make a Parquet file of records {first} to {last} of {shard}: {error}"))
        })?;
        let told = told(rows, &encoded).await?;
        self.note(shard, &told, &encoded);
        let reject =
            |(place, refusal): (usize, Refusal)| Some((told.get(&place)?.0, Reject::new(self.reason(refusal))));
        let rejects = encoded.refused.into_iter().filter_map(reject).collect();
        Ok((encoded.body, rejects))
    }

    /// Each change of a type is told once.
    fn note(&self, shard: &ShardId, told: &Told, encoded: &EncodedFile) {
        for change in &encoded.changes {
            let Some((_, position)) = told.get(&change.first).copied() else { continue };
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

/// Looks up the records that did not go into the file as they were.
async fn told(rows: &Rows<'_>, encoded: &EncodedFile) -> Result<Told, Failure> {
    let refused = encoded.refused.iter().map(|(place, _)| *place);
    let places: BTreeSet<usize> = refused.chain(encoded.changes.iter().map(|change| change.first)).collect();
    let (mut told, mut place, mut number) = (Told::new(), 0, 0);
    while told.len() < places.len()
        && let Some(piece) = rows.piece(number).await?
    {
        for (index, item) in piece.iter() {
            if places.contains(&place) {
                told.insert(place, (index, item.record.position));
            }
            place += 1;
        }
        number += 1;
    }
    Ok(told)
}
