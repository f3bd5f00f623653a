//! The dead letters of one window, back into the sinks that refused them.
//!
//! ```text
//! merge the letters: one for each position, output and stage       // attempts may have written one twice
//! for each record: transformer and filter, as the pipeline is now
//!     what a sink refused is owed to that sink; what the transformer refused, to all of them
//! for each sink: one batch, with the window's positions, until it has settled everything
//! ```
//!
//! Which of it was sent before is for the caller to know, who says what is owed, and what of that is sent now.

use std::collections::{BTreeMap, BTreeSet};

use kinesink_core::{
    Backoff, Batch, Class, Emitter, Exception, Failure, Item, Position, Record, ShardId, StreamName, Transformer,
};
use tokio::time::sleep;

use crate::dead_letter::{SINK, TRANSFORM};
use crate::{DeadLetter, Pipeline, Sink};

/// A sink that does not take a batch is asked so often.
const ATTEMPTS_MAX: u32 = 8;

/// Which output of a shard it is: its record's position, and which output of that record.
pub type OutputId = (Position, u32);

/// Outputs, by the name of the sink that they are for.
pub type OutputIds = BTreeMap<String, BTreeSet<OutputId>>;

/// The window whose letters are sent.
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
}

/// What is refused still: where, by whom, why.
pub type Refusal = (Position, String, String);

/// What letters come to, as the pipeline is now.
#[derive(Debug)]
pub struct Remade<U> {
    /// Records of the letters.
    pub records: usize,
    /// Outputs that the filter does not keep.
    pub filtered: usize,
    /// What no sink is owed.
    pub refused: Vec<Refusal>,
    /// Names of sinks that the letters are for and the pipeline has not.
    pub unknown_sinks: BTreeSet<String>,
    /// What the sinks are owed.
    pub owed: OutputIds,
    outputs: BTreeMap<OutputId, Item<U>>,
}

/// What became of what was sent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Resent {
    /// Outputs that a sink has now; counted for each sink.
    pub delivered: usize,
    /// Outputs that a sink does not have.
    pub missing: OutputIds,
    /// Why not, where a sink refused them.
    pub refused: Vec<Refusal>,
}

/// A record, and what is asked for of it.
struct Wanted {
    record: Record,
    /// The transformer had refused it: every output goes to every sink.
    whole: bool,
    /// Outputs that a sink had refused, by its name.
    by_sink: BTreeMap<String, BTreeSet<u32>>,
    /// How many outputs it had then, where its letters say so.
    outputs: BTreeSet<u32>,
}

impl<T: Transformer> Pipeline<T> {
    /// Makes what was refused again. `owes` says of an output whether that sink is owed it still.
    ///
    /// # Errors
    /// A letter that is none of this shard's.
    pub fn remake(
        &self,
        letters: impl IntoIterator<Item = DeadLetter>,
        shard: &ShardId,
        owes: impl Fn(&str, OutputId) -> bool,
    ) -> Result<Remade<T::Output>, Failure> {
        let wanted = merged(letters, shard)?;
        let (outputs, owed, unknown_sinks) = (BTreeMap::new(), OutputIds::new(), BTreeSet::new());
        let mut remade =
            Remade { records: wanted.len(), filtered: 0, refused: Vec::new(), unknown_sinks, owed, outputs };
        for (position, wanted) in wanted {
            let is_unknown = |name: &&String| !self.sinks.iter().any(|sink| sink.name == **name);
            remade.unknown_sinks.extend(wanted.by_sink.keys().filter(is_unknown).cloned());
            let mut models = Vec::new();
            if let Err(why) = self.transformer.to_model(&wanted.record, &mut models) {
                remade.refused.push((position, TRANSFORM.into(), why.reason().into()));
                continue;
            }
            let outputs = u32::try_from(models.len()).unwrap_or(u32::MAX);
            if let Some(why) = wanted.is_made_otherwise(outputs) {
                let is_owed = |(sink, ordinals): &(&String, &BTreeSet<u32>)| {
                    ordinals.iter().any(|ordinal| owes(sink.as_str(), (position, *ordinal)))
                };
                let sinks = wanted.by_sink.iter().filter(is_owed);
                remade.refused.extend(sinks.map(|(sink, _)| (position, format!("{SINK}{sink}"), why.clone())));
                continue;
            }
            for (ordinal, model) in (0..).zip(models) {
                let mut takers = self.takers(&wanted, ordinal);
                takers.retain(|sink| owes(sink, (position, ordinal)));
                if takers.is_empty() {
                    continue;
                }
                if self.filter.as_ref().is_some_and(|filter| !filter.keep(&model)) {
                    remade.filtered += 1;
                    continue;
                }
                match self.transformer.to_output(model) {
                    Ok(value) => {
                        let record = wanted.record.clone();
                        remade.outputs.insert((position, ordinal), Item { record, ordinal, outputs, value });
                        for sink in takers {
                            remade.owed.entry(sink).or_default().insert((position, ordinal));
                        }
                    }
                    Err(why) => remade.refused.push((position, TRANSFORM.into(), why.reason().into())),
                }
            }
        }
        Ok(remade)
    }

