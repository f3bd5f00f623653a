//! Objects in a directory: as durable, as whole and as safe from being overwritten as in a bucket.
//!
//! ```text
//! .NAME#1      the object while it is written, or a higher number where somebody else writes it too
//! .NAME.json   says what the object holds, and the digest of its bytes; written next, whole
//! NAME         a link to the first, once both are on disk
//! ```
//!
//! Of two writers the second may replace what the first has said, and then find its object there: what is said counts only of an
//! object of those bytes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kinesink_core::{Failure, Fingerprint};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::blocks::Encoded;
use super::contents::Contents;
use super::error;
use super::store::{Listed, Object, Put, too_many};

/// Writers of one object, at the same time or killed at it.
const WRITERS_MAX: u32 = 100;
/// What is written with one system call, where pieces are smaller.
const WRITE_BYTES: usize = 64 * 1024;
/// Ends the name of what says what an object holds.
const LABEL: &str = ".json";
/// What [`check`](Directory::check) writes and removes again. Query engines skip names that begin so.
const PROBE: &str = "_kinesink_check";

/// Bytes are digested in blocks of so many, in whatever pieces they come.
const DIGEST_BLOCK_BYTES: usize = 64 * 1024;

/// What stands beside an object.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    #[serde(flatten)]
    contents: Contents,
    /// Digest of the object's bytes, as they are in its file.
    bytes: String,
}

/// A directory that stands for a bucket.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) async fn create(&self, object: Object) -> Result<Put, Failure> {
        let (root, path) = (self.root.clone(), self.root.join(&object.key));
        let attempt = format!("write {}", path.display());
        blocking(attempt, move || create(&root, &path, &object)).await
    }

    pub(super) async fn list(&self, keys_max: usize) -> Result<Vec<Listed>, Failure> {
        let root = self.root.clone();
        let objects = blocking(format!("list {}", root.display()), move || list(&root, keys_max)).await?;
        objects.ok_or_else(|| too_many(&self.root.display().to_string(), keys_max))
    }

    pub(super) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let path = self.root.join(key);
        blocking(format!("read {}", path.display()), move || {
            let (mut file, mut bytes) = (File::open(path)?, Vec::new());
            file.seek(SeekFrom::Start(range.start))?;
            file.take(range.end - range.start).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    pub(super) async fn note(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        let path = self.root.join(key);
        blocking(format!("read {}", path.display()), move || match fs::read(path) {
            Ok(note) => Ok(Some(note.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    pub(super) async fn take_note(&self, key: &str, note: Bytes) -> Result<bool, Failure> {
        let (root, path) = (self.root.clone(), self.root.join(key));
        blocking(format!("write {}", path.display()), move || {
            let directory = path.parent().unwrap_or(&root);
            create_directory(directory)?;
            let met = publish(&path, &Encoded::held(vec![note]), None)?;
            sync_up_to(directory, &root)?;
            Ok(matches!(met, Met::Nothing))
        })
        .await
    }

    /// Creates the directory, and proves that it may be written to.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let root = self.root.clone();
        blocking(format!("write to {}", root.display()), move || {
            create_directory(&root)?;
            let probe = root.join(format!("{PROBE}_{}", Uuid::new_v4()));
            File::create_new(&probe)?.sync_all()?;
            fs::remove_file(&probe)
        })
        .await
    }
}

/// What an operation ends with that blocks.
async fn blocking<T: Send + 'static>(
    attempt: String,
    operation: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(operation).await {
        Ok(result) => result.map_err(|error| error::disk(&attempt, &error)),
        Err(error) => Err(Failure::transient(format!("cannot {attempt}: {error}"))),
    }
}

/// The files below; none if there are too many.
fn list(root: &Path, keys_max: usize) -> io::Result<Option<Vec<Listed>>> {
    let (mut objects, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Some(key) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) {
                objects.push(Listed { key: key.to_owned(), bytes: entry.metadata()?.len() });
            }
        }
        if objects.len() > keys_max {
            return Ok(None);
        }
    }
    Ok(Some(objects))
}

/// Creates the directory and makes its entry, and those of every parent it needed, durable.
fn create_directory(directory: &Path) -> io::Result<()> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    fs::create_dir_all(directory)?;
    sync_up_to(directory, existing)
}

fn create(root: &Path, path: &Path, object: &Object) -> io::Result<Put> {
    let directory = path.parent().unwrap_or(root);
    create_directory(directory)?;
    let put = if object.is_named_by_window {
        let met = match path.exists() {
            true => Met::Object { replaced: None },
            false => publish(path, &object.body, Some(&object.contents))?,
        };
        match met {
            Met::Nothing => Put::Created,
            Met::Object { replaced } => Put::Exists(found(path, object, replaced)?),
        }
    } else {
        publish(path, &object.body, None)?;
        Put::Created
    };
    // What is only found may be what a process left that was killed before it could sync. Syncing what is clean costs next
    // to nothing.
    File::open(path)?.sync_all()?;
    remove_staged(path);
    remove_staged(&hidden(path, LABEL));
    sync_up_to(directory, root)?;
    Ok(put)
}

/// What an object met at its name.
enum Met {
    Nothing,
    Object {
        /// What was said of it before this one was announced.
        replaced: Option<Label>,
    },
}

/// Writes the object beside the path, and what it holds, and gives it its name once both are on disk, unless that is taken.
fn publish(path: &Path, body: &Encoded, contents: Option<&Contents>) -> io::Result<Met> {
    let (staged, file) = stage(path)?;
    let published = (|| {
        let mut out = Digested { out: BufWriter::with_capacity(WRITE_BYTES, file), digest: Digest::default() };
        body.write_to(&mut out)?;
        let Digested { out, digest } = out;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let label = contents.map(|contents| Label { contents: contents.clone(), bytes: digest.finish() });
        let say = || label.as_ref().map_or(Ok(None), |label| write_label(&hidden(path, LABEL), label));
        let replaced = say()?;
        match fs::hard_link(&staged, path) {
            // What another writer has said meanwhile is not true.
            Ok(()) => say().map(|_| Met::Nothing),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Met::Object { replaced }),
            Err(error) => Err(error),
        }
    })();
    // Where that fails, whoever sends the object again removes it.
    let _stays = fs::remove_file(&staged);
    published
}

