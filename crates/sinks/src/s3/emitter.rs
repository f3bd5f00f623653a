//! Windows to objects.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use kinesink_core::{Batch, Budget, Class, Emitted, Emitter, Failure, Fingerprint, Item, Reject};
use tracing::{debug, warn};
use uuid::Uuid;

use super::compressor::Compressor;
use super::config::{Compression, Format, Naming, S3Config};
use super::contents::Contents;
use super::format::Body;
use super::key::Partition;
use super::parquet::{Columns, SchemaError};
use super::store::{Object, Put, Store};
use crate::Error;

/// Objects of one window that are sent at a time.
const OBJECTS_AT_ONCE: usize = 16;

/// Writes each window as one object, or as one for each of its partitions. Effectively once, as the pipeline sends an
/// announced window again as it was; every put is create-only, so nothing is ever overwritten.
#[derive(Debug)]
pub struct S3Emitter {
    store: Store,
    prefix: String,
    config: S3Config,
    /// Where objects are Parquet files.
    columns: Option<Columns>,
    /// The memory that encoded copies may take.
    encoding: Budget,
}

/// The items of a window that share an object, by index, in order.
type Partitions = BTreeMap<Partition, Vec<usize>>;

impl S3Emitter {
    /// Prepares the sink. Sends nothing yet: [`check`](Emitter::check) does.
    ///
    /// # Errors
    /// [`Error::Setting`] where a bucket has no client, or columns are none of a Parquet file.
    pub fn open(config: S3Config) -> Result<Self, Error> {
        let (store, prefix) = config.open()?;
        let encoding = Budget::new(config.encoded_bytes_max);
        let columns = config.parquet.as_ref().map(Columns::open).transpose();
        let refuse = |error: SchemaError| Error::Setting { place: config.location.to_string(), why: error.to_string() };
        let columns = columns.map_err(refuse)?;
        Ok(Self { store, prefix, config, columns, encoding })
    }

    fn partitions(&self, items: &[&Item<Bytes>]) -> Partitions {
        let template = &self.config.key;
        let mut partitions = Partitions::new();
        match items.first() {
            Some(first) if template.is_one_partition() => {
                partitions.insert(template.partition(first), (0..items.len()).collect());
            }
            _ => {
                for (index, item) in items.iter().enumerate() {
                    partitions.entry(template.partition(item)).or_default().push(index);
                }
            }
        }
        partitions
    }

    /// Makes the object of one partition durable; says which items that concerned. What the format cannot hold is handed
    /// back.
    async fn publish(
        &self,
        batch: &Batch<'_, Bytes>,
        partition: Partition,
        indexes: Vec<usize>,
    ) -> (Vec<usize>, Result<Rejects, Failure>) {
        let items = indexes.iter().filter_map(|index| Some((*index, *batch.items.get(*index)?))).collect();
        let outcome = self.publish_items(batch, &partition, items).await;
        (indexes, outcome)
    }

    async fn publish_items(
        &self,
        batch: &Batch<'_, Bytes>,
        partition: &Partition,
        mut items: Vec<(usize, &Item<Bytes>)>,
    ) -> Result<Rejects, Failure> {
        let value_bytes: usize = items.iter().map(|(_, item)| item.value.len()).sum();
        let _reservation = self.encoding.reserve(value_bytes).await;

        let (chunks, rejects) = match &self.columns {
            Some(columns) => columns.encode(batch, &items).await?,
            None => self.encode(&items).await?,
        };
        items.retain(|(index, _)| rejects.binary_search_by_key(index, |(rejected, _)| *rejected).is_err());
        if items.is_empty() {
            return Ok(rejects);
        }
        let contents = Contents::of(batch, items.iter().map(|(_, item)| *item));
        let key = self.key(batch, partition, contents.count);
        let url = self.config.location.object(&key);
        let is_named_by_window = self.config.naming != Naming::Unique;
        let object = Object { key, chunks, contents: contents.clone(), is_named_by_window };
        let (items, object_bytes) = (contents.count, object.bytes());
        match self.store.create(object).await? {
            Put::Created => debug!(object = url, items, object_bytes, "object written"),
            Put::Exists(Some(there)) if there.digest == contents.digest => {
                debug!(object = url, items, "the object is there already, with the same content");
            }
            Put::Exists(there) if batch.keep_existing => {
                let (kept, made) = (told(there.as_ref()), told(Some(&contents)));
                warn!(object = url, kept, made, "the object has other content and is kept, as was asked");
            }
            Put::Exists(there) => return Err(occupied(&url, &contents, there.as_ref())),
        }
        #[cfg(feature = "planted-faults")]
        self.config.planted.pass(kinesink_core::Step::Put).await?;
        Ok(rejects)
    }

