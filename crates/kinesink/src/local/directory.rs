//! The directory that local services keep their state in.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::Error;

/// The version of the layout that this program writes and reads.
pub(super) const VERSION: u32 = 1;

/// Creates the directory, takes its lock and checks its version. The lock lives as long as the file.
pub(super) fn open(directory: &Path) -> Result<File, Error> {
    let storage = |path: &Path, error: &std::io::Error| Error::Storage {
        path: path.into(),
        message: format!("{error}; choose a directory that this user may write"),
    };
    std::fs::create_dir_all(directory).map_err(|error| storage(directory, &error))?;
    let lock_path = directory.join("lock");
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(|error| storage(&lock_path, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // An unreadable pid is reported as unknown: the lock itself is what counts.
            let known = lock.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known { pid.trim().to_owned() } else { "unknown".into() };
            return Err(Error::InUse { directory: directory.into(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(storage(&lock_path, &error)),
    }
    let write_pid = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(|error| storage(&lock_path, &error))?;
    check_version(directory)?;
    Ok(lock)
}

fn check_version(directory: &Path) -> Result<(), Error> {
    let path = directory.join("version");
    let storage = |message: String| Error::Storage { path: path.clone(), message };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mut words = text.split_whitespace();
            let found = words.next().and_then(|word| word.parse().ok());
            let found: u32 = found.ok_or_else(|| {
                storage("it does not start with a layout version; choose a directory that kinesink made".into())
            })?;
            if found > VERSION {
                let writer = words.next().unwrap_or("unknown").to_owned();
                return Err(Error::Newer { directory: directory.into(), found, writer });
            }
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{VERSION} {}\n", env!("CARGO_PKG_VERSION"));
            // In one piece: half a version would lock the directory up for good.
            let new = directory.join("version.new");
            let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
            written.map_err(|error| storage(error.to_string()))
        }
        Err(error) => Err(storage(error.to_string())),
    }
}