/// What is known of the object that is there: what is said of it, if it has those bytes; or that it is this one.
fn found(path: &Path, object: &Object, replaced: Option<Label>) -> io::Result<Option<Contents>> {
    let path_of_label = hidden(path, LABEL);
    let mut there = Digest::default();
    io::copy(&mut File::open(path)?, &mut there)?;
    let bytes = there.finish();
    let said = [labelled(&path_of_label)?, replaced].into_iter().flatten().find(|label| label.bytes == bytes);
    let label = match said {
        Some(label) => label,
        None => {
            let mut ours = Digest::default();
            object.body.write_to(&mut ours)?;
            if ours.finish() != bytes {
                return Ok(None);
            }
            Label { contents: object.contents.clone(), bytes }
        }
    };
    write_label(&path_of_label, &label)?;
    Ok(Some(label.contents))
}

/// The digest of bytes that are written to it.
#[derive(Default)]
struct Digest {
    of_blocks: Fingerprint,
    open: Vec<u8>,
}

impl Digest {
    fn finish(mut self) -> String {
        self.of_blocks.part(&self.open);
        format!("{:032x}", self.of_blocks.finish())
    }
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.open.len() == DIGEST_BLOCK_BYTES {
            self.of_blocks.part(&self.open);
            self.open.clear();
        }
        let count = bytes.len().min(DIGEST_BLOCK_BYTES - self.open.len());
        self.open.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes on, and digests what was written.
struct Digested<W> {
    out: W,
    digest: Digest,
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.write_all(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file beside the path that no other writer has.
fn stage(path: &Path) -> io::Result<(PathBuf, File)> {
    for number in 1..=WRITERS_MAX {
        let staged = hidden(path, &format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((staged, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{WRITERS_MAX} unfinished files stand beside it: remove those that end in #NUMBER")))
}

/// Removes what writers of the object left that were killed before it was complete. A live writer that loses its file finds
/// the object there at its next attempt.
fn remove_staged(path: &Path) {
    for number in 1..=WRITERS_MAX {
        // What cannot be removed does no harm: no reader takes it for an object.
        if fs::remove_file(hidden(path, &format!("#{number}"))).is_err() {
            return;
        }
    }
}

/// What is said of the object, if anything that can be read.
fn labelled(label: &Path) -> io::Result<Option<Label>> {
    match fs::read(label) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says what the object holds, or will once it has got its name. What an earlier writer said is replaced: it was killed before
/// its object was complete, or was not first. Gives back what that was.
fn write_label(path: &Path, label: &Label) -> io::Result<Option<Label>> {
    let replaced = labelled(path)?;
    if replaced.as_ref() == Some(label) {
        return Ok(replaced);
    }
    let (staged, mut file) = stage(path)?;
    let written = (|| {
        file.write_all(&serde_json::to_vec(label)?)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        // Before the object: one without it would count as somebody else's.
        path.parent().map_or(Ok(()), sync_directory)
    })();
    if written.is_err() {
        let _stays = fs::remove_file(&staged);
    }
    written.map(|()| replaced)
}

/// A file beside the path whose name readers skip, and which is that of no other path.
fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

fn sync_up_to(directory: &Path, root: &Path) -> io::Result<()> {
    directory.ancestors().take_while(|path| path.starts_with(root)).try_for_each(sync_directory)
}

/// Only unix can open a directory to sync it.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
