//! Large objects: their parts, what killed writers leave of them.

use kinesink_core::Emitter as _;

use super::service::{BEGUN, DONE, Service, fine, in_parts, reply, told, xml};
use super::{batch, items, source};
use crate::s3::{LeftUploads, S3Emitter};

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
    let failure = in_parts(&service).emit(&batch(&source, &items)).await.unwrap_err();
    assert!(failure.message.contains("begin") || failure.message.contains("part"), "{failure}");
    let lists = super::service::told(&service).iter().filter(|request| request.contains("key-marker=")).count();
    assert_eq!(lists, 99);
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
