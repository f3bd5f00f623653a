use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use kinesink_emulator::S3;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, WriteMultipart};

use super::{BUCKET, elements, get, send, serve, with_bucket};

/// The smallest that may be followed by another.
const PART_BYTES: usize = 5 * 1024 * 1024;

pub(crate) async fn create_upload(s3: &S3, key: &str, headers: &[(&str, &str)]) -> String {
    let answer = send(s3, Method::POST, &format!("/{BUCKET}/{key}?uploads"), headers, Body::empty()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.element("UploadId").unwrap()
}

/// Its ETag.
pub(crate) async fn upload_part(s3: &S3, key: &str, upload: &str, number: u16, body: impl Into<Body>) -> String {
    let path = format!("/{BUCKET}/{key}?partNumber={number}&uploadId={upload}");
    let answer = send(s3, Method::PUT, &path, &[], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("etag").unwrap().to_owned()
}

pub(crate) fn completion(parts: &[(u16, &str)]) -> String {
    let parts = parts.iter().map(|(number, etag)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", etag.replace('"', "&quot;"))
    });
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>())
}

async fn complete(s3: &S3, key: &str, upload: &str, parts: &[(u16, &str)]) -> super::Answer {
    let path = format!("/{BUCKET}/{key}?uploadId={upload}");
    send(s3, Method::POST, &path, &[], completion(parts)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_joined_in_order_of_their_numbers() {
    let served = serve().await;
    let client = served.client();
    let key = Path::from("parts");
    let mut writing = WriteMultipart::new_with_chunk_size(client.put_multipart(&key).await.unwrap(), PART_BYTES);
    let whole: Vec<u8> = (0..=250).cycle().take(2 * PART_BYTES + 7).collect();
    writing.write(&whole);
    let put = writing.finish().await.unwrap();
    assert!(put.e_tag.unwrap().ends_with("-3\""));
    assert_eq!(client.get(&key).await.unwrap().bytes().await.unwrap(), whole);
    assert_eq!(std::fs::read(served.directory.path().join(BUCKET).join("parts")).unwrap(), whole);
}

#[tokio::test]
async fn a_part_of_the_same_number_replaces_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let upload = create_upload(&s3, "a", &[]).await;
    let first = upload_part(&s3, "a", &upload, 3, "first").await;
    let second = upload_part(&s3, "a", &upload, 3, "second").await;
    assert_eq!(complete(&s3, "a", &upload, &[(3, &first)]).await.code(), "InvalidPart");
    assert_eq!(complete(&s3, "a", &upload, &[(3, &second)]).await.status, 200);
    assert_eq!(get(&s3, "a").await.text(), "second");
    // It ended with that.
    assert_eq!(complete(&s3, "a", &upload, &[(3, &second)]).await.code(), "NoSuchUpload");
}

#[tokio::test]
async fn a_completion_that_does_not_fit_leaves_the_upload_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let upload = create_upload(&s3, "a", &[]).await;
    let one = upload_part(&s3, "a", &upload, 1, "small").await;
    let two = upload_part(&s3, "a", &upload, 2, "last").await;
    for (parts, code) in [
        (vec![(1, one.as_str()), (2, two.as_str())], "EntityTooSmall"),
        (vec![(2, two.as_str()), (1, one.as_str())], "InvalidPartOrder"),
        (vec![(1, two.as_str())], "InvalidPart"),
        (vec![(4, one.as_str())], "InvalidPart"),
        (vec![], "MalformedXML"),
    ] {
        let answer = complete(&s3, "a", &upload, &parts).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
        assert_eq!(get(&s3, "a").await.status, 404);
    }
    assert_eq!(complete(&s3, "other", &upload, &[(1, &one)]).await.code(), "NoSuchUpload");
    assert_eq!(complete(&s3, "a", &upload, &[(1, &one)]).await.status, 200);
}

#[tokio::test]
async fn a_completion_that_lost_can_be_aborted_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let upload = create_upload(&s3, "a", &[]).await;
    let etag = upload_part(&s3, "a", &upload, 1, "late").await;
    super::put(&s3, "a", "first").await;
    let path = format!("/{BUCKET}/a?uploadId={upload}");
    let lost = send(&s3, Method::POST, &path, &[("if-none-match", "*")], completion(&[(1, &etag)])).await;
    assert_eq!(lost.code(), "PreconditionFailed");
    assert_eq!(send(&s3, Method::GET, &path, &[], Body::empty()).await.element("ETag"), Some(etag));
    assert_eq!(send(&s3, Method::DELETE, &path, &[], Body::empty()).await.status, 204);
    assert_eq!(send(&s3, Method::GET, &path, &[], Body::empty()).await.code(), "NoSuchUpload");
    assert_eq!(get(&s3, "a").await.text(), "first");
    let state = directory.path().join(".state");
    for folder in [state.join("staging"), state.join("buckets").join(BUCKET).join("uploads")] {
        assert_eq!(folder.read_dir().unwrap().count(), 0, "{}", folder.display());
    }
}

