//! An HTTP client for the AWS SDK that hands each request to the emulator's router: the real client, no socket.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::emulator::Emulator;
use crate::wire::event_stream;

#[derive(Debug, Clone)]
struct RouterConnector(Router);

impl Emulator {
    /// An HTTP client for an AWS SDK configuration, whose every request is answered by this emulator, without a socket.
    pub fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(RouterConnector(self.router()));
        http_client_fn(move |_settings, _components| connector.clone())
    }
}

impl HttpConnector for RouterConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(exchange(self.0.clone(), request))
    }
}

async fn exchange(router: Router, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?.map(Body::new);
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    let is_event_stream = parts.headers.get(CONTENT_TYPE).is_some_and(|value| value == event_stream::CONTENT_TYPE);
    let body = if is_event_stream {
        SdkBody::from_body_1_x(SharedBody(Mutex::new(body)))
    } else {
        // A reply that breaks off is what a broken connection looks like to a client.
        SdkBody::from(body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_bytes())
    };
    HttpResponse::try_from(http::Response::from_parts(parts, body))
        .map_err(|error| ConnectorError::other(error.into(), None))
}

/// A body that can be shared between threads, as the SDK wants it. It is only ever used through a unique reference, so
/// that nothing is locked.
struct SharedBody(Mutex<Body>);

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let body = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(context)
    }
}
