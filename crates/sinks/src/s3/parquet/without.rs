//! A program without the feature `parquet`.

use kinesink_core::Failure;

use super::schema::{ParquetSettings, SchemaError};
use crate::rows::Rows;
use crate::s3::blocks::{Encoded, Overflow};
use crate::s3::contents::{Origin, Rejects};

/// There are none.
#[derive(Debug)]
pub(in crate::s3) enum Columns {}

impl Columns {
    pub(in crate::s3) fn open(_: &ParquetSettings) -> Result<Self, SchemaError> {
        Err(SchemaError("this program was built without Parquet: build it with the feature `parquet`".into()))
    }

    pub(in crate::s3) async fn encode(
        &self,
        _: Origin<'_>,
        _: &Rows<'_>,
        _: Option<Overflow>,
        _: usize,
    ) -> Result<(Encoded, Rejects), Failure> {
        match *self {}
    }
}
