use axum::body::Body;
use bytes::Bytes;
use http::Method;
use object_store::path::Path;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode};
use tokio::task::JoinSet;

use super::multipart::{completion, create_upload, upload_part};
use super::{BUCKET, get, put, send, serve, temporary, with_bucket};

const ROUNDS: usize = 30;
const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_that_create_one_object_one_wins_and_it_is_that_ones() {
    let served = serve().await;
    let client = served.client();
    for round in 0..ROUNDS {
        let key = Path::from(format!("race/{round}"));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, key) = (client.clone(), key.clone());
            writers.spawn(async move {
                let body = Bytes::from(format!("{writer:02}").repeat(5000));
                match client.put_opts(&key, body.into(), PutMode::Create.into()).await {
                    Ok(_) => Some(writer),
                    Err(Error::AlreadyExists { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            });
        }
        let winners: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let stored = client.get(&key).await.unwrap().bytes().await.unwrap();
        assert_eq!(stored, format!("{:02}", winners[0]).repeat(5000), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_that_complete_an_upload_to_one_key_one_wins_and_it_is_that_ones() {
    // Waiting for the disk, all have looked before the first has its place.
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    for round in 0..ROUNDS / 3 {
        let key = format!("race/{round}");
        let mut uploads = Vec::new();
        for writer in 0..WRITERS {
            let upload = create_upload(&s3, &key, &[]).await;
            let etag = upload_part(&s3, &key, &upload, 1, format!("{writer:02}").repeat(5000)).await;
            uploads.push((upload, completion(&[(1, &etag)])));
        }
        let mut writers = JoinSet::new();
        for (writer, (upload, body)) in uploads.into_iter().enumerate() {
            let (s3, path) = (s3.clone(), format!("/{BUCKET}/{key}?uploadId={upload}"));
            writers.spawn(async move {
                let answer = send(&s3, Method::POST, &path, &[("if-none-match", "*")], body).await;
                let is_won = answer.status == 200 && answer.code().is_empty();
                assert!(is_won || (answer.status, answer.code().as_str()) == (412, "PreconditionFailed"), "{answer:?}");
                is_won.then_some(writer)
            });
        }
        let winners: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(get(&s3, &key).await.text(), format!("{:02}", winners[0]).repeat(5000), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_and_completions_that_race_have_one_winner_too() {
    let s3 = temporary();
    for round in 0..ROUNDS {
        let key = format!("race/{round}");
        let upload = create_upload(&s3, &key, &[]).await;
        let etag = upload_part(&s3, &key, &upload, 1, "upload").await;
        let path = format!("/{BUCKET}/{key}?uploadId={upload}");
        let only = [("if-none-match", "*")];
        let object = format!("/{BUCKET}/{key}");
        let (put, completed) = tokio::join!(
            send(&s3, Method::PUT, &object, &only, "put"),
            send(&s3, Method::POST, &path, &only, completion(&[(1, &etag)])),
        );
        let expected = match (put.status, completed.status) {
            (200, 412) => "put",
            (412, 200) => "upload",
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!(get(&s3, &key).await.text(), expected);
    }
}

#[tokio::test]
async fn an_update_with_an_etag_holds_only_while_that_is_the_objects() {
    let served = serve().await;
    let client = served.client();
    let key = Path::from("counter");
    let first = client.put(&key, "1".into()).await.unwrap();
    client.put_opts(&key, "2".into(), PutMode::Update(first.clone().into()).into()).await.unwrap();
    let late = client.put_opts(&key, "3".into(), PutMode::Update(first.into()).into()).await.unwrap_err();
    assert!(matches!(late, Error::Precondition { .. }), "{late:?}");
    assert_eq!(client.get(&key).await.unwrap().bytes().await.unwrap(), "2");
    let absent = send(&served.s3, Method::PUT, &format!("/{BUCKET}/none"), &[("if-match", "\"other\"")], "1").await;
    assert_eq!((absent.status, absent.code().as_str()), (404, "NoSuchKey"));
}

#[tokio::test]
async fn what_a_read_depends_on_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let etag = put(&s3, "a", "text").await.header("etag").unwrap().to_owned();
    let (past, future) = ("Thu, 01 Jan 2015 00:00:00 GMT", "Wed, 01 Jan 2110 00:00:00 GMT");
    for (headers, status) in [
        (vec![("if-match", etag.as_str())], 200),
        (vec![("if-match", "\"other\"")], 412),
        (vec![("if-none-match", etag.as_str())], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (vec![("if-modified-since", past)], 200),
        (vec![("if-modified-since", future)], 304),
        (vec![("if-unmodified-since", past)], 412),
        (vec![("if-unmodified-since", future)], 200),
        // The first of each pair has the say.
        (vec![("if-match", etag.as_str()), ("if-unmodified-since", past)], 200),
        (vec![("if-none-match", etag.as_str()), ("if-modified-since", past)], 304),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = send(&s3, method, &format!("/{BUCKET}/a"), &headers, Body::empty()).await;
            assert_eq!(answer.status, status, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn an_object_is_removed_only_if_its_etag_is_the_one() {
    let directory = tempfile::tempdir().unwrap();
    let s3 = with_bucket(directory.path());
    let etag = put(&s3, "a", "text").await.header("etag").unwrap().to_owned();
    let path = format!("/{BUCKET}/a");
    let remove = async |etag: &str| send(&s3, Method::DELETE, &path, &[("if-match", etag)], Body::empty()).await.status;
    assert_eq!(remove("\"other\"").await, 412);
    assert_eq!(get(&s3, "a").await.status, 200);
    assert_eq!(remove(&etag).await, 204);
    assert_eq!(get(&s3, "a").await.code(), "NoSuchKey");
}
