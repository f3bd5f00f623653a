//! Listings, a page at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64_simd::URL_SAFE_NO_PAD;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, ETag, EncodingType, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, MultipartUpload, Object, ObjectStorageClass, Part, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::buckets::owner;
use super::uploads::kind_of;
use super::{Answer, at};
use crate::s3::checksum::Algorithm;
use crate::s3::headers::{self, STORAGE_CLASS};
use crate::s3::listing::{self, Entry, Page, Query};
use crate::s3::store::{self, Head, Store};

/// Of a page, unless fewer are asked for.
const ENTRIES_MAX: i32 = 1000;

pub(super) async fn list_objects_v2(
    store: &Arc<Store>,
    request: S3Request<ListObjectsV2Input>,
) -> Answer<ListObjectsV2Output> {
    let input = request.input;
    let is_encoded = is_encoded(input.encoding_type.as_ref())?;
    let token = input.continuation_token.as_deref().map(key_of_token).transpose()?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: token.or(input.start_after.clone()).unwrap_or_default(),
        entries_max: limit(input.max_keys, ENTRIES_MAX)?,
    };
    let bucket = input.bucket.clone();
    let page = store.run(move |store| objects(store, &bucket, &query)).await?;
    let next_continuation_token = page.next().map(token_of_key);
    let (is_truncated, key_count) = (page.is_truncated, i32::try_from(page.entries.len()).ok());
    let with_owner = input.fetch_owner.unwrap_or(false);
    let (contents, common_prefixes) = split(page, is_encoded, |key, head| object(key, &head, with_owner));
    let encoded = |text: Option<String>| text.map(|text| encoded(is_encoded, text));
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: encoded(Some(input.prefix.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX)),
        key_count,
        continuation_token: input.continuation_token,
        is_truncated: Some(is_truncated),
        next_continuation_token,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: encoded(input.delimiter),
        encoding_type: input.encoding_type,
        start_after: encoded(input.start_after),
        request_charged: None,
    }))
}