#[tokio::test]
async fn a_part_may_be_a_copy_of_an_object_or_of_a_range_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    super::put(&s3, "digits", "0123456789").await;
    let upload = create_upload(&s3, "a", &[]).await;
    let path = format!("/{BUCKET}/a?partNumber=1&uploadId={upload}");
    let source = ("x-amz-copy-source", "/orders/digits");
    for (range, code) in [("bytes=10-11", "InvalidRange"), ("2-4", "InvalidArgument")] {
        let refused = send(&s3, Method::PUT, &path, &[source, ("x-amz-copy-source-range", range)], Body::empty()).await;
        assert_eq!(refused.code(), code);
    }
    let copied =
        send(&s3, Method::PUT, &path, &[source, ("x-amz-copy-source-range", "bytes=2-4")], Body::empty()).await;
    let etag = copied.element("ETag").unwrap();
    assert_eq!(complete(&s3, "a", &upload, &[(1, &etag)]).await.status, 200);
    assert_eq!(get(&s3, "a").await.text(), "234");
}

#[tokio::test]
async fn uploads_and_parts_are_listed_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let mut expected = Vec::new();
    for key in ["a", "b", "b", "c/1", "c/2"] {
        expected.push((key.to_owned(), create_upload(&s3, key, &[]).await));
    }
    let (mut listed, mut marker) = (Vec::new(), String::new());
    for _ in 0..expected.len() {
        let page =
            send(&s3, Method::GET, &format!("/{BUCKET}?uploads&max-uploads=2{marker}"), &[], Body::empty()).await;
        let text = page.text();
        // The first of each stands in the head of the page.
        let keys =
            elements(&text, "Upload").iter().map(|upload| elements(upload, "Key")[0].clone()).collect::<Vec<_>>();
        listed.extend(keys.into_iter().zip(elements(&text, "UploadId")));
        let (Some(key), Some(id)) = (page.element("NextKeyMarker"), page.element("NextUploadIdMarker")) else { break };
        marker = format!("&key-marker={key}&upload-id-marker={id}");
    }
    assert_eq!(listed, expected);
    let grouped = send(&s3, Method::GET, &format!("/{BUCKET}?uploads&delimiter=/&prefix=c"), &[], Body::empty()).await;
    assert_eq!(elements(&grouped.text(), "Upload").len(), 0);
    assert!(grouped.text().contains("<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"), "{}", grouped.text());

    let (key, upload) = &expected[0];
    for number in [1, 2, 10] {
        upload_part(&s3, key, upload, number, "part").await;
    }
    let path = format!("/{BUCKET}/{key}?uploadId={upload}&max-parts=2");
    let first = send(&s3, Method::GET, &path, &[], Body::empty()).await;
    assert_eq!(elements(&first.text(), "PartNumber"), ["1", "2"]);
    assert_eq!(first.element("IsTruncated").as_deref(), Some("true"));
    let second = send(&s3, Method::GET, &format!("{path}&part-number-marker=2"), &[], Body::empty()).await;
    assert_eq!(elements(&second.text(), "PartNumber"), ["10"]);
    assert_eq!(second.element("IsTruncated").as_deref(), Some("false"));
}

#[tokio::test]
async fn checksums_of_parts_are_kept_compared_and_made_into_one() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let sum = |bytes: &[u8]| STANDARD.encode(crc32fast::hash(bytes).to_be_bytes());
    let upload = create_upload(&s3, "a", &[("x-amz-checksum-algorithm", "CRC32")]).await;
    let path = format!("/{BUCKET}/a?partNumber=1&uploadId={upload}");
    let (right, wrong) = (sum(b"part"), sum(b"other"));
    let refused = send(&s3, Method::PUT, &path, &[("x-amz-checksum-crc32", &wrong)], "part").await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "BadDigest"));
    let kept = send(&s3, Method::PUT, &path, &[("x-amz-checksum-crc32", &right)], "part").await;
    let etag = kept.header("etag").unwrap();
    let body = |sum: &str| {
        completion(&[(1, etag)]).replace("</ETag>", &format!("</ETag><ChecksumCRC32>{sum}</ChecksumCRC32>"))
    };
    let path = format!("/{BUCKET}/a?uploadId={upload}");
    assert_eq!(send(&s3, Method::POST, &path, &[], body(&wrong)).await.code(), "InvalidPart");
    let completed = send(&s3, Method::POST, &path, &[], body(&right)).await;
    let of_sums = sum(&crc32fast::hash(b"part").to_be_bytes());
    assert_eq!(completed.element("ChecksumCRC32"), Some(format!("{of_sums}-1")), "{completed:?}");

    let whole = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let upload = create_upload(&s3, "b", &whole).await;
    let etag = upload_part(&s3, "b", &upload, 1, "part").await;
    let completed = complete(&s3, "b", &upload, &[(1, &etag)]).await;
    assert_eq!(completed.element("ChecksumCRC32"), Some(right));
}
