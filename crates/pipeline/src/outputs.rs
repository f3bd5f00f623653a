//! What a closed window leaves for its sinks: in memory, or on disk for the most part.

use std::iter::once;
use std::sync::{Arc, Mutex};

use kinesink_core::{Fingerprint, Item, Position, Transformer};

use crate::commit::{Delivery, Halt, Ledger, Stop, deliver};
use crate::division::Division;
use crate::shard_pipeline::Shard;
use crate::spill::{Spilled, deliver_spilled};
use crate::{Pipeline, Sink};

pub(crate) enum Outputs<U> {
    Held(Vec<Item<U>>, Vec<Divided>),
    Spilled(Box<Spilled<U>>),
}

/// Items in memory, as one sink divides them.
#[derive(Debug)]
pub(crate) struct Divided {
    division: Division,
    /// The partition of each item; empty where the sink does not divide windows.
    numbers: Vec<u32>,
}

impl Divided {
    fn of<U: Send + Sync + 'static>(sink: &Sink<U>, items: &[Item<U>]) -> Self {
        let mut names = items.iter().map(|item| sink.emitter.partition(item));
        let Some(first) = names.next().flatten() else { return Self::none() };
        let mut division = Division::default();
        let numbers = once(Some(first)).chain(names).map(|name| division.number(name)).collect();
        Self { division, numbers }
    }

    /// Of no items.
    pub(crate) fn none() -> Self {
        Self { division: Division::default(), numbers: Vec::new() }
    }

    /// The partition of the item at that index.
    pub(crate) fn name(&self, index: usize) -> Option<&str> {
        self.division.name(*self.numbers.get(index)?)
    }
}

impl<U: Send + Sync + 'static> Outputs<U> {
    /// Of these items, which follow what was spilled.
    pub(crate) async fn of(
        sinks: &[Sink<U>],
        items: Vec<Item<U>>,
        spilled: Option<Box<Spilled<U>>>,
    ) -> Result<Self, Stop> {
        let Some(mut spilled) = spilled else {
            let divided = sinks.iter().map(|sink| Divided::of(sink, &items)).collect();
            return Ok(Self::Held(items, divided));
        };
        let held = spilled.hold(items).await;
        spilled.give_room().await;
        match spilled.damaged() {
            Some(why) => Err(Stop::Halt(Halt::Spill(why.into()))),
            None => held.map(|()| Self::Spilled(spilled)).map_err(|why| Stop::Halt(Halt::Spill(why))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Held(items, _) => items.len(),
            Self::Spilled(spilled) => spilled.items(),
        }
    }

    /// Positions of the first and the last item.
    pub(crate) fn bounds(&self) -> Option<(Position, Position)> {
        match self {
            Self::Held(items, _) => Some((items.first()?.record.position, items.last()?.record.position)),
            Self::Spilled(spilled) => spilled.bounds(),
        }
    }

    /// Bytes of it that are on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        match self {
            Self::Held(..) => 0,
            Self::Spilled(spilled) => spilled.disk_bytes(),
        }
    }

    /// The digest of what the window is about to leave in the sinks, if for one of them its boundaries matter.
    pub(crate) async fn content<T: Transformer<Output = U>>(
        &self,
        pipeline: &Pipeline<T>,
    ) -> Result<Option<u128>, Stop> {
        if self.len() == 0 {
            return Ok(None);
        }
        let (items, divided) = match self {
            Self::Held(items, divided) => (items, divided),
            Self::Spilled(spilled) => {
                return spilled.content().await.map_err(|failure| Stop::Halt(Halt::Spill(failure.message)));
            }
        };
        let mut content = Fingerprint::new();
        let mut planned = false;
        for (sink, divided) in pipeline.sinks.iter().zip(divided) {
            if !sink.emitter.plan(&mut content) {
                continue;
            }
            planned = true;
            for (index, item) in items.iter().enumerate() {
                sink.emitter.plan_item(item, divided.name(index), &mut content);
            }
        }
        if !planned {
            return Ok(None);
        }
        items.iter().for_each(|item| content.place(item));
        Ok(Some(content.finish()))
    }

    /// Sends the sink its share, until it has settled everything.
    pub(crate) async fn deliver(
        &self,
        shard: &Arc<Shard>,
        delivery: &Delivery<'_, U>,
        ledger: &Mutex<Ledger>,
    ) -> Result<(), Stop> {
        match self {
            Self::Held(items, divided) => match divided.get(delivery.index) {
                Some(divided) => deliver(shard, delivery, items, divided, ledger).await,
                None => deliver(shard, delivery, items, &Divided::none(), ledger).await,
            },
            Self::Spilled(spilled) => deliver_spilled(shard, delivery, spilled, ledger).await,
        }
    }
}
