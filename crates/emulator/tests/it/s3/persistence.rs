use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use axum::body::Body;
use http::Method;
use kinesink_emulator::S3;
use proptest::prelude::*;

use super::multipart::{completion, create_upload, upload_part};
use super::{BUCKET, elements, get, put, send, temporary, with_bucket};

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn keys(s3: &S3) -> Vec<String> {
    let listed = send(s3, Method::GET, &format!("/{BUCKET}?list-type=2"), &[], Body::empty()).await;
    elements(&listed.text(), "Key")
}

/// Files and folders below, apart from the lock.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in next.read_dir().unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_known_of_an_object_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let path = format!("/{BUCKET}/a/b");
    let before = send(&s3, Method::PUT, &path, &[("x-amz-meta-count", "7")], "text").await;
    let before_modified = get(&s3, "a/b").await.header("last-modified").unwrap().to_owned();
    drop(s3);
    let s3 = S3::in_directory(directory.path()).unwrap();
    let after = get(&s3, "a/b").await;
    assert_eq!(after.text(), "text");
    assert_eq!(after.header("etag"), before.header("etag"));
    assert_eq!(after.header("x-amz-meta-count"), Some("7"));
    assert_eq!(after.header("last-modified"), Some(before_modified.as_str()));
    assert_eq!(send(&s3, Method::PUT, &path, &[("if-none-match", "*")], "other").await.status, 412);
}

#[tokio::test]
async fn an_upload_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let upload = create_upload(&s3, "a", &[("x-amz-meta-count", "7")]).await;
    let etag = upload_part(&s3, "a", &upload, 2, "part").await;
    drop(s3);
    let s3 = S3::in_directory(directory.path()).unwrap();
    let path = format!("/{BUCKET}/a?uploadId={upload}");
    let completed = send(&s3, Method::POST, &path, &[], completion(&[(2, &etag)])).await;
    assert_eq!(completed.status, 200, "{completed:?}");
    let read = get(&s3, "a").await;
    assert_eq!((read.text().as_str(), read.header("x-amz-meta-count")), ("part", Some("7")));
}

#[tokio::test]
async fn files_of_other_programs_are_objects_after_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(BUCKET).join("2026");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.json"), "{}").unwrap();
    let s3 = S3::in_directory(directory.path()).unwrap();
    assert_eq!(keys(&s3).await, ["2026/a.json"]);
    assert_eq!(get(&s3, "2026/a.json").await.text(), "{}");
    let path = format!("/{BUCKET}/2026/a.json");
    assert_eq!(send(&s3, Method::PUT, &path, &[("if-none-match", "*")], "other").await.status, 412);
    // One that is changed or removed under its feet is what it is then.
    fs::write(folder.join("a.json"), "{\"changed\": 1}").unwrap();
    assert_eq!(get(&s3, "2026/a.json").await.text(), "{\"changed\": 1}");
    fs::remove_file(folder.join("a.json")).unwrap();
    assert_eq!(get(&s3, "2026/a.json").await.code(), "NoSuchKey");
    assert!(keys(&s3).await.is_empty());
}

#[tokio::test]
async fn a_file_that_another_program_put_there_meanwhile_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let file = directory.path().join(BUCKET).join("a");
    fs::write(&file, "theirs").unwrap();
    assert_eq!(put(&s3, "a", "ours").await.status, 200);
    assert_eq!(get(&s3, "a").await.text(), "ours");
    assert_eq!(fs::read(&file).unwrap(), b"theirs");
}

#[tokio::test]
async fn what_a_killed_process_left_is_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    put(&s3, "a", "first").await;
    let state = directory.path().join(".state");
    let heads = state.join("buckets").join(BUCKET).join("heads");
    let first = heads.read_dir().unwrap().next().unwrap().unwrap().path();
    let kept = fs::read(&first).unwrap();
    put(&s3, "a", "second").await;
    drop(s3);
    // Killed before the file of the first got its place, or before what it replaced was removed.
    fs::write(&first, kept).unwrap();
    fs::write(state.join("staging/half"), "fir").unwrap();
    fs::write(state.join("buckets").join(BUCKET).join("aside/unpublished"), "never").unwrap();
    let s3 = S3::in_directory(directory.path()).unwrap();
    assert_eq!(keys(&s3).await, ["a"]);
    assert_eq!(get(&s3, "a").await.text(), "second");
    assert_eq!(heads.read_dir().unwrap().count(), 1);
    assert_eq!(files(&state.join("staging")).len() + files(&state.join("buckets").join(BUCKET).join("aside")).len(), 0);
}

