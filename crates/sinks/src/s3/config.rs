//! What an S3 sink needs to know.

use std::sync::Arc;
use std::time::Duration;

use kinesink_aws::credential_types::provider::SharedCredentialsProvider;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::credentials::SdkCredentials;
use crate::{Error, Location};

const ENCODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A put of one window may take this long before it counts as failed.
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// How items stand in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// A line for each item. A newline at an item's end is its line's; one inside is removed where the item is JSON,
    /// and rejects the item where it is not.
    #[default]
    Ndjson,
    /// The bytes of each item, one after the other, nothing between.
    Raw,
}

/// How an object is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Gzip, with nothing in its header that differs from one run to the next.
    Gzip,
}

/// How an object is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Naming {
    /// By the positions of its window alone: sending the window again meets the object of the first time.
    #[default]
    Positions,
    /// By positions and a random part, so that nothing is ever met: at least once, for dead letters.
    Unique,
}

/// The settings of an [`S3Emitter`](super::S3Emitter).
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Where objects go.
    pub location: Location,
    /// The bucket's region, such as `eu-west-1`. A bucket needs one.
    pub region: Option<String>,
    /// Another service that speaks S3, such as `http://127.0.0.1:9000`, addressed in path style.
    pub endpoint: Option<String>,
    /// How items stand in an object.
    pub format: Format,
    /// How an object is compressed.
    pub compression: Compression,
    /// How an object is named.
    pub naming: Naming,
    /// Encoded copies of windows, over all shards, take at most so much memory at a time; a larger window is encoded
    /// alone. Default 16 MiB.
    pub encoded_bytes_max: usize,
    /// Who asks. A bucket needs it; fetched anew for each request, so the provider should cache.
    pub credentials: Option<SharedCredentialsProvider>,
}

impl S3Config {
    /// NDJSON, plain, named by positions.
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self {
            location,
            region: None,
            endpoint: None,
            format: Format::default(),
            compression: Compression::default(),
            encoded_bytes_max: ENCODED_BYTES_MAX,
            naming: Naming::default(),
            credentials: None,
        }
    }

    /// The store, and what every key in it begins with.
    pub(super) fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
        let refuse = |why: String| Error::Setting { place: self.location.to_string(), why };
        match &self.location {
            Location::Directory(path) => {
                let prefix = Path::from_absolute_path(path).map_err(|error| refuse(error.to_string()))?;
                // Rooted at `/`, because a store rooted at the directory could not be opened before it exists.
                Ok((Arc::new(LocalFileSystem::new().with_fsync(true)), prefix))
            }
            Location::Bucket { bucket, prefix } => {
                let prefix = Path::parse(prefix).map_err(|error| refuse(error.to_string()))?;
                let region = self.region.as_deref().ok_or_else(|| refuse("it has no region: set `region`".into()))?;
                let credentials =
                    self.credentials.clone().ok_or_else(|| refuse("it has no credentials: set some".into()))?;
                let mut builder = AmazonS3Builder::new()
                    .with_bucket_name(bucket)
                    .with_region(region)
                    .with_credentials(Arc::new(SdkCredentials::new(credentials)))
                    // The pipeline is the one retry layer.
                    .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
                let mut options = ClientOptions::new().with_timeout(REQUEST_MAX);
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
                    builder = builder.with_virtual_hosted_style_request(false);
                    options = options.with_allow_http(endpoint.starts_with("http://"));
                }
                let store = builder.with_client_options(options).build().map_err(|error| refuse(error.to_string()))?;
                Ok((Arc::new(store), prefix))
            }
        }
    }
}
