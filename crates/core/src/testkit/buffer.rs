use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Broken, require, sample_record, sample_shard};
use crate::{Buffer, CloseReason, Item, Position, Record};

const LONG: Duration = Duration::from_secs(365 * 24 * 3600);
const MOMENT: Duration = Duration::from_nanos(1);

/// The limits that a buffer under test was made with. `None` where it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct BufferLimits {
    /// It closes with this many records.
    pub records: Option<usize>,
    /// It closes with this many bytes of data, or fewer if it counts an overhead.
    pub bytes: Option<usize>,
    /// It closes when its first record has waited so long.
    pub age: Option<Duration>,
}

/// Checks a [`Buffer`] made with `limits`. Rules:
/// - an empty buffer never asks to be flushed;
/// - `flush_at` is when `should_flush` first says yes;
/// - the count limit fires, not before its count;
/// - the bytes limit fires;
/// - the age limit fires without traffic, not before its age, counted from the first record since the last `take`;
/// - nothing that was pushed is lost, nothing is given twice, and order is kept;
/// - what it gives away counts on: the count limit fires for all of it, and none of it is given again;
/// - a taken buffer is empty.
///
/// # Errors
/// The first rule that is broken.
pub fn buffer_contract<T, B: Buffer<T>>(
    make: impl Fn() -> B,
    limits: BufferLimits,
    model: impl Fn(&Record) -> T,
) -> Result<(), Broken> {
    let suite = Suite { limits, model, start: Instant::now() };
    suite.count(&mut make())?;
    suite.bytes(&mut make())?;
    suite.age(&mut make())?;
    suite.take(&mut make())?;
    suite.give(&mut make())
}

struct Suite<M> {
    limits: BufferLimits,
    model: M,
    start: Instant,
}

impl<M> Suite<M> {
    fn item<T>(&self, n: u64, ordinal: u32, data: Bytes) -> Item<T>
    where
        M: Fn(&Record) -> T,
    {
        let record = sample_record(&sample_shard(0), n, data);
        Item { value: (self.model)(&record), record, ordinal, outputs: ordinal + 1 }
    }

    /// How many records may be pushed without reaching the count limit, up to `most`.
    fn below_count(&self, most: usize) -> usize {
        self.limits.records.map_or(most, |records| most.min(records.saturating_sub(1)))
    }

    fn count<T, B: Buffer<T>>(&self, buffer: &mut B) -> Result<(), Broken>
    where
        M: Fn(&Record) -> T,
    {
        is_empty(buffer, self.start)?;
        let Some(records) = self.limits.records else { return Ok(()) };
        for n in 1..=records {
            buffer.push(self.item(n as u64, 0, Bytes::new()), self.start);
            flush_at_is_exact(buffer, self.start)?;
            let asked = buffer.should_flush(self.start);
            let rule = "the count limit does not fire before its count";
            require(n == records || asked != Some(CloseReason::Count), rule, || format!("{n} of {records} records"))?;
        }
        let asked = buffer.should_flush(self.start);
        require(asked.is_some(), "the count limit fires", || format!("{records} records of no bytes: {asked:?}"))
    }

    fn bytes<T, B: Buffer<T>>(&self, buffer: &mut B) -> Result<(), Broken>
    where
        M: Fn(&Record) -> T,
    {
        let pieces = self.below_count(4);
        let (Some(bytes), 1..) = (self.limits.bytes, pieces) else { return Ok(()) };
        let data = Bytes::from(vec![b'x'; bytes.div_ceil(pieces)]);
        for n in 0..pieces {
            buffer.push(self.item(n as u64, 0, data.clone()), self.start);
            flush_at_is_exact(buffer, self.start)?;
        }
        let asked = buffer.should_flush(self.start);
        require(asked == Some(CloseReason::Bytes), "the bytes limit fires", || {
            format!("{pieces} records, together {bytes} bytes or more: {asked:?}")
        })
    }

    /// Twice, because a buffer may forget to start its age afresh.
    fn age<T, B: Buffer<T>>(&self, buffer: &mut B) -> Result<(), Broken>
    where
        M: Fn(&Record) -> T,
    {
        let (Some(age), 1..) = (self.limits.age, self.below_count(1)) else { return Ok(()) };
        for first in [self.start, self.start + age * 10] {
            let due = first + age;
            buffer.push(self.item(0, 0, Bytes::new()), first);
            let early = [buffer.should_flush(first), buffer.should_flush(due - MOMENT)];
            let rule = "the age limit does not fire before its age";
            require(early == [None, None], rule, || {
                format!("a record of age 0 and one just below {age:?}: {early:?}")
            })?;
            flush_at_is_exact(buffer, first)?;
            if self.below_count(2) == 2 {
                buffer.push(self.item(1, 0, Bytes::new()), first + age / 2);
            }
            let (asked, at) = (buffer.should_flush(due), buffer.flush_at());
            require(asked == Some(CloseReason::Age) && at == Some(due), "the age limit fires without traffic", || {
                let wait = at.map(|at| at.duration_since(first));
                format!("the first record waited {age:?}: {asked:?}; announced after {wait:?}")
            })?;
            buffer.take();
        }
        Ok(())
    }

