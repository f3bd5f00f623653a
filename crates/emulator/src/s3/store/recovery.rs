//! What a start finds: heads are matched with files, and what belongs to nothing goes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::files::{Files, identity};
use super::{Bucket, Head, Object, State, remove_leftover, uploads};
use crate::error::Error;

/// Reads all that the directory holds.
pub(super) fn load(files: &Files) -> Result<State, Error> {
    for unfinished in entries(&files.staging())? {
        remove_leftover(&unfinished);
    }
    let mut state = State::default();
    for folder in entries(files.root())?.into_iter().filter(|path| path.is_dir()) {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        if s3s::path::check_bucket_name(name) {
            files.make_bucket(name).map_err(io_error("make", &folder))?;
            state.buckets.insert(name.to_owned(), bucket(files, name)?);
        }
    }
    for folder in entries(&files.states())? {
        let is_deleted =
            folder.file_name().and_then(|name| name.to_str()).is_none_or(|name| !state.buckets.contains_key(name));
        if is_deleted {
            fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
        }
    }
    let objects = state.buckets.values().flat_map(|bucket| bucket.objects.values());
    state.last_ns = objects.map(|object| object.head.modified_ns).max().unwrap_or(0);
    Ok(state)
}

fn bucket(files: &Files, name: &str) -> Result<Bucket, Error> {
    let folder = files.bucket(name);
    let metadata = fs::metadata(&folder).map_err(io_error("look at", &folder))?;
    let created = metadata.created().or_else(|_| metadata.modified()).map_err(io_error("look at", &folder))?;
    let mut objects = BTreeMap::new();
    for path in entries(&files.heads(name))? {
        let Some(found) = object_of(files, name, &path)? else {
            remove_leftover(&path);
            continue;
        };
        let found = Arc::new(found);
        let other: Option<Arc<Object>> = objects.insert(found.head.key.clone(), Arc::clone(&found));
        let Some(other) = other else { continue };
        // One replaced the other, and its process was killed before it had removed that.
        let (newer, older) =
            if found.head.modified_ns > other.head.modified_ns { (found, other) } else { (other, found) };
        let older_file = files.object(name, &older.head.key, &older);
        files.remove(name, &older_file).map_err(io_error("remove", &older_file))?;
        older.id.iter().for_each(|id| remove_leftover(&files.head(name, id)));
        objects.insert(newer.head.key.clone(), newer);
    }
    for path in entries(&files.asides(name))? {
        let is_known = |object: &Arc<Object>| object.is_aside && files.object(name, &object.head.key, object) == path;
        if !objects.values().any(is_known) {
            remove_leftover(&path);
        }
    }
    add_files_without_heads(&folder, &mut objects)?;
    let created = Timestamp::try_from(created).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Bucket { created, objects, uploads: uploads::load(files, name)? })
}

/// The object that the head is of, if its file is there.
fn object_of(files: &Files, bucket: &str, head_path: &Path) -> Result<Option<Object>, Error> {
    let Some(id) = head_path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let head: Head = read_json(head_path)?;
    let mut object = Object { id: Some(id.to_owned()), is_aside: true, head };
    let is_its = |path: &Path, object: &Object| {
        let found = fs::symlink_metadata(path).and_then(|metadata| identity(&metadata));
        found.is_ok_and(|found| found == (object.head.len_bytes, object.head.modified_ns))
    };
    if is_its(&files.object(bucket, &object.head.key, &object), &object) {
        return Ok(Some(object));
    }
    object.is_aside = false;
    let named = files.named(bucket, &object.head.key);
    Ok(named.is_some_and(|path| is_its(&path, &object)).then_some(object))
}

/// Files that other programs have put there are objects too. Links are not followed.
fn add_files_without_heads(root: &Path, objects: &mut BTreeMap<String, Arc<Object>>) -> Result<(), Error> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            let metadata = fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
                tracing::warn!(path = %path.display(), "not an object: its name is not UTF-8");
                continue;
            };
            if metadata.is_file() && !objects.contains_key(key) {
                let found = identity(&metadata).map_err(io_error("look at", &path))?;
                objects.insert(key.to_owned(), Arc::new(Object::of_a_file(key, found)));
            }
        }
    }
    Ok(())
}

pub(super) fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    entries.map_err(io_error("list", folder))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&text).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        reason: format!("it is not what was written: {error}"),
    })
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path: path.clone(), source }
}
