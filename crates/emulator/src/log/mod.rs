//! The state on disk: one file of events.
//!
//! An event is in the file before its request is answered, so a process that is killed loses nothing acknowledged.
//! A machine that loses power may lose the last moments: the file is not synced per event.
//!
//! The file is a header (magic, format, the kinesink version that wrote it), then per event: length of the event,
//! length of its records' bytes, checksum of both, checksum of these three, then both. All numbers are little-endian.
//! Format 4; formats 1 to 3 are read and replaced.
//!
//! A file that is mostly of things that are gone is replaced by one that says the same with less: the streams as they
//! are now, then their records. It is written and synced beside the old one and then takes its name, so that at each
//! moment there is one whole log.

mod entry;
mod reader;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use self::entry::{Entry, FORMAT};
use self::reader::Reader;
use crate::error::Error;
use crate::stream::Streams;
use crate::stream::event::Event;

const FILE: &str = "kinesis.log";
/// What will take the log's place. One that is found was not finished.
const NEXT_FILE: &str = "kinesis.log.next";
/// Locked by who uses the directory: the log itself is another file after each time it is written anew.
const LOCK_FILE: &str = "kinesis.lock";
const MAGIC: &[u8; 16] = b"kinesink-kinesis";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What is gone may take as much of the file as what is there, and this much besides.
const SLACK_BYTES: u64 = 16 * 1024 * 1024;

/// The open log.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    file: File,
    /// Bytes of whole entries; whatever a failed write left behind this is overwritten.
    len_bytes: u64,
    /// Whether the file has an earlier format, to which nothing can be added.
    is_old: bool,
    /// Set when a failed write could not be undone.
    broken: bool,
    _lock: File,
}

