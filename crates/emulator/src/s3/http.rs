//! From an HTTP request to s3s and back. The signature is looked at and taken off, as there are no secrets to verify it
//! with; so are the frames of a body that was signed frame by frame.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use jiff::{SignedDuration, Timestamp};
use s3s::service::S3Service;
use s3s::{S3Error, S3Result, s3_error};

use super::access;
use super::chunked::{self, Trailers};
use crate::clock::Clock;
use crate::wire::signature;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
/// What the query of a presigned request has, without which it is none.
const PRESIGNED: [&str; 6] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"];
/// Signatures of a week are the longest there are.
const EXPIRES_S_MAX: i64 = 7 * 24 * 60 * 60;

#[derive(Debug, Clone)]
struct Served {
    service: S3Service,
    clock: std::sync::Arc<dyn Clock>,
}

pub(super) fn router(service: S3Service, clock: std::sync::Arc<dyn Clock>) -> Router {
    Router::new().fallback(serve).with_state(Served { service, clock })
}

async fn serve(State(served): State<Served>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match readied(&mut parts, body, served.clock.now()) {
        Ok(body) => match served.service.call(Request::from_parts(parts, body)).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(error = ?error, "the local S3 has no answer");
                refused(s3_error!(InternalError, "kinesink local has an error"))
            }
        },
        Err(error) => refused(error),
    };
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().simple().to_string()) {
        response.headers_mut().insert("x-amz-request-id", id);
    }
    response
}

fn refused(error: S3Error) -> Response {
    match error.to_http_response() {
        Ok(response) => response.map(Body::new),
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// The request without signature and frames, with the bucket in its path.
fn readied(parts: &mut Parts, body: Body, now: Timestamp) -> S3Result<s3s::Body> {
    check_signature(parts, now)?;
    parts.headers.remove(header::AUTHORIZATION);
    parts.uri = plain_uri(parts)?;
    access::check_posted(&parts.method, &parts.uri)?;
    let hash = parts.headers.get(CONTENT_SHA256).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !hash.starts_with("STREAMING-") {
        return Ok(s3s::Body::http_body_unsync(body));
    }
    let Some(length) = parts.headers.remove(DECODED_LENGTH) else {
        return Err(s3_error!(MissingContentLength, "You must provide the {DECODED_LENGTH} HTTP header."));
    };
    parts.headers.insert(header::CONTENT_LENGTH, length);
    parts.headers.remove(CONTENT_SHA256);
    let encodings = parts.headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let others: Vec<_> = encodings.unwrap_or_default().split(',').map(str::trim).collect();
    let others: Vec<_> = others.into_iter().filter(|name| !matches!(*name, "aws-chunked" | "")).collect();
    match HeaderValue::try_from(others.join(",")) {
        Ok(encoding) if !encoding.is_empty() => drop(parts.headers.insert(header::CONTENT_ENCODING, encoding)),
        _ => drop(parts.headers.remove(header::CONTENT_ENCODING)),
    }
    let trailers = Trailers::default();
    parts.extensions.insert(trailers.clone());
    Ok(s3s::Body::http_body_unsync(Body::from_stream(chunked::decoded(body, trailers))))
}

/// Refuses what is not signed as Signature Version 4 says, by header or by query.
fn check_signature(parts: &Parts, now: Timestamp) -> S3Result<()> {
    let query = parts.uri.query().unwrap_or_default();
    let parameter = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next()
    };
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return signature::check(&parts.headers).map_err(|error| match error.code.as_ref() {
            "IncompleteSignatureException" => s3_error!(AuthorizationHeaderMalformed, "{}", error.message),
            _ => s3_error!(AccessDenied, "{}", error.message),
        });
    }
    if PRESIGNED.iter().all(|name| parameter(name).is_none()) {
        return Err(s3_error!(AccessDenied, "Access Denied: the request is not signed, and any key would do"));
    }
    let malformed = || {
        let names = PRESIGNED.join(", ");
        s3_error!(
            AuthorizationQueryParametersError,
            "Query-string authentication version 4 requires the {names} parameters."
        )
    };
    if PRESIGNED.iter().any(|name| parameter(name).is_none_or(str::is_empty)) {
        return Err(malformed());
    }
    let signed = parameter("X-Amz-Date").and_then(|date| {
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    });
    let expires_s = parameter("X-Amz-Expires").and_then(|seconds| seconds.parse().ok());
    let expires_s = expires_s.filter(|seconds| (0..=EXPIRES_S_MAX).contains(seconds));
    let (Some(signed), Some(expires_s)) = (signed, expires_s) else { return Err(malformed()) };
    if now.duration_since(signed) > SignedDuration::from_secs(expires_s) {
        return Err(s3_error!(AccessDenied, "Request has expired"));
    }
    Ok(())
}

/// The address without a signature in its query, and with the bucket that the host names in its path.
fn plain_uri(parts: &Parts) -> S3Result<Uri> {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let bucket = name.strip_suffix(".localhost").map(|bucket| format!("/{bucket}")).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let is_signature = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        PRESIGNED.contains(&name) || matches!(name, "X-Amz-Security-Token" | "X-Amz-Content-Sha256" | "")
    };
    let kept: Vec<_> = query.split('&').filter(|pair| !is_signature(pair)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    let text = format!("{bucket}{}{mark}{}", parts.uri.path(), kept.join("&"));
    let path = PathAndQuery::try_from(text).map_err(|error| s3_error!(error, InvalidURI, "Couldn't parse the URI"))?;
    Ok(Uri::from(path))
}
