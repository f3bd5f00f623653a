use axum::body::Body;
use http::{Method, Request};
use kinesink_emulator::S3;
use proptest::prelude::*;

use super::{AUTHORIZATION, Answer, BUCKET, answer, put, send, temporary, with_bucket};

async fn ask(s3: &S3, method: Method, path: &str) -> Answer {
    send(s3, method, path, &[], Body::empty()).await
}

#[tokio::test]
async fn what_is_not_emulated_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    put(&s3, "a", "text").await;
    for (method, path, name) in [
        (Method::PUT, "/orders?versioning", "PutBucketVersioning"),
        (Method::GET, "/orders?policy", "GetBucketPolicy"),
        (Method::GET, "/orders?versions", "ListObjectVersions"),
        (Method::PUT, "/orders/a?tagging", "PutObjectTagging"),
        (Method::GET, "/orders/a?acl", "GetObjectAcl"),
        (Method::GET, "/orders/a?attributes", "GetObjectAttributes"),
        (Method::GET, "/orders/a?versionId=1", "versionId of GetObject"),
        (Method::GET, "/orders/a?partNumber=1", "partNumber of GetObject"),
        // Of operations that came after what s3s knows: none is taken for another.
        (Method::PUT, "/orders/a?renameObject", "renameObject of PutObject"),
        (Method::GET, "/orders?abac", "abac of ListObjects"),
        (Method::POST, "/orders?metadataConfiguration", "metadataConfiguration"),
    ] {
        let refused = ask(&s3, method, path).await;
        assert_eq!((refused.status, refused.code().as_str()), (501, "NotImplemented"), "{path}: {refused:?}");
        let expected = format!("kinesink local does not emulate {name}");
        assert_eq!(refused.element("Message"), Some(expected), "{path}");
    }
}

#[tokio::test]
async fn only_the_one_account_owns_buckets() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let path = format!("/{BUCKET}/a");
    let expecting =
        async |account| send(&s3, Method::PUT, &path, &[("x-amz-expected-bucket-owner", account)], "1").await;
    assert_eq!(expecting("000000000000").await.status, 200);
    let refused = expecting("111122223333").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "AccessDenied"));
}

#[tokio::test]
async fn a_request_is_signed_in_one_of_both_ways_and_any_key_does() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    put(&s3, "a", "text").await;
    let unsigned = async |query: &str| {
        let request = Request::get(format!("/{BUCKET}/a{query}")).body(Body::empty()).unwrap();
        answer(&s3, request).await
    };
    assert_eq!(unsigned("").await.code(), "AccessDenied");
    let presigned = |date: &str, expires: &str| {
        format!(
            "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=any%2F20260301%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date={date}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=00\
             &response-content-type=text%2Fcsv"
        )
    };
    // Signed for a moment that is far away, so that no clock decides.
    let read = unsigned(&presigned("21100101T000000Z", "60")).await;
    assert_eq!((read.text().as_str(), read.header("content-type")), ("text", Some("text/csv")));
    let expired = unsigned(&presigned("20150101T000000Z", "60")).await;
    assert_eq!((expired.status, expired.code().as_str()), (403, "AccessDenied"));
    for query in [presigned("yesterday", "60"), presigned("21100101T000000Z", "-1"), "?X-Amz-Signature=00".into()] {
        let refused = unsigned(&query).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "AuthorizationQueryParametersError"), "{query}");
    }
    let malformed = Request::get(format!("/{BUCKET}/a")).header("authorization", "AWS4-HMAC-SHA256 Credential=a");
    assert_eq!(answer(&s3, malformed.body(Body::empty()).unwrap()).await.code(), "AuthorizationHeaderMalformed");
}

#[tokio::test]
async fn names_and_numbers_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let long = format!("/{BUCKET}/{}", "k".repeat(1025));
    for (method, path, code) in [
        (Method::PUT, "/no", "InvalidBucketName"),
        (Method::PUT, "/.state", "InvalidBucketName"),
        (Method::PUT, "/UPPER", "InvalidBucketName"),
        (Method::GET, "/none", "NoSuchBucket"),
        (Method::GET, "/none/a", "NoSuchBucket"),
        (Method::GET, "/orders/none", "NoSuchKey"),
        (Method::PUT, long.as_str(), "KeyTooLongError"),
        (Method::PUT, "/orders/a?uploadId=none&partNumber=1", "NoSuchUpload"),
        (Method::PUT, "/orders/a?uploadId=none&partNumber=0", "InvalidArgument"),
        (Method::PUT, "/orders/a?uploadId=none&partNumber=10001", "InvalidArgument"),
        (Method::GET, "/orders?list-type=2&max-keys=-1", "InvalidArgument"),
        (Method::GET, "/orders?list-type=2&continuation-token=!", "InvalidArgument"),
        (Method::GET, "/orders?list-type=2&encoding-type=rot13", "InvalidArgument"),
        (Method::GET, "/orders/%FF", "InvalidURI"),
    ] {
        let refused = ask(&s3, method, path).await;
        assert!((400..500).contains(&refused.status), "{path:.40}: {refused:?}");
        assert_eq!(refused.code(), code, "{path:.40}");
    }
    assert_eq!(ask(&s3, Method::POST, "/orders?delete").await.code(), "MissingRequestBodyError");
    for body in ["<", "<Delete>", "<Delete/>", "<Other/>", "{}", "<Delete><Object/></Delete>"] {
        let refused = send(&s3, Method::POST, "/orders?delete", &[], body).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "MalformedXML"), "{body}");
    }
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let name = prop::sample::select(vec![
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "content-md5",
        "content-type",
        "content-encoding",
        "x-amz-content-sha256",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "x-amz-checksum-crc32",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-copy-source",
        "x-amz-meta-a",
        "x-amz-storage-class",
    ]);
    let value = prop_oneof![
        "[ -~]{0,12}",
        prop::sample::select(vec!["*", "bytes=0-0", "CRC32", "/orders/a", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "3"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec((name, value), 0..4)
}

fn paths() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec!["/", "/orders", "/orders/", "/orders/a", "/orders/a/../b", "//", "/none/x"]);
    let parameter = prop::sample::select(vec![
        "",
        "uploads",
        "delete",
        "uploadId=x",
        "partNumber=1",
        "list-type=2",
        "max-keys=2",
        "prefix=%2",
        "delimiter=/",
        "continuation-token=YQ",
        "location",
        "versioning",
        "acl",
        "marker=a",
        "start-after=%00",
        "encoding-type=url",
    ]);
    (path, prop::collection::vec(parameter, 0..3)).prop_map(|(path, query)| format!("{path}?{}", query.join("&")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_answered_as_s3_answers(
        method in prop::sample::select(vec![Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD]),
        path in paths(),
        headers in headers(),
        body in prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..64), Just(b"<Delete/>".to_vec())],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let s3 = temporary();
            put(&s3, "a", "text").await;
            let mut request = Request::builder().method(method.clone()).uri(&path);
            request = request.header("authorization", AUTHORIZATION).header("x-amz-date", "20260301T120000Z");
            request = request.header("content-length", body.len());
            for (name, value) in &headers {
                request = request.header(*name, value);
            }
            let Ok(request) = request.body(Body::from(body)) else { return };
            let answer = answer(&s3, request).await;
            assert_ne!(answer.status, 500, "{answer:?}");
            if answer.status >= 400 && method != Method::HEAD {
                assert!(!answer.code().is_empty(), "{answer:?}");
            }
        });
    }
}
