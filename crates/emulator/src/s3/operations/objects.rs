//! Objects as they are written, copied and removed.

use std::fs;
use std::io;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error, MetadataDirective, PutObjectInput,
    PutObjectOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::reading::Conditions;
use super::{Answer, at};
use crate::s3::condition::Condition;
use crate::s3::store::{NewObject, Store};
use crate::s3::{headers, hex, incoming};

/// Of one DeleteObjects.
const DELETED_MAX: usize = 1000;

pub(super) async fn put_object(store: &Arc<Store>, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let condition = Condition::from_headers(&request.headers)?;
    let kept = headers::kept(&request.headers)?;
    let (bucket, key) = (request.input.bucket, request.input.key);
    let looked_into = bucket.clone();
    store.run(move |store| store.read(&looked_into, |_| Ok(()))).await?;
    let body = request.input.body;
    let incoming = incoming::receive(store, &request.headers, &request.extensions, body, None).await?;
    let (staged, etag, checksum, upload) = (incoming.staged, incoming.md5, incoming.checksum, None);
    let new = NewObject { bucket, key, staged, etag, checksum, headers: kept, condition, upload };
    let object = store.run(move |store| store.put(new)).await?;
    let mut headers = headers::of_storage(&object.head.headers);
    if let Some(sum) = &object.head.checksum {
        headers::add_checksum(&mut headers, sum);
    }
    let e_tag = Some(ETag::Strong(object.head.etag.clone()));
    Ok(S3Response::with_headers(PutObjectOutput { e_tag, ..PutObjectOutput::default() }, headers))
}

pub(super) async fn copy_object(store: &Arc<Store>, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
    let condition = Condition::from_headers(&request.headers)?;
    let described = headers::kept(&request.headers)?;
    let input = request.input;
    let CopySource::Bucket { bucket: from_bucket, key: from_key, version_id: None } = input.copy_source else {
        return Err(s3_error!(
            NotImplemented,
            "kinesink local copies objects of buckets, without versions or access points"
        ));
    };
    let is_replaced = match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => false,
        Some(MetadataDirective::REPLACE) => true,
        Some(_) => return Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
    };
    let (bucket, key) = (input.bucket, input.key);
    if !is_replaced && (&*bucket, &*key) == (&*from_bucket, &*from_key) {
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
        let (from, mut file) = store.get(&from_bucket, &from_key)?;
        conditions.check_of_copy(&from.head)?;
        let staged = store.stage();
        let mut copy =
            Copy { file: fs::File::create_new(&staged.path).map_err(|error| uncopied(&error))?, md5: Md5::new() };
        io::copy(&mut file, &mut copy).map_err(|error| uncopied(&error))?;
        let headers = match is_replaced {
            true => described,
            false => headers::described_anew(&described, from.head.headers.clone()),
        };
        let (etag, checksum) = (hex::encode(&copy.md5.finalize()), from.head.checksum.clone());
        let checksum = checksum.filter(|sum| !sum.is_composite);
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

/// A file that is written, and the MD5 of what is.
struct Copy {
    file: fs::File,
    md5: Md5,
}

impl io::Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.md5.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn uncopied(error: &io::Error) -> S3Error {
    S3Error::with_message(S3ErrorCode::InternalError, format!("kinesink local cannot copy an object: {error}"))
}

/// What is not there is removed without a word.
pub(super) async fn delete_object(
    store: &Arc<Store>,
    request: S3Request<DeleteObjectInput>,
) -> Answer<DeleteObjectOutput> {
    let condition = Condition::from_headers(&request.headers)?;
    store.run(move |store| store.delete(&request.input.bucket, &request.input.key, &condition)).await?;
    Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
}

pub(super) async fn delete_objects(
    store: &Arc<Store>,
    request: S3Request<DeleteObjectsInput>,
) -> Answer<DeleteObjectsOutput> {
    let (bucket, delete) = (request.input.bucket, request.input.delete);
    let is_quiet = delete.quiet.unwrap_or(false);
    if delete.objects.is_empty() || delete.objects.len() > DELETED_MAX {
        return Err(s3_error!(MalformedXML, "a DeleteObjects names 1 to {DELETED_MAX} objects"));
    }
    let outcomes = store.run(move |store| {
        store.read(&bucket, |_| Ok(()))?;
        let delete_one = |object: s3s::dto::ObjectIdentifier| {
            let condition = object.e_tag.map_or(Condition::Always, |etag| Condition::Matches(etag.value().to_owned()));
            let outcome = match object.version_id {
                None => store.delete(&bucket, &object.key, &condition),
                Some(_) => Err(s3_error!(NotImplemented, "kinesink local does not emulate versions")),
            };
            (object.key, outcome)
        };
        Ok(delete.objects.into_iter().map(delete_one).collect::<Vec<(String, S3Result<()>)>>())
    });
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, outcome) in outcomes.await? {
        match outcome {
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
            Err(error) => errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(key),
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    let deleted = (!is_quiet).then_some(deleted);
    Ok(S3Response::new(DeleteObjectsOutput { deleted, errors: Some(errors), request_charged: None }))
}
