//! A spilled window to one of its sinks.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use kinesink_core::{
    Checkpoint, Class, Emitted, Exception, Failure, Fingerprint, Item, Partition, Piece, Pieces, Reject, Settlement,
};
use tokio::sync::Mutex as Turns;

use super::{Part, Spilled};
use crate::burying::bury;
use crate::commit::{Delivery, Halt, Ledger, Stop, attempt, lock};
use crate::dead_letter::{Refused, Stage};
use crate::outputs::Divided;
use crate::pause::Pause;
use crate::shard_pipeline::Shard;

/// Partitions of one window that are sent at a time; how many of them are in memory is the sink's concern.
const PARTITIONS_AT_ONCE: usize = 16;
/// Refused records that are kept in memory until the window's end. More of them go to the dead letters before.
const REFUSED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Sends the sink all of the window, and notes that it has settled it.
pub(crate) async fn deliver_spilled<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    spilled: &Spilled<U>,
    ledger: &Mutex<Ledger>,
) -> Result<(), Stop> {
    let refused = if delivery.emitter.plan(&mut Fingerprint::new()) {
        partitions(shard, delivery, spilled, ledger).await?
    } else {
        chunks(shard, delivery, spilled, ledger).await?
    };
    lock(ledger).settlement.settled(delivery.index, refused);
    Ok(())
}

/// To a sink that tells items apart one by one: in the order of the stream. How many it refused.
async fn chunks<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    spilled: &Spilled<U>,
    ledger: &Mutex<Ledger>,
) -> Result<usize, Stop> {
    let mut pause = Pause::new(shard, format!("sink {}", delivery.name));
    let (of_one, mut count) = (Delivery { index: 0, ..*delivery }, 0);
    for chunk in 0..spilled.chunks() {
        let settlement = Settlement::new(Checkpoint::TrimHorizon, 1, spilled.items_of(chunk), 0);
        let of_chunk = Mutex::new(Ledger::new(settlement, Vec::new()));
        loop {
            let Piece { items, memory } = spilled.chunk(chunk).await.map_err(unreadable)?;
            let items: Vec<Item<U>> = items.into_iter().map(|(_, item)| item).collect();
            let failed = attempt(shard, &of_one, &items, &Divided::none(), &of_chunk, &mut pause).await?;
            let refused: Vec<Refused> = lock(&of_chunk).refused.drain(..).map(copied).collect();
            count += refused.len();
            lock(ledger).refused.extend(refused);
            // What other shards read waits for this memory: it is not kept while the sink takes nothing.
            drop((items, memory));
            let Some(failure) = failed else { break };
            pause.wait(&failure).await?;
        }
        pause.cured();
        relieve(shard, delivery, ledger).await?;
    }
    Ok(count)
}

fn unreadable(failure: Failure) -> Stop {
    Stop::Halt(Halt::Spill(failure.message))
}

/// To a sink that announces its windows: partition by partition, each until it is durable. How many items it refused.
async fn partitions<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    spilled: &Spilled<U>,
    ledger: &Mutex<Ledger>,
) -> Result<usize, Stop> {
    let mut pause = Pause::new(shard, format!("sink {}", delivery.name));
    let parts = spilled.partitions(delivery.index).into_iter();
    let mut left: VecDeque<Owed<'_, U>> = parts.map(|part| (part, Mutex::default())).collect();
    let mut count = 0;
    // What one partition refused is buried before more is copied of another.
    let burying = Turns::new(ledger);
    loop {
        let parts = left.len();
        let (mut again, mut failures) = (VecDeque::new(), Vec::new());
        let mut sending = FuturesUnordered::<BoxFuture<'_, _>>::new();
        loop {
            while sending.len() < PARTITIONS_AT_ONCE
                && let Some(part) = left.pop_front()
            {
                sending.push(Box::pin(send(shard, delivery, part, &burying)));
            }
            let Some((outcome, part)) = sending.next().await else { break };
            match outcome {
                Ok(refused) => {
                    count += refused;
                    shard.health.progress(true);
                }
                Err(Unsent::Stop(stop)) => return Err(stop),
                Err(Unsent::Failed(failure)) => {
                    again.push_back(part);
                    failures.push(failure);
                }
            }
            if let Some(why) = spilled.damaged() {
                return Err(Stop::Halt(Halt::Spill(why.into())));
            }
        }
        // One that waiting does not mend says what the others do not.
        let lasting = failures.iter().position(|failure| failure.class != Class::Transient).unwrap_or(0);
        let Some(failure) = failures.into_iter().nth(lasting) else { break };
        delivery.failed(shard, &failure, &pause)?;
        if again.len() < parts {
            pause.progressed();
        }
        pause.wait(&failure).await?;
        left = again;
    }
    pause.cured();
    Ok(count)
}

