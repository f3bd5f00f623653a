//! Where objects go: a bucket, or a directory that keeps the same promises.

use std::ops::Range;

use bytes::Bytes;
use kinesink_core::Failure;

use super::blocks::Encoded;
use super::bucket::Bucket;
use super::contents::Contents;
use super::directory::Directory;
use super::lifecycle::LeftUploads;

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

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below the bucket or the directory, prefix included.
    pub key: String,
    /// How large it is.
    pub bytes: u64,
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

    /// What becomes of the uploads of killed writers, where there are uploads.
    pub(super) async fn left_uploads(&self) -> Option<LeftUploads> {
        match self {
            Self::Bucket(bucket) => Some(bucket.left_uploads().await),
            Self::Directory(_) => None,
        }
    }

    /// All objects below the sink's place, in any order.
    pub(super) async fn list(&self, keys_max: usize) -> Result<Vec<Listed>, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.list(keys_max).await,
            Self::Directory(directory) => directory.list(keys_max).await,
        }
    }

    /// Bytes of an object that has more than those before `range`.
    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.read(key, range).await,
            Self::Directory(directory) => directory.read(key, range).await,
        }
    }

    /// All of a small object, if it is there.
    pub(super) async fn note(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.note(key).await,
            Self::Directory(directory) => directory.note(key).await,
        }
    }

    /// Makes a small object that says nothing of itself, unless something has its name: whether it did.
    pub(super) async fn take_note(&self, key: &str, note: Bytes) -> Result<bool, Failure> {
        match self {
            Self::Bucket(bucket) => bucket.take_note(key, note).await,
            Self::Directory(directory) => directory.take_note(key, note).await,
        }
    }
}

/// More objects than are kept in mind.
pub(super) fn too_many(place: &str, keys_max: usize) -> Failure {
    Failure::configuration(format!("{place} has more than {keys_max} objects: name a part of it"))
}
