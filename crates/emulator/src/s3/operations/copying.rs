//! Objects and parts that are copies of what is there.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use md5::{Digest as _, Md5};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag, MetadataDirective, Range,
    UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::reading::Conditions;
use super::uploads::part_number;
use super::{Answer, at};
use crate::s3::checksum::{Algorithm, Hasher, Sum};
use crate::s3::condition::Condition;
use crate::s3::store::{NewObject, Staged, Store};
use crate::s3::{headers, hex};

pub(super) async fn copy_object(store: &Arc<Store>, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let condition = Condition::from_headers(&request.headers)?;
    let described = headers::kept(&request.headers)?;
    let input = request.input;
    let from = names(input.copy_source)?;
    let is_replaced = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
    };
    let to = (input.bucket, input.key);
    if !is_replaced && to == from {
        let message = "This copy request is illegal because it is trying to copy an object to itself without changing \
                       the object's metadata.";
        return Err(s3_error!(InvalidRequest, "{message}"));
    }
    let conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    let object = store.run(move |store| {
        let (source, file) = store.get(&from.0, &from.1)?;
        conditions.check_of_copy(&source.head)?;
        let copied = copy(store, file, 0..source.head.len_bytes, None)?;
        let headers = match is_replaced {
            true => described,
            false => headers::described_anew(&described, source.head.headers.clone()),
        };
        // The sum of the parts of another object says nothing about one that has none.
        let checksum = source.head.checksum.clone().filter(|sum| !sum.is_composite);
        let ((bucket, key), staged, etag) = (to, copied.staged, copied.md5);
        store.put(NewObject { bucket, key, staged, etag, checksum, headers, condition, upload: None })
    });
    let object = object.await?;
    let result = CopyObjectResult {
        e_tag: Some(ETag::Strong(object.head.etag.clone())),
        last_modified: Some(at(object.head.modified_ns)),
        ..CopyObjectResult::default()
    };
    let output = CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() };
    Ok(S3Response::with_headers(output, headers::of_storage(&object.head.headers)))
}

pub(super) async fn upload_part_copy(
    store: &Arc<Store>,
    request: S3Request<UploadPartCopyInput>,
) -> Answer<UploadPartCopyOutput> {
    let input = request.input;
    let from = names(input.copy_source)?;
    let number = part_number(input.part_number)?;
    let range = input.copy_source_range.as_deref().map(Range::parse).transpose();
    let range = range.map_err(|error| {
        s3_error!(error, InvalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last")
    })?;
    let conditions = Conditions {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    let (bucket, key, upload) = (input.bucket, input.key, input.upload_id);
    let part = store.run(move |store| {
        let checksum = store.read_upload(&bucket, &key, &upload, |upload| Ok(upload.head.checksum))?;
        let (source, file) = store.get(&from.0, &from.1)?;
        conditions.check_of_copy(&source.head)?;
        let len_bytes = source.head.len_bytes;
        let range = range.map_or(Ok(0..len_bytes), |range| range.check(len_bytes))?;
        let copied = copy(store, file, range, checksum.map(|(algorithm, _)| algorithm))?;
        store.put_part((&bucket, &key, &upload), number, &copied.staged, (copied.md5, copied.checksum))
    });
    let part = part.await?;
    let result = CopyPartResult {
        e_tag: Some(ETag::Strong(part.md5)),
        last_modified: Some(at(part.modified_ns)),
        ..CopyPartResult::default()
    };
    Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() }))
}

/// Bucket and key of what is copied.
fn names(source: CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket { bucket, key, version_id: None } => Ok((bucket.into(), key.into())),
        _ => Err(s3_error!(
            NotImplemented,
            "kinesink local copies objects of buckets, without versions or access points"
        )),
    }
}

/// A copy in staging.
struct Copied {
    staged: Staged,
    /// In hexadecimal digits.
    md5: String,
    checksum: Option<Sum>,
}

fn copy(store: &Store, mut from: File, range: std::ops::Range<u64>, algorithm: Option<Algorithm>) -> S3Result<Copied> {
    let staged = store.stage();
    let copied = (|| {
        let mut to =
            Summed { file: File::create_new(&staged.path)?, md5: Md5::new(), hasher: algorithm.map(Hasher::new) };
        from.seek(SeekFrom::Start(range.start))?;
        io::copy(&mut from.take(range.end - range.start), &mut to)?;
        Ok(to)
    })();
    let copied = copied.map_err(|error: io::Error| {
        S3Error::with_message(S3ErrorCode::InternalError, format!("kinesink local cannot copy an object: {error}"))
    })?;
    Ok(Copied { staged, md5: hex::encode(&copied.md5.finalize()), checksum: copied.hasher.map(Hasher::finish) })
}

/// A file that is written, and the sums of what is.
struct Summed {
    file: File,
    md5: Md5,
    hasher: Option<Hasher>,
}

impl io::Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let bytes = bytes.get(..written).unwrap_or_default();
        self.md5.update(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
