//! Refused records, into the dead letters.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kinesink_core::{Checkpoint, Emitter, Failure, Position, Settlement};
use tokio::time::Instant;

use crate::DEAD_LETTERS;
use crate::commit::{Delivery, Halt, Ledger, Stop, deliver, lock};
use crate::dead_letter::Refused;
use crate::outputs::Divided;
use crate::shard_pipeline::Shard;

/// Makes refused records durable in the dead letters, in stream order, under the name of their window.
pub(crate) async fn bury(
    dead_letters: Option<&dyn Emitter<Bytes>>,
    shard: &Arc<Shard>,
    mut refused: Vec<Refused>,
    window: Option<(Position, Position)>,
    patience: u32,
) -> Result<(), Stop> {
    refused.sort_by_key(|refused| (refused.record.position, refused.ordinal));
    let Some(first) = Halt::first(&refused) else { return Ok(()) };
    let Some(emitter) = dead_letters else { return Err(Stop::Halt(first)) };
    let stages: Vec<String> = refused.iter().map(|refused| refused.stage.text()).collect();
    let example =
        refused.first().map(|refused| (refused.record.position, refused.stage.text(), refused.reason.clone()));
    let items = refused
        .into_iter()
        .map(|refused| refused.into_item(&shard.stream))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Stop::Failed(Failure::fatal(error.to_string())))?;
    let settlement = Settlement::new(Checkpoint::TrimHorizon, 1, items.len(), 0);
    let ledger = Mutex::new(Ledger::new(settlement, Vec::new()));
    let (name, keep_existing, reason, index) = (DEAD_LETTERS, false, None, 0);
    let (dead_letters, letters_window) = (None, None);
    let delivery =
        Delivery { name, emitter, index, window, keep_existing, patience, reason, dead_letters, letters_window };
    deliver(shard, &delivery, &items, &Divided::none(), &ledger).await?;
    if let Some(halt) = Halt::first(&lock(&ledger).refused) {
        return Err(Stop::Halt(halt));
    }
    if let Some((position, stage, reason)) = example
        && lock(&shard.buried).due(Instant::now())
    {
        let reason = reason.reason();
        tracing::warn!(%position, stage, reason, "records are refused and go to the dead letters; one a minute is shown");
    }
    for stage in stages {
        shard.metrics.dead_lettered(stage);
    }
    Ok(())
}
