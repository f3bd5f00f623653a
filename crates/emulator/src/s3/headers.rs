//! Headers that are kept with an object and come back with it.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{ObjectStorageClass, StorageClass};
use s3s::{S3Result, s3_error};

use super::checksum::Sum;
use super::store::Head;

const METADATA: &str = "x-amz-meta-";
/// Of names and values together, as S3 counts them.
const METADATA_BYTES_MAX: usize = 2048;
pub(super) const STORAGE_CLASS: &str = "x-amz-storage-class";
const ENCRYPTION: &str = "x-amz-server-side-encryption";
/// What describes the content.
const CONTENT: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
];
/// What says how it is stored. Everything here is stored in the same way, and said to be as it was asked for.
const STORED: [&str; 5] = [
    STORAGE_CLASS,
    ENCRYPTION,
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
];
const STORAGE_CLASSES: [&str; 8] = [
    StorageClass::DEEP_ARCHIVE,
    StorageClass::GLACIER,
    StorageClass::GLACIER_IR,
    StorageClass::INTELLIGENT_TIERING,
    StorageClass::ONEZONE_IA,
    StorageClass::REDUCED_REDUNDANCY,
    StorageClass::STANDARD,
    StorageClass::STANDARD_IA,
];

/// Those of the request that are kept.
pub(super) fn kept(headers: &HeaderMap) -> S3Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    let mut metadata_bytes = 0;
    for (name, value) in headers {
        let name = name.as_str();
        let metadata = name.strip_prefix(METADATA);
        if metadata.is_none() && !CONTENT.contains(&name) && !STORED.contains(&name) {
            continue;
        }
        let value = str::from_utf8(value.as_bytes())
            .map_err(|_| s3_error!(InvalidArgument, "the value of {name} is not UTF-8"))?;
        metadata_bytes += metadata.map_or(0, |metadata| metadata.len() + value.len());
        let more: &mut String = kept.entry(name.to_owned()).or_default();
        if !more.is_empty() {
            more.push(',');
        }
        more.push_str(value);
    }
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(s3_error!(
            MetadataTooLarge,
            "Your metadata headers exceed the maximum allowed metadata size: {metadata_bytes} of {METADATA_BYTES_MAX} bytes"
        ));
    }
    if let Some(class) = kept.get(STORAGE_CLASS).filter(|class| !STORAGE_CLASSES.contains(&class.as_str())) {
        return Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid: {class}"));
    }
    let encryption = kept.entry(ENCRYPTION.to_owned()).or_insert_with(|| "AES256".to_owned());
    if !matches!(encryption.as_str(), "AES256" | "aws:kms" | "aws:kms:dsse") {
        return Err(s3_error!(InvalidArgument, "The encryption method specified is not supported: {encryption}"));
    }
    Ok(kept)
}

/// The headers of one object with what describes the content of another request.
pub(super) fn described_anew(
    stored: &BTreeMap<String, String>,
    described: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_stored = |(name, _): &(&String, &String)| STORED.contains(&name.as_str());
    let stored = stored.iter().filter(is_stored).map(|(name, value)| (name.clone(), value.clone()));
    stored.chain(described.into_iter().filter(|(name, _)| !STORED.contains(&name.as_str()))).collect()
}

/// Those that an answer about the object has.
pub(super) fn of_object(head: &Head, with_checksum: bool) -> HeaderMap {
    let mut headers = of_storage(&head.headers);
    for (name, value) in head.headers.iter().filter(|(name, _)| !STORED.contains(&name.as_str())) {
        add(&mut headers, name, value);
    }
    if !head.headers.contains_key("content-type") {
        add(&mut headers, "content-type", "binary/octet-stream");
    }
    if storage_class(head) != ObjectStorageClass::STANDARD {
        add(&mut headers, STORAGE_CLASS, storage_class(head));
    }
    if let Some(sum) = head.checksum.as_ref().filter(|_| with_checksum) {
        add_checksum(&mut headers, sum);
    }
    headers
}

/// Those that an answer to a write has too.
pub(super) fn of_storage(kept: &BTreeMap<String, String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in kept.iter().filter(|(name, _)| STORED.contains(&name.as_str()) && *name != STORAGE_CLASS) {
        add(&mut headers, name, value);
    }
    headers
}

pub(super) fn add_checksum(headers: &mut HeaderMap, sum: &Sum) {
    add(headers, sum.algorithm.header(), &sum.value);
    add(headers, "x-amz-checksum-type", if sum.is_composite { "COMPOSITE" } else { "FULL_OBJECT" });
}

pub(super) fn storage_class(head: &Head) -> &str {
    head.headers.get(STORAGE_CLASS).map_or(ObjectStorageClass::STANDARD, String::as_str)
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    // Both came out of a request's headers.
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
        headers.insert(name, value);
    }
}
