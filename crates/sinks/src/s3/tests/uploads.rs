//! Large objects: their parts, what killed writers leave of them, and how long a request may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use kinesink_aws::credential_types::provider::SharedCredentialsProvider;
use kinesink_aws::s3::Client;
use kinesink_core::{Class, Emitter as _};
use tokio::time::Instant;

use super::service::{
    BEGUN, DONE, LEFT, Service, absent, config, credentials, fine, in_parts, metadata, reply, told, xml,
};
use super::{batch, items, source};
use crate::s3::{LeftUploads, S3Emitter};

#[tokio::test]
async fn a_large_object_goes_in_parts_and_is_completed_create_only() {
    let service = Service::start(vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), xml(DONE)]).await;
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let (requests, told) = (service.requests(), told(&service));
    assert!(told[0].starts_with("GET ") && told[0].contains("uploads"), "{told:?}");
    assert!(told[1].starts_with("HEAD "), "{told:?}");
    assert!(told[2].starts_with("POST ") && requests[2].contains("x-amz-meta-kinesink-digest: "), "{told:?}");
    // The sums of the parts count only in an upload that was begun with them.
    assert!(requests[2].contains("x-amz-checksum-algorithm: CRC32"), "{}", requests[2]);
    let mut parts = told[3..5].to_vec();
    parts.sort();
    assert!(parts[0].contains("partNumber=1") && parts[1].contains("partNumber=2"), "{told:?}");
    assert!(told[5].starts_with("POST ") && told[5].contains("uploadId=u7"), "{told:?}");
    assert!(requests[5].contains("if-none-match: *"), "{}", requests[5]);
    assert_eq!(told.len(), 6);
}

#[tokio::test]
async fn a_part_that_there_was_no_room_for_is_sent_again_and_not_the_whole_object() {
    let slow = || reply(503, "SlowDown");
    let begun = [xml(LEFT), absent(), xml(BEGUN)];
    let parts = [slow(), slow(), slow(), fine(), fine(), xml(DONE)];
    let service = Service::start(begun.into_iter().chain(parts).collect()).await;
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let told = told(&service);
    let sent = |word: &str| told.iter().filter(|request| request.contains(word)).count();
    assert_eq!((sent("partNumber="), sent("uploads"), sent("DELETE")), (5, 2, 0), "{told:?}");
}

#[tokio::test]
async fn an_upload_that_fails_or_comes_second_is_aborted() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let left = "<ListMultipartUploadsResult><Upload><Key>another</Key><UploadId>no</UploadId></Upload></ListMultipartUploadsResult>";

    // A part that is refused again and again; the other one comes through, or does not.
    let slow = std::iter::repeat_n((), 8).map(|()| reply(503, "SlowDown"));
    let service = Service::start([xml(left), absent(), xml(BEGUN)].into_iter().chain(slow).collect()).await;
    let failure = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
    assert_eq!(failure.class, Class::Transient);
    assert!(failure.message.contains("part") && failure.message.contains("SlowDown"), "{failure}");
    let told = told(&service);
    assert!(told.last().unwrap().starts_with("DELETE ") && told.last().unwrap().contains("uploadId=u7"), "{told:?}");
    assert!(!told.iter().any(|request| request.contains("uploadId=no")), "another object's upload is left alone");

    // Another writer was first; a completion may say so in a reply whose status is 200.
    for taken in [reply(412, "PreconditionFailed"), reply(200, "PreconditionFailed")] {
        let there = metadata(&[("stream", "orders")]);
        let service = Service::start(vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), taken, fine(), there]).await;
        let failure = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Configuration, "{failure}");
        assert!(failure.message.contains("exists with other content"), "{failure}");
        let told = super::service::told(&service);
        assert!(told[6].starts_with("DELETE ") && told[7].starts_with("HEAD "), "{told:?}");
    }
}

/// Counts warnings.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().starts_with("kinesink_sinks")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_warned_of_parts_that_were_not_left() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    for (aborted, warnings_wanted) in [(reply(404, "NoSuchUpload"), 0), (reply(403, "AccessDenied"), 1)] {
        let lost = reply(500, "InternalError");
        let service = Service::start(vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), lost, aborted]).await;
        let warnings = Warnings::default();
        let _until_the_end = tracing::subscriber::set_default(warnings.clone());
        let failure = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
        assert!(failure.class == Class::Transient && failure.message.contains("complete"), "{failure}");
        assert!(told(&service).last().unwrap().starts_with("DELETE "));
        assert_eq!(warnings.0.load(Ordering::Relaxed), warnings_wanted);
    }
}

#[tokio::test]
async fn every_upload_that_killed_writers_left_is_aborted_however_many_there_are() {
    const KEY: &str = "orders in/{x}/orders/shardId-000000000003/";
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let padded = |number: u8| format!("{number:0>56}.00000000");
    let key = format!("{KEY}{}-{}.ndjson", padded(1), padded(2));
    let page = |ids: &[&str], next: Option<&str>| {
        let uploads = ids.iter().map(|id| format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"));
        let more = next.map_or_else(String::new, |id| {
            format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker>\
                 <NextUploadIdMarker>{id}</NextUploadIdMarker>"
            )
        });
        xml(&format!("<ListMultipartUploadsResult>{}{more}</ListMultipartUploadsResult>", uploads.collect::<String>()))
    };
    let gone = fine;
    let replies = vec![
        page(&["a", "b"], Some("b")),
        gone(),
        gone(),
        page(&["c"], None),
        gone(),
        absent(),
        xml(BEGUN),
        fine(),
        fine(),
        xml(DONE),
    ];
    let service = Service::start(replies).await;
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let told = told(&service);
    let aborted: Vec<bool> = ["a", "b", "c"]
        .map(|id| {
            told.iter().any(|request| request.starts_with("DELETE") && request.contains(&format!("uploadId={id}")))
        })
        .into();
    assert_eq!(aborted, [true, true, true], "{told:?}");
    assert!(told[3].contains("upload-id-marker=b") && told[3].contains("key-marker="), "{told:?}");

    // One that never ends is not followed for ever.
    let service = Service::start(vec![page(&[], Some("z"))]).await;
    let _in_the_way = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
    let lists = super::service::told(&service).iter().filter(|request| request.contains("key-marker=")).count();
    assert_eq!(lists, 99);
}

