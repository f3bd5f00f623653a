//! Records, a JSON object each, to Parquet files of declared columns.
//!
//! ```text
//! schema  = the columns of the pipeline file           // or what a sample of records proposes
//! layout  = its tree of fields, its leaves, its file type
//! for each record:
//!     rows.push(record)                                // its values to the leaves' buffers, or a refusal
//!     if the buffers are full: a row group of them
//! file    = the row groups, and who wrote what from where
//! ```
//!
//! A record's values go straight to the buffers of the columns, with the levels that say where a null or a list stands:
//! nothing is made of it in between. Text without escapes stays a slice of the record.
//!
//! Nothing is dropped: a field that the columns do not hold in full stands in the rest column as it was, and a value that
//! does not fit its column is treated as that column says.
//!
//! The bytes of a file depend on its records, its schema and this program's version alone.

mod file;
mod infer;
mod layout;
mod leaf;
mod members;
mod number;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod type_text;
mod value;

pub use file::{Codec, Encoded, Encoder};
pub use infer::{Proposal, Sample};
pub use rows::{Change, Mismatch, Outcome, Refusal};
pub use schema::{Column, ColumnType, OnMismatch, REST, Schema, SchemaError, TimeForm};