/// Why a partition is not durable.
enum Unsent {
    /// It can be sent again.
    Failed(Failure),
    /// Its window ends here.
    Stop(Stop),
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A partition, and what its sink has handed back of it, at whichever attempt.
type Owed<'a, U> = (Part<'a, U>, Mutex<Handed>);

async fn send<'a, U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    part: Owed<'a, U>,
    burying: &Turns<&Mutex<Ledger>>,
) -> (Result<usize, Unsent>, Owed<'a, U>) {
    (emit(shard, delivery, &part, burying).await, part)
}

/// One attempt at a partition: how many items it refused of it.
async fn emit<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    (part, handed): &Owed<'_, U>,
    burying: &Turns<&Mutex<Ledger>>,
) -> Result<usize, Unsent> {
    let Some((first, last)) = delivery.window else { return Ok(0) };
    shard.metrics.emit_attempt(delivery.name);
    let sending = shard.health.sending(part.output_bytes);
    let reported = Reported { part, shard, delivery, burying, handed };
    let partition = Partition {
        stream: &shard.stream,
        shard: &shard.id,
        first,
        last,
        name: part.name,
        bytes: part.output_bytes,
        pieces: &reported,
        keep_existing: delivery.keep_existing,
    };
    let emitted = delivery.emitter.emit_partition(&partition).await;
    drop(sending);
    if let Some(why) = lock(handed).ended.take() {
        return Err(why);
    }
    let emitted = emitted?;
    delivery.count_files(shard, &emitted);
    let (named, named_bytes) = refused(shard, delivery, part, &emitted, burying).await?;
    let (refused, data_bytes) = {
        let handed = lock(handed);
        (named + handed.items, named_bytes + handed.data_bytes)
    };
    let (items, data_bytes) = (part.items.saturating_sub(refused), part.data_bytes.saturating_sub(data_bytes));
    shard.metrics.emitted(delivery.name, items, data_bytes);
    Ok(refused)
}

/// The items of a partition, whose sink says how it gets on.
struct Reported<'a, 'b, U> {
    part: &'a Part<'a, U>,
    shard: &'a Arc<Shard>,
    delivery: &'a Delivery<'a, U>,
    burying: &'a Turns<&'b Mutex<Ledger>>,
    handed: &'a Mutex<Handed>,
}

/// The refused items that a sink has handed back.
#[derive(Default)]
struct Handed {
    /// Those of pieces with a lower number: an attempt that fails behind them hands them back again.
    pieces: usize,
    items: usize,
    data_bytes: usize,
    /// Why the attempt ends, where they cannot be taken.
    ended: Option<Unsent>,
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would pass this by")]
#[async_trait]
impl<U: Send + Sync + 'static> Pieces<U> for Reported<'_, '_, U> {
    async fn piece(&self, number: usize) -> Result<Option<Piece<U>>, Failure> {
        self.part.piece(number).await
    }

