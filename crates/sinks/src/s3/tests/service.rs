//! The sink on a bucket: a service on loopback that answers what a test tells it to, over a real socket.

use std::sync::{Arc, Mutex};

use kinesink_aws::credential_types::Credentials;
use kinesink_aws::credential_types::provider::error::CredentialsError;
use kinesink_aws::credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use kinesink_aws::s3::Client;
use kinesink_aws::s3::config::retry::RetryConfig;
use kinesink_aws::s3::config::{BehaviorVersion, Config, Region};
use kinesink_core::{Batch, Class, Emitter as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{batch, items, source};
use crate::Location;
use crate::s3::{Naming, S3Config, S3Emitter};

pub(super) fn credentials() -> Credentials {
    Credentials::new("key", "secret", None, None, "test")
}

/// Answers each request with the next reply; the last one is repeated.
pub(super) struct Service {
    endpoint: String,
    /// Head and body of each.
    requests: Arc<Mutex<Vec<(String, String)>>>,
    _server: JoinSet<()>,
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: Vec<u8>,
}

/// What S3 says of an object in each answer.
pub(super) const ETAG: &str = "etag: \"e\"\r\n";

pub(super) fn fine() -> Reply {
    Reply { headers: ETAG.into(), ..nothing() }
}

/// A success of somebody who is not S3.
pub(super) fn nothing() -> Reply {
    Reply { status: 200, headers: String::new(), body: vec![] }
}

/// The answer to HEAD of an object that is not there.
pub(super) fn absent() -> Reply {
    Reply { status: 404, ..nothing() }
}

/// The answer to HEAD of an object with that metadata.
pub(super) fn metadata(pairs: &[(&str, &str)]) -> Reply {
    let headers: String =
        pairs.iter().map(|(name, value)| format!("x-amz-meta-kinesink-{name}: {value}\r\n")).collect();
    Reply { headers: format!("{ETAG}{headers}"), ..fine() }
}

pub(super) fn reply(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>because</Message><Key>SECRET</Key></Error>").into();
    Reply { status, headers: String::new(), body }
}

impl Service {
    pub(super) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut replies = replies.into_iter().peekable();
            let mut current = replies.next().unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let request = answer(socket, &current).await;
                seen.lock().unwrap().push(request);
                current = replies.next().unwrap_or(current);
            }
        });
        Self { endpoint, requests, _server: server }
    }

    /// The head of each.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    pub(super) fn config(&self) -> S3Config {
        config(&self.endpoint, SharedCredentialsProvider::new(credentials()))
    }

    pub(super) fn sink(&self) -> S3Emitter {
        S3Emitter::open(self.config()).unwrap()
    }
}

pub(super) fn config(endpoint: &str, provider: SharedCredentialsProvider) -> S3Config {
    let client = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(provider)
        .retry_config(RetryConfig::disabled())
        .force_path_style(true);
    // A file may not say so, but who builds a place may.
    let location = Location::Bucket { bucket: "my-bucket".into(), prefix: "orders in/{x}".into() };
    let mut config = S3Config::new(location);
    config.client = Some(Client::from_conf(client.build()));
    config
}

/// Reads one request, answers it, closes. Gives the request's head and body.
async fn answer(mut socket: TcpStream, reply: &Reply) -> (String, String) {
    let mut read = Vec::new();
    let request = loop {
        assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0, "cut");
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        }
    };
    let answer = format!(
        "HTTP/1.1 {} x\r\ncontent-length: {}\r\nlast-modified: Mon, 23 Nov 2026 00:00:00 GMT\r\n\
         {}connection: close\r\n\r\n",
        reply.status,
        reply.body.len(),
        reply.headers
    );
    socket.write_all(answer.as_bytes()).await.unwrap();
    socket.write_all(&reply.body).await.unwrap();
    socket.shutdown().await.unwrap();
    request
}

/// A sink that sends more than ten bytes in parts of six.
pub(super) fn in_parts(service: &Service) -> S3Emitter {
    let mut config = service.config();
    (config.bucket.put_bytes_max, config.bucket.part_bytes) = (10, 6);
    S3Emitter::open(config).unwrap()
}

pub(super) fn xml(body: &str) -> Reply {
    Reply { body: body.into(), ..fine() }
}

/// Method and query of each request.
pub(super) fn told(service: &Service) -> Vec<String> {
    let target = |head: &String| {
        let mut words = head.split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        format!("{method} {}", target.split_once('?').map_or("", |(_, query)| query))
    };
    service.requests().iter().map(target).collect()
}

pub(super) const LEFT: &str = "<ListMultipartUploadsResult></ListMultipartUploadsResult>";
pub(super) const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>u7</UploadId></InitiateMultipartUploadResult>";
pub(super) const DONE: &str = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";

