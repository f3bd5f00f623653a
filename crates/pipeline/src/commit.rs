//! One closed window to its end: encoded, announced, delivered to every sink, refused items in the dead letters,
//! checkpointed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use kinesink_core::{
    Batch, Checkpoint, CheckpointError, Checkpointer, Class, CloseReason, Durable, Emitted, Emitter, Exception,
    Failure, Item, Position, Reject, Settlement, Transformer,
};
use tracing::{Instrument as _, info_span};

use crate::Pipeline;
use crate::burying::bury;
use crate::dead_letter::{Refused, Stage};
use crate::outputs::{Divided, Outputs};
use crate::pause::{Pause, Unpaused};
use crate::plan::Plan;
use crate::shard_pipeline::{Closed, Shard};

/// What logs and metrics call the dead-letter destination; no sink may be named so.
pub const DEAD_LETTERS: &str = "dead_letters";

/// What stops a shard until someone mends something.
#[derive(Debug, Clone)]
pub(crate) enum Halt {
    /// A record that has nowhere to go.
    Record { position: Position, stage: Stage, reason: String },
    /// A sink that cannot be used as it is set up.
    Sink { name: String, failure: Failure },
    /// An announced window that cannot be published as it was announced.
    Plan(String),
    /// A window that cannot be read from the disk that it was spilled to.
    Spill(String),
}

impl Halt {
    pub(crate) fn of(refused: &Refused) -> Self {
        let stage = refused.stage.clone();
        Self::Record { position: refused.record.position, stage, reason: refused.reason.reason().into() }
    }

    pub(crate) fn first(refused: &[Refused]) -> Option<Self> {
        refused.iter().min_by_key(|refused| (refused.record.position, refused.ordinal)).map(Self::of)
    }
}

/// Why a window was not committed. Its checkpoint has not moved.
#[derive(Debug)]
pub(crate) enum Stop {
    LeaseLost,
    Halt(Halt),
    Drained,
    Failed(Failure),
}

impl From<Unpaused> for Stop {
    fn from(unpaused: Unpaused) -> Self {
        match unpaused {
            Unpaused::Drained => Self::Drained,
            Unpaused::Fatal(failure) => Self::Failed(failure),
        }
    }
}

/// How the lease row stands, as far as this shard's loop has written or found it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) committed: Checkpoint,
    /// The window that is announced and not committed. Whoever sends any of it again has to send exactly this window.
    pub(crate) plan: Option<Plan>,
}

/// What is owed for the window, shared by the sinks that settle it side by side.
pub(crate) struct Ledger {
    pub(crate) settlement: Settlement,
    pub(crate) refused: Vec<Refused>,
    /// How many more were refused and are in the dead letters already.
    pub(crate) buried: usize,
}

impl Ledger {
    pub(crate) fn new(settlement: Settlement, refused: Vec<Refused>) -> Self {
        Self { settlement, refused, buried: 0 }
    }
}

/// Brings one window to its end. The memory of its records is given back when this returns.
///
/// A sink that is set up wrong is tried `patience` times more before the window is given up, for it holds memory that
/// other shards may need.
///
/// Not cancel safe: dropped, a batch or the checkpoint may or may not have been written.
pub(crate) async fn commit<T: Transformer>(
    pipeline: &Pipeline<T>,
    shard: &Arc<Shard>,
    window: Closed<T::Model, T::Output>,
    checkpointer: &mut dyn Checkpointer,
    standing: &mut Standing,
    patience: u32,
) -> Result<(), Stop> {
    let Closed { items, spilled, records, mut refused, reason, first, through, last, reservations } = window;
    let outputs = encode(&*pipeline.transformer, items, &mut refused);
    if pipeline.dead_letters.is_none()
        && let Some(halt) = Halt::first(&refused)
    {
        return Err(Stop::Halt(halt));
    }
    let outputs = Outputs::of(&pipeline.sinks, outputs, spilled).await?;
    let content = outputs.content(pipeline).await?;
    let made = first.zip(last).zip(content).map(|((first, last), content)| Plan {
        after: standing.committed,
        first,
        last: last.position,
        named: outputs.bounds(),
        memory_bytes: outputs.disk_bytes()
            + reservations.iter().map(|reservation| reservation.bytes() as u64).sum::<u64>(),
        content,
        recipe: pipeline.recipe.clone(),
        as_is: false,
    });
    let window = first.zip(last.map(|last| last.position));
    let was_announced = standing.plan.is_some();
    announce(shard, made, checkpointer, standing).await?;
    let as_is = standing.plan.as_ref().filter(|plan| plan.as_is);
    let (keep_existing, bounds) = (as_is.is_some(), named_by(as_is, window, outputs.bounds()));
    let settlement = Settlement::new(through, pipeline.sinks.len(), outputs.len(), refused.len());
    let ledger = Mutex::new(Ledger::new(settlement, refused));
    let dead_letters = pipeline.dead_letters.as_deref();
    let (items, owed) = (&outputs, &ledger);
    let deliveries = pipeline.sinks.iter().enumerate().map(|(index, sink)| async move {
        let (name, emitter, reason, letters_window) = (&*sink.name, &*sink.emitter, Some(reason), window);
        let window = bounds;
        let delivery =
            Delivery { name, emitter, index, window, keep_existing, patience, reason, dead_letters, letters_window };
        items.deliver(shard, &delivery, owed).instrument(info_span!("deliver", sink = sink.name)).await
    });
    try_join_all(deliveries).await?;
    let Ledger { mut settlement, refused, buried } = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = refused.len();
    bury(dead_letters, shard, refused, window, patience).await?;
    settlement.dead_lettered(count + buried);
    let durable = settlement
        .finish()
        .map_err(|_| Stop::Failed(Failure::fatal("a window was not settled after every sink had answered: a bug")))?;
    drop((outputs, reservations));
    checkpoint(shard, &durable, checkpointer).await?;
    *standing = Standing { committed: through, plan: None };
    shard.metrics.records_committed.inc_by(records);
    if was_announced {
        shard.metrics.plan_finished();
        tracing::info!(checkpoint = %through, "finished the window that was announced");
    }
    if let Some(last) = last {
        shard.metrics.watermark(&shard.id, last.arrival.as_duration().as_secs_f64());
    }
    Ok(())
}

