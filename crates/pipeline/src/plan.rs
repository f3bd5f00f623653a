//! What a window is before it is published: written into the lease row, so that whoever takes over after a crash
//! publishes exactly the same.
//!
//! ```text
//! 4B 4E 53 50 | version, one byte | DEFLATE of a JSON object
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use kinesink_core::{Checkpoint, Position, Prepared};
use serde::{Deserialize, Serialize};

/// What every plan of ours begins with.
const MAGIC: &[u8] = b"KNSP";
/// The newest version that this program writes and reads.
const VERSION: u8 = 1;
/// A lease row has at most 400 KB. What unpacks to more is no plan of ours.
const JSON_BYTES_MAX: u64 = 1024 * 1024;

/// What decides the keys and contents of a pipeline's outputs, as settings by name, such as `transform.jq`. Two
/// pipelines with the same recipe make the same outputs of the same records.
pub type Recipe = BTreeMap<String, String>;

/// A window that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The checkpoint that it continues.
    pub(crate) after: Checkpoint,
    pub(crate) first: Position,
    pub(crate) last: Position,
    /// What its batches are named by: its first and last records that have outputs. Plans of earlier programs do not say.
    pub(crate) named: Option<(Position, Position)>,
    /// Memory that its records take.
    pub(crate) memory_bytes: u64,
    /// The digest of positions, keys and outputs.
    pub(crate) content: u128,
    pub(crate) recipe: Recipe,
    /// An operator wants it finished as far as it can be made, whatever is different or has left the stream.
    pub(crate) as_is: bool,
}

/// What to do about a plan that cannot be kept.
const REMEDY: &str = "some of it may be in its sinks already: bring back what made it; or have it finished as far as it \
    can be made now, with `kinesink leases APP --finish-plan SHARD`; or drop the plan, with `--drop-plan`, after which it \
    may be there twice";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the announced window of records {} to {}", self.first, self.last)
    }
}

/// What the last owner left in the lease row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Plan(Box<Plan>),
    /// A plan of ours that this program cannot read: some of its window may be published. Why, and what to do.
    Unreadable(String),
    /// Not ours, or overtaken by a checkpoint of somebody else. The reason, for the log.
    Nothing(&'static str),
}

/// Plan, version 1, as JSON. Numbers that JSON's readers would round are texts.
#[derive(Debug, Serialize, Deserialize)]
struct PlanV1 {
    after: (String, u64),
    first: (String, u64),
    last: (String, u64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    named: Option<[(String, u64); 2]>,
    memory_bytes: u64,
    content: String,
    recipe: Recipe,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    as_is: bool,
}

impl Plan {
    pub(crate) fn to_bytes(&self) -> Result<Bytes, String> {
        let pair = |checkpoint: Checkpoint| (checkpoint.sequence_text(), checkpoint.sub_sequence());
        let plan = PlanV1 {
            after: pair(self.after),
            first: pair(Checkpoint::At(self.first)),
            last: pair(Checkpoint::At(self.last)),
            named: self.named.map(|(first, last)| [first, last].map(|position| pair(Checkpoint::At(position)))),
            memory_bytes: self.memory_bytes,
            content: format!("{:032x}", self.content),
            recipe: self.recipe.clone(),
            as_is: self.as_is,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        let mut deflate = DeflateEncoder::new(bytes, Compression::default());
        let json = serde_json::to_vec(&plan).map_err(|error| error.to_string())?;
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(format!("its settings take {} bytes; shorten the jq program or the patterns", json.len()));
        }
        deflate.write_all(&json).and_then(|()| deflate.finish()).map(Bytes::from).map_err(|error| error.to_string())
    }

    fn from_body(body: &[u8]) -> Option<Self> {
        let mut json = Vec::new();
        DeflateDecoder::new(body).take(JSON_BYTES_MAX).read_to_end(&mut json).ok()?;
        let plan: PlanV1 = serde_json::from_slice(&json).ok()?;
        let position =
            |(sequence, sub_sequence): (String, u64)| Some(Position { sequence: sequence.parse().ok()?, sub_sequence });
        let named = match plan.named {
            Some([first, last]) => Some((position(first)?, position(last)?)),
            None => None,
        };
        Some(Self {
            named,
            after: Checkpoint::from_row(&plan.after.0, plan.after.1).ok()?,
            first: position(plan.first)?,
            last: position(plan.last)?,
            memory_bytes: plan.memory_bytes,
            content: u128::from_str_radix(&plan.content, 16).ok()?,
            recipe: plan.recipe,
            as_is: plan.as_is,
        })
    }

