//! What is answered at all: an operation or a parameter that is not emulated is refused by its name, never ignored.

use async_trait::async_trait;
use http::{Method, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Result, s3_error};

use crate::emulator::ACCOUNT;

/// What is emulated, and the query parameters that it takes.
const EMULATED: [(&str, &[&str]); 21] = [
    ("AbortMultipartUpload", &["uploadId"]),
    ("CompleteMultipartUpload", &["uploadId"]),
    ("CopyObject", &[]),
    ("CreateBucket", &[]),
    ("CreateMultipartUpload", &["uploads"]),
    ("DeleteBucket", &[]),
    ("DeleteObject", &[]),
    ("DeleteObjects", &["delete"]),
    ("GetBucketLocation", &["location"]),
    ("GetBucketVersioning", &["versioning"]),
    ("GetObject", &OVERRIDES),
    ("HeadBucket", &[]),
    ("HeadObject", &OVERRIDES),
    ("ListBuckets", &["prefix", "max-buckets", "continuation-token"]),
    (
        "ListMultipartUploads",
        &["uploads", "delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"],
    ),
    ("ListObjects", &["delimiter", "encoding-type", "marker", "max-keys", "prefix"]),
    (
        "ListObjectsV2",
        &[
            "list-type",
            "continuation-token",
            "delimiter",
            "encoding-type",
            "fetch-owner",
            "max-keys",
            "prefix",
            "start-after",
        ],
    ),
    ("ListParts", &["uploadId", "max-parts", "part-number-marker"]),
    ("PutObject", &[]),
    ("UploadPart", &["uploadId", "partNumber"]),
    ("UploadPartCopy", &["uploadId", "partNumber"]),
];
const OVERRIDES: [&str; 6] = [
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
/// Headers whose meaning would be lost. Who may read and write is not looked at here, so ACLs are taken and have no effect.
const REFUSED: [&str; 12] = [
    "x-amz-bucket-object-lock-enabled",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-if-match-initiated-time",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-mfa",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-tagging",
    "x-amz-write-offset-bytes",
];
const OWNERS: [&str; 2] = ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"];

/// What a POST is about, as far as s3s knows; of any other it says no more than that it is unknown.
const POSTED: [&str; 6] = ["delete", "metadataTable", "restore", "select", "uploadId", "uploads"];

/// Refuses by its name what s3s has no name for.
pub(super) fn check_posted(method: &Method, uri: &Uri) -> S3Result<()> {
    let names = || names(uri.query().unwrap_or_default());
    match names().next() {
        Some(first) if method == Method::POST && !names().any(|name| POSTED.contains(&name)) => {
            Err(s3_error!(NotImplemented, "kinesink local does not emulate {first}"))
        }
        _ => Ok(()),
    }
}

fn names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty())
}

/// Decides before a request's body is looked at.
#[derive(Debug)]
pub(super) struct Emulated;

#[async_trait]
impl S3Access for Emulated {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = request.s3_op().name();
        let Some((_, parameters)) = EMULATED.iter().find(|(name, _)| *name == operation) else {
            return Err(s3_error!(NotImplemented, "kinesink local does not emulate {operation}"));
        };
        let query = request.uri().query().unwrap_or_default();
        for name in names(query) {
            // The SDKs name the operation in the last.
            if !parameters.contains(&name) && name != "x-id" {
                return Err(s3_error!(NotImplemented, "kinesink local does not emulate {name} of {operation}"));
            }
        }
        for (name, value) in request.headers() {
            if REFUSED.contains(&name.as_str()) {
                return Err(s3_error!(NotImplemented, "kinesink local does not emulate {name} of {operation}"));
            }
            if OWNERS.contains(&name.as_str()) && value != ACCOUNT {
                return Err(s3_error!(AccessDenied, "Access Denied: every bucket here is of the account {ACCOUNT}"));
            }
        }
        Ok(())
    }
}
