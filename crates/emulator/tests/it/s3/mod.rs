//! The local S3, by stock clients over a port and by requests of any kind without one.

/// Checksums, digests and what a body has to be.
mod bodies;
/// Conditional writes, and who wins a race.
mod conditional;
/// Pages of a listing, against a model.
mod listings;
/// Requests that are wrong.
mod malformed;
/// Uploads in parts.
mod multipart;
/// What is there after a restart, and beside other programs.
mod persistence;
/// Objects as they are written and read.
mod requests;

use std::net::SocketAddr;
use std::path::Path;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Method, Request};
use kinesink_emulator::S3;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub(crate) const BUCKET: &str = "orders";
const AUTHORIZATION: &str =
    "AWS4-HMAC-SHA256 Credential=test/20260301/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

/// Served on a port until this is dropped.
pub(crate) struct Served {
    pub(crate) s3: S3,
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
    pub(crate) directory: TempDir,
}

/// With one bucket.
pub(crate) async fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    let served = s3.clone();
    serving.spawn(async move { served.serve(listener, std::future::pending()).await.unwrap() });
    Served { s3, address, _serving: serving, directory }
}

pub(crate) fn with_bucket(directory: &Path) -> S3 {
    let s3 = S3::in_directory(directory).unwrap();
    s3.create_bucket(BUCKET).unwrap();
    s3
}

/// Where nothing waits for a disk.
pub(crate) fn temporary() -> S3 {
    let s3 = S3::temporary().unwrap();
    s3.create_bucket(BUCKET).unwrap();
    s3
}

impl Served {
    /// A client that tries once.
    pub(crate) fn client(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_bucket_name(BUCKET)
            .with_region("us-east-1")
            .with_access_key_id("any")
            .with_secret_access_key("any")
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap()
    }
}

/// An answer as a test looks at it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// What stands in the first element of that name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        elements(&self.text(), name).into_iter().next()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }
}

/// What stands in the elements of that name, as no XML reader is needed for what the tests write.
pub(crate) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let found = xml.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
    found
        .map(|text| text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
        .collect()
}

/// A signed request without a socket.
pub(crate) async fn send(
    s3: &S3,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let body = body.into();
    let length = http_body::Body::size_hint(&body).exact();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:1")
        .header("authorization", AUTHORIZATION);
    request = request.header("x-amz-date", "20260301T120000Z");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(length) = length.filter(|_| !headers.iter().any(|(name, _)| *name == "content-length")) {
        request = request.header("content-length", length);
    }
    answer(s3, request.body(body).unwrap()).await
}

pub(crate) async fn answer(s3: &S3, request: Request<Body>) -> Answer {
    let response = s3.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) async fn put(s3: &S3, key: &str, body: impl Into<Body>) -> Answer {
    send(s3, Method::PUT, &format!("/{BUCKET}/{key}"), &[], body).await
}

pub(crate) async fn get(s3: &S3, key: &str) -> Answer {
    send(s3, Method::GET, &format!("/{BUCKET}/{key}"), &[], Body::empty()).await
}