    async fn refused(&self, number: usize, rejects: Vec<(usize, Reject)>) -> ControlFlow<()> {
        if let Err(why) = self.take_back(number, rejects.into_iter().collect()).await {
            lock(self.handed).ended = Some(why);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn progressed(&self) {
        self.shard.health.progress(true);
    }
}

impl<U: Send + Sync + 'static> Reported<'_, '_, U> {
    async fn take_back(&self, number: usize, rejects: BTreeMap<usize, Reject>) -> Result<(), Unsent> {
        let Self { part, shard, delivery, burying, handed } = self;
        if number < lock(handed).pieces {
            return Ok(());
        }
        let taken = take(part, number, delivery.name, |index| rejects.get(&index)).await?;
        if taken.len() < rejects.len() {
            return Err(not_given(delivery.name).into());
        }
        {
            let mut handed = lock(handed);
            handed.pieces = number + 1;
            handed.items += taken.len();
            handed.data_bytes += taken.iter().map(|refused| refused.record.data.len()).sum::<usize>();
        }
        shard.health.progress(true);
        let ledger = burying.lock().await;
        lock(&ledger).refused.extend(taken);
        relieve(shard, delivery, &ledger).await.map_err(Unsent::Stop)
    }
}

/// Takes the items that are named as refused, a piece at a time: all of a partition may be. How many they are, and the bytes of
/// their records. A piece that cannot be read ends the window, so none is taken twice.
async fn refused<U: Send + Sync + 'static>(
    shard: &Arc<Shard>,
    delivery: &Delivery<'_, U>,
    part: &Part<'_, U>,
    emitted: &Emitted,
    burying: &Turns<&Mutex<Ledger>>,
) -> Result<(usize, usize), Unsent> {
    let sink = delivery.name;
    let mut rejects = BTreeMap::<usize, &Reject>::new();
    for (index, exception) in emitted.exceptions() {
        match exception {
            Exception::Rejected(why) => drop(rejects.entry(*index).or_insert(why)),
            Exception::Retry(why) => {
                return Err(Failure::transient(format!("{sink} did not take every item of a partition: {why}")).into());
            }
            _ => {
                let why = format!("sink {sink} answers what this pipeline does not know: a bug");
                return Err(Failure::fatal(why).into());
            }
        }
    }
    let (mut count, mut data_bytes, mut number) = (0, 0, 0);
    while count < rejects.len() {
        let refused = take(part, number, sink, |index| rejects.get(&index).copied()).await?;
        count += refused.len();
        data_bytes += refused.iter().map(|refused| refused.record.data.len()).sum::<usize>();
        let ledger = burying.lock().await;
        lock(&ledger).refused.extend(refused);
        relieve(shard, delivery, &ledger).await.map_err(Unsent::Stop)?;
        number += 1;
    }
    Ok((count, data_bytes))
}

/// The items of a piece that have a reason to be refused. What they were read with other windows are read with while these are buried.
async fn take<'a, U: Send + Sync + 'static>(
    part: &Part<'_, U>,
    number: usize,
    sink: &str,
    reason_of: impl Fn(usize) -> Option<&'a Reject>,
) -> Result<Vec<Refused>, Failure> {
    let Piece { items, memory: _read } = part.piece(number).await?.ok_or_else(|| not_given(sink))?;
    let refused = items.into_iter().filter_map(|(index, Item { record, ordinal, outputs, .. })| {
        let (stage, reason) = (Stage::Sink(sink.into()), reason_of(index)?.clone());
        Some(copied(Refused { record, ordinal, outputs: Some(outputs), stage, reason }))
    });
    Ok(refused.collect())
}

fn not_given(sink: &str) -> Failure {
    Failure::fatal(format!("sink {sink} refused an item that it was not given: a bug in its emitter"))
}

/// The same without the memory of those that it was read with.
fn copied(mut refused: Refused) -> Refused {
    refused.record.data = Bytes::copy_from_slice(&refused.record.data);
    refused
}

/// Makes refused records durable, once they take much memory.
async fn relieve<U>(shard: &Arc<Shard>, delivery: &Delivery<'_, U>, ledger: &Mutex<Ledger>) -> Result<(), Stop> {
    let refused = {
        let mut ledger = lock(ledger);
        let bytes: usize = ledger.refused.iter().map(|refused| refused.record.memory_bytes()).sum();
        if bytes < REFUSED_BYTES_MAX {
            return Ok(());
        }
        ledger.buried += ledger.refused.len();
        std::mem::take(&mut ledger.refused)
    };
    bury(delivery.dead_letters, shard, refused, delivery.letters_window, delivery.patience).await
}