    async fn encode(&self, items: &[(usize, &Item<Bytes>)]) -> Result<(Vec<Bytes>, Rejects), Failure> {
        let compressor = Compressor::start(self.config.compression);
        let (mut body, mut rejects) = (Body::new(self.config.format), Rejects::new());
        for (index, item) in items {
            if let Err(why) = body.push(&item.value) {
                rejects.push((*index, why));
            }
            if let Some(compressor) = &compressor {
                for chunk in body.take_chunks() {
                    compressor.write(chunk).await;
                }
            }
        }
        body.close();
        let mut chunks = body.take_chunks();
        if let Some(compressor) = compressor {
            for chunk in chunks {
                compressor.write(chunk).await;
            }
            let compressed = compressor.finish().await;
            chunks = compressed.map_err(|error| Failure::transient(format!("cannot compress a window: {error}")))?;
        }
        Ok((chunks, rejects))
    }

    fn key(&self, batch: &Batch<'_, Bytes>, partition: &Partition, count: usize) -> String {
        let mut key = partition.key(&self.prefix, batch, count);
        match self.config.naming {
            Naming::Positions => {}
            Naming::Unique => key.push_str(&format!("-{}", Uuid::new_v4().simple())),
            Naming::Replay => key.push_str("-replay"),
        }
        key.push_str(self.extension());
        key
    }

    fn extension(&self) -> &'static str {
        if self.columns.is_some() {
            return ".parquet";
        }
        match (self.config.format, self.config.compression) {
            (Format::Ndjson, Compression::None) => ".ndjson",
            (Format::Ndjson, Compression::Gzip) => ".ndjson.gz",
            (Format::Ndjson, Compression::Zstd) => ".ndjson.zst",
            (Format::Raw, Compression::None) => ".raw",
            (Format::Raw, Compression::Gzip) => ".raw.gz",
            (Format::Raw, Compression::Zstd) => ".raw.zst",
            (Format::LengthDelimited, Compression::None) => ".delimited",
            (Format::LengthDelimited, Compression::Gzip) => ".delimited.gz",
            (Format::LengthDelimited, Compression::Zstd) => ".delimited.zst",
        }
    }
}

/// Items that an object cannot hold, by index, in order.
type Rejects = Vec<(usize, Reject)>;

/// What an object holds, for a message.
fn told(contents: Option<&Contents>) -> String {
    match contents {
        Some(Contents { shard, first, last, count, .. }) => {
            format!("{count} items of records {first} to {last} of {shard}")
        }
        None => "none that kinesink wrote".into(),
    }
}

/// Another object has the name.
fn occupied(url: &str, ours: &Contents, theirs: Option<&Contents>) -> Failure {
    let (ours, theirs) = (told(Some(ours)), told(theirs));
    Failure::configuration(format!(
        "{url} exists with other content ({theirs}) than the {ours} give now: another application or configuration wrote it; \
         move it away, or give this sink another prefix"
    ))
}

#[async_trait]
impl Emitter<Bytes> for S3Emitter {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        let partitions = self.partitions(&batch.items);
        let parts = partitions.len();
        let publish = |(partition, indexes)| self.publish(batch, partition, indexes);
        let published = stream::iter(partitions.into_iter().map(publish)).buffer_unordered(OBJECTS_AT_ONCE);
        let published: Vec<_> = published.collect().await;

        let (mut emitted, mut failed) = (Emitted::all(), Vec::new());
        for (indexes, outcome) in published {
            match outcome {
                Ok(rejects) => rejects.into_iter().for_each(|(index, why)| emitted.reject(index, why)),
                Err(failure) => failed.push((indexes, failure)),
            }
        }
        // A failure of all of them, or one that waiting does not mend, is the sink's. Else what is durable need not be sent
        // again.
        let lasting = failed.iter().position(|(_, failure)| failure.class != Class::Transient);
        let all = (!failed.is_empty() && failed.len() == parts).then_some(0);
        if let Some(index) = lasting.or(all) {
            return Err(failed.swap_remove(index).1);
        }
        for (indexes, failure) in failed {
            for index in indexes {
                emitted.retry(index, Reject::new(failure.message.clone()));
            }
        }
        Ok(emitted)
    }

    /// An object is named by its window, and by what its records say.
    fn plan(&self, batch: &Batch<'_, Bytes>, content: &mut Fingerprint) -> bool {
        if self.config.naming == Naming::Unique {
            return false;
        }
        content.part(self.config.location.to_string().as_bytes());
        content.part(self.config.key.settings().template.as_bytes());
        content.part(self.extension().as_bytes());
        if let Some(parquet) = &self.config.parquet {
            content.part(parquet.schema.to_string().as_bytes());
        }
        let is_one = self.config.key.is_one_partition();
        for item in &batch.items {
            if !is_one {
                self.config.key.partition(item).feed(content);
            }
            content.part(&item.value);
        }
        true
    }

    async fn check(&self) -> Result<(), Failure> {
        self.store.check().await
    }
}
