use axum::body::Body;
use futures::TryStreamExt as _;
use http::Method;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore as _, ObjectStoreExt as _, PutOptions};

use super::{BUCKET, elements, get, put, send, serve, with_bucket};

#[tokio::test]
async fn an_object_comes_back_with_what_was_said_about_it() {
    let served = serve().await;
    let client = served.client();
    let key = Path::from("2026/03/orders.json");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "application/json"),
        (Attribute::CacheControl, "no-cache"),
        (Attribute::Metadata("shard".into()), "shardId-000000000000"),
    ]);
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    client.put_opts(&key, "{}".into(), options).await.unwrap();
    let read = client.get(&key).await.unwrap();
    assert_eq!(read.attributes, attributes);
    assert_eq!(read.meta.size, 2);
    assert_eq!(read.bytes().await.unwrap(), "{}");
    let file = served.directory.path().join(BUCKET).join("2026/03/orders.json");
    assert_eq!(std::fs::read(file).unwrap(), b"{}");
    let listed: Vec<_> = client.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].location, listed[0].size), (&key, 2));
    client.delete(&key).await.unwrap();
    assert!(matches!(client.head(&key).await, Err(object_store::Error::NotFound { .. })));
    assert!(!served.directory.path().join(BUCKET).join("2026").exists(), "an empty folder is no object");
}

#[tokio::test]
async fn a_range_is_that_part_of_the_object() {
    let served = serve().await;
    let client = served.client();
    let key = Path::from("digits");
    client.put(&key, "0123456789".into()).await.unwrap();
    assert_eq!(client.get_range(&key, 2..5).await.unwrap(), "234");
    let suffix = GetOptions { range: Some(object_store::GetRange::Suffix(3)), ..GetOptions::default() };
    assert_eq!(client.get_opts(&key, suffix).await.unwrap().bytes().await.unwrap(), "789");
    let path = format!("/{BUCKET}/digits");
    let answer = send(&served.s3, Method::GET, &path, &[("range", "bytes=8-100")], Body::empty()).await;
    assert_eq!((answer.status, answer.text().as_str()), (206, "89"));
    assert_eq!(answer.header("content-range"), Some("bytes 8-9/10"));
    let behind = send(&served.s3, Method::GET, &path, &[("range", "bytes=10-")], Body::empty()).await;
    assert_eq!((behind.status, behind.code().as_str()), (416, "InvalidRange"));
}

#[tokio::test]
async fn encryption_and_storage_class_are_taken_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let headers = [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key-1"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-meta-count", "7"),
        ("content-encoding", "gzip"),
    ];
    let written = send(&s3, Method::PUT, &format!("/{BUCKET}/a"), &headers, "text").await;
    assert_eq!(written.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("key-1"));
    assert_eq!(written.header("x-amz-meta-count"), None);
    for method in [Method::GET, Method::HEAD] {
        let read = send(&s3, method, &format!("/{BUCKET}/a"), &[], Body::empty()).await;
        for (name, value) in headers {
            assert_eq!(read.header(name), Some(value));
        }
        assert_eq!(read.header("content-type"), Some("binary/octet-stream"));
        assert_eq!(read.header("content-length"), Some("4"));
    }
    let plain = put(&s3, "b", "text").await;
    assert_eq!(plain.header("x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(get(&s3, "b").await.header("x-amz-storage-class"), None);
    let path = format!("/{BUCKET}/c");
    for (name, value, code) in [
        ("x-amz-storage-class", "CHEAP", "InvalidStorageClass"),
        ("x-amz-server-side-encryption", "rot13", "InvalidArgument"),
        ("x-amz-meta-long", "x".repeat(2048).as_str(), "MetadataTooLarge"),
        ("x-amz-tagging", "a=b", "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", "NotImplemented"),
    ] {
        assert_eq!(send(&s3, Method::PUT, &path, &[(name, value)], "text").await.code(), code, "{name}");
    }
    send(&s3, Method::PUT, &path, &[("x-amz-storage-class", "GLACIER")], "text").await;
    assert_eq!(get(&s3, "c").await.code(), "InvalidObjectState");
}

#[tokio::test]
async fn a_bucket_is_made_told_and_removed_when_it_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let bucket = async |method: Method, path: &str| send(&s3, method, path, &[], Body::empty()).await;
    assert_eq!(bucket(Method::HEAD, "/other").await.status, 404);
    assert_eq!(bucket(Method::PUT, "/other").await.status, 200);
    assert_eq!(bucket(Method::PUT, "/other").await.status, 200);
    assert_eq!(bucket(Method::HEAD, "/other").await.header("x-amz-bucket-region"), Some("us-east-1"));
    assert!(bucket(Method::GET, "/other?location").await.text().contains("LocationConstraint"));
    assert_eq!(elements(&bucket(Method::GET, "/").await.text(), "Name"), [BUCKET, "other"]);
    assert_eq!(elements(&bucket(Method::GET, "/?max-buckets=1").await.text(), "Name"), [BUCKET]);
    put(&s3, "a", "text").await;
    assert_eq!(bucket(Method::DELETE, "/orders").await.code(), "BucketNotEmpty");
    bucket(Method::DELETE, "/orders/a").await;
    assert_eq!(bucket(Method::DELETE, "/orders").await.status, 204);
    assert_eq!(put(&s3, "a", "text").await.code(), "NoSuchBucket");
    assert_eq!(elements(&bucket(Method::GET, "/").await.text(), "Name"), ["other"]);
    assert!(!directory.path().join(BUCKET).exists());
}

