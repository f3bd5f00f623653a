//! What a directory needs beyond its object store to be as durable as a bucket.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Staging files of one object that are looked for: one for each writer that was killed at it.
const STAGED_MAX: u32 = 100;

/// Creates the directory and makes its entry, and those of every parent it needed, durable.
pub(super) fn create(root: &Path) -> io::Result<()> {
    let existing = root.ancestors().find(|path| path.exists()).unwrap_or(root);
    fs::create_dir_all(root)?;
    sync_up_to(root, existing)
}

/// Makes the file `path` and the entries that lead to it, from `root` down, durable.
///
/// The store syncs what it creates itself; an object that it only finds, or a directory, may be what a process left
/// that was killed before it could sync. Syncing what is clean costs next to nothing.
pub(super) fn sync(path: &Path, root: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    remove_staged(path);
    path.parent().map_or(Ok(()), |directory| sync_up_to(directory, root))
}

/// Removes what writers of the object left that were killed before it was complete: the store writes to `OBJECT#1`, or
/// the first such name that is free. A live writer that loses its file finds the object there at its next attempt.
fn remove_staged(path: &Path) {
    for number in 1..=STAGED_MAX {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        // What cannot be removed does no harm: no reader takes it for an object.
        if fs::remove_file(staged).is_err() {
            return;
        }
    }
}

/// Only unix can open a directory to sync it.
fn sync_up_to(directory: &Path, root: &Path) -> io::Result<()> {
    for directory in directory.ancestors().take_while(|path| path.starts_with(root)) {
        if cfg!(unix) {
            File::open(directory)?.sync_all()?;
        }
    }
    Ok(())
}