pub(super) async fn list_objects(
    store: &Arc<Store>,
    request: S3Request<ListObjectsInput>,
) -> Answer<ListObjectsOutput> {
    let input = request.input;
    let is_encoded = is_encoded(input.encoding_type.as_ref())?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after: input.marker.clone().unwrap_or_default(),
        entries_max: limit(input.max_keys, ENTRIES_MAX)?,
    };
    let bucket = input.bucket.clone();
    let page = store.run(move |store| objects(store, &bucket, &query)).await?;
    // Without a delimiter the last key says the same.
    let next_marker = page.next().filter(|_| input.delimiter.is_some()).map(str::to_owned);
    let is_truncated = page.is_truncated;
    let (contents, common_prefixes) = split(page, is_encoded, |key, head| object(key, &head, true));
    let encoded = |text: Option<String>| text.map(|text| encoded(is_encoded, text));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: encoded(Some(input.prefix.unwrap_or_default())),
        marker: encoded(Some(input.marker.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX)),
        is_truncated: Some(is_truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: encoded(input.delimiter),
        next_marker: encoded(next_marker),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

fn objects(store: &Store, bucket: &str, query: &Query) -> S3Result<Page<Head>> {
    store.read(bucket, |bucket| {
        let from = query.prefix.as_str().max(query.after.as_str());
        let found = bucket.objects.range::<str, _>((Bound::Included(from), Bound::Unbounded));
        let page = listing::page(found.map(|(key, object)| (key.as_str(), object)), query);
        let entries = page.entries.into_iter().map(|entry| match entry {
            Entry::Key(key, object) => Entry::Key(key, object.head.clone()),
            Entry::Prefix(prefix) => Entry::Prefix(prefix),
        });
        Ok(Page { entries: entries.collect(), is_truncated: page.is_truncated })
    })
}

fn object(key: String, head: &Head, with_owner: bool) -> Object {
    Object {
        key: Some(key),
        size: i64::try_from(head.len_bytes).ok(),
        e_tag: Some(ETag::Strong(head.etag.clone())),
        last_modified: Some(at(head.modified_ns)),
        storage_class: Some(ObjectStorageClass::from(headers::storage_class(head).to_owned())),
        owner: with_owner.then(owner),
        checksum_algorithm: head.checksum.as_ref().map(|sum| vec![algorithm(sum.algorithm)]),
        checksum_type: head.checksum.as_ref().map(|sum| ChecksumType::from_static(kind_of(sum.is_composite))),
        restore_status: None,
    }
}

fn algorithm(algorithm: Algorithm) -> ChecksumAlgorithm {
    ChecksumAlgorithm::from_static(algorithm.name())
}

pub(super) async fn list_multipart_uploads(
    store: &Arc<Store>,
    request: S3Request<ListMultipartUploadsInput>,
) -> Answer<ListMultipartUploadsOutput> {
    let input = request.input;
    let is_encoded = is_encoded(input.encoding_type.as_ref())?;
    let marker = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone().unwrap_or_default());
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        // Uploads of one key have one place in order, so that is looked at here.
        after: String::new(),
        entries_max: limit(input.max_uploads, ENTRIES_MAX)?,
    };
    let bucket = input.bucket.clone();
    let page =
        store.run(move |store| store.read(&bucket, |bucket| Ok(uploads(&bucket.uploads, &marker, &query)))).await?;
    let next = page.entries.last().filter(|_| page.is_truncated).map(|last| match last {
        Entry::Key(key, (id, _)) => (key.clone(), id.clone()),
        Entry::Prefix(prefix) => (prefix.clone(), String::new()),
    });
    let (next_key_marker, next_upload_id_marker) = next.unzip();
    let is_truncated = page.is_truncated;
    let upload = |key, (id, head): (String, store::NewUpload)| MultipartUpload {
        key: Some(key),
        upload_id: Some(id),
        initiated: Some(at(head.initiated_ns)),
        owner: Some(owner()),
        storage_class: Some(class(&head.headers)),
        checksum_algorithm: head.checksum.map(|(sum, _)| algorithm(sum)),
        checksum_type: head.checksum.map(|(_, is_composite)| ChecksumType::from_static(kind_of(is_composite))),
        initiator: None,
    };
    let (uploads, common_prefixes) = split(page, is_encoded, upload);
    let encoded = |text: Option<String>| text.map(|text| encoded(is_encoded, text));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: encoded(Some(input.prefix.unwrap_or_default())),
        key_marker: encoded(Some(input.key_marker.unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        next_key_marker: encoded(next_key_marker),
        next_upload_id_marker,
        max_uploads: Some(input.max_uploads.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX)),
        is_truncated: Some(is_truncated),
        uploads: Some(uploads),
        common_prefixes: Some(common_prefixes),
        delimiter: encoded(input.delimiter),
        encoding_type: input.encoding_type,
        request_charged: None,
    }))
}

/// Uploads behind the marker: of a later key, or of that key and begun later.
fn uploads(
    uploads: &BTreeMap<(String, String), store::Upload>,
    marker: &(String, String),
    query: &Query,
) -> Page<(String, store::NewUpload)> {
    let (key_marker, id_marker) = marker;
    let is_told = |key: &str| {
        query.delimiter.as_deref().is_some_and(|delimiter| {
            !key_marker.is_empty() && key_marker.ends_with(delimiter) && key.starts_with(key_marker)
        })
    };
    let is_behind = |key: &str, id: &str| match key.cmp(key_marker) {
        std::cmp::Ordering::Greater => !is_told(key),
        std::cmp::Ordering::Equal => key_marker.is_empty() || (!id_marker.is_empty() && id > id_marker.as_str()),
        std::cmp::Ordering::Less => false,
    };
    let found = uploads.iter().filter(|((key, id), _)| is_behind(key, id));
    listing::page(found.map(|((key, id), upload)| (key.as_str(), (id.clone(), upload.head.clone()))), query)
}