#[tokio::test]
async fn several_objects_are_removed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    for key in ["a", "b", "c"] {
        put(&s3, key, "text").await;
    }
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object>\
                <Object><Key>b</Key><ETag>other</ETag></Object></Delete>";
    let answer = send(&s3, Method::POST, &format!("/{BUCKET}?delete"), &[], body).await;
    let deleted: Vec<_> = elements(&answer.text(), "Deleted").iter().flat_map(|one| elements(one, "Key")).collect();
    assert_eq!(deleted, ["a", "none"], "{answer:?}");
    assert_eq!(answer.code(), "PreconditionFailed");
    let listed = send(&s3, Method::GET, &format!("/{BUCKET}?list-type=2"), &[], Body::empty()).await;
    assert_eq!(elements(&listed.text(), "Key"), ["b", "c"]);
}

#[tokio::test]
async fn a_copy_is_an_object_of_its_own_with_the_same_or_other_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let path = |key: &str| format!("/{BUCKET}/{key}");
    let described = [("x-amz-meta-name", "first"), ("content-type", "text/plain")];
    let etag = send(&s3, Method::PUT, &path("a"), &described, "text").await.header("etag").unwrap().to_owned();
    let source = ("x-amz-copy-source", "/orders/a");
    let copied = send(&s3, Method::PUT, &path("b"), &[source], Body::empty()).await;
    assert_eq!(copied.element("ETag"), Some(etag), "{copied:?}");
    put(&s3, "a", "changed").await;
    let read = get(&s3, "b").await;
    assert_eq!((read.text().as_str(), read.header("x-amz-meta-name")), ("text", Some("first")));
    let replaced = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-name", "second")];
    send(&s3, Method::PUT, &path("b"), &replaced, Body::empty()).await;
    let read = get(&s3, "b").await;
    assert_eq!((read.text().as_str(), read.header("x-amz-meta-name")), ("changed", Some("second")));
    for (headers, code) in [
        (vec![("x-amz-copy-source", "/orders/none")], "NoSuchKey"),
        (vec![source, ("if-none-match", "*")], "PreconditionFailed"),
        (vec![source, ("x-amz-copy-source-if-match", "\"other\"")], "PreconditionFailed"),
    ] {
        assert_eq!(send(&s3, Method::PUT, &path("b"), &headers, Body::empty()).await.code(), code, "{headers:?}");
    }
    assert_eq!(send(&s3, Method::PUT, &path("a"), &[source], Body::empty()).await.code(), "InvalidRequest");
}

#[tokio::test]
async fn the_bucket_may_stand_in_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    put(&s3, "folder/a", "text").await;
    let authorization = super::AUTHORIZATION;
    let request = http::Request::get("/folder/a").header("host", "orders.localhost:4566");
    let request = request.header("authorization", authorization).header("x-amz-date", "20260301T120000Z");
    assert_eq!(super::answer(&s3, request.body(Body::empty()).unwrap()).await.text(), "text");
}
