//! From an HTTP request to an operation and back. The operation is named by `X-Amz-Target`, the encoding by `Content-Type`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, future, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio_util::sync::CancellationToken;

use super::identity;
use crate::emulator::Shared;
use crate::faults::{self, FaultKind};
use crate::operations;
use crate::subscription::Subscription;
use crate::wire::encoding::Encoding;
use crate::wire::payload::Payload;
use crate::wire::service_error::ServiceError;
use crate::wire::{event_stream, signature};

/// A request of 10 MiB of records is less than 14 MiB of base64, and its keys and names fit in the rest.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
const TARGET_PREFIX: &str = "Kinesis_20131202.";

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let admin = faults::admin::router(shared.faults.clone());
    Router::new().merge(admin).fallback(serve).with_state(shared)
}

/// Ends the subscriptions and the delays of a server that stops; a request has it among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(pub(crate) CancellationToken);

enum Reply {
    Whole(Payload),
    Events(Box<Subscription>),
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (operation, encoding) = match addressed(&parts.method, &parts.headers) {
        Ok((operation, encoding)) => (operation.to_owned(), encoding),
        Err(error) => {
            let asked = identity::may_be_asked(&parts.headers);
            let identity = if asked { identity::answer(body).await } else { None };
            return identity.unwrap_or_else(|| failed(Encoding::Json, &error));
        }
    };
    if let Err(error) = signature::check(&parts.headers) {
        return failed(encoding, &error);
    }
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        let message = format!("the request is not complete, or longer than {REQUEST_BYTES_MAX} bytes");
        return failed(encoding, &ServiceError::serialization(message));
    };
    let stopping = parts.extensions.get::<Stopping>().cloned();
    let fault = shared.faults.take(&operation);
    if let Some(FaultKind::DelayMs(ms)) = fault {
        let delay = tokio::time::sleep(std::time::Duration::from_millis(ms));
        tokio::select! {
            () = delay => {}
            () = stopped(stopping.clone()) => {
                let message = "kinesink local stopped before the delay of an injected fault was over";
                return failed(encoding, &ServiceError::of_type("ServiceUnavailable", message));
            }
        }
    }
    if let Some(FaultKind::ClockJumpMs(ms)) = fault {
        shared.faults.jump_clock(ms);
    }
    let reply = match &fault {
        Some(FaultKind::Error { code, message }) => Err(ServiceError::of_type(code, message)),
        _ => shared.run(move |shared| call(shared, &operation, encoding, &body)).await,
    };
    match (reply, fault) {
        // An error of the call's own comes first: then there is no effect to hide.
        (Ok(_), Some(FaultKind::ErrorAfter { code, message })) => {
            failed(encoding, &ServiceError::of_type(&code, message))
        }
        (Err(error), _) => failed(encoding, &error),
        (Ok(reply), Some(FaultKind::Cut)) => cut(encoding, reply, CutAfter::Headers),
        (Ok(reply), Some(FaultKind::Truncate)) => cut(encoding, reply, CutAfter::HalfOfTheBody),
        (Ok(Reply::Whole(body)), _) => whole(head(encoding.content_type()), body),
        (Ok(Reply::Events(subscription)), _) => {
            let events = subscription.into_stream().take_until(Box::pin(stopped(stopping)));
            head(event_stream::CONTENT_TYPE).map(|()| Body::from_stream(events))
        }
    }
}

fn call(shared: &Arc<Shared>, operation: &str, encoding: Encoding, body: &[u8]) -> Result<Reply, ServiceError> {
    if operation == "SubscribeToShard" {
        let subscription = operations::subscribe(shared, encoding, body)?;
        return Ok(Reply::Events(Box::new(subscription)));
    }
    operations::call(shared, operation, encoding, body).map(Reply::Whole)
}

/// Is ready when the server stops, if there is one.
async fn stopped(stopping: Option<Stopping>) {
    match stopping {
        Some(Stopping(token)) => token.cancelled_owned().await,
        None => future::pending().await,
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

/// A reply without its body.
fn head(content_type: &'static str) -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-amzn-requestid", id);
    }
    head
}

fn whole(mut head: Response<()>, body: Payload) -> Response {
    head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len_bytes()));
    head.map(|()| body.into_body())
}

fn failed(encoding: Encoding, error: &ServiceError) -> Response {
    let mut head = head(encoding.content_type());
    *head.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(code) = HeaderValue::try_from(&*error.code) {
        head.headers_mut().insert("x-amzn-errortype", code);
    }
    // Two texts can always be written.
    whole(head, encoding.encode(error).unwrap_or_default().into())
}

/// A reply that ends too early: after none of its body, or after half of it, the connection breaks. Of a subscription,
/// the half is what comes before the first event.
fn cut(encoding: Encoding, reply: Reply, after: CutAfter) -> Response {
    let broken = || Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut by an injected fault"));
    match (reply, after) {
        (Reply::Whole(mut body), after) => {
            match after {
                CutAfter::Headers => body.truncate(0),
                CutAfter::HalfOfTheBody => body.truncate(body.len_bytes() / 2),
            }
            let chunks = body.into_chunks().map(Ok).chain([broken()]);
            head(encoding.content_type()).map(|()| Body::from_stream(stream::iter(chunks)))
        }
        (Reply::Events(_), CutAfter::Headers) => {
            let nothing: [std::io::Result<Bytes>; 1] = [broken()];
            head(event_stream::CONTENT_TYPE).map(|()| Body::from_stream(stream::iter(nothing)))
        }
        (Reply::Events(subscription), CutAfter::HalfOfTheBody) => {
            let events = subscription.into_stream().take(1).chain(stream::iter([broken()]));
            head(event_stream::CONTENT_TYPE).map(|()| Body::from_stream(events))
        }
    }
}

#[derive(Clone, Copy)]
enum CutAfter {
    Headers,
    HalfOfTheBody,
}
