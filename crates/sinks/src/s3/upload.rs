//! Large objects: sent in parts, and there only once all of them are.
//!
//! ```text
//! abort what writers of this object left that were killed
//! see whether it is there                  // an earlier attempt may have sent it
//! create the upload, with the object's metadata
//! send its parts, some at a time           // one that there was no room for again
//! complete it, create-only                 // else abort it
//! ```

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kinesink_aws::bucket_timeouts;
use kinesink_aws::s3::config::{Config, RequestChecksumCalculation};
use kinesink_aws::s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use kinesink_core::{Backoff, Class, Failure};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::blocks::Part;
use super::bucket::{Bucket, CREATE_ONLY};
use super::error::{self, Occupied};
use super::pieces::byte_stream;
use super::store::Object;

/// Parts of one object that are sent at a time.
const PARTS_AT_ONCE: usize = 4;
/// How often a part is sent. One that fails for good fails the upload, and the pipeline begins another one: of an object of
/// thousands of parts one is refused now and then.
const PART_ATTEMPTS_MAX: u32 = 4;
const PART_PAUSE_BASE: Duration = Duration::from_millis(200);
const PART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Lists of a thousand uploads each, of killed writers of one object, or of others whose keys begin as its does.
const LISTS_MAX: usize = 100;
/// S3 takes no more parts of one object.
const PARTS_MAX: u64 = 10_000;

impl Bucket {
    /// Not cancel safe: dropped, it leaves an upload that counts as storage until the object is sent again, or a lifecycle
    /// rule of the bucket removes it.
    pub(super) async fn upload(&self, object: Object) -> Result<Result<(), Occupied>, Failure> {
        let Object { key, body, contents, is_named_by_window } = object;
        self.abort_left(&key).await;
        // Else all of it would be sent before the completion says so. Who may not know sends it.
        if is_named_by_window && self.contents(&key).await.is_ok() {
            return Ok(Err(Occupied));
        }
        let (url, settings) = (self.url(&key), &self.settings);
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(&key)
            .set_metadata(Some(contents.to_metadata()))
            .set_checksum_algorithm(self.checksum())
            .set_expected_bucket_owner(settings.owner.clone())
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(settings.kms_key.clone())
            .set_bucket_key_enabled(settings.kms_key.is_some().then_some(true))
            .send()
            .await;
        let begin = format!("begin {url}");
        let begun = begun.map_err(|error| error::service(&begin, &self.name, &error))?;
        let id = error::answered(&begin, begun.upload_id())?;
        // Larger ones where there would be too many.
        let fewest = usize::try_from(body.bytes().div_ceil(PARTS_MAX)).unwrap_or(usize::MAX);
        let parts = body.parts(settings.part_bytes.max(fewest));
        let done = match self.send_parts(&key, id, parts).await {
            Ok(parts) => self.complete(&key, id, parts).await,
            Err(failure) => Err(failure),
        };
        if !matches!(done, Ok(Ok(()))) {
            self.abort(&key, id).await;
        }
        done
    }

