//! What an S3 sink needs to know.

use std::sync::Arc;

use kinesink_aws::s3::Client;

use super::bucket::Bucket;
use super::directory::Directory;
use super::encoding::Encoding;
use super::key::KeyTemplate;
use super::parquet::ParquetSettings;
use super::store::Store;
use crate::{Error, Location};

/// What is larger is sent in parts.
const PUT_BYTES_MAX: usize = 64 * 1024 * 1024;
const PART_BYTES: usize = 16 * 1024 * 1024;

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
    /// The bytes of each item behind their number, as 4 bytes, the highest first.
    LengthDelimited,
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
    /// Zstandard: smaller and faster than gzip.
    Zstd,
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
    /// By the positions of its window and the number of its replay, beside the object of what had been accepted of it.
    Replay {
        /// From 1.
        round: u32,
    },
}

/// How objects of a bucket are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSettings {
    /// Such as `STANDARD_IA`. Without it, the service's.
    pub storage_class: Option<String>,
    /// Id, ARN or alias of the KMS key that encrypts them. Without it, as the bucket says.
    pub kms_key: Option<String>,
    /// The account that the bucket belongs to. Requests fail where it is another's.
    pub owner: Option<String>,
    /// A larger object is sent in parts. Default 64 MiB.
    pub put_bytes_max: usize,
    /// Bytes of a part, at least 5 MiB. Default 16 MiB.
    pub part_bytes: usize,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self { storage_class: None, kms_key: None, owner: None, put_bytes_max: PUT_BYTES_MAX, part_bytes: PART_BYTES }
    }
}

/// The settings of an [`S3Emitter`](super::S3Emitter).
#[derive(Debug, Clone)]
pub struct S3Config {
    /// Where objects go.
    pub location: Location,
    /// Who sends them to a bucket. A directory needs none.
    pub client: Option<Client>,
    /// How a bucket keeps them.
    pub bucket: BucketSettings,
    /// How items stand in an object.
    pub format: Format,
    /// How an object is compressed.
    pub compression: Compression,
    /// Objects are Parquet files of these columns; `format` and `compression` then mean nothing.
    pub parquet: Option<ParquetSettings>,
    /// Whether a name is that of a window.
    pub naming: Naming,
    /// What a name is made of.
    pub key: KeyTemplate,
    /// What its objects may take while they are made, over all shards and all sinks that share it.
    pub encoding: Arc<Encoding>,
    /// What goes wrong between objects, and between parts of one.
    #[cfg(feature = "planted-faults")]
    pub planted: kinesink_core::Planted,
}

impl S3Config {
    /// NDJSON, plain, named by positions.
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self {
            location,
            client: None,
            bucket: BucketSettings::default(),
            format: Format::default(),
            compression: Compression::default(),
            parquet: None,
            naming: Naming::default(),
            key: KeyTemplate::default(),
            encoding: Arc::default(),
            #[cfg(feature = "planted-faults")]
            planted: kinesink_core::Planted::default(),
        }
    }

    /// The store, and what every key in it begins with.
    pub(super) fn open(&self) -> Result<(Store, String), Error> {
        match &self.location {
            Location::Directory(path) => Ok((Store::Directory(Directory::new(path.clone())), String::new())),
            Location::Bucket { bucket, prefix } => {
                let client = self.client.clone().ok_or_else(|| Error::Setting {
                    place: self.location.to_string(),
                    why: "a bucket needs a client: set `client`".into(),
                })?;
                let bucket = Bucket::new(client, bucket.clone(), prefix.clone(), self.bucket.clone());
                #[cfg(feature = "planted-faults")]
                let bucket = bucket.planted(self.planted.clone());
                Ok((Store::Bucket(bucket), prefix.clone()))
            }
        }
    }
}
