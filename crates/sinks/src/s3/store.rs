//! Where objects go: a bucket, or a directory that keeps the same promises.

use bytes::Bytes;
use kinesink_core::Failure;

use super::blocks::Encoded;
use super::bucket::Bucket;
use super::contents::Contents;
use super::directory::Directory;

/// An encoded object.
#[derive(Debug)]
pub(super) struct Object {
    /// Below the bucket or the directory, prefix included.
    pub(super) key: String,
    pub(super) body: Encoded,
    pub(super) contents: Contents,
    /// Whether what is there already is compared with it. If not, its name is never met again.
    pub(super) is_named_by_window: bool,
}

/// What an object met.
#[derive(Debug)]
pub(super) enum Put {
    /// It is there now, and durable.
    Created,
    /// Something is there already; what it says of itself, if it is one of kinesink's.
    Exists(Option<Contents>),
}

/// A place for objects. Nothing in it is ever overwritten.
#[derive(Debug)]
pub(super) enum Store {
    Bucket(Bucket),
    Directory(Directory),
}

impl Store {
    /// Makes the object, whole or not at all, unless something has its name.
    pub(super) async fn create(&self, object: Object) -> Result<Put, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.create(object).await,
            Self::Directory(directory) => directory.create(object).await,
        }
    }

    /// Proves that it is there and may be written to.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Bucket(bucket) => bucket.check().await,
            Self::Directory(directory) => directory.check().await,
        }
    }

    /// The keys of all objects below the sink's place, in any order.
    pub(super) async fn list(&self, keys_max: usize) -> Result<Vec<String>, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.list(keys_max).await,
            Self::Directory(directory) => directory.list(keys_max).await,
        }
    }

    pub(super) async fn read(&self, key: &str) -> Result<Bytes, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.read(key).await,
            Self::Directory(directory) => directory.read(key).await,
        }
    }
}

/// More objects than are kept in mind.
pub(super) fn too_many(place: &str, keys_max: usize) -> Failure {
    Failure::configuration(format!("{place} has more than {keys_max} objects: name a part of it"))
}
