//! Buckets, objects and uploads: an index in memory over files that any program can read as they are.
//!
//! ```text
//! DIR/BUCKET/a/b.json                       the object a/b.json
//! DIR/.state/buckets/BUCKET/heads/ID        what is known of an object beside its bytes, in JSON
//! DIR/.state/buckets/BUCKET/aside/ID        an object whose key cannot be the name of a file here
//! DIR/.state/buckets/BUCKET/uploads/ID/     an upload that is not complete: its head, its parts
//! DIR/.state/staging/                       what is being written; emptied by a start
//! ```
//!
//! An object is written in this order, so that a process can be killed anywhere:
//!
//! ```text
//! the bytes, in staging; synced
//! the head, which names length and time of that file; synced
//! with the index locked: is the condition true?  rename the file to its place; the index has it   <- now it is there
//! sync the folders, acknowledge, remove what it replaced
//! ```
//!
//! A head whose file is not there is of a write that did not happen, or of an object that was replaced. A file without
//! a head was put there by another program, and is an object all the same.

mod files;
mod recovery;
mod uploads;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use self::files::{Files, identity};
pub(super) use self::uploads::{Completion, NewUpload, Part, Upload};
use super::checksum::Sum;
use super::condition::Condition;
use crate::clock::Clock;
use crate::error::Error;

/// The store. Its methods wait for the file system: see [`run`](Self::run).
#[derive(Debug)]
pub(super) struct Store {
    files: Files,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    _lock: File,
    /// Removed with this, where nothing is to be kept.
    _temporary: Option<TempDir>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    /// The time of the last write. The next is later, so that a file's time tells it from all others of its key.
    last_ns: i64,
}

/// What is in a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: Timestamp,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    /// By key, then by id, which is in order of time.
    pub(super) uploads: BTreeMap<(String, String), Upload>,
}

/// An object in the index.
#[derive(Debug, Clone)]
pub(super) struct Object {
    /// The name of its head; a file of another program has none.
    id: Option<String>,
    is_aside: bool,
    pub(super) head: Head,
}

/// What is known of an object beside its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) key: String,
    pub(super) len_bytes: u64,
    /// Since 1970.
    pub(super) modified_ns: i64,
    pub(super) etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<Sum>,
    /// Headers that came with it and go with it, by lower-case name.
    pub(super) headers: BTreeMap<String, String>,
}

/// A file of its own that is being written, gone when this is dropped before it got its place.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        remove_leftover(&self.path);
    }
}

/// An object that is to be.
#[derive(Debug)]
pub(super) struct NewObject {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) staged: Staged,
    pub(super) etag: String,
    pub(super) checksum: Option<Sum>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) condition: Condition,
    /// The upload that it is made of, which ends with it.
    pub(super) upload: Option<String>,
}

