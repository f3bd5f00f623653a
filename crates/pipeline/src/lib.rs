//! Moves the records of one shard through transformer, filter, buffer and emitters, and says up to which position
//! everything is safe.
//!
//! A [`Pipeline`] holds one of each interface for every shard of a connector; [`Pipeline::run_shard`] is the loop of
//! one shard, a single task:
//!
//! ```text
//! loop {
//!     while no full window waits { for record in reply { models → filter → open window; close it at a limit } }
//!     if nothing commits { commit(full window) }
//!     wait for the first of {
//!         the commit     → the checkpoint has moved: go on; refused without dead letters: go back, halt
//!         drain          → close the window; when it is committed, return
//!         memory wanted  → spill the window, or close it
//!         age            → close the window, traffic or not
//!         the reader     → a reply, or the shard's end: close the window at SHARD_END
//!     }
//! }
//!
//! commit(window):
//!     encode every model                                        // a reject is a dead letter
//!     if a sink needs exactly this window { announce it in the lease row }
//!     for each sink, side by side { send; send again what it did not take, for as long as it takes }
//!     write the dead letters
//!     checkpoint what is proven durable
//! ```
//!
//! What a failure does is its [`Class`](kinesink_core::Class): *transient* pauses the shard and is tried again;
//! *configuration* does so slowly, is reported as a halt, and does not hold up a drain; if a sink's lasts, the shard
//! halts: its memory is given back, and it reads again from its checkpoint, ever more slowly; *fatal* ends the shard.
//! A record that is refused where there are no dead letters halts the shard: what came before it is committed, memory
//! is given back, and the record is tried again, alone and ever more slowly.
//!
//! A sink says by [`Emitter::plan`](kinesink_core::Emitter::plan) that what it leaves depends on where a window begins
//! and ends. Such a window is announced before any sink has a part of it, and from then on is sent as a whole or not
//! at all: by this owner after a halt, or by the next one, who reads it again from its first record to its last. A
//! digest of keys and outputs is compared first; a window that comes out differently halts its shard.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use kinesink_core::{Batch, Emitted, Emitter, Failure, Record, Reject, Transformer};
//! use kinesink_pipeline::{Pipeline, Sink, WindowLimits};
//!
//! /// Words of text.
//! struct Words;
//!
//! impl Transformer for Words {
//!     type Model = String;
//!     type Output = String;
//!     fn to_model(&self, record: &Record, models: &mut Vec<String>) -> Result<(), Reject> {
//!         let text = std::str::from_utf8(&record.data).map_err(|_| Reject::new("not UTF-8"))?;
//!         models.extend(text.split_whitespace().map(str::to_owned));
//!         Ok(())
//!     }
//!     fn to_output(&self, word: String) -> Result<String, Reject> {
//!         Ok(word)
//!     }
//! }
//!
//! /// Remembers what it got.
//! #[derive(Default)]
//! struct Memory(Mutex<Vec<String>>);
//!
//! #[async_trait::async_trait]
//! impl Emitter<String> for Memory {
//!     async fn emit(&self, batch: &Batch<'_, String>) -> Result<Emitted, Failure> {
//!         let mut words = self.0.lock().map_err(|_| Failure::fatal("the memory is poisoned"))?;
//!         words.extend(batch.items.iter().map(|item| item.value.clone()));
//!         Ok(Emitted::all())
//!     }
//! }
//!
//! let pipeline = Pipeline::new(Words, Sink::new("memory", Arc::new(Memory::default())))
//!     .filter(Arc::new(|word: &String| word.len() > 3))
//!     .limits(WindowLimits { records: 1_000, ..WindowLimits::default() });
//! # drop(pipeline);
//! ```
//!
//! A window that memory does not hold goes to a disk, if the pipeline has one ([`Pipeline::spill`]): as outputs, and by
//! partition. It is announced and delivered as any other, a piece of it in memory at a time.
//!
//! Limits: one window fills while one commits, never more. A window holds the memory of each reply that it has a
//! record of, until it is committed or spilled. What a transformer makes beyond the record's own bytes is not in that memory: a
//! buffer that counts it ([`WindowBuffer::sized`]) closes the window, of which two are held for each shard. A
//! transformer runs on the shard's task: models are made 512 records a turn, outputs for a whole window at once, so one
//! that blocks holds its shard up.

mod burying;
mod commit;
mod dead_letter;
mod division;
mod error;
mod event;
mod files_report;
mod health;
#[cfg(feature = "jq")]
mod jq;
mod metrics;
mod outputs;
#[cfg(feature = "pattern")]
mod pattern;
mod pause;
mod pipeline;
mod plan;
#[cfg(feature = "planted-faults")]
mod planted;
mod replay;
mod shard_pipeline;
mod spill;
mod window_buffer;

pub use commit::DEAD_LETTERS;
pub use dead_letter::DeadLetter;
pub use error::Error;
pub use event::{Event, Needs, Raw};
pub use files_report::FilesReport;
pub use health::{Health, HealthReport, ShardStatus};
#[cfg(feature = "jq")]
pub use jq::{JQ_STACK_BYTES, Jq};
pub use metrics::{METRICS, MetricRow, Metrics, Progress};
#[cfg(feature = "pattern")]
pub use pattern::PatternFilter;
pub use pipeline::{Finished, Pipeline, Retry, ShardInput, Sink};
pub use plan::{Recipe, announced_recipe, finished_as_is};
pub use replay::{OutputId, OutputIds, Refusal, RefusedWindow, Remade, Resent};
pub use spill::Spill;
pub use window_buffer::{WindowBuffer, WindowLimits};
