use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

use super::{Broken, require, sample_record, sample_shard, sample_stream};
use crate::{Batch, Emitted, Emitter, Exception, Failure, Item, Position, Record, ShardId};

/// More than destinations take in one request.
const LARGE_WINDOW_ITEMS: u64 = 600;
/// How often one item is sent to a healthy destination.
const ATTEMPTS_MAX: u32 = 5;
/// Where an `emit` is dropped: somewhere in its requests.
const ABANDONED_AFTER_POLLS: [u32; 5] = [1, 2, 3, 5, 8];

const THERE: &str = "what is reported as delivered is stored";
const HEALTHY: &str = "a healthy destination takes every item in few attempts";

/// What an emitter promises beyond delivering.
#[derive(Debug, Clone, Copy)]
pub struct EmitterPromises {
    /// The destination has an order, and a shard's items are stored in theirs.
    pub ordered: bool,
    /// Items that are sent again are stored once.
    pub idempotent: bool,
}

/// Checks an [`Emitter`] on an empty, healthy destination. `output` makes an output of each record; no two records have
/// the same data, though some have the same position, in another shard or as outputs of one record, so make it from the
/// data. `stored` reads back everything that the destination holds, in its order, without the emitter's help. Rules:
/// - `check` and `close` pass;
/// - what is reported as delivered is stored: at once, after `close`, and beside other shards and outputs of one record;
/// - nothing is stored that was not sent;
/// - an outcome names items of its batch, each once;
/// - a healthy destination takes every item in few attempts;
/// - what is sent once is stored once;
/// - order is kept, within a window and across windows, if promised;
/// - what is sent again is stored once, after a success and after an `emit` that was dropped half-way, if promised.
///
/// # Errors
/// The first rule that is broken.
pub async fn emitter_contract<U, E>(
    emitter: &E,
    promises: EmitterPromises,
    output: impl Fn(&Record) -> U,
    stored: impl AsyncFn() -> Vec<U>,
) -> Result<(), Broken>
where
    U: PartialEq + Send + Sync,
    E: Emitter<U> + ?Sized,
{
    emitter.check().await.map_err(|failure| Broken { rule: "check passes", detail: failure.to_string() })?;
    let already = stored().await.len();
    require(already == 0, "the suite starts on an empty destination", || format!("it holds {already} items"))?;

    let (one, other) = (sample_shard(1), sample_shard(2));
    let mut sent = Sent { promises, windows: Vec::new(), resent: false };
    sent.push(window(&one, 0..2, &output))?;
    sent.resent |= deliver(emitter, &sent.windows[0], &stored).await?;
    sent.compare(&stored().await)?;

    sent.push(window(&one, 2..2 + LARGE_WINDOW_ITEMS, &output))?;
    sent.resent |= deliver(emitter, &sent.windows[1], &stored).await?;
    sent.compare(&stored().await)?;

    // The same positions: a shard is part of an item's identity.
    sent.push(window(&one, 1_000..1_050, &output))?;
    sent.push(window(&other, 1_000..1_050, &output))?;
    let (first, second) =
        tokio::join!(deliver(emitter, &sent.windows[2], &stored), deliver(emitter, &sent.windows[3], &stored));
    sent.resent |= first? | second?;
    sent.compare(&stored().await)?;

    sent.resent = true;
    for window in &sent.windows {
        deliver(emitter, window, &stored).await?;
    }
    sent.compare(&stored().await)?;

    for (start, polls) in (2_000..).step_by(50).zip(ABANDONED_AFTER_POLLS) {
        let window = window(&other, start..start + 50, &output);
        let all: Vec<usize> = (0..window.len()).collect();
        // If that was enough to deliver, this is another repetition.
        abandon(send(emitter, &window, &all), polls).await;
        deliver(emitter, &window, &stored).await?;
        sent.push(window)?;
        sent.compare(&stored().await)?;
    }

    emitter.close().await.map_err(|failure| Broken { rule: "close passes", detail: failure.to_string() })?;
    sent.compare(&stored().await)
}

/// Two outputs of each user record, two user records of each aggregate.
fn window<U>(shard: &ShardId, numbers: Range<u64>, output: impl Fn(&Record) -> U) -> Vec<Item<U>> {
    let items = numbers.map(|n| {
        let mut record = sample_record(shard, n / 4, format!("{{\"shard\":\"{shard}\",\"n\":{n}}}"));
        record.position.sub_sequence = n / 2 % 2;
        Item { value: output(&record), record, ordinal: u32::from(n % 2 == 1), outputs: 2 }
    });
    items.collect()
}