    /// The parts' checksum. Services refuse to complete an upload by the checksums of its parts that was not begun with one.
    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        let calculation = self.client.config().request_checksum_calculation();
        let is_sent = calculation != Some(&RequestChecksumCalculation::WhenRequired);
        is_sent.then_some(ChecksumAlgorithm::Crc32)
    }

    async fn send_parts(&self, key: &str, id: &str, parts: Vec<Part>) -> Result<Vec<CompletedPart>, Failure> {
        let count = parts.len();
        let send = |(part, number): (Part, i32)| async move {
            let attempt = format!("send part {number} of {count} of {}", self.url(key));
            // The parts of several objects do not wait in step.
            let mut hasher = DefaultHasher::new();
            (key, number).hash(&mut hasher);
            let mut backoff = Backoff::new(PART_PAUSE_BASE, PART_PAUSE_MAX, hasher.finish());
            loop {
                let failure = match self.send_part((key, id), &part, number, &attempt).await {
                    Err(failure) if failure.class == Class::Transient => failure,
                    done => return done,
                };
                if backoff.attempts() + 1 >= PART_ATTEMPTS_MAX {
                    return Err(failure);
                }
                debug!(%failure, "sending the part again");
                sleep(backoff.next_wait(failure.retry_after)).await;
            }
        };
        stream::iter(parts.into_iter().zip(1..)).map(send).buffered(PARTS_AT_ONCE).try_collect().await
    }

    async fn send_part(
        &self,
        (key, id): (&str, &str),
        part: &Part,
        number: i32,
        attempt: &str,
    ) -> Result<CompletedPart, Failure> {
        let chunks = part.read().await.map_err(|error| error::disk(attempt, &error))?;
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let sent = self
            .client
            .upload_part()
            .bucket(&self.name)
            .key(key)
            .upload_id(id)
            .part_number(number)
            .set_expected_bucket_owner(self.settings.owner.clone())
            .body(byte_stream(chunks))
            .customize()
            .config_override(Config::builder().timeout_config(bucket_timeouts(bytes)))
            .send()
            .await;
        let sent = sent.map_err(|error| error::service(attempt, &self.name, &error))?;
        let e_tag = error::answered(attempt, sent.e_tag)?;
        #[cfg(feature = "planted-faults")]
        self.planted.pass(kinesink_core::Step::Part).await?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .e_tag(e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .set_checksum_crc32_c(sent.checksum_crc32_c)
            .set_checksum_crc64_nvme(sent.checksum_crc64_nvme)
            .set_checksum_sha1(sent.checksum_sha1)
            .set_checksum_sha256(sent.checksum_sha256)
            .build())
    }

    async fn complete(&self, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<Result<(), Occupied>, Failure> {
        let sent = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(id)
            .if_none_match(CREATE_ONLY)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_expected_bucket_owner(self.settings.owner.clone())
            .send()
            .await;
        error::create_only(&format!("complete {}", self.url(key)), &self.name, sent.map(|sent| sent.e_tag))
    }

    /// Uploads of this object that no one goes on with. A live writer that loses its own finds the object at its next
    /// attempt, or sends it again.
    async fn abort_left(&self, key: &str) {
        let (mut key_marker, mut id_marker) = (None, None);
        for _ in 0..LISTS_MAX {
            let listed = self
                .client
                .list_multipart_uploads()
                .bucket(&self.name)
                .prefix(key)
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .set_expected_bucket_owner(self.settings.owner.clone())
                .send()
                .await;
            let listed = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    let failure = error::service(&format!("list uploads of {}", self.url(key)), &self.name, &error);
                    debug!(%failure, "uploads of killed writers stay; a lifecycle rule of the bucket removes them too");
                    return;
                }
            };
            for upload in listed.uploads().iter().filter(|upload| upload.key() == Some(key)) {
                self.abort(key, upload.upload_id().unwrap_or_default()).await;
            }
            if listed.is_truncated() != Some(true) || listed.next_key_marker().is_none() {
                return;
            }
            (key_marker, id_marker) = (listed.next_key_marker, listed.next_upload_id_marker);
        }
        debug!(
            key,
            "more uploads of killed writers are there than are listed; a lifecycle rule of the bucket removes them"
        );
    }

    async fn abort(&self, key: &str, id: &str) {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(id)
            .set_expected_bucket_owner(self.settings.owner.clone())
            .send()
            .await;
        // One that is gone was completed after all, or aborted by another writer of the object.
        if let Err(error) = aborted
            && kinesink_aws::code(&error) != Some("NoSuchUpload")
        {
            let failure = error::service(&format!("abort an upload of {}", self.url(key)), &self.name, &error);
            warn!(%failure, "parts of it may be left, and cost storage until a lifecycle rule of the bucket removes them; see docs/s3.md");
        }
    }
}