    /// Pushes on beyond the limits: the outputs of one record are not split.
    /// A buffer that keeps everything passes.
    fn give<T, B: Buffer<T>>(&self, buffer: &mut B) -> Result<(), Broken>
    where
        M: Fn(&Record) -> T,
    {
        let records = self.limits.records.unwrap_or(6);
        for round in 0..2 {
            let (mut pushed, mut given) = (Vec::new(), Vec::new());
            for n in 0..records {
                let item = self.item((round * records + n) as u64, 0, Bytes::new());
                pushed.push(place(&item));
                buffer.push(item, self.start);
                flush_at_is_exact(buffer, self.start)?;
                if n == records / 2 {
                    given = buffer.give();
                    flush_at_is_exact(buffer, self.start)?;
                }
            }
            let asked = buffer.should_flush(self.start);
            let full = asked.is_some() || self.limits.records.is_none();
            require(full, "what is given away counts on", || format!("{records} records, some given away: {asked:?}"))?;
            given.extend(buffer.take());
            given_is_pushed(&given, &pushed)?;
            is_empty(buffer, self.start)?;
        }
        Ok(())
    }

    fn take<T, B: Buffer<T>>(&self, buffer: &mut B) -> Result<(), Broken>
    where
        M: Fn(&Record) -> T,
    {
        let records = self.limits.records.unwrap_or(100) + 2;
        for round in 0..2 {
            let mut pushed = Vec::new();
            for (n, ordinal) in (0..records).flat_map(|n| (0..3).map(move |ordinal| (n, ordinal))) {
                let item = self.item((round * records + n) as u64, ordinal, Bytes::from_static(b"data"));
                pushed.push(place(&item));
                buffer.push(item, self.start);
            }
            given_is_pushed(&buffer.take(), &pushed)?;
            is_empty(buffer, self.start)?;
            let again = buffer.take().len();
            require(again == 0, "a taken buffer is empty", || format!("it gave {again} items again"))?;
        }
        Ok(())
    }
}

fn place<T>(item: &Item<T>) -> (Position, u32) {
    (item.record.position, item.ordinal)
}

fn is_empty<T>(buffer: &impl Buffer<T>, now: Instant) -> Result<(), Broken> {
    let asked = [buffer.should_flush(now), buffer.should_flush(now + LONG)];
    let quiet = asked == [None, None] && buffer.flush_at().is_none();
    require(quiet, "an empty buffer never asks to be flushed", || {
        format!("{asked:?}; announced: {}", buffer.flush_at().is_some())
    })
}

fn flush_at_is_exact<T>(buffer: &impl Buffer<T>, now: Instant) -> Result<(), Broken> {
    if buffer.should_flush(now).is_some() {
        return Ok(());
    }
    let rule = "flush_at is when should_flush first says yes";
    let Some(at) = buffer.flush_at() else {
        let asked = buffer.should_flush(now + LONG);
        return require(asked.is_none(), rule, || format!("it is never, but a year later: {asked:?}"));
    };
    let asked = [buffer.should_flush(at - MOMENT), buffer.should_flush(at)];
    require(asked[0].is_none() && asked[1].is_some(), rule, || format!("just before it and at it: {asked:?}"))
}

fn given_is_pushed<T>(given: &[Item<T>], pushed: &[(Position, u32)]) -> Result<(), Broken> {
    let mut times: HashMap<(Position, u32), usize> = HashMap::new();
    for item in given {
        *times.entry(place(item)).or_default() += 1;
    }
    let lost = pushed.iter().filter(|place| !times.contains_key(place)).count();
    require(lost == 0, "nothing that was pushed is lost", || format!("{lost} of {} items are", pushed.len()))?;
    let doubled = times.values().filter(|times| **times > 1).count();
    require(doubled == 0, "nothing is given twice", || format!("{doubled} of {} items are", pushed.len()))?;
    require(given.iter().map(place).eq(pushed.iter().copied()), "order is kept", || {
        "items were given in another".into()
    })
}