#[tokio::test]
async fn a_put_is_signed_create_only_and_in_path_style() {
    let service = Service::start(vec![fine()]).await;
    let (source, items) = (source(), items(&[b"one", b"two"]));
    assert_eq!(service.sink().emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let requests = service.requests();
    assert_eq!(requests.len(), 1);
    let head = requests[0].to_lowercase();
    assert!(head.starts_with("put /my-bucket/orders%20in/%7bx%7d/orders/shardid-000000000003/"), "{head}");
    assert!(head.contains("if-none-match: *"), "{head}");
    assert!(head.contains("/eu-west-1/s3/aws4_request"), "{head}");
}

#[tokio::test]
async fn an_object_that_exists_is_compared_by_what_it_says_of_itself() {
    let (source, items) = (source(), items(&[b"one", b"two"]));
    let taken = || reply(412, "PreconditionFailed");

    // What it says is what the first put said of it.
    let service = Service::start(vec![fine()]).await;
    assert_eq!(service.sink().emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let put = service.requests().remove(0).to_lowercase();
    let said = |name: &str| {
        let header = format!("x-amz-meta-kinesink-{name}: ");
        put.lines().find_map(|line| line.strip_prefix(&header)).unwrap().to_owned()
    };
    let digest = said("digest");
    assert_eq!((said("stream"), said("count")), ("orders".into(), "2".into()));
    assert_eq!(
        (said("shard"), said("first"), said("last")),
        (source.shard.to_string().to_lowercase(), "1.0".into(), "2.0".into())
    );
    let there = |digest: &str| {
        let shard = ("shard", "shardId-000000000003");
        metadata(&[("stream", "orders"), shard, ("first", "1.0"), ("last", "2.0"), ("count", "2"), ("digest", digest)])
    };

    let service = Service::start(vec![taken(), there(&digest)]).await;
    assert_eq!(service.sink().emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert!(service.requests()[1].starts_with("HEAD "));

    let another = "0".repeat(32);
    for (other, says) in [
        (
            there(&another),
            "exists with other content (2 items of records 1.0 to 2.0 of shardId-000000000003) than the 2 items",
        ),
        (fine(), "exists with other content (none that kinesink wrote)"),
    ] {
        let service = Service::start(vec![taken(), other]).await;
        let failure = service.sink().emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.starts_with("s3://my-bucket/orders in/{x}/orders/shardId-"), "{failure}");
        assert!(failure.message.contains(says) && failure.message.contains("move it away"), "{failure}");
    }
    // Of a replay that was killed, and whose file was mended since.
    let service = Service::start(vec![taken(), there(&another)]).await;
    let mut config = service.config();
    config.naming = Naming::Replay { round: 1 };
    let failure = S3Emitter::open(config).unwrap().emit(&batch(&source, &items)).await.unwrap_err();
    assert!(failure.message.ends_with("or remove the object and replay again: it is made anew"), "{failure}");

    // An operator has asked for what is there.
    let service = Service::start(vec![taken(), there(&another)]).await;
    let kept = Batch { keep_existing: true, ..batch(&source, &items) };
    assert_eq!(service.sink().emit(&kept).await.unwrap().exceptions(), []);

    // Gone between the two requests; and one that may not be read.
    for (status, class) in [(404, Class::Transient), (403, Class::Configuration)] {
        let service = Service::start(vec![taken(), Reply { status, ..fine() }]).await;
        let failure = service.sink().emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, class, "{failure}");
    }
}

#[tokio::test]
async fn replies_are_judged_and_nothing_is_retried() {
    let cases = [
        (404, "NoSuchBucket", Class::Configuration, "create the bucket my-bucket"),
        (403, "AccessDenied", Class::Configuration, "allow s3:PutObject and s3:GetObject"),
        (403, "InvalidAccessKeyId", Class::Configuration, "the credentials are not valid"),
        (403, "SignatureDoesNotMatch", Class::Configuration, "the credentials are not valid"),
        (403, "RequestTimeTooSkewed", Class::Configuration, "clock"),
        (400, "ExpiredToken", Class::Transient, "ExpiredToken: because"),
        (400, "BadDigest", Class::Transient, "BadDigest: because"),
        (400, "XAmzContentSHA256Mismatch", Class::Transient, "XAmzContentSHA256Mismatch: because"),
        (400, "IncompleteBody", Class::Transient, "IncompleteBody: because"),
        (400, "InvalidPart", Class::Transient, "InvalidPart: because"),
        (400, "AuthorizationHeaderMalformed", Class::Configuration, "set `region`"),
        (301, "PermanentRedirect", Class::Configuration, "set `region`"),
        (400, "InvalidRequest", Class::Configuration, "InvalidRequest: because"),
        (409, "ConditionalRequestConflict", Class::Transient, "ConditionalRequestConflict"),
        (429, "TooManyRequests", Class::Transient, "TooManyRequests"),
        (500, "InternalError", Class::Transient, "InternalError"),
        (503, "SlowDown", Class::Transient, "SlowDown: because"),
    ];
    let (source, items) = (source(), items(&[b"one"]));
    for (status, code, class, text) in cases {
        let service = Service::start(vec![reply(status, code)]).await;
        let failure = service.sink().emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, class, "{status} {code}: {failure}");
        assert!(failure.message.contains(text), "{status} {code}: {failure}");
        assert!(failure.message.contains("s3://my-bucket/orders in/{x}"), "{failure}");
        assert!(!failure.message.contains("SECRET"), "{failure}");
        assert!(service.requests().iter().filter(|head| head.starts_with("PUT")).count() == 1, "{code} was retried");
    }
}

