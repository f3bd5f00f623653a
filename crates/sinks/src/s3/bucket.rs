//! Objects in a bucket.

use std::ops::Range;

use bytes::Bytes;
use kinesink_aws::bucket_timeouts;
use kinesink_aws::s3::Client;
use kinesink_aws::s3::config::Config;
use kinesink_aws::s3::primitives::ByteStream;
use kinesink_aws::s3::types::{ServerSideEncryption, StorageClass};
use kinesink_core::{Class, Failure};
use tracing::{debug, warn};
use uuid::Uuid;

use super::blocks::Encoded;
use super::config::BucketSettings;
use super::contents::Contents;
use super::error::{self, Occupied};
use super::pieces::byte_stream;
use super::store::{Listed, Object, Put, too_many};

/// What [`check`](Bucket::check) writes, reads and removes again. Query engines skip names that begin so.
const PROBE: &str = "_kinesink_check";
/// Each put and each completion of an upload carries it: nothing is ever overwritten.
pub(super) const CREATE_ONLY: &str = "*";

/// A bucket, and how its objects are kept.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    prefix: String,
    pub(super) settings: BucketSettings,
    #[cfg(feature = "planted-faults")]
    pub(super) planted: kinesink_core::Planted,
}

impl Bucket {
    pub(super) fn new(client: Client, name: String, prefix: String, settings: BucketSettings) -> Self {
        Self {
            client,
            name,
            prefix,
            settings,
            #[cfg(feature = "planted-faults")]
            planted: kinesink_core::Planted::default(),
        }
    }

    #[cfg(feature = "planted-faults")]
    pub(super) fn planted(self, planted: kinesink_core::Planted) -> Self {
        Self { planted, ..self }
    }

