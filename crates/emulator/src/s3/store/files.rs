//! Where everything is on disk, and how it gets there in one piece.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::Object;

/// Beside the buckets; no bucket can be called so.
const STATE: &str = ".state";
/// What file systems take as a name.
const NAME_BYTES_MAX: usize = 255;

/// The directory's layout, and how much has to be on the disk before it is acknowledged.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// Whether it has to survive a machine that loses power; what is gone with the process does not.
    is_durable: bool,
}

impl Files {
    pub(super) fn new(root: &Path, is_durable: bool) -> Self {
        Self { root: root.to_owned(), is_durable }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join(STATE).join("lock")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.root.join(STATE).join("staging")
    }

    /// One folder a bucket.
    pub(super) fn states(&self) -> PathBuf {
        self.root.join(STATE).join("buckets")
    }

    pub(super) fn bucket(&self, bucket: &str) -> PathBuf {
        self.root.join(bucket)
    }

    pub(super) fn state(&self, bucket: &str) -> PathBuf {
        self.states().join(bucket)
    }

    pub(super) fn heads(&self, bucket: &str) -> PathBuf {
        self.state(bucket).join("heads")
    }

    pub(super) fn head(&self, bucket: &str, id: &str) -> PathBuf {
        self.heads(bucket).join(id)
    }

    pub(super) fn asides(&self, bucket: &str) -> PathBuf {
        self.state(bucket).join("aside")
    }

    pub(super) fn uploads(&self, bucket: &str) -> PathBuf {
        self.state(bucket).join("uploads")
    }

    pub(super) fn upload(&self, bucket: &str, upload: &str) -> PathBuf {
        self.uploads(bucket).join(upload)
    }

    /// The folders of a bucket.
    pub(super) fn make_bucket(&self, bucket: &str) -> io::Result<()> {
        for folder in [self.heads(bucket), self.asides(bucket), self.uploads(bucket), self.bucket(bucket)] {
            fs::create_dir_all(&folder)?;
        }
        [self.state(bucket), self.states(), self.root.clone()].iter().try_for_each(|folder| self.sync_folder(folder))
    }

    /// The file of an object that is in the index.
    pub(super) fn object(&self, bucket: &str, key: &str, object: &Object) -> PathBuf {
        match &object.id {
            Some(id) if object.is_aside => self.asides(bucket).join(id),
            _ => self.bucket(bucket).join(key),
        }
    }

    /// The path that says the key, if a path can.
    pub(super) fn named(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        let is_name =
            |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES_MAX && !part.contains('\0');
        key.split('/').all(is_name).then(|| self.bucket(bucket).join(key))
    }

    /// Sets the time that the file is known by. Answers what the file system made of it, and has the file on the disk.
    pub(super) fn finish(&self, path: &Path, modified: Timestamp) -> io::Result<(u64, i64)> {
        let file = File::options().write(true).open(path)?;
        file.set_times(FileTimes::new().set_modified(SystemTime::from(modified)))?;
        self.sync(&file)?;
        identity(&file.metadata()?)
    }

    /// Gives a finished file the name of its key, or its place aside where that name cannot be had: another key is in
    /// the way, as `a` is of `a/b`, or no file can be called so. Says whether it is aside.
    pub(super) fn place(
        &self,
        (bucket, key, id): (&str, &str, &str),
        staged: &Path,
        old: Option<&Object>,
    ) -> io::Result<bool> {
        if old.is_some_and(|old| !old.is_aside) {
            return fs::rename(staged, self.bucket(bucket).join(key)).map(|()| false);
        }
        if let Some(path) = self.named(bucket, key)
            && path.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok())
            // A file that the index does not have is another program's, and stays.
            && is_absent(&path)
            && fs::rename(staged, &path).is_ok()
        {
            return Ok(false);
        }
        fs::rename(staged, self.asides(bucket).join(id)).map(|()| true)
    }

    /// Has the file's name on the disk, and the folders that lead to it.
    pub(super) fn sync_name(&self, path: &Path) -> io::Result<()> {
        let mut folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
        folders.try_for_each(|folder| self.sync_folder(folder))
    }

    /// Removes the file of an object, and the folders that are empty without it.
    pub(super) fn remove(&self, bucket: &str, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let bucket = self.bucket(bucket);
        let is_emptied =
            |folder: &&Path| **folder != *bucket && folder.starts_with(&bucket) && fs::remove_dir(folder).is_ok();
        let stays = path.ancestors().skip(1).find(|folder| !is_emptied(folder));
        stays.map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    /// Writes JSON in one piece: whoever reads the path finds all of it, or what was there before.
    pub(super) fn write_json(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        let staged = self.staging().join(uuid::Uuid::new_v4().to_string());
        let mut file = File::create_new(&staged)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        self.sync(&file)?;
        fs::rename(&staged, path)?;
        path.parent().map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        if self.is_durable { file.sync_all() } else { Ok(()) }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if self.is_durable { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What tells one version of a file from the next: its length and when it was last changed, in nanoseconds since 1970.
pub(super) fn identity(metadata: &fs::Metadata) -> io::Result<(u64, i64)> {
    let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    let modified_ns = i64::try_from(modified.as_nanosecond()).map_err(io::Error::other)?;
    Ok((metadata.len(), modified_ns))
}