    /// Whether the window that was made again is the announced one.
    ///
    /// # Errors
    /// What is different.
    pub(crate) fn compare(&self, made: Option<&Self>) -> Result<(), String> {
        let Some(made) = made else {
            return Err(format!("{self} now leaves nothing in its sinks"));
        };
        if (made.first, made.last) != (self.first, self.last) {
            let (first, last) = (made.first, made.last);
            return Err(format!("{self} has only records {first} to {last} left in the stream"));
        }
        if made.content != self.content {
            return Err(format!("{self} now has other outputs or keys{}", self.why(&made.recipe)));
        }
        Ok(())
    }

    /// None of its records is left in the stream, or its last ones are not.
    pub(crate) fn lost(&self) -> String {
        format!("{self} has no records left in the stream; {REMEDY}")
    }

    /// Why it cannot be published as it was announced, and what to do.
    pub(crate) fn cannot_be_kept(difference: &str) -> String {
        format!("{difference}; {REMEDY}")
    }

    /// What to say of it where a sink or a record holds it up.
    pub(crate) fn still_owed(&self) -> String {
        format!(
            "{self} is finished with the settings of then, whatever the file says now; a dead-letter destination counts at \
             once; to give the window up, drop its plan with `kinesink leases APP --drop-plan SHARD`, after which some of \
             it may be there twice"
        )
    }

    /// Memory is wanted while it is being read.
    pub(crate) fn too_large(&self) -> String {
        let bytes = self.memory_bytes;
        format!(
            "{self} needs {bytes} bytes of memory at once, and others want it too; it is read again later: if this lasts, give more `memory`, or a disk with `[spill]`"
        )
    }

    fn why(&self, recipe: &Recipe) -> String {
        match self.differs_from(recipe).as_slice() {
            [] => ", with the same settings: its code has changed".to_owned(),
            names => format!(", for these settings have changed: {}", names.join(", ")),
        }
    }

