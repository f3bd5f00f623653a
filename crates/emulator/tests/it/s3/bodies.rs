use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream;
use http::Method;
use kinesink_emulator::S3;

use super::{Answer, BUCKET, get, send, with_bucket};

/// CRC-32C, CRC-64/NVME and SHA-256 of `123456789`, as their specifications print them; MD5 and CRC-32 likewise.
const DIGITS: &str = "123456789";
const MD5: [u8; 16] = [0x25, 0xf9, 0xe7, 0x94, 0x32, 0x3b, 0x45, 0x38, 0x85, 0xf5, 0x18, 0x1f, 0x1b, 0x62, 0x4d, 0x0b];
const SHA256: &str = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

async fn put(s3: &S3, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    send(s3, Method::PUT, &format!("/{BUCKET}/a"), headers, body).await
}

#[tokio::test]
async fn sums_that_are_sent_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    for (name, sum) in [
        ("x-amz-checksum-crc32", 0xcbf4_3926_u32.to_be_bytes().to_vec()),
        ("x-amz-checksum-crc32c", 0xe306_9283_u32.to_be_bytes().to_vec()),
        ("x-amz-checksum-crc64nvme", 0xae8b_1486_0a79_9888_u64.to_be_bytes().to_vec()),
        ("x-amz-checksum-sha1", bytes_of("f7c3bc1d808e04732adf679965ccc34ca7ae3441")),
        ("x-amz-checksum-sha256", bytes_of(SHA256)),
        ("content-md5", MD5.to_vec()),
    ] {
        let right = STANDARD.encode(&sum);
        let written = put(&s3, &[(name, &right)], DIGITS).await;
        assert_eq!(written.status, 200, "{name}: {written:?}");
        if name != "content-md5" {
            assert_eq!(written.header(name), Some(right.as_str()));
            let enabled = [("x-amz-checksum-mode", "ENABLED")];
            let read = send(&s3, Method::GET, &format!("/{BUCKET}/a"), &enabled, Body::empty()).await;
            assert_eq!(read.header(name), Some(right.as_str()));
            assert_eq!(get(&s3, "a").await.header(name), None);
        }
        let changed = put(&s3, &[(name, &right)], "123456780").await;
        assert_eq!((changed.status, changed.code().as_str()), (400, "BadDigest"), "{name}");
        let code = if name == "content-md5" { "InvalidDigest" } else { "InvalidRequest" };
        assert_eq!(put(&s3, &[(name, "bm8=")], DIGITS).await.code(), code, "{name}");
        assert_eq!(get(&s3, "a").await.text(), DIGITS, "what was refused changed nothing");
    }
    assert_eq!(put(&s3, &[("x-amz-content-sha256", SHA256)], DIGITS).await.status, 200);
    let changed = put(&s3, &[("x-amz-content-sha256", SHA256)], "123456780").await;
    assert_eq!((changed.status, changed.code().as_str()), (400, "XAmzContentSHA256Mismatch"));
}

/// As the SDKs send a body that is to be checked behind itself.
async fn put_chunked(s3: &S3, framed: &str, decoded_bytes: &str, cuts: usize) -> Answer {
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", decoded_bytes),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("content-encoding", "gzip,aws-chunked"),
    ];
    let pieces: Vec<_> =
        framed.as_bytes().chunks(cuts).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    put(s3, &headers, Body::from_stream(stream::iter(pieces))).await
}

#[tokio::test]
async fn a_body_in_frames_is_what_is_in_them_wherever_it_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let sum = STANDARD.encode(0xcbf4_3926_u32.to_be_bytes());
    let framed = format!("4\r\n1234\r\n5;chunk-signature=00\r\n56789\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n");
    for cuts in [1, 2, 3, 7, 1000] {
        let written = put_chunked(&s3, &framed, "9", cuts).await;
        assert_eq!((written.status, written.header("x-amz-checksum-crc32")), (200, Some(sum.as_str())), "{written:?}");
        let read = get(&s3, "a").await;
        assert_eq!((read.text().as_str(), read.header("content-encoding")), (DIGITS, Some("gzip")));
    }
    let wrong = framed.replace("56789", "56780");
    assert_eq!(put_chunked(&s3, &wrong, "9", 5).await.code(), "BadDigest");
    let without = "9\r\n123456789\r\n0\r\n\r\n";
    assert_eq!(put_chunked(&s3, without, "9", 5).await.code(), "InvalidRequest");
    for broken in [
        "",
        "9",
        "9\r\n1234",
        "9\r\n123456789",
        "9\r\n123456789\r\n",
        "8\r\n123456789\r\n0\r\n\r\n",
        "x\r\n123456789\r\n0\r\n\r\n",
        "-1\r\n123456789\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n1\r\n0\r\n\r\n",
        "9\r\n123456789\r\n0\r\n: \r\n\r\n",
        &"1".repeat(10_000),
    ] {
        let answer = put_chunked(&s3, broken, "9", 4).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "IncompleteBody"), "{broken:.40}");
    }
    assert_eq!(put_chunked(&s3, &framed, "8", 5).await.code(), "IncompleteBody");
    assert_eq!(put_chunked(&s3, &framed, "10", 5).await.code(), "IncompleteBody");
    assert_eq!(get(&s3, "a").await.text(), DIGITS);
}

#[tokio::test]
async fn a_body_is_as_long_as_its_headers_say_or_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    assert_eq!(put(&s3, &[("content-length", "10")], DIGITS).await.code(), "IncompleteBody");
    assert_eq!(put(&s3, &[("content-length", "8")], DIGITS).await.code(), "IncompleteBody");
    assert_eq!(put(&s3, &[("content-length", "6000000000")], DIGITS).await.code(), "EntityTooLarge");
    let unknown = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"1"))]));
    let refused = put(&s3, &[], unknown).await;
    assert_eq!((refused.status, refused.code().as_str()), (411, "MissingContentLength"));
    let broken = [Ok(Bytes::from_static(b"1")), Err(std::io::Error::other("gone"))];
    let refused = put(&s3, &[("content-length", "9")], Body::from_stream(stream::iter(broken))).await;
    assert_eq!(refused.code(), "IncompleteBody");
    assert_eq!(get(&s3, "a").await.status, 404);
    assert_eq!(directory.path().join(".state/staging").read_dir().unwrap().count(), 0);
}
