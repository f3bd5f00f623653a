//! Uploads in parts.

use std::sync::Arc;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Answer;
use crate::s3::checksum::{self, Algorithm};
use crate::s3::condition::{Condition, bare};
use crate::s3::store::{Completion, NewUpload, Store};
use crate::s3::{headers, incoming};

const PARTS_MAX: u16 = 10_000;

pub(super) async fn create_multipart_upload(
    store: &Arc<Store>,
    request: S3Request<CreateMultipartUploadInput>,
) -> Answer<CreateMultipartUploadOutput> {
    let kept = headers::kept(&request.headers)?;
    let algorithm = checksum::chosen(&request.headers)?;
    let kind = request.input.checksum_type.as_ref().map(ChecksumType::as_str);
    let is_composite = match (algorithm, kind) {
        (None, None) => false,
        (None, Some(_)) => return Err(s3_error!(InvalidRequest, "a checksum type goes with a checksum algorithm")),
        (Some(Algorithm::Crc64Nvme), None | Some(ChecksumType::FULL_OBJECT)) => false,
        (Some(Algorithm::Crc32 | Algorithm::Crc32c), Some(ChecksumType::FULL_OBJECT)) => false,
        (Some(Algorithm::Crc64Nvme), _) | (_, Some(ChecksumType::FULL_OBJECT)) => {
            return Err(s3_error!(InvalidRequest, "the checksum algorithm does not go with the checksum type"));
        }
        (Some(_), _) => true,
    };
    let (bucket, key) = (request.input.bucket, request.input.key);
    let initiated_ns = i64::try_from(store.now().as_nanosecond()).unwrap_or(i64::MAX);
    let checksum = algorithm.map(|algorithm| (algorithm, is_composite));
    let head = NewUpload { key: key.clone(), initiated_ns, headers: kept.clone(), checksum };
    let of = bucket.clone();
    let upload = store.run(move |store| store.create_upload(&of, head)).await?;
    let output = CreateMultipartUploadOutput {
        bucket: Some(bucket),
        key: Some(key),
        upload_id: Some(upload),
        checksum_algorithm: algorithm.map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name())),
        checksum_type: algorithm.map(|_| ChecksumType::from_static(kind_of(is_composite))),
        ..CreateMultipartUploadOutput::default()
    };
    Ok(S3Response::with_headers(output, headers::of_storage(&kept)))
}

pub(super) fn kind_of(is_composite: bool) -> &'static str {
    if is_composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT }
}

pub(super) async fn upload_part(store: &Arc<Store>, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
    let input = request.input;
    let number = part_number(input.part_number)?;
    let names = (input.bucket, input.key, input.upload_id);
    let named = names.clone();
    let looked = store.run(move |store| {
        store
            .read_upload(&named.0, &named.1, &named.2, |upload| Ok((upload.head.checksum, upload.head.headers.clone())))
    });
    let (checksum, kept) = looked.await?;
    let algorithm = checksum.map(|(algorithm, _)| algorithm);
    let incoming = incoming::receive(store, &request.headers, &request.extensions, input.body, algorithm).await?;
    let etag = ETag::Strong(incoming.md5.clone());
    let mut headers = headers::of_storage(&kept);
    if let Some(sum) = &incoming.checksum {
        headers::add_checksum(&mut headers, sum);
        headers.remove("x-amz-checksum-type");
    }
    let kept = store.run(move |store| {
        let names = (&*names.0, &*names.1, &*names.2);
        store.put_part(names, number, &incoming.staged, (incoming.md5.clone(), incoming.checksum.clone()))
    });
    kept.await?;
    Ok(S3Response::with_headers(UploadPartOutput { e_tag: Some(etag), ..UploadPartOutput::default() }, headers))
}

pub(super) async fn complete_multipart_upload(
    store: &Arc<Store>,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<CompleteMultipartUploadOutput> {
    let condition = Condition::from_headers(&request.headers)?;
    let checksum = checksum::brought(&request.headers);
    // The sum of an object of parts may be one that only looks like one.
    let checksum = checksum.ok().flatten().map(|sum| sum.value).or_else(|| sent_checksum(&request.headers));
    let input = request.input;
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let parts = parts.into_iter().map(completed).collect::<S3Result<_>>()?;
    let (bucket, key, upload) = (input.bucket, input.key, input.upload_id);
    let completion = Completion { bucket: bucket.clone(), key: key.clone(), upload, parts, condition, checksum };
    let object = store.run(move |store| store.complete(completion)).await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{bucket}/{key}")),
        bucket: Some(bucket),
        key: Some(key),
        e_tag: Some(ETag::Strong(object.head.etag.clone())),
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(sum) = object.head.checksum.clone() {
        output.checksum_type = Some(ChecksumType::from_static(kind_of(sum.is_composite)));
        let member = match sum.algorithm {
            Algorithm::Crc32 => &mut output.checksum_crc32,
            Algorithm::Crc32c => &mut output.checksum_crc32c,
            Algorithm::Crc64Nvme => &mut output.checksum_crc64nvme,
            Algorithm::Sha1 => &mut output.checksum_sha1,
            Algorithm::Sha256 => &mut output.checksum_sha256,
        };
        *member = Some(sum.value);
    }
    Ok(S3Response::with_headers(output, headers::of_storage(&object.head.headers)))
}

pub(super) async fn abort_multipart_upload(
    store: &Arc<Store>,
    request: S3Request<AbortMultipartUploadInput>,
) -> Answer<AbortMultipartUploadOutput> {
    let input = request.input;
    store.run(move |store| store.abort(&input.bucket, &input.key, &input.upload_id)).await?;
    Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
}

pub(super) fn part_number(number: i32) -> S3Result<u16> {
    let number = u16::try_from(number).ok().filter(|number| (1..=PARTS_MAX).contains(number));
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and {PARTS_MAX}, inclusive")
    })
}

fn completed(part: CompletedPart) -> S3Result<(u16, String, Option<String>)> {
    let (Some(number), Some(etag)) = (part.part_number, part.e_tag) else {
        return Err(s3_error!(MalformedXML, "a part has a PartNumber and an ETag"));
    };
    let sums =
        [part.checksum_crc32, part.checksum_crc32c, part.checksum_crc64nvme, part.checksum_sha1, part.checksum_sha256];
    Ok((part_number(number)?, bare(etag.value()).to_owned(), sums.into_iter().flatten().next()))
}

fn sent_checksum(headers: &http::HeaderMap) -> Option<String> {
    let sent = Algorithm::ALL.iter().find_map(|algorithm| headers.get(algorithm.header()));
    sent.and_then(|value| value.to_str().ok()).map(str::to_owned)
}
