//! Objects in a bucket.

use bytes::Bytes;
use kinesink_aws::s3::Client;
use kinesink_aws::s3::primitives::{AggregatedBytes, ByteStream};
use kinesink_aws::s3::types::{ServerSideEncryption, StorageClass};
use kinesink_core::{Class, Failure};
use tracing::{debug, warn};
use uuid::Uuid;

use super::blocks::Encoded;
use super::config::BucketSettings;
use super::contents::Contents;
use super::error::{self, Occupied};
use super::pieces::byte_stream;
use super::store::{Object, Put, too_many};

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
            Ok(chunks) if is_put => self.put(&key, chunks, &contents).await,
            body => {
                let body = body.map_or_else(|body| body, Encoded::held);
                self.upload(Object { key: key.clone(), body, contents, is_named_by_window }).await
            }
        };
        match created {
            Ok(Ok(())) => Ok(Put::Created),
            Ok(Err(Occupied)) => Ok(Put::Exists(self.contents(&key).await?)),
            // Some services ask a policy whether an object may be overwritten before they look at the condition.
            Err(failure) if failure.class == Class::Configuration => {
                self.contents(&key).await.map(Put::Exists).map_err(|_| failure)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn put(&self, key: &str, chunks: Vec<Bytes>, contents: &Contents) -> Result<Result<(), Occupied>, Failure> {
        let settings = &self.settings;
        let sent = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match(CREATE_ONLY)
            .set_metadata(Some(contents.to_metadata()))
            .set_expected_bucket_owner(settings.owner.clone())
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(settings.kms_key.clone())
            .set_bucket_key_enabled(settings.kms_key.is_some().then_some(true))
            .body(byte_stream(chunks))
            .send()
            .await;
        error::create_only(&format!("write {}", self.url(key)), &self.name, sent).map(|sent| sent.map(drop))
    }

    /// What the object at the key says of itself.
    async fn contents(&self, key: &str) -> Result<Option<Contents>, Failure> {
        let found = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .set_expected_bucket_owner(self.settings.owner.clone())
            .send()
            .await;
        let found = found.map_err(|error| error::occupant(&self.url(key), &self.name, &error))?;
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
        put.map_err(|error| error::service(&format!("write to {place}"), &self.name, &error))?;
        let read =
            self.client.head_object().bucket(&self.name).key(&key).set_expected_bucket_owner(settings.owner.clone());
        read.send().await.map_err(|error| error::service(&format!("read from {place}"), &self.name, &error))?;
        let delete =
            self.client.delete_object().bucket(&self.name).key(&key).set_expected_bucket_owner(settings.owner.clone());
        if let Err(error) = delete.send().await {
            let failure = error::service(&format!("delete {}", self.url(&key)), &self.name, &error);
            warn!(%failure, "an empty object stays from each start; allow s3:DeleteObject on {PROBE}_* to have it removed");
        }
        debug!(place, "the bucket may be written to");
        Ok(())
    }

    pub(super) async fn list(&self, keys_max: usize) -> Result<Vec<String>, Failure> {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        let (mut keys, mut token) = (Vec::new(), None);
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
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
            if keys.len() > keys_max {
                return Err(too_many(&self.url(&prefix), keys_max));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    pub(super) async fn read(&self, key: &str) -> Result<Bytes, Failure> {
        let url = self.url(key);
        let fail = |error| error::service(&format!("read {url}"), &self.name, &error);
        let get = self.client.get_object().bucket(&self.name).key(key);
        let found = get.set_expected_bucket_owner(self.settings.owner.clone()).send().await.map_err(fail)?;
        let body = found.body.collect().await;
        body.map(AggregatedBytes::into_bytes).map_err(|error| Failure::transient(format!("cannot read {url}: {error}")))
    }

    pub(super) fn storage_class(&self) -> Option<StorageClass> {
        self.settings.storage_class.as_deref().map(StorageClass::from)
    }

    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        self.settings.kms_key.is_some().then_some(ServerSideEncryption::AwsKms)
    }

    pub(super) fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}