/// What its batches are named by. A window that is finished as far as it can be made keeps the names that it was announced with,
/// whatever is left of its records: what exists of it is found by them.
fn named_by(
    as_is: Option<&Plan>,
    window: Option<(Position, Position)>,
    bounds: Option<(Position, Position)>,
) -> Option<(Position, Position)> {
    let (Some(plan), Some((first, last)), Some((from, to))) = (as_is, window, bounds) else { return bounds };
    let not_told =
        (if first == plan.first { from } else { plan.first }, if last == plan.last { to } else { plan.last });
    Some(plan.named.unwrap_or(not_told))
}

/// Announces the window before any sink has a part of it, if it needs that; or, where it was announced before, sees that
/// it is the same.
async fn announce(
    shard: &Arc<Shard>,
    made: Option<Plan>,
    checkpointer: &mut dyn Checkpointer,
    standing: &mut Standing,
) -> Result<(), Stop> {
    if let Some(announced) = &standing.plan {
        let Err(difference) = announced.compare(made.as_ref()) else { return Ok(()) };
        if !announced.as_is {
            return Err(Stop::Halt(Halt::Plan(Plan::cannot_be_kept(&difference))));
        }
        tracing::warn!(difference, "an announced window is finished as far as it can be made, as was asked");
        return Ok(());
    }
    let Some(made) = made else { return Ok(()) };
    let bytes =
        made.to_bytes().map_err(|error| Stop::Failed(Failure::fatal(format!("cannot write a plan: {error}"))))?;
    let mut pause = Pause::new(shard, "plan".into());
    loop {
        match checkpointer.prepare(made.last, bytes.clone()).await {
            Ok(()) => break,
            Err(error) => not_stored(error, &mut pause).await?,
        }
    }
    pause.cured();
    shard.health.progress(true);
    shard.metrics.plan_written();
    standing.plan = Some(made);
    Ok(())
}

/// Waits to try again, if that can help.
async fn not_stored(error: CheckpointError, pause: &mut Pause) -> Result<(), Stop> {
    match error {
        CheckpointError::LeaseLost => Err(Stop::LeaseLost),
        CheckpointError::Store(failure) => Ok(pause.wait(&failure).await?),
        other => Err(Stop::Failed(Failure::fatal(other.to_string()))),
    }
}

pub(crate) fn encode<T: Transformer>(
    transformer: &T,
    items: Vec<Item<T::Model>>,
    refused: &mut Vec<Refused>,
) -> Vec<Item<T::Output>> {
    // Collected in place: the outputs take the memory of the items.
    let output = |Item { record, ordinal, outputs, value }| match transformer.to_output(value) {
        Ok(value) => Some(Item { record, ordinal, outputs, value }),
        Err(reason) => {
            refused.push(Refused { record, ordinal, outputs: None, stage: Stage::Transform, reason });
            None
        }
    };
    items.into_iter().filter_map(output).collect()
}

/// One sink's share of a window: `index` is its column in the settlement.
pub(crate) struct Delivery<'a, U> {
    pub(crate) name: &'a str,
    pub(crate) emitter: &'a dyn Emitter<U>,
    pub(crate) index: usize,
    /// What its batches are named by.
    pub(crate) window: Option<(Position, Position)>,
    pub(crate) keep_existing: bool,
    pub(crate) patience: u32,
    /// What closed the window, if files of it are counted.
    pub(crate) reason: Option<CloseReason>,
    /// Where what it refuses goes, if it is much,
    pub(crate) dead_letters: Option<&'a dyn Emitter<Bytes>>,
    /// and what that is named by: as all letters of the window.
    pub(crate) letters_window: Option<(Position, Position)>,
}

