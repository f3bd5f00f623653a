//! What each request to a bucket says of itself, and what becomes of an object where a request is refused.

use kinesink_core::{Class, Emitter as _};

use super::service::{
    BEGUN, DONE, ETAG, LEFT, Reply, Service, absent, fine, in_parts, metadata, nothing, reply, told, xml,
};
use super::{batch, items, source};
use crate::s3::{S3Emitter, S3Reader};

const OWNER: &str = "x-amz-expected-bucket-owner: 123456789012\r\n";
const KEPT: [&str; 3] = [
    "x-amz-server-side-encryption: aws:kms\r\n",
    "x-amz-server-side-encryption-aws-kms-key-id: alias/orders\r\n",
    // With it, KMS is asked for the bucket's key, in the bucket's name: a key's policy may let nothing else through.
    "x-amz-server-side-encryption-bucket-key-enabled: true\r\n",
];

/// A sink whose bucket is another account's, and encrypts with a key; what is larger goes in parts of six bytes.
fn kept(service: &Service, put_bytes_max: usize) -> S3Emitter {
    let mut config = service.config();
    (config.bucket.put_bytes_max, config.bucket.part_bytes) = (put_bytes_max, 6);
    config.bucket.owner = Some("123456789012".into());
    config.bucket.kms_key = Some("alias/orders".into());
    S3Emitter::open(config).unwrap()
}

#[tokio::test]
async fn each_request_names_the_buckets_owner_and_what_makes_an_object_its_key() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let taken = || reply(412, "PreconditionFailed");
    let mut seen = Vec::new();

    let service = Service::start(vec![fine()]).await;
    kept(&service, 10).check().await.unwrap();
    seen.extend(service.requests());

    let service = Service::start(vec![taken(), fine()]).await;
    let _occupied = kept(&service, 100).emit(&batch(&source, &items)).await.unwrap_err();
    seen.extend(service.requests());

    let service = Service::start(vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), taken(), fine(), fine()]).await;
    let _occupied = kept(&service, 10).emit(&batch(&source, &items)).await.unwrap_err();
    seen.extend(service.requests());

    let service = Service::start(vec![xml("<ListBucketResult></ListBucketResult>"), fine()]).await;
    let mut config = service.config();
    config.bucket.owner = Some("123456789012".into());
    let reader = S3Reader::open(&config).unwrap();
    reader.windows().await.unwrap();
    reader.read("orders/key", 0..1).await.unwrap();
    seen.extend(service.requests());

    assert_eq!(seen.len(), 3 + 2 + 8 + 2);
    for head in seen.iter().map(|head| format!("{}\r\n", head.to_lowercase())) {
        assert!(head.contains(OWNER), "{head}");
        let makes_object = (head.starts_with("put ") && !head.contains("partnumber=")) || head.contains("?uploads ");
        let makes_object = makes_object && !head.starts_with("get ");
        for header in KEPT {
            assert_eq!(head.contains(header), makes_object, "{header} in {head}");
        }
    }
}

/// The sums are those of `zlib.crc32`.
#[tokio::test]
async fn puts_and_parts_carry_a_crc_of_their_bytes_and_a_completion_those_of_its_parts() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let sum = |text: &'static str, crc32: &'static str| (text, format!("x-amz-checksum-crc32:{crc32}"));
    let carries = |body: &str, (text, sum): &(&str, String)| body.contains(text) && body.contains(sum);

    let service = Service::start(vec![fine()]).await;
    let _done = service.sink().emit(&batch(&source, &items)).await.unwrap();
    assert!(carries(&service.bodies()[0], &sum("hello\nworld\n", "xMVd/w==")), "{:?}", service.bodies());

    let part = |crc32: &str| {
        let headers = format!("{ETAG}x-amz-checksum-crc32: {crc32}\r\n");
        Reply { headers, ..fine() }
    };
    let begun = [xml(LEFT), absent(), xml(BEGUN)];
    let replies = begun.into_iter().chain([part("AAAAAA=="), part("BBBBBB=="), xml(DONE)]).collect();
    let service = Service::start(replies).await;
    let _done = in_parts(&service).emit(&batch(&source, &items)).await.unwrap();
    let bodies = service.bodies();
    for part in [sum("hello\n", "NjowIA=="), sum("world\n", "3ThhqA==")] {
        assert!(bodies[3..5].iter().any(|body| carries(body, &part)), "{bodies:?}");
    }
    for answered in ["<ChecksumCRC32>AAAAAA==</ChecksumCRC32>", "<ChecksumCRC32>BBBBBB==</ChecksumCRC32>"] {
        assert!(bodies[5].contains(answered), "{}", bodies[5]);
    }
}