#[tokio::test]
async fn a_directory_has_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = with_bucket(directory.path());
    let second = S3::in_directory(directory.path()).unwrap_err().to_string();
    assert!(second.contains("another process uses it"), "{second}");
    drop(first);
    S3::in_directory(directory.path()).unwrap();
}

#[tokio::test]
async fn a_head_that_was_damaged_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    put(&s3, "a", "text").await;
    drop(s3);
    let heads = directory.path().join(".state/buckets").join(BUCKET).join("heads");
    let head = heads.read_dir().unwrap().next().unwrap().unwrap().path();
    fs::write(&head, "{").unwrap();
    let error = S3::in_directory(directory.path()).unwrap_err().to_string();
    assert!(error.contains(head.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_temporary_one_leaves_nothing() {
    let s3 = temporary();
    assert_eq!(put(&s3, "a", "text").await.status, 200);
    assert_eq!(get(&s3, "a").await.text(), "text");
    let shown = format!("{s3:?}");
    let directory = shown.split("root: \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(Path::new(directory).join(BUCKET).join("a").is_file());
    drop(s3);
    assert!(!Path::new(directory).exists());
}

#[derive(Debug, Clone)]
enum Step {
    Put(String, u8),
    Create(String, u8),
    Delete(String),
    Restart,
}

/// Keys that are no file names, or in the way of each other, or of what is kept beside the objects.
fn key() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", ".", "..", "", ".state", "staging", "a\u{0}", "heads"]);
    let long = Just("l".repeat(300));
    prop_oneof![
        9 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/")).prop_filter("none", |key| !key.is_empty()),
        1 => long,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (key(), any::<u8>()).prop_map(|(key, body)| Step::Put(key, body)),
        2 => (key(), any::<u8>()).prop_map(|(key, body)| Step::Create(key, body)),
        3 => key().prop_map(Step::Delete),
        1 => Just(Step::Restart),
    ]
}

async fn apply(s3: &S3, model: &mut BTreeMap<String, String>, step: Step) {
    let path = |key: &str| format!("/{BUCKET}/{}", percent(key));
    match step {
        Step::Put(key, body) => {
            let body = body.to_string();
            assert_eq!(send(s3, Method::PUT, &path(&key), &[], body.clone()).await.status, 200, "{key:?}");
            model.insert(key, body);
        }
        Step::Create(key, body) => {
            let body = body.to_string();
            let only = [("if-none-match", "*")];
            let status = send(s3, Method::PUT, &path(&key), &only, body.clone()).await.status;
            assert_eq!(status, if model.contains_key(&key) { 412 } else { 200 }, "{key:?}");
            model.entry(key).or_insert(body);
        }
        Step::Delete(key) => {
            assert_eq!(send(s3, Method::DELETE, &path(&key), &[], Body::empty()).await.status, 204, "{key:?}");
            model.remove(&key);
        }
        Step::Restart => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_key_is_a_key_and_stays_one_over_restarts(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut s3 = with_bucket(directory.path());
            let mut model = BTreeMap::new();
            for step in steps.into_iter().chain([Step::Restart]) {
                let is_restart = matches!(step, Step::Restart);
                apply(&s3, &mut model, step).await;
                if is_restart {
                    drop(s3);
                    s3 = S3::in_directory(directory.path()).unwrap();
                }
                let path = format!("/{BUCKET}?list-type=2&encoding-type=url");
                let listed = send(&s3, Method::GET, &path, &[], Body::empty()).await;
                let listed = elements(&listed.text(), "Key").len();
                assert_eq!(listed, model.len());
                for (key, body) in &model {
                    assert_eq!(get(&s3, &percent(key)).await.text(), *body, "{key:?}");
                }
            }
            let names: Vec<_> = model.keys().map(|key| percent(key)).collect();
            for name in names {
                send(&s3, Method::DELETE, &format!("/{BUCKET}/{name}"), &[], Body::empty()).await;
            }
            // Not a file, and not a folder, is left of what is gone.
            assert_eq!(files(directory.path()), [".state/lock"]);
            assert_eq!(send(&s3, Method::DELETE, &format!("/{BUCKET}"), &[], Body::empty()).await.status, 204);
        });
    }
}
