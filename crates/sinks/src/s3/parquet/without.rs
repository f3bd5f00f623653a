//! A program without the feature `parquet`.

use bytes::Bytes;
use kinesink_core::{Batch, Failure, Item, Reject};

use super::schema::{ParquetSettings, SchemaError};

/// There are none.
#[derive(Debug)]
pub(in crate::s3) enum Columns {}

impl Columns {
    pub(in crate::s3) fn open(_: &ParquetSettings) -> Result<Self, SchemaError> {
        Err(SchemaError("this program was built without Parquet: build it with the feature `parquet`".into()))
    }

    pub(in crate::s3) async fn encode(
        &self,
        _: &Batch<'_, Bytes>,
        _: &[(usize, &Item<Bytes>)],
    ) -> Result<(Vec<Bytes>, Vec<(usize, Reject)>), Failure> {
        match *self {}
    }
}