/// Polls a future so often at most, then drops it.
async fn abandon<F: Future>(future: F, polls: u32) {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|context| {
        polled += 1;
        if future.as_mut().poll(context).is_ready() || polled >= polls { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn send<U, E>(emitter: &E, window: &[Item<U>], indexes: &[usize]) -> Result<Emitted, Failure>
where
    U: Send + Sync,
    E: Emitter<U> + ?Sized,
{
    let [first, .., last] = window else { return Err(Failure::fatal("the suite sends windows of two items and more")) };
    let items: Vec<&Item<U>> = indexes.iter().map(|&index| &window[index]).collect();
    let (shard, first, last) = (&first.record.shard, first.record.position, last.record.position);
    let names: Vec<String> = items.iter().filter_map(|item| emitter.partition(item)).collect();
    let partitions = names.iter().map(String::as_str).collect();
    let (stream, keep_existing) = (&sample_stream(), false);
    emitter.emit(&Batch { stream, shard, first, last, items, partitions, keep_existing }).await
}

/// Sends a window as the pipeline does: what is to be retried again, until nothing is. Says whether anything was.
async fn deliver<U, E>(emitter: &E, window: &[Item<U>], stored: &impl AsyncFn() -> Vec<U>) -> Result<bool, Broken>
where
    U: PartialEq + Send + Sync,
    E: Emitter<U> + ?Sized,
{
    let mut unsettled: Vec<usize> = (0..window.len()).collect();
    let mut failure = None;
    for attempt in 0..ATTEMPTS_MAX {
        let emitted = match send(emitter, window, &unsettled).await {
            Ok(emitted) => emitted,
            Err(failed) => {
                failure = Some(failed);
                continue;
            }
        };
        let again = to_retry(&emitted, &unsettled)?;
        let held = stored().await;
        let delivered = unsettled.iter().filter(|index| !again.contains(index));
        let missing = delivered.filter(|&&index| !held.contains(&window[index].value)).count();
        require(missing == 0, THERE, || format!("{missing} of {} items are not, when emit returns", window.len()))?;
        if again.is_empty() {
            return Ok(attempt > 0);
        }
        unsettled = again;
    }
    let detail = format!("{} of {} items were sent {ATTEMPTS_MAX} times: {failure:?}", unsettled.len(), window.len());
    Err(Broken { rule: HEALTHY, detail })
}

/// The window's items to send again, of the batch that held those at `sent`.
fn to_retry(emitted: &Emitted, sent: &[usize]) -> Result<Vec<usize>, Broken> {
    let mut again = Vec::new();
    let mut named = HashSet::new();
    for (index, exception) in emitted.exceptions() {
        let item = sent.get(*index).filter(|_| named.insert(*index));
        let rule = "an outcome names items of its batch, each once";
        let Some(&item) = item else {
            return Err(Broken { rule, detail: format!("item {index} of {}", sent.len()) });
        };
        match exception {
            Exception::Retry(_) => again.push(item),
            Exception::Rejected(why) => {
                return Err(Broken { rule: HEALTHY, detail: format!("item {item} was refused: {why}") });
            }
        }
    }
    Ok(again)
}

/// All that was delivered so far, in order within each shard.
struct Sent<U> {
    promises: EmitterPromises,
    windows: Vec<Vec<Item<U>>>,
    /// Whether any item was sent more than once.
    resent: bool,
}

impl<U: PartialEq> Sent<U> {
    fn push(&mut self, window: Vec<Item<U>>) -> Result<(), Broken> {
        self.windows.push(window);
        let sent: Vec<&Item<U>> = self.windows.iter().flatten().collect();
        let distinct =
            sent.iter().enumerate().all(|(index, item)| !sent[..index].iter().any(|o| o.value == item.value));
        require(distinct, "the suite's outputs are distinct", || "two records have equal ones".into())
    }

    fn compare(&self, held: &[U]) -> Result<(), Broken> {
        let sent: Vec<&Item<U>> = self.windows.iter().flatten().collect();
        let mut times = vec![0_usize; sent.len()];
        let mut newest: HashMap<&ShardId, (Position, u32)> = HashMap::new();
        for (place, value) in held.iter().enumerate() {
            let Some(index) = sent.iter().position(|item| item.value == *value) else {
                let detail = format!("place {place} of {} holds it", held.len());
                return Err(Broken { rule: "nothing is stored that was not sent", detail });
            };
            times[index] += 1;
            if self.promises.ordered && times[index] == 1 {
                let Item { record, ordinal, .. } = sent[index];
                let before = newest.insert(&record.shard, (record.position, *ordinal));
                let detail = || format!("output {ordinal} of {} is stored after {before:?}", record.position);
                require(before < Some((record.position, *ordinal)), "order is kept", detail)?;
            }
        }
        let missing = times.iter().filter(|times| **times == 0).count();
        require(missing == 0, THERE, || format!("{missing} of {} items are not", sent.len()))?;
        let doubled = times.iter().filter(|times| **times > 1).count();
        let detail = || format!("{doubled} of {} items are stored more than once", sent.len());
        if self.resent {
            require(doubled == 0 || !self.promises.idempotent, "what is sent again is stored once", detail)
        } else {
            require(doubled == 0, "what is sent once is stored once", detail)
        }
    }
}
