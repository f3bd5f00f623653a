//! From an HTTP request to an operation and back. The operation is named by `X-Amz-Target`, the encoding by `Content-Type`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::encoding::Encoding;
use super::payload::Payload;
use super::service_error::ServiceError;
use crate::emulator::Shared;
use crate::faults::{self, FaultKind};
use crate::operations;

/// A request of 10 MiB of records is less than 14 MiB of base64, and its keys and names fit in the rest.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
const TARGET_PREFIX: &str = "Kinesis_20131202.";

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().merge(faults::admin::router(shared.faults.clone())).fallback(serve).with_state(shared)
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (operation, encoding) = match addressed(&parts.method, &parts.headers) {
        Ok((operation, encoding)) => (operation.to_owned(), encoding),
        Err(error) => return respond(Encoding::Json, Err(error)),
    };
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        let message = format!("the request is not complete, or longer than {REQUEST_BYTES_MAX} bytes");
        return respond(encoding, Err(ServiceError::serialization(message)));
    };
    let call = || operations::call(&shared, &operation, encoding, &body);
    match shared.faults.take(&operation) {
        None => respond(encoding, call()),
        Some(FaultKind::Error { code, message }) => respond(encoding, Err(ServiceError::of_type(&code, message))),
        Some(FaultKind::DelayMs(ms)) => {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            respond(encoding, call())
        }
        Some(FaultKind::Cut) => cut(encoding, call(), CutAfter::Headers),
        Some(FaultKind::Truncate) => cut(encoding, call(), CutAfter::HalfOfTheBody),
    }
}

/// The operation that the request names, and how it is written.
fn addressed<'a>(method: &Method, headers: &'a HeaderMap) -> Result<(&'a str, Encoding), ServiceError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let target = text("x-amz-target").and_then(|target| target.strip_prefix(TARGET_PREFIX));
    let (&Method::POST, Some(operation)) = (method, target) else {
        let message = format!("a request is a POST with the header X-Amz-Target: {TARGET_PREFIX}OPERATION");
        return Err(ServiceError::unknown_operation(message));
    };
    let content_type = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let encoding = Encoding::from_content_type(content_type).ok_or_else(|| {
        ServiceError::serialization(format!("kinesink local does not emulate the content type {content_type:?}"))
    })?;
    Ok((operation, encoding))
}

/// A reply's status, headers and body.
fn parts(encoding: Encoding, reply: Result<Payload, ServiceError>) -> (Response<()>, Payload) {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    let error = match reply {
        Ok(body) => return (head, body),
        Err(error) => error,
    };
    if let Ok(code) = HeaderValue::try_from(&*error.code) {
        headers.insert("x-amzn-errortype", code);
    }
    *head.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (head, error.encode(encoding).into())
}

fn respond(encoding: Encoding, reply: Result<Payload, ServiceError>) -> Response {
    let (mut head, body) = parts(encoding, reply);
    head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len_bytes()));
    head.map(|()| body.into_body())
}

/// A reply that ends too early: after none of its body, or after half of it, the connection breaks.
fn cut(encoding: Encoding, reply: Result<Payload, ServiceError>, after: CutAfter) -> Response {
    let (head, mut body) = parts(encoding, reply);
    match after {
        CutAfter::Headers => body.truncate(0),
        CutAfter::HalfOfTheBody => body.truncate(body.len_bytes() / 2),
    }
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut by an injected fault");
    let chunks = body.into_chunks().map(Ok).chain([Err(broken)]);
    head.map(|()| Body::from_stream(stream::iter(chunks)))
}

#[derive(Clone, Copy)]
enum CutAfter {
    Headers,
    HalfOfTheBody,
}
