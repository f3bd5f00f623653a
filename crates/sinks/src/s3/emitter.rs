//! Windows to objects.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Batch, Budget, Emitted, Emitter, Failure, Fingerprint, Item};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};
use uuid::Uuid;

use super::config::{Compression, Naming, S3Config};
use super::format::{self, Body};
use super::gzip::Gzip;
use super::key::object_key;
use super::{directory, error};
use crate::{Error, Location};

/// What [`check`](Emitter::check) writes, reads and removes again. Query engines skip names that begin so.
const PROBE: &str = "_kinesink_check";

/// Writes each window as one object. Effectively once, as the pipeline sends an announced window again as it was; every
/// put is create-only, so nothing is ever overwritten.
#[derive(Debug)]
pub struct S3Emitter {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    config: S3Config,
    /// The memory that encoded copies may take.
    encoding: Budget,
}

impl S3Emitter {
    /// Prepares the sink. Sends nothing yet: [`check`](Emitter::check) does.
    ///
    /// # Errors
    /// [`Error::Setting`] where a bucket has no region or credentials, or the endpoint is no URL.
    pub fn open(config: S3Config) -> Result<Self, Error> {
        let (store, prefix) = config.open()?;
        let encoding = Budget::new(config.encoded_bytes_max);
        Ok(Self { store, prefix, config, encoding })
    }

    /// The window as it stands in the object.
    async fn encode(&self, items: &[&Item<Bytes>]) -> Result<Encoded, Failure> {
        let gzip = match self.config.compression {
            Compression::None => None,
            Compression::Gzip => Some(Gzip::start()),
        };
        let (mut body, mut emitted) = (Body::new(self.config.format), Emitted::all());
        for (index, item) in items.iter().enumerate() {
            if let Err(why) = body.push(&item.value) {
                emitted.reject(index, why);
            }
            if let Some(gzip) = &gzip {
                for chunk in body.take_chunks() {
                    gzip.write(chunk).await;
                }
            }
        }
        body.close();
        let mut chunks = body.take_chunks();
        if let Some(gzip) = gzip {
            for chunk in chunks {
                gzip.write(chunk).await;
            }
            let compressed = gzip.finish().await;
            chunks = compressed.map_err(|error| Failure::transient(format!("cannot compress a window: {error}")))?;
        }
        let items = items.len() - emitted.exceptions().len();
        Ok(Encoded { items, payload: chunks.into_iter().collect(), emitted })
    }

    /// Delivered before, if the object that is there holds what we would write.
    async fn compare(&self, key: &Path, batch: &Batch<'_, Bytes>) -> Result<(), Failure> {
        let (object, body) = (self.url(key), Body::of(self.config.format, &batch.items));
        let fail = |error| match error {
            object_store::Error::NotFound { .. } => {
                Failure::transient(format!("{object} existed and is gone: another process writes there"))
            }
            error => error::classify(&format!("read {object}, which is in the way"), &self.config.location, &error),
        };
        let found = self.store.get(key).await.map_err(fail)?;
        let compression = self.config.compression;
        let mut same = format::may_hold(&body, found.meta.size, compression);
        if same {
            let content = found.bytes().await.map_err(fail)?;
            let chunks = body.chunks().to_vec();
            same = spawn_blocking(move || format::holds(&content, &chunks, compression))
                .await
                .map_err(|error| Failure::transient(format!("cannot compare {object}: {error}")))?;
        }
        if same {
            debug!(object, "the object is there already, with the same content");
            return Ok(());
        }
        Err(Failure::configuration(format!(
            "{object} exists with other content than positions {} to {} of {} give now: another application or \
             configuration wrote it; move it away, or give this sink another prefix",
            batch.first, batch.last, batch.shard
        )))
    }

    /// A bucket has nothing to sync.
    async fn sync(&self, key: &Path) -> Result<(), Failure> {
        let Location::Directory(root) = &self.config.location else { return Ok(()) };
        let (file, root) = (self.url(key), root.clone());
        let attempt = format!("sync {file}");
        match spawn_blocking(move || directory::sync(file.as_ref(), &root)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error::disk(&attempt, &error)),
            Err(error) => Err(Failure::transient(format!("cannot {attempt}: {error}"))),
        }
    }

    fn key(&self, batch: &Batch<'_, Bytes>) -> Path {
        object_key(&self.prefix, batch, self.config.naming, self.config.format, self.config.compression)
    }

    fn url(&self, key: &Path) -> String {
        self.config.location.object(key.as_ref())
    }
}

/// A window on its way into an object.
struct Encoded {
    /// How many items the object holds; none of them may have any bytes.
    items: usize,
    payload: PutPayload,
    /// What the format cannot hold is rejected.
    emitted: Emitted,
}

#[async_trait]
impl Emitter<Bytes> for S3Emitter {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        let value_bytes: usize = batch.items.iter().map(|item| item.value.len()).sum();
        let _reservation = self.encoding.reserve(value_bytes).await;

        let Encoded { items, payload, emitted } = self.encode(&batch.items).await?;
        if items == 0 {
            return Ok(emitted);
        }
        let key = self.key(batch);
        let object_bytes = payload.content_length();
        match self.store.put_opts(&key, payload, PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => self.compare(&key, batch).await?,
            Err(error) => {
                let attempt = format!("write {}", self.url(&key));
                return Err(error::classify(&attempt, &self.config.location, &error));
            }
        }
        self.sync(&key).await?;
        debug!(object = self.url(&key), items, object_bytes, "object written");
        Ok(emitted)
    }

    /// An object is named by its window.
    fn plan(&self, batch: &Batch<'_, Bytes>, content: &mut Fingerprint) -> bool {
        if self.config.naming == Naming::Unique {
            return false;
        }
        content.part(self.key(batch).as_ref().as_bytes());
        for item in &batch.items {
            content.part(&item.value);
        }
        true
    }

    /// Creates the directory, if it is one; writes an empty object, reads it, and removes it if that is allowed.
    async fn check(&self) -> Result<(), Failure> {
        let location = &self.config.location;
        if let Location::Directory(root) = location {
            let root = root.clone();
            match spawn_blocking(move || directory::create(&root)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(error::disk(&format!("create {location}"), &error)),
                Err(error) => return Err(Failure::transient(format!("cannot create {location}: {error}"))),
            }
        }
        // A name of its own: whoever checks at the same time removes only what it wrote.
        let probe = self.prefix.clone().join(format!("{PROBE}_{}", Uuid::new_v4()));
        let fail = |what: &str, error| error::classify(&format!("{what} {location}"), location, &error);
        self.store.put(&probe, PutPayload::new()).await.map_err(|error| fail("write to", error))?;
        self.store.get(&probe).await.map_err(|error| fail("read from", error))?;
        if let Err(error) = self.store.delete(&probe).await {
            let object = self.url(&probe);
            warn!(object, %error, "an empty object stays from each start; allow s3:DeleteObject on {PROBE}_* to have it removed");
        }
        Ok(())
    }
}
