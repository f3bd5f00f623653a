//! Contract suites for implementations of the traits, and what their tests need: sample records, a clock to set.
//!
//! One suite a trait. It drives an implementation and looks at the result by other means than the implementation's
//! own, and answers with the first [`Broken`] rule:
//!
//! ```
//! use std::sync::Mutex;
//!
//! use kinesink_core::testkit::{EmitterPromises, emitter_contract};
//! use kinesink_core::{Batch, Emitted, Emitter, Failure};
//!
//! /// Keeps lines in memory.
//! #[derive(Default)]
//! struct Lines(Mutex<Vec<String>>);
//!
//! #[async_trait::async_trait]
//! impl Emitter<String> for Lines {
//!     async fn emit(&self, batch: &Batch<'_, String>) -> Result<Emitted, Failure> {
//!         let mut lines = self.0.lock().map_err(|_| Failure::fatal("a writer panicked"))?;
//!         lines.extend(batch.items.iter().map(|item| item.value.clone()));
//!         Ok(Emitted::all())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let lines = Lines::default();
//! let output = |record: &kinesink_core::Record| String::from_utf8_lossy(&record.data).into_owned();
//! let stored = async || lines.0.lock().map(|lines| lines.clone()).unwrap_or_default();
//!
//! let promises = EmitterPromises { ordered: true, idempotent: false };
//! emitter_contract(&lines, promises, output, stored).await?;
//!
//! // It doubles what is sent again, so it must not promise otherwise.
//! let lines = Lines::default();
//! let stored = async || lines.0.lock().map(|lines| lines.clone()).unwrap_or_default();
//! let promises = EmitterPromises { ordered: true, idempotent: true };
//! let broken = emitter_contract(&lines, promises, output, stored).await.unwrap_err();
//! assert_eq!(broken.rule, "what is sent again is stored once");
//! # Ok::<(), kinesink_core::testkit::Broken>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: a suite shows that rules are broken, never that they all hold. Durability across a crash of the machine is
//! beyond it.

mod buffer;
mod checkpointer;
mod clock;
mod emitter;
mod filter;
mod sample;
mod transformer;

pub use buffer::{BufferLimits, buffer_contract};
pub use checkpointer::{StoredLease, checkpointer_contract, durable};
pub use clock::ManualClock;
pub use emitter::{EmitterPromises, emitter_contract};
pub use filter::filter_contract;
pub use sample::{sample_record, sample_shard, sample_stream};
pub use transformer::transformer_contract;

/// The rule of a contract that an implementation breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken rule: {rule}: {detail}")]
pub struct Broken {
    /// The rule, as the suite's documentation words it.
    pub rule: &'static str,
    /// What was seen instead.
    pub detail: String,
}

fn require(kept: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    if kept { Ok(()) } else { Err(Broken { rule, detail: detail() }) }
}