    pub(super) async fn create(&self, object: Object) -> Result<Put, Failure> {
        let is_put = object.body.bytes() <= self.settings.put_bytes_max as u64;
        let Object { key, body, contents, is_named_by_window } = object;
        let created = match body.into_held() {
            Ok(chunks) if is_put => self.put(&key, chunks, Some(&contents)).await,
            body => {
                let body = body.map_or_else(|body| body, Encoded::held);
                self.upload(Object { key: key.clone(), body, contents, is_named_by_window }).await
            }
        };
        match created {
            Ok(Ok(())) => Ok(Put::Created),
            Ok(Err(Occupied)) => Ok(Put::Exists(self.contents(&key).await?)),
            // Some services ask a policy whether an object may be overwritten before they look at the condition. And what was
            // answered without saying so may be there.
            Err(failure) if failure.class == Class::Configuration => {
                self.contents(&key).await.map(Put::Exists).map_err(|_| failure)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn put(
        &self,
        key: &str,
        chunks: Vec<Bytes>,
        contents: Option<&Contents>,
    ) -> Result<Result<(), Occupied>, Failure> {
        let settings = &self.settings;
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let sent = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match(CREATE_ONLY)
            .set_metadata(contents.map(Contents::to_metadata))
            .set_expected_bucket_owner(settings.owner.clone())
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(settings.kms_key.clone())
            .set_bucket_key_enabled(settings.kms_key.is_some().then_some(true))
            .body(byte_stream(chunks))
            .customize()
            .config_override(Config::builder().timeout_config(bucket_timeouts(bytes)))
            .send()
            .await;
        error::create_only(&format!("write {}", self.url(key)), &self.name, sent.map(|sent| sent.e_tag))
    }

    /// What the object at the key says of itself.
    pub(super) async fn contents(&self, key: &str) -> Result<Option<Contents>, Failure> {
        let found = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .set_expected_bucket_owner(self.settings.owner.clone())
            .send()
            .await;
        let found = found.map_err(|error| error::occupant(&self.url(key), &self.name, &error))?;
        error::answered(&format!("read {}, which is in the way", self.url(key)), found.e_tag())?;
        Ok(found.metadata().and_then(Contents::from_metadata))
    }

    /// Writes an empty object, reads it, and removes it if that is allowed.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        // A name of its own: whoever checks at the same time removes only what it wrote.
        let name = format!("{PROBE}_{}", Uuid::new_v4());
        let key = if self.prefix.is_empty() { name } else { format!("{}/{name}", self.prefix) };
        let place = self.url(&self.prefix);
        let settings = &self.settings;
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(&key)
            .if_none_match(CREATE_ONLY)
            .set_expected_bucket_owner(settings.owner.clone())
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(settings.kms_key.clone())
            .set_bucket_key_enabled(settings.kms_key.is_some().then_some(true))
            .body(ByteStream::from_static(b""))
            .send()
            .await;
        let (write, read) = (format!("write to {place}"), format!("read from {place}"));
        let put = put.map_err(|error| error::service(&write, &self.name, &error))?;
        error::answered(&write, put.e_tag())?;
        let head =
            self.client.head_object().bucket(&self.name).key(&key).set_expected_bucket_owner(settings.owner.clone());
        let head = head.send().await.map_err(|error| error::service(&read, &self.name, &error))?;
        error::answered(&read, head.e_tag())?;
        let delete =
            self.client.delete_object().bucket(&self.name).key(&key).set_expected_bucket_owner(settings.owner.clone());
        if let Err(error) = delete.send().await {
            let failure = error::service(&format!("delete {}", self.url(&key)), &self.name, &error);
            warn!(%failure, "an empty object stays from each start; allow s3:DeleteObject on {PROBE}_* to have it removed");
        }
        debug!(place, "the bucket may be written to");
        Ok(())
    }

    pub(super) async fn list(&self, keys_max: usize) -> Result<Vec<Listed>, Failure> {
        let prefix = self.folder();
        let (mut objects, mut token) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .prefix(&prefix)
                .set_continuation_token(token)
                .set_expected_bucket_owner(self.settings.owner.clone())
                .send()
                .await;
            let page = page.map_err(|error| error::listing(&self.url(&prefix), &self.name, &error))?;
            let listed = page.contents().iter().filter_map(|object| {
                let bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
                Some(Listed { key: object.key()?.to_owned(), bytes })
            });
            objects.extend(listed);
            if objects.len() > keys_max {
                return Err(too_many(&self.url(&prefix), keys_max));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let read = self.get(key, Some(range)).await?;
        read.ok_or_else(|| Failure::transient(format!("{} was listed and is gone: replay again", self.url(key))))
    }

    pub(super) async fn note(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        self.get(key, None).await
    }

    async fn get(&self, key: &str, range: Option<String>) -> Result<Option<Bytes>, Failure> {
        let url = self.url(key);
        let get = self.client.get_object().bucket(&self.name).key(key).set_range(range);
        let found = match get.set_expected_bucket_owner(self.settings.owner.clone()).send().await {
            Ok(found) => found,
            Err(error) if kinesink_aws::code(&error) == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(error::service(&format!("read {url}"), &self.name, &error)),
        };
        let body = found.body.collect().await;
        let cut = |error| Failure::transient(format!("cannot read {url}: {error}"));
        body.map(|body| Some(body.into_bytes())).map_err(cut)
    }

    pub(super) async fn take_note(&self, key: &str, note: Bytes) -> Result<bool, Failure> {
        match self.put(key, vec![note], None).await {
            Ok(put) => Ok(put.is_ok()),
            // As of an object: a policy may be asked before the condition.
            Err(failure) if failure.class == Class::Configuration => match self.note(key).await {
                Ok(Some(_)) => Ok(false),
                _ => Err(failure),
            },
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn storage_class(&self) -> Option<StorageClass> {
        self.settings.storage_class.as_deref().map(StorageClass::from)
    }

    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.settings.kms_key.is_some().then_some(ServerSideEncryption::AwsKms)
    }

    /// What the keys of all its objects begin with.
    pub(super) fn folder(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) }
    }

    pub(super) fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}
