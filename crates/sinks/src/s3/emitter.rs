//! Windows to objects.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use kinesink_core::{Batch, Emitted, Emitter, Failure, Fingerprint, Item, Partition, Reject};
use tracing::{debug, warn};
use uuid::Uuid;

use super::blocks::{Encoded, Overflow};
use super::compressor::Compressor;
use super::config::{Compression, Format, Naming, S3Config};
use super::contents::{Contents, Origin, Rejects};
use super::error;
use super::format::Body;
use super::key::{self, Divided};
use super::lifecycle::LeftUploads;
use super::parquet::{Columns, SchemaError};
use super::store::{Object, Put, Store};
use super::unknown_fields::UnknownFields;
use crate::event_times::EventTimes;
use crate::rows::Rows;
use crate::{Error, failures};

/// Objects of one window that are sent at a time.
const OBJECTS_AT_ONCE: usize = 16;
/// Refused items of a spilled partition that are kept in mind until its object is there, with some 150 bytes each.
const REFUSED_MAX: usize = 16 * 1024;

/// Writes each window as one object, or as one for each of its partitions. Effectively once, as the pipeline sends an
/// announced window again as it was; every put is create-only, so nothing is ever overwritten.
#[derive(Debug)]
pub struct S3Emitter {
    store: Store,
    prefix: String,
    config: S3Config,
    /// Where objects are Parquet files.
    columns: Option<Columns>,
    times: EventTimes,
    unknown: UnknownFields,
}

/// What became of one object: the items that it does not hold, and its bytes if it was made now.
pub(super) struct Published {
    pub(super) rejects: Rejects,
    made_bytes: Option<u64>,
}

impl Published {
    fn tell(self, emitted: &mut Emitted) {
        self.rejects.into_iter().for_each(|(index, why)| emitted.reject(index, why));
        if let Some(bytes) = self.made_bytes {
            emitted.made_file(bytes);
        }
    }
}

/// The items of a batch that share an object, by index, in order.
type Partitions = BTreeMap<String, Vec<usize>>;

impl S3Emitter {
    /// Prepares the sink. Sends nothing yet: [`check`](Emitter::check) does.
    ///
    /// # Errors
    /// [`Error::Setting`] where a bucket has no client, or columns are none of a Parquet file; [`Error::Key`] where the place has no
    /// room for the keys.
    pub fn open(mut config: S3Config) -> Result<Self, Error> {
        config.key = config.key.placed(&config.location)?;
        let (store, prefix) = config.open()?;
        let columns = config.parquet.as_ref().map(Columns::open).transpose();
        let refuse = |error: SchemaError| Error::Setting { place: config.location.to_string(), why: error.to_string() };
        let columns = columns.map_err(refuse)?;
        let unknown = UnknownFields::new(&config.key);
        Ok(Self { store, prefix, config, columns, times: EventTimes::default(), unknown })
    }

    /// What becomes of the parts of large objects that killed writers leave, as far as the bucket says so; none in a directory.
    pub async fn left_uploads(&self) -> Option<LeftUploads> {
        self.store.left_uploads().await
    }

    fn partitions(&self, batch: &Batch<'_, Bytes>) -> Partitions {
        let template = &self.config.key;
        let mut partitions = Partitions::new();
        if let Some(whole) = template.undivided() {
            partitions.insert(whole, (0..batch.items.len()).collect());
            return partitions;
        }
        for (index, item) in batch.items.iter().enumerate() {
            let known = batch.partitions.get(index).copied();
            if let Some(indexes) = known.and_then(|name| partitions.get_mut(name)) {
                indexes.push(index);
                continue;
            }
            let name = known.map_or_else(|| self.partition_of(item), str::to_owned);
            partitions.entry(name).or_default().push(index);
        }
        partitions
    }

    fn partition_of(&self, item: &Item<Bytes>) -> String {
        let S3Config { key, location, .. } = &self.config;
        let Divided { partition, has_own_time, unknown } = key.divided(&item.value, item.record.arrival);
        if let Some(event_time) = &key.settings().event_time {
            self.times.note(has_own_time, event_time, location);
        }
        self.unknown.note(&unknown, key, location);
        partition
    }