impl Store {
    /// Opens the directory, made if absent; without one, a temporary one that nothing is left of.
    pub(super) fn open(directory: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let temporary = match directory {
            Some(_) => None,
            None => {
                let made = tempfile::Builder::new().prefix("kinesink-s3-").tempdir();
                Some(made.map_err(failed("make a directory in", Path::new("the temporary directory")))?)
            }
        };
        let root = directory.or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new("."));
        let files = Files::new(root, directory.is_some());
        for folder in [files.staging(), files.states()] {
            fs::create_dir_all(&folder).map_err(failed("make the directory", &folder))?;
        }
        let lock_path = files.lock();
        let lock = File::options().write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(failed("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse { path: root.to_owned() },
            TryLockError::Error(source) => Error::Io { action: "lock", path: lock_path.clone(), source },
        })?;
        let state = Mutex::new(recovery::load(&files)?);
        Ok(Self { files, clock, state, _lock: lock, _temporary: temporary })
    }

    /// Calls the function where waiting for the file system keeps nobody else waiting.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Self) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let store = Arc::clone(self);
        match tokio::task::spawn_blocking(move || call(&store)).await {
            Ok(answer) => answer,
            Err(error) => Err(s3_error!(error, InternalError, "kinesink local has an error")),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks into a bucket.
    pub(super) fn read<T>(&self, bucket: &str, look: impl FnOnce(&Bucket) -> S3Result<T>) -> S3Result<T> {
        look(self.state().bucket(bucket)?)
    }

    pub(super) fn buckets(&self) -> Vec<(String, Timestamp)> {
        self.state().buckets.iter().map(|(name, bucket)| (name.clone(), bucket.created)).collect()
    }

    /// Makes the bucket unless it is there.
    pub(super) fn create_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state();
        if state.buckets.contains_key(name) {
            return Ok(());
        }
        self.files.make_bucket(name).map_err(failed("make", &self.files.bucket(name)))?;
        let bucket = Bucket { created: self.now(), objects: BTreeMap::new(), uploads: BTreeMap::new() };
        state.buckets.insert(name.to_owned(), bucket);
        Ok(())
    }

    /// Removes an empty bucket, and the uploads that were not completed.
    pub(super) fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let mut state = self.state();
        if !state.bucket(name)?.objects.is_empty() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        let folder = self.files.bucket(name);
        fs::remove_dir(&folder).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => {
                s3_error!(BucketNotEmpty, "{} has files that another program put there", folder.display())
            }
            _ => failed("remove", &folder)(error),
        })?;
        state.buckets.remove(name);
        let folder = self.files.state(name);
        fs::remove_dir_all(&folder).map_err(failed("remove", &folder))
    }

    /// A name in staging that nobody else has.
    pub(super) fn stage(&self) -> Staged {
        Staged { path: self.files.staging().join(uuid::Uuid::new_v4().to_string()) }
    }

    /// Later than any time that it answered before.
    fn next_time(&self) -> Timestamp {
        let now_ns = i64::try_from(self.now().as_nanosecond()).unwrap_or(i64::MAX - 1);
        let mut state = self.state();
        state.last_ns = now_ns.max(state.last_ns + 1);
        Timestamp::from_nanosecond(state.last_ns.into()).unwrap_or(Timestamp::MAX)
    }

    /// Makes the object be there, unless its condition is false.
    pub(super) fn put(&self, new: NewObject) -> S3Result<Arc<Object>> {
        // What is refused anyhow costs no write.
        self.read(&new.bucket, |bucket| new.condition.check(bucket.head(&new.key)))?;
        let NewObject { bucket, key, staged, etag, checksum, headers, condition, upload } = new;
        let finished = self.files.finish(&staged.path, self.next_time());
        let (len_bytes, modified_ns) = finished.map_err(failed("write", &staged.path))?;
        let head = Head { key, len_bytes, modified_ns, etag, checksum, headers };
        let id = uuid::Uuid::now_v7().to_string();
        let head_path = self.files.head(&bucket, &id);
        self.files.write_json(&head_path, &head).map_err(failed("write", &head_path))?;

        let object = Object { id: Some(id), is_aside: false, head };
        let published = self.publish(&bucket, object, &staged, &condition, upload.as_deref());
        let (object, old) = published.inspect_err(|_| remove_leftover(&head_path))?;
        let path = self.files.object(&bucket, &object.head.key, &object);
        self.files.sync_name(&path).map_err(failed("sync the folders of", &path))?;
        if let Some(old) = old {
            self.forget(&bucket, &old);
        }
        if let Some(upload) = upload {
            self.forget_upload(&bucket, &upload);
        }
        Ok(object)
    }

    /// The moment at which the object is there, for everyone. Answers what it replaced too.
    fn publish(
        &self,
        bucket: &str,
        mut object: Object,
        staged: &Staged,
        condition: &Condition,
        upload: Option<&str>,
    ) -> S3Result<(Arc<Object>, Option<Arc<Object>>)> {
        let mut state = self.state();
        let held = state.bucket_mut(bucket)?;
        let key = object.head.key.clone();
        condition.check(held.head(&key))?;
        let upload = upload.map(|upload| (key.clone(), upload.to_owned()));
        if upload.as_ref().is_some_and(|upload| !held.uploads.contains_key(upload)) {
            return Err(uploads::no_upload());
        }
        let old = held.objects.get(&key);
        let names = (bucket, key.as_str(), object.id.as_deref().unwrap_or_default());
        let placed = self.files.place(names, &staged.path, old.map(|old| &**old));
        object.is_aside = placed.map_err(failed("place an object below", self.files.root()))?;
        let object = Arc::new(object);
        let old = held.objects.insert(key, Arc::clone(&object));
        upload.map(|upload| held.uploads.remove(&upload));
        Ok((object, old))
    }

    /// Removes what an object that is no more has left beside its named file; a start does what this could not.
    fn forget(&self, bucket: &str, old: &Object) {
        let Some(id) = old.id.as_deref() else { return };
        if old.is_aside {
            remove_leftover(&self.files.object(bucket, &old.head.key, old));
        }
        remove_leftover(&self.files.head(bucket, id));
    }

    /// The object and its file, open.
    pub(super) fn get(&self, bucket: &str, key: &str) -> S3Result<(Arc<Object>, File)> {
        let mut state = self.state();
        let held = state.bucket_mut(bucket)?;
        let no_key = || s3_error!(NoSuchKey, "The specified key does not exist.");
        let object = held.objects.get(key).cloned().ok_or_else(no_key)?;
        let path = self.files.object(bucket, key, &object);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                held.objects.remove(key);
                return Err(no_key());
            }
            opened => opened.map_err(failed("open", &path))?,
        };
        let found = file.metadata().and_then(|metadata| identity(&metadata)).map_err(failed("look at", &path))?;
        if found == (object.head.len_bytes, object.head.modified_ns) {
            return Ok((object, file));
        }
        // Another program has written it.
        let object = Arc::new(Object::of_a_file(key, found));
        held.objects.insert(key.to_owned(), Arc::clone(&object));
        Ok((object, file))
    }

    /// The object as the index has it.
    pub(super) fn head(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.get(bucket, key).map(|(object, _)| object)
    }

    /// Removes the object, if there is one and the condition is true.
    pub(super) fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        let mut state = self.state();
        let held = state.bucket_mut(bucket)?;
        let old = held.objects.get(key).cloned();
        condition.check(held.head(key))?;
        let Some(old) = old else { return Ok(()) };
        let path = self.files.object(bucket, key, &old);
        self.files.remove(bucket, &path).map_err(failed("remove", &path))?;
        held.objects.remove(key);
        drop(state);
        self.forget(bucket, &old);
        Ok(())
    }
}