#[tokio::test]
async fn a_completion_that_fails_in_a_reply_of_success_is_tried_again() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    for code in ["InternalError", "SlowDown", "ConditionalRequestConflict"] {
        let begun = [xml(LEFT), absent(), xml(BEGUN), fine(), fine()];
        let service = Service::start(begun.into_iter().chain([reply(200, code), fine()]).collect()).await;
        let failure = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Transient, "{failure}");
        assert!(failure.message.contains("complete s3://my-bucket/") && failure.message.contains(code), "{failure}");
        let told = told(&service);
        assert_eq!(told.len(), 7, "{told:?}");
        assert!(told[6].starts_with("DELETE ") && told[6].contains("uploadId=u7"), "{told:?}");
    }
}

/// A success counted as written, whoever had answered.
#[tokio::test]
async fn a_success_without_what_s3_says_in_one_counts_as_nothing_written() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let page = || Reply { body: b"<html><body>Log in</body></html>".into(), ..nothing() };
    let no_tag = || Reply { body: b"<CompleteMultipartUploadResult/>".into(), ..nothing() };
    for (replies, step) in [
        (vec![nothing()], "write"),
        (vec![page()], "write"),
        (vec![nothing(), absent()], "write"),
        (vec![xml(LEFT), absent(), nothing()], "begin"),
        (vec![xml(LEFT), absent(), page()], "begin"),
        (vec![xml(LEFT), absent(), xml(BEGUN), nothing()], "send part"),
        (vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), nothing()], "complete"),
        (vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), page()], "complete"),
        (vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), no_tag()], "complete"),
    ] {
        let service = Service::start(replies).await;
        let sink = if step == "write" { service.sink() } else { in_parts(&service) };
        let failure = sink.emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration, "{failure}");
        assert!(failure.message.starts_with(&format!("cannot {step} ")), "{step}: {failure}");
        assert!(failure.message.contains("s3://my-bucket/orders in/{x}/"), "{step}: {failure}");
        assert!(failure.message.contains("see which proxy or login page answers"), "{step}: {failure}");
    }
    for (replies, what) in [(vec![nothing()], "write to"), (vec![fine(), nothing()], "read from")] {
        let failure = Service::start(replies).await.sink().check().await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.starts_with(&format!("cannot {what} s3://my-bucket")), "{failure}");
    }
    // It was written, and the answer is another's.
    let service = Service::start(vec![fine()]).await;
    let _done = service.sink().emit(&batch(&source, &items)).await.unwrap();
    let put = service.requests().remove(0);
    let said: Vec<(&str, &str)> =
        put.lines().filter_map(|line| line.strip_prefix("x-amz-meta-kinesink-")?.split_once(": ")).collect();
    let service = Service::start(vec![nothing(), metadata(&said)]).await;
    assert_eq!(service.sink().emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
}

#[tokio::test]
async fn an_upload_goes_on_where_others_may_not_be_listed() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let denied = reply(403, "AccessDenied");
    let service = Service::start(vec![denied, absent(), xml(BEGUN), fine(), fine(), xml(DONE)]).await;
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
}

/// Some services ask a policy whether what is there may be overwritten before they look at the condition.
#[tokio::test]
async fn where_a_policy_forbids_to_overwrite_an_object_that_is_there_counts_as_what_it_says() {
    let (source, items) = (source(), items(&[b"one", b"two"]));
    let service = Service::start(vec![fine()]).await;
    let _done = service.sink().emit(&batch(&source, &items)).await.unwrap();
    let head = service.requests().remove(0);
    let said = |name: &str| {
        let header = format!("x-amz-meta-kinesink-{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&header)).unwrap().to_owned()
    };
    let there = |digest: &str| {
        let names = ["stream", "shard", "first", "last", "count"].map(|name| (name, said(name)));
        let pairs: Vec<_> =
            names.iter().map(|(name, said)| (*name, said.as_str())).chain([("digest", digest)]).collect();
        metadata(&pairs)
    };
    let denied = || reply(403, "AccessDenied");

    let service = Service::start(vec![denied(), there(&said("digest"))]).await;
    assert_eq!(service.sink().emit(&batch(&source, &items)).await.unwrap().exceptions(), []);

    let service = Service::start(vec![denied(), there(&"0".repeat(32))]).await;
    let failure = service.sink().emit(&batch(&source, &items)).await.unwrap_err();
    assert!(failure.message.contains("exists with other content"), "{failure}");

    // Nothing is there, or nobody may know.
    for status in [404, 403] {
        let missing = Reply { status, ..fine() };
        let service = Service::start(vec![denied(), missing]).await;
        let failure = service.sink().emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration);
        assert!(failure.message.starts_with("cannot write s3://my-bucket/"), "{failure}");
        assert!(failure.message.contains("AccessDenied: because: allow s3:PutObject"), "{failure}");
    }
}