    /// Makes the object of one partition durable; says which items that concerned. What the format cannot hold is handed
    /// back.
    async fn publish_items(
        &self,
        batch: &Batch<'_, Bytes>,
        partition: String,
        indexes: Vec<usize>,
    ) -> (Vec<usize>, Result<Published, Failure>) {
        let items = indexes.iter().filter_map(|index| Some((*index, *batch.items.get(*index)?))).collect();
        let outcome = self.publish(Origin::of_batch(batch), &partition, Rows::Held(items), batch.keep_existing).await;
        (indexes, outcome)
    }

    pub(super) async fn publish(
        &self,
        origin: Origin<'_>,
        partition: &str,
        rows: Rows<'_>,
        keep_existing: bool,
    ) -> Result<Published, Failure> {
        let mut share = self.config.encoding.share(&rows).await;
        let overflow = share.overflow.take();
        let refused_max = if matches!(rows, Rows::Spilled(_)) { REFUSED_MAX } else { usize::MAX };
        let (body, rejects) = self.encode(origin, &rows, overflow, refused_max).await?;
        share.encoded();
        if rejects.len() > refused_max {
            return Ok(Published { rejects, made_bytes: None });
        }
        let contents = Contents::of(origin, &rows, &rejects).await?;
        if contents.count == 0 {
            return Ok(Published { rejects, made_bytes: None });
        }
        let key = self.key(origin, partition, contents.count);
        let url = self.config.location.object(&key);
        let is_named_by_window = self.config.naming != Naming::Unique;
        let object = Object { key, body, contents: contents.clone(), is_named_by_window };
        let (items, object_bytes) = (contents.count, object.body.bytes());
        let mut made_bytes = None;
        match self.store.create(object).await? {
            Put::Created => {
                debug!(object = url, items, object_bytes, "object written");
                made_bytes = Some(object_bytes);
            }
            Put::Exists(Some(there)) if there.digest == contents.digest => {
                debug!(object = url, items, "the object is there already, with the same content");
            }
            Put::Exists(there) if keep_existing => {
                let (kept, made) = (told(there.as_ref()), told(Some(&contents)));
                warn!(
                    object = url,
                    kept,
                    made,
                    items,
                    "the object has other content and is kept, as was asked: what is not in it is delivered nowhere"
                );
            }
            Put::Exists(there) => return Err(self.occupied(&url, &contents, there.as_ref())),
        }
        #[cfg(feature = "planted-faults")]
        self.config.planted.pass(kinesink_core::Step::Put).await?;
        Ok(Published { rejects, made_bytes })
    }

    /// The object, and what of its rows is not in it. Ends before its time once more than `refused_max` are not.
    pub(super) async fn encode(
        &self,
        origin: Origin<'_>,
        rows: &Rows<'_>,
        overflow: Option<Overflow>,
        refused_max: usize,
    ) -> Result<(Encoded, Rejects), Failure> {
        match &self.columns {
            Some(columns) => columns.encode(origin, rows, overflow, refused_max).await,
            None => self.encode_lines(rows, overflow, refused_max).await,
        }
    }

    async fn encode_lines(
        &self,
        rows: &Rows<'_>,
        overflow: Option<Overflow>,
        refused_max: usize,
    ) -> Result<(Encoded, Rejects), Failure> {
        let compressor = Compressor::start(self.config.compression, overflow);
        let (mut body, mut rejects) = (Body::new(self.config.format), Rejects::new());
        let mut number = 0;
        while let Some(piece) = rows.piece(number).await? {
            for (index, item) in piece.iter() {
                if let Err(why) = body.push(&item.value) {
                    rejects.push((index, why));
                }
                if let Some(compressor) = &compressor {
                    for chunk in body.take_chunks() {
                        compressor.write(chunk).await;
                    }
                }
            }
            if rejects.len() > refused_max {
                break;
            }
            number += 1;
        }
        body.close();
        let chunks = body.take_chunks();
        let Some(compressor) = compressor else { return Ok((Encoded::held(chunks), rejects)) };
        for chunk in chunks {
            compressor.write(chunk).await;
        }
        let encoded = compressor.finish().await.map_err(|error| error::encoding(&error))?;
        Ok((encoded, rejects))
    }