impl State {
    fn bucket(&self, name: &str) -> S3Result<&Bucket> {
        self.buckets.get(name).ok_or_else(no_bucket)
    }

    fn bucket_mut(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(no_bucket)
    }
}

impl Bucket {
    pub(super) fn head(&self, key: &str) -> Option<&Head> {
        self.objects.get(key).map(|object| &object.head)
    }
}

impl Object {
    /// Of a file that another program has put there.
    fn of_a_file(key: &str, (len_bytes, modified_ns): (u64, i64)) -> Self {
        let head = Head {
            key: key.to_owned(),
            len_bytes,
            modified_ns,
            // Of no MD5, which the hyphen says.
            etag: format!("{modified_ns:032x}-{len_bytes}"),
            checksum: None,
            headers: BTreeMap::new(),
        };
        Self { id: None, is_aside: false, head }
    }
}

/// A file that nothing needs any longer. A start finds it again.
fn remove_leftover(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove a file that is of no use");
        }
        _ => {}
    }
}

fn no_bucket() -> S3Error {
    s3_error!(NoSuchBucket, "The specified bucket does not exist")
}

/// What the file system refused, as S3 says that something is broken.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> S3Error {
    let path = path.to_owned();
    move |error| {
        tracing::error!(%error, path = %path.display(), "the local S3 cannot {action} a file");
        let message = format!("kinesink local cannot {action} {}: {error}", path.display());
        S3Error::with_message(S3ErrorCode::InternalError, message)
    }
}