    /// Which settings differ, by name.
    pub(crate) fn differs_from<'a>(&'a self, recipe: &'a Recipe) -> Vec<&'a str> {
        let names = self.recipe.keys().chain(recipe.keys().filter(|name| !self.recipe.contains_key(*name)));
        names.filter(|name| self.recipe.get(*name) != recipe.get(*name)).map(String::as_str).collect()
    }
}

/// Why a plan of a newer version stops a shard.
fn newer(version: u8) -> String {
    format!(
        "the window that was announced has a plan of version {version}, and this program reads up to version {VERSION}; \
         use a newer kinesink, or drop the plan with `kinesink leases APP --drop-plan SHARD`, after which it may be there twice"
    )
}

/// Why a plan that makes no sense stops a shard.
fn damaged(last: Checkpoint) -> String {
    format!(
        "the window that was announced up to {last} has a plan that is damaged; some of it may be in its sinks \
         already: drop it with `kinesink leases APP --drop-plan SHARD`, after which it may be there twice"
    )
}

/// The settings that a window was announced with, if the last owner left one that counts for a lease at `start`.
#[must_use]
pub fn announced_recipe(prepared: &Prepared, start: Checkpoint) -> Option<Recipe> {
    match found(prepared, start) {
        Found::Plan(plan) => Some(plan.recipe),
        Found::Unreadable(_) | Found::Nothing(_) => None,
    }
}

/// The same plan, changed so that whoever finishes the window publishes what can be made of it now, and keeps what exists
/// under its names.
///
/// # Errors
/// Why there is no plan that could be finished so.
pub fn finished_as_is(prepared: &Prepared, start: Checkpoint) -> Result<Bytes, String> {
    match found(prepared, start) {
        Found::Plan(plan) => Plan { as_is: true, ..*plan }.to_bytes(),
        Found::Unreadable(why) => Err(why),
        Found::Nothing(why) => Err(format!("the plan does not count: {why}; the next checkpoint removes it")),
    }
}

/// Whether what was prepared is a plan that counts for a lease at `start`. Java's owners may have moved the checkpoint
/// and left it behind.
pub(crate) fn found(prepared: &Prepared, start: Checkpoint) -> Found {
    let Some(plan) = &prepared.plan else {
        return Found::Nothing("no plan is with it: another program prepared it, or has checkpointed since");
    };
    let Some((version, body)) = plan.strip_prefix(MAGIC).and_then(<[u8]>::split_first) else {
        return Found::Nothing("another program prepared it");
    };
    if prepared.checkpoint <= start {
        return Found::Nothing("the checkpoint has moved past it");
    }
    if *version > VERSION {
        return Found::Unreadable(newer(*version));
    }
    let Some(plan) = Plan::from_body(body) else { return Found::Unreadable(damaged(prepared.checkpoint)) };
    if plan.after != start {
        return Found::Nothing("the checkpoint has moved since");
    }
    if Checkpoint::At(plan.last) != prepared.checkpoint {
        return Found::Nothing("it was prepared again by another program");
    }
    Found::Plan(Box::new(plan))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(sequence: &str, sub_sequence: u64) -> Position {
        Position { sequence: sequence.parse().unwrap(), sub_sequence }
    }

    fn plan() -> Plan {
        Plan {
            after: Checkpoint::TrimHorizon,
            first: position("49590338271490256608559692538361571095921575989136588898", 0),
            last: position("49590338271490256608559692540925702759324208523137515618", 7),
            named: None,
            memory_bytes: 1_234_567,
            content: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            recipe: [("transform.jq".to_owned(), ". + {day: 1}".to_owned())].into(),
            as_is: false,
        }
    }

    fn prepared(plan: &Plan) -> Prepared {
        Prepared { checkpoint: Checkpoint::At(plan.last), plan: Some(plan.to_bytes().unwrap()) }
    }

    #[test]
    fn a_plan_of_version_1_is_read_for_ever() {
        let golden = include_bytes!("../tests/golden/plan-1.bin");
        let prepared = Prepared { checkpoint: Checkpoint::At(plan().last), plan: Some(Bytes::from_static(golden)) };
        assert_eq!(found(&prepared, Checkpoint::TrimHorizon), Found::Plan(Box::new(plan())));
    }

    #[test]
    fn a_plan_counts_only_where_it_continues_the_checkpoint_and_is_what_was_prepared() {
        let mut left = prepared(&plan());
        assert!(matches!(found(&left, Checkpoint::TrimHorizon), Found::Plan(_)));
        assert!(matches!(found(&left, Checkpoint::Latest), Found::Nothing(_)), "a sentinel is compared as it is");
        assert!(matches!(found(&left, Checkpoint::At(plan().first)), Found::Nothing(_)));
        left.checkpoint = Checkpoint::At(plan().first);
        assert!(matches!(found(&left, Checkpoint::TrimHorizon), Found::Nothing(_)));
        left.plan = None;
        assert!(matches!(found(&left, Checkpoint::TrimHorizon), Found::Nothing(_)));
    }

    #[test]
    fn a_plan_of_a_newer_version_is_known_as_one() {
        let mut left = prepared(&plan());
        left.plan = Some(Bytes::from_static(b"KNSP\x02whatever it holds"));
        assert_eq!(found(&left, Checkpoint::TrimHorizon), Found::Unreadable(newer(2)));
        let overtaken = found(&left, left.checkpoint);
        assert!(matches!(overtaken, Found::Nothing(_)), "a Java owner has moved the checkpoint past it");
    }

    #[test]
    fn a_damaged_plan_of_ours_is_not_taken_for_another_programs() {
        let mut left = prepared(&plan());
        left.plan = left.plan.map(|plan| plan.slice(..plan.len() - 9));
        assert!(matches!(found(&left, Checkpoint::TrimHorizon), Found::Unreadable(_)));
    }

    #[test]
    fn a_plan_that_is_to_be_finished_as_it_is_says_so_and_one_that_does_not_count_cannot_be() {
        let left = prepared(&plan());
        let asked = Prepared { plan: finished_as_is(&left, Checkpoint::TrimHorizon).ok(), ..left.clone() };
        let wanted = Plan { as_is: true, ..plan() };
        assert_eq!(found(&asked, Checkpoint::TrimHorizon), Found::Plan(Box::new(wanted)));
        let overtaken = finished_as_is(&left, left.checkpoint).unwrap_err();
        assert!(overtaken.contains("the checkpoint has moved past it"), "{overtaken}");
        let newer = Prepared { plan: Some(Bytes::from_static(b"KNSP\x07")), ..left };
        assert!(finished_as_is(&newer, Checkpoint::TrimHorizon).unwrap_err().contains("version 7"));
    }

    #[test]
    fn settings_that_differ_are_named() {
        let now: Recipe = [("sink.0.format", "raw"), ("transform.jq", ".")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(plan().differs_from(&now), ["transform.jq", "sink.0.format"]);
        assert!(plan().differs_from(&plan().recipe).is_empty());
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_no_plan_and_do_no_harm(bytes: Vec<u8>, ours: bool) {
            let mut state = if ours { b"KNSP\x01".to_vec() } else { Vec::new() };
            state.extend(bytes);
            let left = Prepared { checkpoint: Checkpoint::At(plan().last), plan: Some(state.into()) };
            prop_assert!(!matches!(found(&left, Checkpoint::TrimHorizon), Found::Plan(_)));
        }

        #[test]
        fn what_is_written_is_read(content: u128, sequence in "[1-9][0-9]{0,55}", sub: u64, recipe: BTreeMap<String, String>) {
            let last = position(&sequence, sub);
            let named = (sub % 2 == 0).then_some((plan().first, last));
            let written = Plan { content, last, recipe, named, ..plan() };
            prop_assert_eq!(found(&prepared(&written), Checkpoint::TrimHorizon), Found::Plan(Box::new(written)));
        }
    }
}