impl<U> Delivery<'_, U> {
    pub(crate) fn count_files(&self, shard: &Shard, emitted: &Emitted) {
        if let Some(reason) = self.reason {
            shard.metrics.files_closed(reason, emitted.files());
        }
    }

    /// Counts a failed attempt. One that is set up wrong halts the shard, once patience is at its end.
    pub(crate) fn failed(&self, shard: &Shard, failure: &Failure, pause: &Pause) -> Result<(), Stop> {
        shard.metrics.emit_failed(self.name, failure.class);
        if failure.class == Class::Configuration && pause.misconfigurations() >= self.patience {
            return Err(Stop::Halt(Halt::Sink { name: self.name.into(), failure: failure.clone() }));
        }
        Ok(())
    }
}

/// Sends what the sink has not settled, until it has settled everything. Refused items go to the ledger.
pub(crate) async fn deliver<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    items: &[Item<U>],
    divided: &Divided,
    ledger: &Mutex<Ledger>,
) -> Result<(), Stop> {
    let mut pause = Pause::new(shard, format!("sink {}", delivery.name));
    while let Some(failure) = attempt(shard, delivery, items, divided, ledger, &mut pause).await? {
        pause.wait(&failure).await?;
    }
    pause.cured();
    Ok(())
}

/// Sends once what the sink has not settled. Why some of it has to be sent again, if some has.
pub(crate) async fn attempt<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    items: &[Item<U>],
    divided: &Divided,
    ledger: &Mutex<Ledger>,
    pause: &mut Pause,
) -> Result<Option<Failure>, Stop> {
    let unsettled: Vec<usize> = lock(ledger).settlement.unsettled(delivery.index).collect();
    let Some((first, last)) = delivery.window.filter(|_| !unsettled.is_empty()) else { return Ok(None) };
    let batch = Batch {
        stream: &shard.stream,
        shard: &shard.id,
        first,
        last,
        items: unsettled.iter().filter_map(|index| items.get(*index)).collect(),
        partitions: unsettled.iter().filter_map(|index| divided.name(*index)).collect(),
        keep_existing: delivery.keep_existing,
    };
    shard.metrics.emit_attempt(delivery.name);
    let sending = shard.health.sending(batch.bytes());
    let emitted = delivery.emitter.emit(&batch).await;
    drop(sending);
    let emitted = match emitted {
        Ok(emitted) => emitted,
        Err(failure) => {
            delivery.failed(shard, &failure, pause)?;
            return Ok(Some(failure));
        }
    };
    settle(ledger, delivery, items, &emitted)?;
    count_delivered(shard, delivery.name, &batch, &emitted);
    delivery.count_files(shard, &emitted);
    shard.health.progress(true);
    let Some(why) = first_retry(&emitted) else { return Ok(None) };
    if emitted.exceptions().len() < batch.items.len() {
        pause.progressed();
    }
    Ok(Some(Failure::transient(format!("{} did not take every item: {why}", delivery.name))))
}

fn first_retry(emitted: &Emitted) -> Option<&Reject> {
    emitted.exceptions().iter().find_map(|(_, exception)| match exception {
        Exception::Retry(why) => Some(why),
        _ => None,
    })
}

fn count_delivered<U>(shard: &Shard, sink: &str, batch: &Batch<'_, U>, emitted: &Emitted) {
    // An item may be named twice.
    let held_back: BTreeSet<usize> = emitted.exceptions().iter().map(|(index, _)| *index).collect();
    let bytes = held_back.iter().filter_map(|&index| batch.items.get(index)).map(|item| item.record.data.len()).sum();
    let records = batch.items.len().saturating_sub(held_back.len());
    shard.metrics.emitted(sink, records, batch.bytes().saturating_sub(bytes));
}

fn settle<U>(
    ledger: &Mutex<Ledger>,
    delivery: &Delivery<'_, U>,
    items: &[Item<U>],
    emitted: &Emitted,
) -> Result<(), Stop> {
    let mut ledger = lock(ledger);
    let refused = ledger.settlement.emitted(delivery.index, emitted).map_err(|error| {
        let name = delivery.name;
        Stop::Failed(Failure::fatal(format!("cannot settle a batch of sink {name}: {error}: a bug in its emitter")))
    })?;
    for (index, reason) in refused {
        if let Some(item) = items.get(index) {
            let (stage, outputs) = (Stage::Sink(delivery.name.into()), Some(item.outputs));
            let (record, ordinal) = (item.record.clone(), item.ordinal);
            ledger.refused.push(Refused { record, ordinal, outputs, stage, reason });
        }
    }
    Ok(())
}

async fn checkpoint(shard: &Arc<Shard>, durable: &Durable, checkpointer: &mut dyn Checkpointer) -> Result<(), Stop> {
    let mut pause = Pause::new(shard, "checkpoint".into());
    loop {
        match checkpointer.commit(durable.clone()).await {
            Ok(()) => break,
            Err(error) => not_stored(error, &mut pause).await?,
        }
    }
    pause.cured();
    Ok(())
}

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
