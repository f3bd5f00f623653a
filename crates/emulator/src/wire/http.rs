//! From an HTTP request to an operation and back: AWS JSON 1.1, the operation named by `X-Amz-Target`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::stream;
use http::{HeaderMap, Method, StatusCode, header};

use super::payload::Payload;
use super::service_error::ServiceError;
use crate::emulator::Shared;
use crate::faults::{self, FaultKind};
use crate::operations;

/// A request of 10 MiB of records is less than 14 MiB of base64, and its keys and names fit in the rest.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
const TARGET_PREFIX: &str = "Kinesis_20131202.";
const JSON: &str = "application/x-amz-json-1.1";

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().merge(faults::admin::router(shared.faults.clone())).fallback(serve).with_state(shared)
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let operation = match operation(&parts.method, &parts.headers) {
        Ok(operation) => operation.to_owned(),
        Err(error) => return respond(Err(error)),
    };
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        let message = format!("the request is not complete, or longer than {REQUEST_BYTES_MAX} bytes");
        return respond(Err(ServiceError::serialization(message)));
    };
    match shared.faults.take(&operation) {
        None => respond(operations::call(&shared, &operation, &body)),
        Some(FaultKind::Error { code, message }) => respond(Err(ServiceError::of_type(&code, message))),
        Some(FaultKind::DelayMs(ms)) => {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            respond(operations::call(&shared, &operation, &body))
        }
        Some(FaultKind::Cut) => cut(operations::call(&shared, &operation, &body), CutAfter::Headers),
        Some(FaultKind::Truncate) => cut(operations::call(&shared, &operation, &body), CutAfter::HalfOfTheBody),
    }
}

/// The operation that the request names.
fn operation<'a>(method: &Method, headers: &'a HeaderMap) -> Result<&'a str, ServiceError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let target = text("x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX));
    let (&Method::POST, Some(operation)) = (method, target) else {
        let message = format!("a request is a POST with the header X-Amz-Target: {TARGET_PREFIX}OPERATION");
        return Err(ServiceError::unknown_operation(message));
    };
    let content_type = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        JSON | "application/json" => Ok(operation),
        other => {
            Err(ServiceError::serialization(format!("kinesink local does not emulate the content type {other:?}")))
        }
    }
}

fn parts(reply: Result<Payload, ServiceError>) -> (StatusCode, Payload) {
    match reply {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => {
            (StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.json().into())
        }
    }
}

fn respond(reply: Result<Payload, ServiceError>) -> Response {
    let (status, body) = parts(reply);
    let length = header::HeaderValue::from(body.len_bytes());
    let mut response = with_headers(status, body.into_body());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

/// A reply that ends too early: after none of its body, or after half of it, the connection breaks.
fn cut(reply: Result<Payload, ServiceError>, after: CutAfter) -> Response {
    let (status, mut body) = parts(reply);
    match after {
        CutAfter::Headers => body.truncate(0),
        CutAfter::HalfOfTheBody => body.truncate(body.len_bytes() / 2),
    }
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut by an injected fault");
    let chunks = body.into_chunks().map(Ok).chain([Err(broken)]);
    with_headers(status, Body::from_stream(stream::iter(chunks)))
}

#[derive(Clone, Copy)]
enum CutAfter {
    Headers,
    HalfOfTheBody,
}

fn with_headers(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(JSON));
    if let Ok(id) = header::HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