    fn key(&self, origin: Origin<'_>, partition: &str, count: usize) -> String {
        let mut key = key::of_object(partition, &self.prefix, origin, count);
        match self.config.naming {
            Naming::Positions => {}
            Naming::Unique => key.push_str(&format!("-{}", Uuid::new_v4().simple())),
            Naming::Replay { round: 1 } => key.push_str("-replay"),
            Naming::Replay { round } => key.push_str(&format!("-replay-{round}")),
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

    /// Another object has the name.
    fn occupied(&self, url: &str, ours: &Contents, theirs: Option<&Contents>) -> Failure {
        let is_of_replay = matches!(self.config.naming, Naming::Replay { .. }) && theirs.is_some();
        let (ours, theirs) = (told(Some(ours)), told(theirs));
        let (why, remedy) = if is_of_replay {
            let why = "a replay that did not come to its end made something else of these letters";
            (why, "replay with the file of then, or remove the object and replay again: it is made anew")
        } else {
            let why = "another application or configuration wrote it";
            (why, "move it away, or give this sink another prefix")
        };
        Failure::configuration(format!(
            "{url} exists with other content ({theirs}) than the {ours} give now: {why}; {remedy}"
        ))
    }
}

/// What an object holds, for a message.
fn told(contents: Option<&Contents>) -> String {
    match contents {
        Some(Contents { shard, first, last, count, .. }) => {
            format!("{count} items of records {first} to {last} of {shard}")
        }
        None => "none that kinesink wrote".into(),
    }
}

#[async_trait]
impl Emitter<Bytes> for S3Emitter {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        let partitions = self.partitions(batch);
        let parts = partitions.len();
        let publish = |(partition, indexes)| self.publish_items(batch, partition, indexes);
        let published = stream::iter(partitions.into_iter().map(publish)).buffer_unordered(OBJECTS_AT_ONCE);
        let published: Vec<_> = published.collect().await;

        let (mut emitted, mut failed) = (Emitted::all(), Vec::new());
        for (indexes, outcome) in published {
            match outcome {
                Ok(published) => published.tell(&mut emitted),
                Err(failure) => failed.push((indexes, failure)),
            }
        }
        if let Some(index) = failures::of_sink(failed.iter().map(|(_, failure)| failure), parts) {
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
    fn plan(&self, content: &mut Fingerprint) -> bool {
        if self.config.naming == Naming::Unique {
            return false;
        }
        content.part(self.config.location.to_string().as_bytes());
        content.part(self.config.key.settings().template.as_bytes());
        content.part(self.extension().as_bytes());
        if let Some(parquet) = &self.config.parquet {
            content.part(parquet.schema.to_string().as_bytes());
        }
        true
    }

    fn plan_item(&self, item: &Item<Bytes>, partition: Option<&str>, content: &mut Fingerprint) {
        if let Some(partition) = partition {
            content.part(partition.as_bytes());
        }
        content.part(&item.value);
    }

    fn partition(&self, item: &Item<Bytes>) -> Option<String> {
        let template = &self.config.key;
        (!template.is_one_partition()).then(|| self.partition_of(item))
    }

    async fn emit_partition(&self, partition: &Partition<'_, Bytes>) -> Result<Emitted, Failure> {
        let whole = self.config.key.undivided();
        let name = whole.as_deref().or(partition.name).unwrap_or_default();
        let (origin, rows) = (Origin::of_partition(partition), Rows::Spilled(partition));
        let mut published = self.publish(origin, name, rows, partition.keep_existing).await?;
        if published.rejects.len() > REFUSED_MAX {
            drop(published);
            published = self.sift(name, partition).await?;
        }
        let mut emitted = Emitted::all();
        published.tell(&mut emitted);
        Ok(emitted)
    }

    async fn check(&self) -> Result<(), Failure> {
        self.store.check().await
    }

    async fn close(&self) -> Result<(), Failure> {
        let S3Config { key, location, .. } = &self.config;
        if let Some(event_time) = &key.settings().event_time {
            self.times.end(event_time, location);
        }
        self.unknown.end(key, location);
        Ok(())
    }
}
