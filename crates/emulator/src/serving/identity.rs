//! One operation of another service: GetCallerIdentity of STS, in its query protocol. The Kinesis Producer Library asks it
//! for the account before its first record, to name the stream by ARN.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use crate::emulator::ACCOUNT;

const FORM: &str = "application/x-www-form-urlencoded";
/// The question is some fifty bytes.
const FORM_BYTES_MAX: usize = 4096;

/// Whether the headers are those of the query protocol, which no call of Kinesis has.
pub(super) fn may_be_asked(headers: &HeaderMap) -> bool {
    let is_form = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.starts_with(FORM));
    headers.get(header::CONTENT_TYPE).is_some_and(is_form) && !headers.contains_key("x-amz-target")
}

/// Who the caller is, if that is what the form asks.
pub(super) async fn answer(form: Body) -> Option<Response> {
    let form = to_bytes(form, FORM_BYTES_MAX).await.ok()?;
    if !form.split(|byte| *byte == b'&').any(|member| member == b"Action=GetCallerIdentity") {
        return None;
    }
    let id = uuid::Uuid::new_v4();
    let xml = format!(
        r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{ACCOUNT}:user/local</Arn><UserId>local</UserId><Account>{ACCOUNT}</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#
    );
    let mut response = Response::new(Body::from(xml));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    Some(response)
}
