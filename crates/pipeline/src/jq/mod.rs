//! jq programs as a transformer.
//!
//! - `compile`: what a program may call
//! - `recursion`: definitions that call themselves
//! - `steps`: how far a program may go for one record

mod compile;
mod recursion;
mod steps;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use jaq_core::unwrap_valr;
use jaq_json::write::Pp;
use jaq_json::{Val, read, write};
use kinesink_core::{Record, Reject, Transformer};

use self::steps::STEPS_PER_RECORD_MAX;
use crate::event::{JSON_DEPTH_MAX, check_json, partition_key};
use crate::{Error, Event, Needs};

/// One record may become so many outputs.
const OUTPUTS_PER_RECORD_MAX: usize = 10_000;
/// And so many bytes.
const OUTPUT_BYTES_PER_RECORD_MAX: usize = 64 * 1024 * 1024;

/// What a thread that runs a program should have as its stack. Only what is used of it takes memory.
pub const JQ_STACK_BYTES: usize = 64 * 1024 * 1024;

/// A jq program: a record's JSON in, its outputs as compact JSON out, none, one or several, in order.
///
/// It sees the record and nothing else, so that a replay gives the same outputs: `$shard`, `$sequence`,
/// `$sub_sequence`, `$arrival` (RFC 3339) and `$partition_key` are the record's, and `now` is its arrival. What looks
/// outside (`env`, `input`, `localtime`, `mktime`, `halt`, `debug`, modules) is refused when the program is compiled, and so is a
/// definition that calls itself: its depth would depend on the data.
///
/// ```
/// let jq = kinesink_pipeline::Jq::new(".items[] + {shard: $shard}", kinesink_pipeline::Needs::default())?;
/// # Ok::<(), kinesink_pipeline::Error>(())
/// ```
///
/// Limits: a program of 16 KiB; for each record 10,000 outputs, 64 MiB and 1,000,000 turns of its loops (`range`, `until`,
/// `while`, `repeat`, `recurse`, `combinations`). One that takes long without them, as data times data does, holds up its
/// thread, and its shard counts as stuck after five minutes; the values that it holds while it runs are its own affair,
/// outside every budget. A program that itself nests a value, or a `reduce` that is assigned to, deeper than the stack of its
/// thread reaches, ends the process: give threads that run one [`JQ_STACK_BYTES`], which is enough for a program of any size
/// and for tens of thousands of levels.
pub struct Jq {
    program: compile::Program,
    needs: Needs,
}

impl Jq {
    /// Compiles `program`, for a pipeline whose filter needs this.
    ///
    /// # Errors
    /// [`Error::Program`] names the place or the refused name.
    pub fn new(program: &str, needs: Needs) -> Result<Self, Error> {
        Ok(Self { program: compile::compile(program)?, needs })
    }
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jq").field("needs", &self.needs).finish_non_exhaustive()
    }
}

impl Transformer for Jq {
    type Model = Event;
    type Output = Bytes;

    fn to_model(&self, record: &Record, models: &mut Vec<Event>) -> Result<(), Reject> {
        // jq reads more than JSON; what is not JSON belongs in the dead letters.
        check_json(&record.data)?;
        let input = read::parse_single(&record.data).map_err(|error| Reject::new(format!("not JSON: {error}")))?;
        let steps_left = Cell::new(STEPS_PER_RECORD_MAX);
        let context = steps::context(&self.program.lut, &steps_left, variables(record));
        let mut bytes_left = OUTPUT_BYTES_PER_RECORD_MAX;
        for (place, output) in self.program.id.run((context, input)).map(unwrap_valr).enumerate() {
            // The value of an error may be the record's data, so it stays out of the reason.
            let output = output.map_err(|_| match steps_left.get() {
                0 => Reject::new(format!("the loops of the jq program took more than {STEPS_PER_RECORD_MAX} steps")),
                _ => Reject::new(format!("the jq program failed after {place} outputs")),
            })?;
            // What writes it, recurses.
            if is_deeper(&output, JSON_DEPTH_MAX) {
                let why = format!("output {place} of the jq program is nested deeper than {JSON_DEPTH_MAX} levels");
                return Err(Reject::new(why));
            }
            let mut json = Vec::new();
            write::write(&mut json, &Pp::<String>::default(), 0, &output)
                .map_err(|error| Reject::new(format!("output {place} of the jq program: {error}")))?;
            check_json(&json).map_err(|_| Reject::new(format!("output {place} of the jq program is not JSON")))?;
            if place == OUTPUTS_PER_RECORD_MAX || json.len() > bytes_left {
                return Err(Reject::new("the jq program makes too many outputs of one record, or too large ones"));
            }
            bytes_left -= json.len();
            models.push(Event { data: json.into(), partition_key: partition_key(record, self.needs) });
        }
        Ok(())
    }

    fn to_output(&self, event: Event) -> Result<Bytes, Reject> {
        Ok(event.data)
    }
}

fn is_deeper(value: &Val, levels: usize) -> bool {
    let below = |inside: &Val| is_deeper(inside, levels.saturating_sub(1));
    match value {
        Val::Arr(items) => levels == 0 || items.iter().any(below),
        Val::Obj(fields) => levels == 0 || fields.iter().any(|(key, value)| below(key) || below(value)),
        _ => false,
    }
}

/// The values of [`compile::VARIABLES`], in their order.
fn variables(record: &Record) -> [Val; 6] {
    let text = |text: String| Val::from(text);
    let seconds = record.arrival.as_millisecond() as f64 / 1e3;
    [
        text(record.shard.to_string()),
        text(record.position.sequence.to_string()),
        Val::from(usize::try_from(record.position.sub_sequence).unwrap_or(usize::MAX)),
        text(record.arrival.to_string()),
        record.partition_key.as_deref().map_or(Val::Null, |key| text(key.to_owned())),
        Val::from(seconds),
    ]
}
