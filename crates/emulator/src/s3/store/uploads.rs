//! Uploads in parts, which are files of their own until they are joined.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::files::Files;
use super::{NewObject, Object, Staged, Store, failed, recovery, remove_leftover};
use crate::error::Error;
use crate::s3::checksum::{self, Algorithm, Hasher, Sum};
use crate::s3::condition::Condition;

/// Of every part but the last.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// In all buckets together; S3 has no such limit.
const UPLOADS_MAX: usize = 100_000;
const COPY_BYTES: usize = 1024 * 1024;
const HEAD: &str = "upload.json";

/// An upload that is neither complete nor aborted.
#[derive(Debug)]
pub(in crate::s3) struct Upload {
    pub(in crate::s3) head: NewUpload,
    pub(in crate::s3) parts: BTreeMap<u16, Part>,
}

/// What an upload begins with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::s3) struct NewUpload {
    pub(in crate::s3) key: String,
    /// Since 1970.
    pub(in crate::s3) initiated_ns: i64,
    pub(in crate::s3) headers: BTreeMap<String, String>,
    /// The checksum of its parts, and whether the object's is made of them.
    pub(in crate::s3) checksum: Option<(Algorithm, bool)>,
}

/// A part that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::s3) struct Part {
    /// The file beside this.
    file: String,
    pub(in crate::s3) len_bytes: u64,
    /// Since 1970.
    pub(in crate::s3) modified_ns: i64,
    /// In hexadecimal digits.
    pub(in crate::s3) md5: String,
    pub(in crate::s3) checksum: Option<Sum>,
}

/// What an upload is completed with.
#[derive(Debug)]
pub(in crate::s3) struct Completion {
    pub(in crate::s3) bucket: String,
    pub(in crate::s3) key: String,
    pub(in crate::s3) upload: String,
    /// Number, ETag, and the checksum if one is sent.
    pub(in crate::s3) parts: Vec<(u16, String, Option<String>)>,
    pub(in crate::s3) condition: Condition,
    /// The whole object's, if it is sent.
    pub(in crate::s3) checksum: Option<String>,
}

impl Store {
    /// Begins an upload and answers its id.
    pub(in crate::s3) fn create_upload(&self, bucket: &str, head: NewUpload) -> S3Result<String> {
        self.read(bucket, |_| Ok(()))?;
        let id = uuid::Uuid::now_v7().to_string();
        let folder = self.files.upload(bucket, &id);
        fs::create_dir(&folder).map_err(failed("make", &folder))?;
        let written = self.files.write_json(&folder.join(HEAD), &head).and_then(|()| self.files.sync_name(&folder));
        written.map_err(failed("write", &folder))?;
        let mut state = self.state();
        let open: usize = state.buckets.values().map(|bucket| bucket.uploads.len()).sum();
        if open >= UPLOADS_MAX {
            self.forget_upload(bucket, &id);
            return Err(s3_error!(
                ServiceUnavailable,
                "kinesink local holds at most {UPLOADS_MAX} uploads: abort some"
            ));
        }
        let upload = Upload { head: head.clone(), parts: BTreeMap::new() };
        state.bucket_mut(bucket)?.uploads.insert((head.key, id.clone()), upload);
        Ok(id)
    }

    /// Looks at an upload.
    pub(in crate::s3) fn read_upload<T>(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        look: impl FnOnce(&Upload) -> S3Result<T>,
    ) -> S3Result<T> {
        self.read(bucket, |bucket| {
            look(bucket.uploads.get(&(key.to_owned(), upload.to_owned())).ok_or_else(no_upload)?)
        })
    }

    /// Keeps a part; one of the same number is replaced.
    pub(in crate::s3) fn put_part(
        &self,
        (bucket, key, upload): (&str, &str, &str),
        number: u16,
        staged: &Staged,
        (md5, checksum): (String, Option<Sum>),
    ) -> S3Result<Part> {
        let (len_bytes, modified_ns) =
            self.files.finish(&staged.path, self.next_time()).map_err(failed("write", &staged.path))?;
        let folder = self.files.upload(bucket, upload);
        let part = Part { file: uuid::Uuid::new_v4().to_string(), len_bytes, modified_ns, md5, checksum };
        let mut state = self.state();
        let held = state.bucket_mut(bucket)?.uploads.get_mut(&(key.to_owned(), upload.to_owned()));
        let held = held.ok_or_else(no_upload)?;
        let kept = fs::rename(&staged.path, folder.join(&part.file))
            .and_then(|()| self.files.write_json(&folder.join(number.to_string()), &part));
        kept.map_err(failed("write a part in", &folder))?;
        if let Some(old) = held.parts.insert(number, part.clone()) {
            remove_leftover(&folder.join(old.file));
        }
        Ok(part)
    }

