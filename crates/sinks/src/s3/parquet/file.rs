//! Rows to the bytes of a Parquet file.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;

use super::layout::Layout;
use super::rows::{Change, Mismatch, Refusal, Rows};
use super::schema::{Codec, FileSettings, Schema, SchemaError, Statistics};
use crate::s3::blocks::{Blocks, Encoded};

/// A row group closes with so many rows, whatever they take,
const ROW_GROUP_ROWS: usize = 1024 * 1024;
/// or when its records are so many times what its values may take: their texts are slices of them.
const RECORDS_PER_ROW_GROUP: usize = 4;
/// A page's limit is looked at after so many values, or fewer where they could pass it by far if each took so much.
const VALUES_AT_ONCE_MAX: usize = 1024;
const BYTES_PER_VALUE: usize = 256;
/// In the form that readers parse, which otherwise distrust statistics of texts.
const CREATED_BY: &str = concat!("kinesink version ", env!("CARGO_PKG_VERSION"));

/// Makes files of one schema.
#[derive(Debug)]
pub(super) struct Encoder {
    layout: Layout,
    properties: WriterPropertiesPtr,
    row_group_bytes: usize,
}

/// A file, and what of the records is not in it.
#[derive(Debug)]
pub(super) struct EncodedFile {
    /// The file's bytes.
    pub(super) body: Encoded,
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
    pub(super) fn new(schema: &Schema, codec: Codec, settings: FileSettings) -> Result<Self, SchemaError> {
        let layout = Layout::of(schema).map_err(|error| SchemaError(error.to_string()))?;
        let compression = match codec {
            Codec::None => Compression::UNCOMPRESSED,
            Codec::Snappy => Compression::SNAPPY,
            Codec::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let statistics = match settings.statistics {
            Statistics::Page => EnabledStatistics::Page,
            Statistics::RowGroup => EnabledStatistics::Chunk,
            Statistics::None => EnabledStatistics::None,
        };
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.into())
            .set_compression(compression)
            .set_statistics_enabled(statistics)
            .set_dictionary_enabled(settings.dictionary_bytes > 0)
            .set_dictionary_page_size_limit(settings.dictionary_bytes)
            .set_data_page_size_limit(settings.page_bytes)
            .set_write_batch_size((settings.page_bytes / BYTES_PER_VALUE).clamp(1, VALUES_AT_ONCE_MAX))
            .build();
        Ok(Self { layout, properties: Arc::new(properties), row_group_bytes: settings.row_group_bytes })
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
    /// it belongs on a thread that may block. It ends before its time once more than `refused_max` are refused.
    ///
    /// # Errors
    /// The encoder's own, whose cause is no record: they are a fault of this program.
    pub(super) fn encode<B: Borrow<Bytes>>(
        &self,
        records: impl IntoIterator<Item = B>,
        metadata: Vec<(&str, String)>,
        out: Blocks,
        refused_max: usize,
    ) -> Result<EncodedFile, ParquetError> {
        let file_type = Arc::clone(&self.layout.file_type);
        let mut file = SerializedFileWriter::new(out, file_type, Arc::clone(&self.properties))?;
        let (mut rows, mut refused, mut written) = (Rows::new(&self.layout), Vec::new(), 0);
        let (records_max, mut records_bytes) = (self.row_group_bytes.saturating_mul(RECORDS_PER_ROW_GROUP), 0_usize);
        for (index, record) in records.into_iter().enumerate() {
            if let Err(refusal) = rows.push(record.borrow()) {
                refused.push((index, refusal));
                if refused.len() > refused_max {
                    break;
                }
            } else {
                records_bytes += record.borrow().len();
            }
            let (count, bytes) = rows.buffered();
            if bytes >= self.row_group_bytes || records_bytes >= records_max || count >= ROW_GROUP_ROWS {
                written += count;
                records_bytes = 0;
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
        let body = file.into_inner()?.close();
        Ok(EncodedFile { body, refused, changes: rows.into_changes() })
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