    /// Names of the sinks that this output goes to.
    fn takers(&self, wanted: &Wanted, ordinal: u32) -> Vec<String> {
        let takes = |name: &&String| {
            wanted.whole || wanted.by_sink.get(*name).is_some_and(|ordinals| ordinals.contains(&ordinal))
        };
        self.sinks.iter().map(|sink| &sink.name).filter(takes).cloned().collect()
    }

    /// Sends these outputs to these sinks. One whose names follow from windows, and that keeps replays apart from what it had
    /// accepted, has the same after a second time.
    ///
    /// # Errors
    /// A sink's [`Failure`] that does not pass. What was sent before stays.
    pub async fn resend(
        &self,
        sinks: &[Sink<T::Output>],
        window: &RefusedWindow,
        remade: &Remade<T::Output>,
        sent: &OutputIds,
    ) -> Result<Resent, Failure> {
        let RefusedWindow { stream, shard, first, last } = window;
        let mut resent = Resent { missing: sent.clone(), ..Resent::default() };
        for sink in sinks {
            let Some(ids) = sent.get(&sink.name) else { continue };
            let items: Vec<_> = ids.iter().filter_map(|id| remade.outputs.get(id)).collect();
            if items.is_empty() {
                continue;
            }
            let (first, last, partitions) = (*first, *last, Vec::new());
            let batch = Batch { stream, shard, first, last, items, partitions, keep_existing: false };
            self.send(&sink.name, &*sink.emitter, batch, &mut resent).await?;
        }
        resent.missing.retain(|_, ids| !ids.is_empty());
        Ok(resent)
    }

    async fn send(
        &self,
        name: &str,
        emitter: &dyn Emitter<T::Output>,
        mut batch: Batch<'_, T::Output>,
        resent: &mut Resent,
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
                                resent.refused.push(refused);
                            }
                            Exception::Retry(reason) => {
                                why = Some(reason.reason().to_owned());
                                again.push(*item);
                            }
                            // Whatever is named is not durable.
                            _ => again.push(*item),
                        }
                    }
                    resent
                        .delivered(name, batch.items.iter().zip(done).filter_map(|(item, done)| done.then_some(*item)));
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

impl Resent {
    fn delivered<'a, U: 'a>(&mut self, sink: &str, items: impl Iterator<Item = &'a Item<U>>) {
        let Some(missing) = self.missing.get_mut(sink) else { return };
        for item in items {
            self.delivered += usize::from(missing.remove(&(item.record.position, item.ordinal)));
        }
    }
}

impl Wanted {
    /// Why it is not known which of these outputs are owed. One that has none now is left out by the transformer, as a whole.
    fn is_made_otherwise(&self, outputs: u32) -> Option<String> {
        let beyond = || self.by_sink.values().flatten().any(|ordinal| *ordinal >= outputs);
        let then = self.outputs.iter().find(|then| **then != outputs);
        if self.whole || outputs == 0 || (then.is_none() && !beyond()) {
            return None;
        }
        let then = then.map_or_else(|| "more".into(), u32::to_string);
        Some(format!(
            "its record had {then} outputs when one of them was refused and has {outputs} now, so that which of these is owed is not \
             known: let the transformer make as many, in the same order, and the filter leave out what is not to be sent"
        ))
    }
}

/// The records of the letters, each with all that is asked for of it.
fn merged(
    letters: impl IntoIterator<Item = DeadLetter>,
    shard: &ShardId,
) -> Result<BTreeMap<Position, Wanted>, Failure> {
    let mut merged = BTreeMap::new();
    for letter in letters {
        let record = letter.record().map_err(|error| Failure::configuration(error.to_string()))?;
        if record.shard != *shard {
            return Err(Failure::configuration(format!(
                "a dead letter of {} stands among those of {shard}: put it where it belongs",
                record.shard
            )));
        }
        let new =
            || Wanted { record: record.clone(), whole: false, by_sink: BTreeMap::new(), outputs: BTreeSet::new() };
        let wanted = merged.entry(record.position).or_insert_with(new);
        wanted.outputs.extend(letter.outputs);
        match letter.sink() {
            Some(sink) => {
                wanted.by_sink.entry(sink.to_owned()).or_default().insert(letter.ordinal);
            }
            None => wanted.whole = true,
        }
    }
    Ok(merged)
}