    /// Joins the parts and makes the object be there, unless the condition is false; then the upload stays.
    pub(in crate::s3) fn complete(&self, completion: Completion) -> S3Result<Arc<Object>> {
        let Completion { bucket, key, upload, parts: named, condition, checksum } = completion;
        let (head, parts) = self.read_upload(&bucket, &key, &upload, |held| {
            let parts = named.iter().map(|named| part(held, named)).collect::<S3Result<Vec<Part>>>()?;
            Ok((held.head.clone(), parts))
        })?;
        check_order(&named)?;
        check_sizes(&parts)?;
        self.read(&bucket, |held| condition.check(held.head(&key)))?;
        let staged = self.stage();
        let folder = self.files.upload(&bucket, &upload);
        let whole = head.checksum.filter(|(_, is_composite)| !is_composite).map(|(algorithm, _)| algorithm);
        let joined = join(&folder, &parts, &staged.path, whole);
        // A part that is gone was replaced or aborted meanwhile.
        let joined = joined.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => no_upload(),
            _ => failed("join the parts in", &folder)(error),
        })?;
        let sums = || parts.iter().filter_map(|part| part.checksum.clone()).collect::<Vec<_>>();
        let sum = match head.checksum {
            Some((algorithm, true)) => Some(checksum::composite(algorithm, &sums())),
            _ => joined,
        };
        if let (Some(sent), Some(sum)) = (&checksum, &sum)
            && *sent != sum.value
        {
            return Err(s3_error!(BadDigest, "The checksum you specified is not that of the parts: {}", sum.value));
        }
        let etag = etag(&parts);
        let (headers, checksum, upload) = (head.headers, sum, Some(upload));
        self.put(NewObject { bucket, key, staged, etag, checksum, headers, condition, upload })
    }

    /// Ends an upload without an object.
    pub(in crate::s3) fn abort(&self, bucket: &str, key: &str, upload: &str) -> S3Result<()> {
        let mut state = self.state();
        let held = state.bucket_mut(bucket)?;
        held.uploads.remove(&(key.to_owned(), upload.to_owned())).ok_or_else(no_upload)?;
        drop(state);
        self.forget_upload(bucket, upload);
        Ok(())
    }

    /// Removes the files of an upload that is no more.
    pub(super) fn forget_upload(&self, bucket: &str, upload: &str) {
        let folder = self.files.upload(bucket, upload);
        // Without its head a start removes the rest.
        remove_leftover(&folder.join(HEAD));
        if let Err(error) = fs::remove_dir_all(&folder) {
            tracing::warn!(%error, path = %folder.display(), "cannot remove the parts of an upload that has ended");
        }
    }
}

/// The uploads that a start finds.
pub(super) fn load(files: &Files, bucket: &str) -> Result<BTreeMap<(String, String), Upload>, Error> {
    let mut uploads = BTreeMap::new();
    for folder in recovery::entries(&files.uploads(bucket))? {
        let Some(id) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let head_path = folder.join(HEAD);
        if !head_path.exists() {
            fs::remove_dir_all(&folder).map_err(recovery::io_error("remove", &folder))?;
            continue;
        }
        let head: NewUpload = recovery::read_json(&head_path)?;
        let mut upload = Upload { head, parts: BTreeMap::new() };
        let found = recovery::entries(&folder)?;
        for path in &found {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(number) = number {
                upload.parts.insert(number, recovery::read_json(path)?);
            }
        }
        for path in found.iter().filter(|path| is_unknown(path, &upload)) {
            remove_leftover(path);
        }
        uploads.insert((upload.head.key.clone(), id.to_owned()), upload);
    }
    Ok(uploads)
}

fn is_unknown(path: &Path, upload: &Upload) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return true };
    name != HEAD && name.parse::<u16>().is_err() && upload.parts.values().all(|part| part.file != name)
}

/// The part that a completion names, if it is the one that is there.
fn part(upload: &Upload, (number, etag, checksum): &(u16, String, Option<String>)) -> S3Result<Part> {
    let part = upload.parts.get(number).filter(|part| part.md5 == *etag);
    let is_same = |part: &&Part| match (checksum, &part.checksum) {
        (Some(sent), Some(sum)) => *sent == sum.value,
        _ => true,
    };
    let refuse = || {
        s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the \
             specified entity tag may not match the part's entity tag: part {number}"
        )
    };
    part.filter(is_same).cloned().ok_or_else(refuse)
}

fn check_order(named: &[(u16, String, Option<String>)]) -> S3Result<()> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    if !named.is_sorted_by(|(one, ..), (next, ..)| one < next) {
        return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
    }
    Ok(())
}

fn check_sizes(parts: &[Part]) -> S3Result<()> {
    let but_last = parts.split_last().map_or(parts, |(_, others)| others);
    match but_last.iter().find(|part| part.len_bytes < PART_BYTES_MIN) {
        None => Ok(()),
        Some(part) => Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size: a part of {} bytes, and only the last may \
             have fewer than {PART_BYTES_MIN}",
            part.len_bytes
        )),
    }
}

/// Writes the parts one behind the other, and adds up the checksum of all.
fn join(folder: &Path, parts: &[Part], into: &Path, algorithm: Option<Algorithm>) -> io::Result<Option<Sum>> {
    let mut into = File::create_new(into)?;
    let mut hasher = algorithm.map(Hasher::new);
    let mut buffer = vec![0; COPY_BYTES];
    for part in parts {
        let mut file = File::open(folder.join(&part.file))?;
        loop {
            let read = file.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            into.write_all(bytes)?;
        }
    }
    Ok(hasher.map(Hasher::finish))
}

/// S3's for an object of parts: the MD5 of their MD5s, and how many there are.
fn etag(parts: &[Part]) -> String {
    let mut all = Md5::new();
    for part in parts {
        all.update(crate::s3::hex::decode(&part.md5));
    }
    format!("{}-{}", crate::s3::hex::encode(&all.finalize()), parts.len())
}

pub(super) fn no_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might \
         have been aborted or completed."
    )
}
