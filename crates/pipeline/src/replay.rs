//! The dead letters of one window, back into the sinks that refused them.
//!
//! ```text
//! merge the letters: one for each position, output and stage       // attempts may have written one twice
//! for each record: transformer and filter, as the pipeline is now
//!     what a sink refused goes to that sink; what the transformer refused, to all of them
//! for each sink: one batch, with the window's positions, until it has settled everything
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kinesink_core::{
    Backoff, Batch, Class, Emitter, Exception, Failure, Item, Position, Record, ShardId, StreamName, Transformer,
};
use tokio::time::sleep;

use crate::dead_letter::{SINK, TRANSFORM};
use crate::{DeadLetter, Pipeline};

/// A sink that does not take a batch is asked so often.
const ATTEMPTS_MAX: u32 = 8;

/// What was refused of one window, by all attempts at it.
#[derive(Debug)]
pub struct RefusedWindow {
    /// The stream the records came from.
    pub stream: StreamName,
    /// The shard the records came from.
    pub shard: ShardId,
    /// Position of the window's first record.
    pub first: Position,
    /// Position of the window's last record.
    pub last: Position,
    /// In any order, some twice perhaps.
    pub letters: Vec<DeadLetter>,
}

/// What became of the letters of a window, once each.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Records of the letters.
    pub records: usize,
    /// Outputs that a sink has now; counted for each sink.
    pub delivered: usize,
    /// Outputs that the filter does not keep.
    pub filtered: usize,
    /// What is refused still: where, by whom, why.
    pub refused: Vec<(Position, String, String)>,
}

/// Where outputs stand in their shard.
type Place = (Position, u32);

/// A record, and what is asked for of it.
struct Wanted {
    record: Record,
    /// The transformer had refused it: every output goes to every sink.
    whole: bool,
    /// Outputs that a sink had refused, by its name.
    by_sink: BTreeMap<String, BTreeSet<u32>>,
}

impl<T: Transformer> Pipeline<T> {
    /// Sends what was refused of a window again, to whom refused it. A sink whose names follow from windows, and that keeps
    /// replays apart from what it had accepted, has the same after a second time.
    ///
    /// # Errors
    /// A letter that is none of this stream's, or a sink's [`Failure`] that does not pass. What was sent before stays.
    pub async fn replay(&self, window: RefusedWindow) -> Result<Replayed, Failure> {
        let RefusedWindow { stream, shard, first, last, letters } = window;
        let mut replayed = Replayed::default();
        let wanted = merged(letters, &shard)?;
        replayed.records = wanted.len();
        let mut outputs: BTreeMap<Place, Item<T::Output>> = BTreeMap::new();
        let mut sent: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
        for (position, wanted) in wanted {
            let mut models = Vec::new();
            if let Err(why) = self.transformer.to_model(&wanted.record, &mut models) {
                replayed.refused.push((position, TRANSFORM.into(), why.reason().into()));
                continue;
            }
            for (ordinal, model) in (0..).zip(models) {
                let takers = self.takers(&wanted, ordinal);
                if takers.is_empty() {
                    continue;
                }
                if self.filter.as_ref().is_some_and(|filter| !filter.keep(&model)) {
                    replayed.filtered += 1;
                    continue;
                }
                match self.transformer.to_output(model) {
                    Ok(value) => {
                        let record = wanted.record.clone();
                        outputs.insert((position, ordinal), Item { record, ordinal, value });
                        for sink in takers {
                            sent.entry(sink).or_default().insert((position, ordinal));
                        }
                    }
                    Err(why) => replayed.refused.push((position, TRANSFORM.into(), why.reason().into())),
                }
            }
            for name in wanted.by_sink.keys().filter(|name| !self.sinks.iter().any(|sink| sink.name == **name)) {
                let why = "the pipeline has no sink of this name any more".to_owned();
                replayed.refused.push((position, format!("{SINK}{name}"), why));
            }
        }
        for sink in &self.sinks {
            let Some(places) = sent.get(&sink.name) else { continue };
            let items: Vec<_> = places.iter().filter_map(|place| outputs.get(place)).collect();
            let (stream, shard, partitions) = (&stream, &shard, Vec::new());
            let batch = Batch { stream, shard, first, last, items, partitions, keep_existing: false };
            self.send(&sink.name, &*sink.emitter, batch, &mut replayed).await?;
        }
        Ok(replayed)
    }

    /// Names of the sinks that this output goes to.
    fn takers(&self, wanted: &Wanted, ordinal: u32) -> Vec<String> {
        let takes = |name: &&String| {
            wanted.whole || wanted.by_sink.get(*name).is_some_and(|ordinals| ordinals.contains(&ordinal))
        };
        self.sinks.iter().map(|sink| &sink.name).filter(takes).cloned().collect()
    }

    async fn send(
        &self,
        name: &str,
        emitter: &dyn Emitter<T::Output>,
        mut batch: Batch<'_, T::Output>,
        replayed: &mut Replayed,
    ) -> Result<(), Failure> {
        let mut backoff = Backoff::new(self.retry.base, self.retry.max, self.retry.seed);
        loop {
            let failure = match emitter.emit(&batch).await {
                Ok(emitted) => {
                    let (mut again, mut why, mut done) = (Vec::new(), None, vec![true; batch.items.len()]);
                    for (index, exception) in emitted.exceptions() {
                        let Some((done, item)) = done.get_mut(*index).zip(batch.items.get(*index)) else { continue };
                        if !std::mem::take(done) {
                            continue;
                        }
                        match exception {
                            Exception::Rejected(why) => {
                                let refused = (item.record.position, format!("{SINK}{name}"), why.reason().to_owned());
                                replayed.refused.push(refused);
                            }
                            Exception::Retry(reason) => {
                                why = Some(reason.reason().to_owned());
                                again.push(*item);
                            }
                            // Whatever is named is not durable.
                            _ => again.push(*item),
                        }
                    }
                    replayed.delivered += done.iter().filter(|done| **done).count();
                    if again.is_empty() {
                        return Ok(());
                    }
                    again.sort_by_key(|item| (item.record.position, item.ordinal));
                    batch.items = again;
                    Failure::transient(why.unwrap_or_else(|| format!("sink {name} did not take all of a window")))
                }
                Err(failure) => failure,
            };
            if failure.class != Class::Transient || backoff.attempts() + 1 >= ATTEMPTS_MAX {
                return Err(failure);
            }
            sleep(backoff.next_wait(failure.retry_after)).await;
        }
    }
}

/// The records of the letters, each with all that is asked for of it.
fn merged(letters: Vec<DeadLetter>, shard: &ShardId) -> Result<BTreeMap<Position, Wanted>, Failure> {
    let mut merged = BTreeMap::new();
    for letter in letters {
        let record = letter.record().map_err(|error| Failure::configuration(error.to_string()))?;
        if record.shard != *shard {
            return Err(Failure::configuration(format!(
                "a dead letter of {} stands among those of {shard}: put it where it belongs",
                record.shard
            )));
        }
        let new = || Wanted { record: record.clone(), whole: false, by_sink: BTreeMap::new() };
        let wanted = merged.entry(record.position).or_insert_with(new);
        match letter.stage.strip_prefix(SINK) {
            Some(sink) => {
                wanted.by_sink.entry(sink.to_owned()).or_default().insert(letter.ordinal);
            }
            None => wanted.whole = true,
        }
    }
    Ok(merged)
}
