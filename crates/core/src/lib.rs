//! The nouns and the traits of kinesink, the connector from Amazon Kinesis to sinks. No I/O, no runtime, no AWS.
//!
//! One shard's records go through four interfaces, named as in the Java Kinesis Connector Library:
//!
//! ```text
//! while let Records(records) = reader.next() {
//!     for record in records {
//!         for model in transformer.to_model(record)? {        // a reject goes to the dead letters
//!             if filter.keep(model) { buffer.push(model) }
//!         }
//!         if buffer.should_flush(now) {                        // the window closes
//!             outputs = buffer.take().map(transformer.to_output)
//!             loop { settlement.emitted(emitter.emit(batch of what is unsettled)) }
//!             checkpointer.commit(settlement.finish()?)        // the watermark moves, on proof
//!         }
//!     }
//! }
//! ```
//!
//! The loop itself is in `kinesink-pipeline`; who owns a shard is decided in `kinesink-consumer`.
//!
//! ```
//! use kinesink_core::{Checkpoint, Emitted, Reject, Settlement};
//!
//! // A window of two items for one sink; the sink refuses the second for good.
//! let mut settlement = Settlement::new(Checkpoint::ShardEnd, 1, 2, 0);
//! let mut emitted = Emitted::all();
//! emitted.reject(1, Reject::new("too long"));
//! let refused = settlement.emitted(0, &emitted).unwrap();
//! assert_eq!(refused.len(), 1);
//! // Not durable yet: the refused item is not in the dead letters.
//! let mut settlement = settlement.finish().unwrap_err();
//! settlement.dead_lettered(refused.len());
//! assert_eq!(settlement.finish().unwrap().through(), Checkpoint::ShardEnd);
//! ```
//!
//! Limits: a sequence number has at most 129 digits; a budget is counted in whole KiB.

mod budget;
mod buffer;
mod clock;
mod emitter;
mod error;
mod filter;
mod fingerprint;
mod ids;
mod partition_key;
#[cfg(feature = "planted-faults")]
mod planted;
mod position;
mod record;
mod retry;
mod sequence_number;
mod settlement;
mod shard;
#[cfg(feature = "testkit")]
pub mod testkit;
mod transformer;

pub use budget::{Budget, Holder, Reservation};
pub use buffer::{Buffer, CloseReason, Item};
pub use clock::{Clock, SystemClock};
pub use emitter::{Batch, Emitted, Emitter, Exception, Files, Partition, Piece, Pieces};
pub use error::{Class, Error, Failure, Reject};
pub use filter::Filter;
pub use fingerprint::Fingerprint;
pub use ids::{ShardId, StreamName};
pub use partition_key::PartitionKey;
#[cfg(feature = "planted-faults")]
pub use planted::{Fault, Planted, Step};
pub use position::{Checkpoint, Position};
pub use record::Record;
pub use retry::Backoff;
pub use sequence_number::SequenceNumber;
pub use settlement::{Durable, Settlement};
pub use shard::{CheckpointError, Checkpointer, Prepared, Read, Records, ShardReader};
pub use transformer::Transformer;
