//! Objects as they are read.

use std::io::{self, SeekFrom};
use std::sync::Arc;

use http::HeaderMap;
use s3s::dto::{
    ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, StreamingBlob, Timestamp,
    TimestampFormat,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::{Answer, at};
use crate::s3::condition::precondition_failed;
use crate::s3::headers;
use crate::s3::store::{Head, Store};

const READ_BYTES: usize = 256 * 1024;

/// What a read depends on.
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// Whether one of those that ask for what has not changed is false.
    fn is_changed(&self, head: &Head) -> bool {
        let is_unmatched = self.if_match.as_ref().map(|condition| !is_matched(condition, head));
        let is_later = self.if_unmodified_since.as_ref().map(|time| seconds(head) > *time);
        is_unmatched.or(is_later).unwrap_or(false)
    }

    /// Whether one of those that ask for what has changed is false.
    fn is_unchanged(&self, head: &Head) -> bool {
        let is_matched = self.if_none_match.as_ref().map(|condition| is_matched(condition, head));
        let is_earlier = self.if_modified_since.as_ref().map(|time| seconds(head) <= *time);
        is_matched.or(is_earlier).unwrap_or(false)
    }

    fn check(&self, head: &Head) -> S3Result<()> {
        if self.is_changed(head) {
            return Err(precondition_failed());
        }
        if self.is_unchanged(head) {
            let mut error = S3Error::new(S3ErrorCode::NotModified);
            let mut headers = HeaderMap::new();
            if let Ok(etag) = ETag::Strong(head.etag.clone()).to_http_header() {
                headers.insert(http::header::ETAG, etag);
            }
            error.set_headers(headers);
            return Err(error);
        }
        Ok(())
    }

    /// As a copy has them, where each that is false is an error.
    pub(super) fn check_of_copy(&self, head: &Head) -> S3Result<()> {
        if self.is_changed(head) || self.is_unchanged(head) { Err(precondition_failed()) } else { Ok(()) }
    }
}

pub(super) async fn get_object(store: &Arc<Store>, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let wants_checksum = wants_checksum(&request.headers);
    let input = request.input;
    let (bucket, key) = (input.bucket, input.key);
    let (object, file) = store.run(move |store| store.get(&bucket, &key)).await?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&object.head)?;
    if matches!(headers::storage_class(&object.head), "GLACIER" | "DEEP_ARCHIVE") {
        return Err(s3_error!(InvalidObjectState, "The operation is not valid for the object's storage class"));
    }
    let len_bytes = object.head.len_bytes;
    let range = input.range.map(|range| range.check(len_bytes)).transpose()?;
    let (from, to) = range.as_ref().map_or((0, len_bytes), |range| (range.start, range.end));
    let mut file = tokio::fs::File::from_std(file);
    let unread = |error: io::Error| {
        let message = format!("kinesink local cannot read {}: {error}", object.head.key);
        S3Error::with_message(S3ErrorCode::InternalError, message)
    };
    file.seek(SeekFrom::Start(from)).await.map_err(unread)?;
    let body = StreamingBlob::wrap(ReaderStream::with_capacity(file.take(to - from), READ_BYTES));
    let output = GetObjectOutput {
        body: Some(body),
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(to - from).ok(),
        content_range: range.map(|range| format!("bytes {}-{}/{len_bytes}", range.start, range.end - 1)),
        e_tag: Some(ETag::Strong(object.head.etag.clone())),
        last_modified: Some(at(object.head.modified_ns)),
        ..GetObjectOutput::default()
    };
    // A sum of the whole says nothing about a part.
    let headers = headers::of_object(&object.head, wants_checksum && output.content_range.is_none());
    Ok(S3Response::with_headers(output, with_overrides(headers, &request.uri)))
}

pub(super) async fn head_object(store: &Arc<Store>, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
    let wants_checksum = wants_checksum(&request.headers);
    let input = request.input;
    let (bucket, key) = (input.bucket, input.key);
    let object = store.run(move |store| store.head(&bucket, &key)).await?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check(&object.head)?;
    let len_bytes = object.head.len_bytes;
    let range = input.range.map(|range| range.check(len_bytes)).transpose()?;
    let (from, to) = range.as_ref().map_or((0, len_bytes), |range| (range.start, range.end));
    let output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: i64::try_from(to - from).ok(),
        content_range: range.map(|range| format!("bytes {}-{}/{len_bytes}", range.start, range.end - 1)),
        e_tag: Some(ETag::Strong(object.head.etag.clone())),
        last_modified: Some(at(object.head.modified_ns)),
        ..HeadObjectOutput::default()
    };
    let headers = headers::of_object(&object.head, wants_checksum && output.content_range.is_none());
    Ok(S3Response::with_headers(output, with_overrides(headers, &request.uri)))
}

/// The headers that the query asks for take the place of the object's.
fn with_overrides(mut headers: HeaderMap, uri: &http::Uri) -> HeaderMap {
    for name in uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next()) {
        if let Some(header) = name.strip_prefix("response-") {
            headers.remove(header);
        }
    }
    headers
}

fn wants_checksum(headers: &HeaderMap) -> bool {
    headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"))
}

fn is_matched(condition: &ETagCondition, head: &Head) -> bool {
    condition.as_etag().is_none_or(|etag| etag.value() == head.etag)
}

/// When it was changed, to the second, as the header tells it.
fn seconds(head: &Head) -> Timestamp {
    let mut text = Vec::new();
    let told = at(head.modified_ns).format(TimestampFormat::HttpDate, &mut text);
    let text = told.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default();
    Timestamp::parse(TimestampFormat::HttpDate, &text).unwrap_or_default()
}