pub(super) async fn list_parts(store: &Arc<Store>, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
    let input = request.input;
    let parts_max = limit(input.max_parts, ENTRIES_MAX)?;
    let after = u16::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(u16::MAX);
    let (bucket, key, upload_id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
    let looked = store.run(move |store| {
        store.read_upload(&bucket, &key, &upload_id, |upload| {
            let found = upload.parts.range((Bound::Excluded(after), Bound::Unbounded));
            let found: Vec<_> = found.map(|(number, part)| (*number, part.clone())).take(parts_max + 1).collect();
            Ok((upload.head.clone(), found))
        })
    });
    let (head, mut found) = looked.await?;
    let is_truncated = parts_max > 0 && found.len() > parts_max;
    found.truncate(parts_max);
    let next = found.last().map(|(number, _)| i32::from(*number));
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: Some(input.part_number_marker.unwrap_or(0)),
        next_part_number_marker: next,
        max_parts: Some(input.max_parts.unwrap_or(ENTRIES_MAX).min(ENTRIES_MAX)),
        is_truncated: Some(is_truncated),
        parts: Some(found.into_iter().map(|(number, kept)| part(number, kept)).collect()),
        owner: Some(owner()),
        storage_class: Some(class(&head.headers)),
        checksum_algorithm: head.checksum.map(|(sum, _)| algorithm(sum)),
        checksum_type: head.checksum.map(|(_, is_composite)| ChecksumType::from_static(kind_of(is_composite))),
        ..ListPartsOutput::default()
    }))
}

fn part(number: u16, kept: store::Part) -> Part {
    let mut part = Part {
        part_number: Some(number.into()),
        e_tag: Some(ETag::Strong(kept.md5)),
        size: i64::try_from(kept.len_bytes).ok(),
        last_modified: Some(at(kept.modified_ns)),
        ..Part::default()
    };
    if let Some(sum) = kept.checksum {
        let member = match sum.algorithm {
            Algorithm::Crc32 => &mut part.checksum_crc32,
            Algorithm::Crc32c => &mut part.checksum_crc32c,
            Algorithm::Crc64Nvme => &mut part.checksum_crc64nvme,
            Algorithm::Sha1 => &mut part.checksum_sha1,
            Algorithm::Sha256 => &mut part.checksum_sha256,
        };
        *member = Some(sum.value);
    }
    part
}

fn class(kept: &BTreeMap<String, String>) -> StorageClass {
    StorageClass::from(kept.get(STORAGE_CLASS).map_or(StorageClass::STANDARD, String::as_str).to_owned())
}

/// The lines of each kind.
fn split<T, L>(page: Page<T>, is_encoded: bool, line: impl Fn(String, T) -> L) -> (Vec<L>, Vec<CommonPrefix>) {
    let (mut lines, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            Entry::Key(key, value) => lines.push(line(encoded(is_encoded, key), value)),
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(encoded(is_encoded, prefix)) }),
        }
    }
    (lines, prefixes)
}

/// How many lines a page has at most.
pub(super) fn limit(asked: Option<i32>, max: i32) -> S3Result<usize> {
    let limit = usize::try_from(asked.unwrap_or(max).min(max));
    limit.map_err(|_| s3_error!(InvalidArgument, "A number of results is not negative"))
}

fn is_encoded(kind: Option<&EncodingType>) -> S3Result<bool> {
    match kind.map(EncodingType::as_str) {
        None => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
    }
}

/// The key in percent signs, where that is asked for: XML does not have every character.
fn encoded(is_encoded: bool, key: String) -> String {
    if !is_encoded {
        return key;
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte);
    key.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What a page ended with, as a client hands it back.
pub(super) fn token_of_key(key: &str) -> String {
    URL_SAFE_NO_PAD.encode_to_string(key)
}

pub(super) fn key_of_token(token: &str) -> S3Result<String> {
    let key = URL_SAFE_NO_PAD.decode_to_vec(token).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}