#[tokio::test]
async fn check_writes_reads_and_removes_an_empty_object() {
    let service = Service::start(vec![fine()]).await;
    service.sink().check().await.unwrap();
    let verbs: Vec<String> =
        service.requests().iter().map(|head| head.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(verbs.len(), 3, "{verbs:?}");
    assert!(verbs[0].starts_with("PUT ") && verbs[0].contains("/_kinesink_check_"), "{verbs:?}");
    assert!(verbs[1].starts_with("HEAD ") && verbs[2].starts_with("DELETE "), "{verbs:?}");

    let service = Service::start(vec![reply(404, "NoSuchBucket")]).await;
    let failure = service.sink().check().await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    assert!(failure.message.starts_with("cannot write to s3://my-bucket/orders in/{x}: NoSuchBucket"), "{failure}");
}

#[tokio::test]
async fn nobody_there_is_transient_and_names_the_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let sink = S3Emitter::open(config(&endpoint, SharedCredentialsProvider::new(credentials()))).unwrap();
    let (source, items) = (source(), items(&[b"one"]));
    let failure = sink.emit(&batch(&source, &items)).await.unwrap_err();
    assert_eq!(failure.class, Class::Transient, "{failure}");
    assert!(failure.message.to_lowercase().contains("connection refused"), "{failure}");
    assert!(failure.message.contains("AWS_ENDPOINT_URL"), "{failure}");
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no provider in the chain had any")))
    }
}

#[derive(Debug)]
struct RefusedByTheRole;

impl ProvideCredentials for RefusedByTheRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let refused = std::io::Error::other("AccessDenied: may not assume it");
        future::ProvideCredentials::ready(Err(CredentialsError::provider_error(refused)))
    }
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_is_named_with_the_remedy() {
    let credentials = SharedCredentialsProvider::new(RefusedByTheRole);
    let sink = S3Emitter::open(config("http://127.0.0.1:1", credentials)).unwrap();
    let failure = sink.check().await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration, "{failure}");
    assert!(failure.message.contains("may not assume it") && failure.message.contains("`external_id`"), "{failure}");
}

#[tokio::test]
async fn missing_settings_are_named() {
    let sink = S3Emitter::open(config("http://127.0.0.1:1", SharedCredentialsProvider::new(NoCredentials))).unwrap();
    let failure = sink.check().await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration, "{failure}");
    assert!(failure.message.contains("no AWS credentials") && failure.message.contains("AWS_PROFILE"), "{failure}");

    let error = S3Emitter::open(S3Config::new("s3://my-bucket".parse().unwrap())).unwrap_err().to_string();
    assert_eq!(error, "cannot set up the sink for s3://my-bucket: a bucket needs a client: set `client`");
}

#[tokio::test]
async fn a_start_that_may_not_delete_its_empty_object_goes_on_and_one_that_may_not_read_or_write_does_not() {
    let service = Service::start(vec![fine(), fine(), reply(403, "AccessDenied")]).await;
    service.sink().check().await.unwrap();
    let method = |head: &String| head.split(' ').next().unwrap_or_default().to_owned();
    let methods = |service: &Service| service.requests().iter().map(method).collect::<Vec<_>>();
    assert_eq!(methods(&service), ["PUT", "HEAD", "DELETE"]);

    for (replies, what) in
        [(vec![reply(403, "AccessDenied")], "write to"), (vec![fine(), reply(403, "AccessDenied")], "read from")]
    {
        let failure = Service::start(replies).await.sink().check().await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.starts_with(&format!("cannot {what} s3://my-bucket")), "{failure}");
    }
}
