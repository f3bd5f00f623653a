//! The pipeline file: TOML in, a checked [`Config`] out, or every mistake with its line and a hint.
//!
//! ```text
//! text ─ toml ─► RawConfig ─ validate ─► Config ─ connector_from ─► a connector
//!        syntax, unknown keys, types     values, contradictions
//! ```
//!
//! ```
//! use kinesink::config::Config;
//!
//! let text = r#"
//!     version = 1
//!     app = "orders-to-files"
//!     [source]
//!     stream = "orders"
//!     [[sink]]
//!     type = "s3"
//!     url = "file:///var/orders"
//! "#;
//! let config = Config::parse(text, "orders.toml")?;
//! assert_eq!(config.buffer.records, 10_000);
//!
//! let error = Config::parse(&text.replace("stream", "steam"), "orders.toml").unwrap_err();
//! assert_eq!(error.to_string(), "unknown key `source.steam`");
//! # Ok::<(), kinesink::config::ConfigError>(())
//! ```
//!
//! Every key is described in `docs/config.md`, which [`reference()`] makes from the types.

mod error;
mod raw;
mod reference;
mod secrets;
mod structure;
#[cfg(test)]
mod tests;
mod validate;
mod validated;
mod values;

pub use error::ConfigError;
pub use raw::{Compression, Format};
pub use reference::{EXAMPLE, reference};
pub use validate::{TABLE_NAME, WORKER_ID, is_table_name, is_worker_id};
pub use validated::{Buffer, Config, DeadLetter, Lease, Sink, Source, Spill, TableSink};
