//! Objects as they are written and removed.

use std::sync::Arc;

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error,
    PutObjectInput, PutObjectOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Answer;
use crate::s3::condition::Condition;
use crate::s3::store::{NewObject, Store};
use crate::s3::{headers, incoming};

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
