//! Rows to the bytes of a Parquet file.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;

use super::layout::Layout;
use super::rows::{Change, Mismatch, Refusal, Rows};
use super::schema::{Codec, Schema, SchemaError};
use crate::s3::blocks::Blocks;

/// A row group closes when its rows take so much memory, their texts included, or are so many.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;
const ROW_GROUP_ROWS: usize = 1024 * 1024;
/// A page closes at so many bytes, which is what readers decode at a time.
const PAGE_BYTES: usize = 1024 * 1024;
/// A column whose different values take more than this is written without a dictionary from there on.
const DICTIONARY_BYTES: usize = 1024 * 1024;
/// In the form that readers parse, which otherwise distrust statistics of texts.
const CREATED_BY: &str = concat!("kinesink version ", env!("CARGO_PKG_VERSION"));

/// Makes files of one schema.
#[derive(Debug)]
pub(super) struct Encoder {
    layout: Layout,
    properties: WriterPropertiesPtr,
}

/// A file, and what of the records is not in it.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The file's bytes, in order.
    pub(super) blocks: Vec<Bytes>,
    /// Records that are not in the file, by their place.
    pub(super) refused: Vec<(usize, Refusal)>,
    /// Values that did not fit, whatever became of them.
    pub(super) changes: Vec<Change>,
}

impl Encoder {
    /// For files of this schema.
    ///
    /// # Errors
    /// [`SchemaError`], if Parquet has no such schema.
    pub(super) fn new(schema: &Schema, codec: Codec) -> Result<Self, SchemaError> {
        let layout = Layout::of(schema).map_err(|error| SchemaError(error.to_string()))?;
        let compression = match codec {
            Codec::None => Compression::UNCOMPRESSED,
            Codec::Snappy => Compression::SNAPPY,
            Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.into())
            .set_compression(compression)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_dictionary_enabled(true)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_data_page_size_limit(PAGE_BYTES)
            .build();
        Ok(Self { layout, properties: Arc::new(properties) })
    }

    /// Which field it is, what is declared, and what was found.
    #[must_use]
    pub(super) fn describe(&self, mismatch: Mismatch) -> String {
        let found = mismatch.found;
        match self.layout.names.get(mismatch.field) {
            Some((path, declared)) => format!("field `{path}`: {declared} is declared, {found} was found"),
            None => found.into(),
        }
    }

    /// A file of the records, in order. Its footer has these keys and values, and how many rows there are. Takes as long as the records are large:
    /// it belongs on a thread that may block.
    ///
    /// # Errors
    /// The encoder's own, whose cause is no record: they are a fault of this program.
    pub(super) fn encode<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Bytes>,
        metadata: Vec<(&str, String)>,
    ) -> Result<Encoded, ParquetError> {
        let file_type = Arc::clone(&self.layout.file_type);
        let mut file = SerializedFileWriter::new(Blocks::default(), file_type, Arc::clone(&self.properties))?;
        let (mut rows, mut refused, mut written) = (Rows::new(&self.layout), Vec::new(), 0);
        for (index, record) in records.into_iter().enumerate() {
            if let Err(refusal) = rows.push(record) {
                refused.push((index, refusal));
            }
            let (count, bytes) = rows.buffered();
            if bytes >= ROW_GROUP_BYTES || count >= ROW_GROUP_ROWS {
                written += count;
                write_row_group(&mut file, &mut rows)?;
            }
        }
        let (count, _) = rows.buffered();
        if count > 0 {
            written += count;
            write_row_group(&mut file, &mut rows)?;
        }
        for (key, value) in metadata.into_iter().chain([("kinesink-count", written.to_string())]) {
            file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let blocks = file.into_inner()?.close();
        Ok(Encoded { blocks, refused, changes: rows.into_changes() })
    }
}

fn write_row_group(file: &mut SerializedFileWriter<Blocks>, rows: &mut Rows<'_>) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    for leaf in rows.leaves() {
        let Some(mut column) = group.next_column()? else { break };
        leaf.write(&mut column)?;
        column.close()?;
    }
    group.close()?;
    rows.clear();
    Ok(())
}