/// All its parts were sent again before the completion was told that it is there.
#[tokio::test]
async fn a_large_object_that_is_there_already_is_not_sent_again() {
    let (source, items) = (source(), items(&[b"hello", b"world"]));
    let service = Service::start(vec![xml(LEFT), absent(), xml(BEGUN), fine(), fine(), xml(DONE)]).await;
    let _done = in_parts(&service).emit(&batch(&source, &items)).await.unwrap();
    let begun = service.requests().remove(2);
    let said: Vec<(&str, &str)> =
        begun.lines().filter_map(|line| line.strip_prefix("x-amz-meta-kinesink-")?.split_once(": ")).collect();

    let service = Service::start(vec![xml(LEFT), metadata(&said)]).await;
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let methods: Vec<_> =
        told(&service).iter().map(|told| told.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(methods, ["GET", "HEAD", "HEAD"]);

    // One that nobody may look at is sent.
    let service =
        Service::start(vec![xml(LEFT), reply(403, "AccessDenied"), xml(BEGUN), fine(), fine(), xml(DONE)]).await;
    assert_eq!(in_parts(&service).emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
}

#[tokio::test]
async fn a_bucket_that_keeps_uploads_of_killed_writers_is_told_the_rule_that_ends_them() {
    let rule = |status: &str, prefix: &str| {
        format!(
            "<Rule><ID>mine</ID><Status>{status}</Status><Filter><Prefix>{prefix}</Prefix></Filter>\
             <AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
        )
    };
    let rules = |rules: &str| xml(&format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>"));
    let ours = "{\"ID\": \"uploads\", \"Status\": \"Enabled\", \"Filter\": {\"Prefix\": \"orders in/{x}/\"}, \
                \"AbortIncompleteMultipartUpload\": {\"DaysAfterInitiation\": 1}}";
    serde_json::from_str::<serde_json::Value>(ours).unwrap();
    let ends = "its lifecycle rule `mine` ends uploads of killed writers after 3 days";
    let add =
        format!("no lifecycle rule ends the uploads of killed writers, which cost storage; add to its rules: {ours}");
    let make = format!(
        "no lifecycle rule ends the uploads of killed writers, which cost storage; aws s3api put-bucket-lifecycle-configuration \
         --bucket my-bucket --lifecycle-configuration '{{\"Rules\": [{ours}]}}'"
    );
    let unseen = format!(
        "whether lifecycle rules end the uploads of killed writers cannot be seen (AccessDenied for \
         s3:GetLifecycleConfiguration); one that does: {ours}"
    );
    for (answer, told) in [
        (rules(&rule("Enabled", "")), LeftUploads::Fact(ends.into())),
        (rules(&format!("{}{}", rule("Disabled", ""), rule("Enabled", "orders"))), LeftUploads::Fact(ends.into())),
        (rules(&rule("Disabled", "")), LeftUploads::Warning(add.clone())),
        (rules(&rule("Enabled", "others/")), LeftUploads::Warning(add)),
        (reply(404, "NoSuchLifecycleConfiguration"), LeftUploads::Warning(make)),
        (reply(403, "AccessDenied"), LeftUploads::Fact(unseen)),
    ] {
        assert_eq!(Service::start(vec![answer]).await.sink().left_uploads().await, Some(told));
    }
    let directory = tempfile::tempdir().unwrap();
    let place = format!("file://{}", directory.path().display()).parse().unwrap();
    assert_eq!(S3Emitter::open(crate::s3::S3Config::new(place)).unwrap().left_uploads().await, None);
}

/// A service that takes connections and never answers.
#[derive(Debug, Clone)]
struct Silent;

impl HttpConnector for Silent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(std::future::pending())
    }
}

impl HttpClient for Silent {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self)
    }
}

/// All had two minutes: a slow line could never send a large one.
#[tokio::test(start_paused = true)]
async fn a_request_has_the_time_that_its_bytes_take_over_a_slow_line() {
    const MIB: usize = 1024 * 1024;
    let mut config = config("http://127.0.0.1:1", SharedCredentialsProvider::new(credentials()));
    let client = config.client.take().unwrap();
    config.client = Some(Client::from_conf(client.config().to_builder().http_client(Silent).build()));
    let sink = S3Emitter::open(config).unwrap();
    let source = source();
    for (mib, seconds) in [(0, 120), (1, 128), (16, 248)] {
        let value = vec![b'x'; mib * MIB + 1];
        let items = items(&[&value]);
        let begun = Instant::now();
        let failure = sink.emit(&batch(&source, &items)).await.unwrap_err();
        assert_eq!(failure.class, Class::Transient);
        assert!(
            failure.message.contains("less than 128 KiB of it a second")
                && failure.message.contains("`[buffer] bytes`"),
            "{failure}"
        );
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 2), "{mib} MiB: {took:?}");
    }
}