impl Log {
    /// Opens the file, made if absent, applies its events, and cuts off an entry that a killed process left unfinished.
    /// What it says is written anew by [`shorten`](Self::shorten), which has to follow.
    pub(crate) fn open(directory: &Path, streams: &mut Streams) -> Result<Self, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        std::fs::create_dir_all(directory).map_err(failed("make the directory", directory))?;
        let lock_path = directory.join(LOCK_FILE);
        let lock = open_file(&lock_path).map_err(failed("open", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse { path: directory.to_owned() },
            TryLockError::Error(source) => Error::Io { action: "lock", path: lock_path.clone(), source },
        })?;
        let path = directory.join(FILE);
        let file = open_file(&path).map_err(failed("open", &path))?;
        let mut reader = Reader::new(&path, &file)?;
        reader.header()?;
        if reader.at_byte > 0 {
            reader.events(streams)?;
        }
        let (len_bytes, is_old) = (reader.at_byte, reader.format != FORMAT);
        let directory = directory.to_owned();
        let mut log = Self { directory, file, len_bytes, is_old, broken: false, _lock: lock };
        log.cut().map_err(failed("write", &path))?;
        if len_bytes == 0 {
            log.write(&[&header()]).map_err(failed("write", &path))?;
        }
        Ok(log)
    }

    /// Whether it is of an earlier format, and has to be written anew before anything is added.
    pub(crate) fn is_old(&self) -> bool {
        self.is_old
    }

    /// Bytes in the file.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Writes the event behind the others. After an error the file is as it was before.
    pub(crate) fn append(&mut self, event: &Event) -> io::Result<()> {
        self.write(&Entry::new(event, event.json())?.parts())
    }

    /// Takes back what was written behind that byte.
    pub(crate) fn end_at(&mut self, len_bytes: u64) {
        self.len_bytes = len_bytes;
        if let Err(error) = self.cut() {
            tracing::error!(%error, path = %self.directory.display(), "the log ends with a change that does not fit");
        }
    }

    /// Replaces a log that is mostly of what is gone, or of an earlier format. The streams are what it says.
    ///
    /// # Errors
    /// The new file cannot be written; then the log is as it was before.
    pub(crate) fn shorten(&mut self, streams: &Streams) -> Result<(), Error> {
        let is_short = !self.is_old && self.len_bytes <= 2 * streams.file_bytes() + SLACK_BYTES;
        if is_short {
            return Ok(());
        }
        let path = self.directory.join(NEXT_FILE);
        self.replace(&path, streams).map_err(|source| {
            // What it left would hold room that appends need, where the disk is full.
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, path = %path.display(), "no unfinished log to remove");
            }
            Error::Io { action: "write", path, source }
        })
    }

    fn replace(&mut self, next_path: &Path, streams: &Streams) -> io::Result<()> {
        // Before anything is replaced: afterwards nothing may fail.
        let directory = File::open(&self.directory)?;
        let mut file = open_file(next_path)?;
        file.set_len(0)?;
        let mut output = io::BufWriter::new(&mut file);
        output.write_all(&header())?;
        streams.snapshot(&mut |event, json| {
            Entry::new(event, json)?.parts().into_iter().try_for_each(|part| output.write_all(part))
        })?;
        output.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let len_bytes = file.stream_position()?;
        std::fs::rename(next_path, self.directory.join(FILE))?;
        tracing::info!(path = %self.directory.display(), before = self.len_bytes, after = len_bytes, "wrote the log anew");
        // The name is the new file's from here on: what went on into the old one would be lost.
        (self.file, self.len_bytes, self.is_old, self.broken) = (file, len_bytes, false, false);
        if let Err(error) = directory.sync_all() {
            tracing::warn!(%error, path = %self.directory.display(), "the new log's name may not survive a power cut");
        }
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if self.broken || self.is_old {
            return Err(io::Error::other("an earlier change failed and could not be undone; restart"));
        }
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        if written.is_err() {
            self.broken = self.cut().is_err();
        } else {
            self.len_bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        written
    }

    /// Cuts off whatever follows the last whole entry.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.len_bytes)?;
        self.file.seek(SeekFrom::Start(self.len_bytes))?;
        Ok(())
    }

    /// A log in that directory whose every write fails, as on a disk that is full.
    #[cfg(test)]
    pub(crate) fn unwritable(directory: &Path) -> Self {
        let path = directory.join(FILE);
        std::fs::write(&path, header()).unwrap();
        Self {
            directory: directory.to_owned(),
            // Opened for reading only, so that neither writing nor cutting works.
            file: File::open(&path).unwrap(),
            len_bytes: header().len() as u64,
            is_old: false,
            broken: false,
            _lock: File::create(directory.join(LOCK_FILE)).unwrap(),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(FORMAT.to_le_bytes());
    header.extend(u8::try_from(VERSION.len()).unwrap_or(u8::MAX).to_le_bytes());
    header.extend(VERSION.bytes().take(usize::from(u8::MAX)));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_anew_leaves_nothing_in_the_way_and_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut streams = Streams::default();
        let mut log = Log::open(directory.path(), &mut streams).unwrap();
        let event = || Event::DeleteStream { stream: "s".to_owned() };
        log.append(&event()).unwrap();
        let before = std::fs::read(directory.path().join(FILE)).unwrap();
        log.len_bytes += 2 * SLACK_BYTES;
        // What is there opens and takes nothing.
        let next = directory.path().join(NEXT_FILE);
        std::os::unix::fs::symlink("/dev/full", &next).unwrap();
        assert!(log.shorten(&streams).is_err());
        assert!(next.symlink_metadata().is_err(), "what the failed rewrite left holds no room");
        log.len_bytes -= 2 * SLACK_BYTES;
        log.append(&event()).unwrap();
        let after = std::fs::read(directory.path().join(FILE)).unwrap();
        assert!(after.starts_with(&before) && after.len() > before.len(), "appends go on into the log that is there");
    }

    #[test]
    fn a_log_that_was_written_anew_is_where_the_next_event_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut streams = Streams::default();
        let mut log = Log::open(directory.path(), &mut streams).unwrap();
        log.append(&Event::DeleteStream { stream: "s".to_owned() }).unwrap();
        log.len_bytes += 2 * SLACK_BYTES;
        log.shorten(&streams).unwrap();
        let shortened = std::fs::read(directory.path().join(FILE)).unwrap().len();
        log.append(&Event::DeleteStream { stream: "t".to_owned() }).unwrap();
        assert!(std::fs::read(directory.path().join(FILE)).unwrap().len() > shortened);
        assert!(!directory.path().join(NEXT_FILE).exists());
    }

    #[test]
    fn a_write_that_cannot_be_undone_stops_all_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::unwritable(directory.path());
        let event = || Event::DeleteStream { stream: "s".to_owned() };
        assert!(log.append(&event()).is_err());
        assert!(log.append(&event()).unwrap_err().to_string().contains("restart"));
        assert_eq!(std::fs::read(directory.path().join(FILE)).unwrap(), header());
    }
}
