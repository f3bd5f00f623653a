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
//!
//! Without the feature `parquet` there are only the declarations: an emitter of them cannot be opened.

#[cfg(feature = "parquet")]
mod changes;
#[cfg(feature = "parquet")]
mod file;
#[cfg(feature = "parquet")]
mod infer;
#[cfg(feature = "parquet")]
mod layout;
#[cfg(feature = "parquet")]
mod leaf;
#[cfg(feature = "parquet")]
mod members;
#[cfg(feature = "parquet")]
mod number;
#[cfg(feature = "parquet")]
mod rows;
mod schema;
#[cfg(test)]
#[cfg(feature = "parquet")]
mod tests;
mod type_text;
#[cfg(feature = "parquet")]
mod value;
#[cfg(not(feature = "parquet"))]
mod without;

#[cfg(feature = "parquet")]
pub use infer::{Proposal, Sample};
pub use schema::{
    Codec, Column, ColumnType, FileSettings, OnMismatch, ParquetSettings, REST, Schema, SchemaError, Statistics,
    TimeForm,
};

#[cfg(feature = "parquet")]
pub(super) use changes::Columns;
#[cfg(not(feature = "parquet"))]
pub(super) use without::Columns;
