//! Moves the records of one shard through transformer, filter, buffer and emitters, and says up to which position
//! everything is safe.

mod commit;
mod dead_letter;
mod error;
mod health;
mod metrics;
mod pause;
mod pipeline;
mod shard_pipeline;
mod window_buffer;

pub use dead_letter::DeadLetter;
pub use error::Error;
pub use health::{Health, HealthReport, ShardStatus};
pub use metrics::{METRICS, MetricRow, Metrics};
pub use pipeline::{Finished, Pipeline, Retry, ShardInput, Sink};
pub use window_buffer::{WindowBuffer, WindowLimits};
