//! The sink on a directory.

use std::fs;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kinesink_core::testkit::{EmitterPromises, emitter_contract};
use kinesink_core::{Class, Emitter as _};

use super::{batch, items, source};
use crate::Location;
use crate::s3::error::disk;
use crate::s3::{Compression, Format, KeySettings, KeyTemplate, Naming, S3Config, S3Emitter};

const NAME: &str = "00000000000000000000000000000000000000000000000000000001.00000000-\
                    00000000000000000000000000000000000000000000000000000002.00000000.ndjson";

fn config(directory: &Path) -> S3Config {
    S3Config::new(Location::Directory(directory.into()))
}

/// Every file below that readers see, by path from `directory`, in the order of a listing.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            let name = path.strip_prefix(directory).unwrap().to_path_buf();
            match fs::read(&path) {
                Ok(content) => found.push((name, content)),
                // A put that was dropped goes on in the background and removes its staging file at any time.
                Err(error) => assert!(error.kind() == io::ErrorKind::NotFound && is_staging(&name), "{error}"),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_window_becomes_one_file_and_sending_it_again_changes_nothing() {
    for (format, compression) in
        [(Format::Ndjson, Compression::None), (Format::Ndjson, Compression::Gzip), (Format::Raw, Compression::None)]
    {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(&directory.path().join("not/yet"));
        (config.format, config.compression) = (format, compression);
        let sink = S3Emitter::open(config).unwrap();
        let (source, items) = (source(), items(&[b"one", b"two"]));
        assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
        let written = files(directory.path());
        assert_eq!(written.len(), 1);
        assert!(written[0].0.starts_with("not/yet/orders/shardId-000000000003"));
        assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
        assert_eq!(files(directory.path()), written);
    }
}

/// A file is on its way to an object.
fn is_staging(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains('#'))
}

/// The lines of every object, in listing order.
fn lines(directory: &Path) -> Vec<Bytes> {
    let mut lines = Vec::new();
    for (path, content) in files(directory) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                let decoder = flate2::bufread::GzDecoder::new(content.as_slice());
                lines.extend(io::BufReader::new(decoder).split(b'\n').map(Result::unwrap));
            }
            Some("ndjson") => lines.extend(
                content.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap().to_vec()),
            ),
            _ => assert!(is_staging(&path), "{path:?}"),
        }
    }
    lines.into_iter().map(Bytes::from).collect()
}

#[tokio::test]
async fn it_keeps_the_contract_of_emitters() {
    for (compression, naming) in [
        (Compression::None, Naming::Positions),
        (Compression::Gzip, Naming::Positions),
        (Compression::None, Naming::Unique),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path());
        (config.compression, config.naming) = (compression, naming);
        let sink = S3Emitter::open(config).unwrap();
        let unique = naming == Naming::Unique;
        let promises = EmitterPromises { ordered: !unique, idempotent: !unique };
        emitter_contract(&sink, promises, |record| record.data.clone(), async || lines(directory.path()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_file_is_plain_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    let (source, items) = (source(), items(&[b"one", b"two"]));
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    let path = PathBuf::from("orders/shardId-000000000003").join(NAME);
    assert_eq!(files(directory.path()), [(path, b"one\ntwo\n".to_vec())]);
}

#[tokio::test]
async fn an_object_with_other_content_is_kept_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    let source = source();
    assert_eq!(sink.emit(&batch(&source, &items(&[b"one", b"two"]))).await.unwrap().exceptions(), []);
    let before = files(directory.path());
    let failure = sink.emit(&batch(&source, &items(&[b"one", b"TWO"]))).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration);
    let path = directory.path().display().to_string();
    for part in [&*path, NAME, "records 1.0 to 2.0 of shardId-000000000003", "move it away"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert_eq!(files(directory.path()), before);
}

/// Two writers find no object; the second says what it will hold, the first links its own.
#[tokio::test]
async fn an_object_is_not_taken_for_what_another_writer_said_of_it() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, ours, theirs) = (source(), items(&[b"one", b"two"]), items(&[b"one", b"TWO"]));
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    assert_eq!(sink.emit(&batch(&source, &ours)).await.unwrap().exceptions(), []);
    let second = S3Emitter::open(config(elsewhere.path())).unwrap();
    assert_eq!(second.emit(&batch(&source, &theirs)).await.unwrap().exceptions(), []);
    let label = |root: &Path| root.join(format!("orders/shardId-000000000003/.{NAME}.json"));
    let said = fs::read(label(directory.path())).unwrap();
    fs::copy(label(elsewhere.path()), label(directory.path())).unwrap();

    let failure = sink.emit(&batch(&source, &theirs)).await.unwrap_err();
    assert_eq!(failure.class, Class::Configuration, "its records are nowhere: {failure}");
    assert_eq!(sink.emit(&batch(&source, &ours)).await.unwrap().exceptions(), []);
    assert_eq!(fs::read(label(directory.path())).unwrap(), said, "it says again what the object holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_that_race_with_other_content_one_has_delivered() {
    for _ in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let writer = async |number: u8| {
            let sink = S3Emitter::open(config(directory.path())).unwrap();
            let (source, items) = (source(), items(&[b"one", &[b'a' + number]]));
            sink.emit(&batch(&source, &items)).await
        };
        let raced = futures::future::join_all((0..4).map(&writer)).await;
        let [(_, content)] = &files(directory.path())[..] else { panic!("one object") };
        for number in 0..4 {
            let is_there = content[4] == b'a' + number;
            // The writer of the object may have been disturbed by another, and is told at its next attempt.
            assert!(is_there || raced[usize::from(number)].is_err(), "its records are nowhere");
            let again = writer(number).await;
            assert_eq!(again.is_ok(), is_there, "{again:?}");
        }
    }
}

#[tokio::test]
async fn names_that_differ_by_a_dot_have_labels_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let (source, items) = (source(), items(&[b"one"]));
    for template in ["x-{first}", ".x-{first}"] {
        let settings = KeySettings { template: template.into(), ..KeySettings::default() };
        let key = KeyTemplate::new(settings).unwrap();
        let sink = S3Emitter::open(S3Config { key, ..config(directory.path()) }).unwrap();
        assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "two objects, and of each what it holds");
}

#[tokio::test]
async fn records_whose_fields_make_the_longest_names_have_objects() {
    let directory = tempfile::tempdir().unwrap();
    let settings = KeySettings { template: "{.a}/{.a}-{.b}-{first}".into(), ..KeySettings::default() };
    let key = KeyTemplate::new(settings).unwrap();
    let (format, compression) = (Format::LengthDelimited, Compression::Zstd);
    let config = S3Config { key, format, compression, naming: Naming::Replay { round: 1 }, ..config(directory.path()) };
    let sink = S3Emitter::open(config).unwrap();
    let value = |a: usize, b: usize| format!("{{\"a\":\"{}\",\"b\":\"{}\"}}", "x".repeat(a), "y".repeat(b));
    let values = [value(1, 1), value(1, 152), value(1, 153), value(200, 200), value(200, 1)];
    let items = items(&values.each_ref().map(|value| value.as_bytes()));
    let source = source();
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert_eq!(files(directory.path()).len(), 3, "each that fits, and one of the rest");
}

#[tokio::test]
async fn unique_names_never_meet() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.naming = Naming::Unique;
    let sink = S3Emitter::open(config).unwrap();
    let (source, items) = (source(), items(&[b"one"]));
    for _ in 0..3 {
        assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    }
    assert_eq!(files(directory.path()).len(), 3);
}

#[tokio::test]
async fn a_window_with_nothing_to_write_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    let (source, items) = (source(), items(&[b"not\njson", b"nor\nthis"]));
    let emitted = sink.emit(&batch(&source, &items)).await.unwrap();
    assert_eq!(emitted.exceptions().len(), 2);
    assert_eq!(files(directory.path()), []);
}

#[tokio::test]
async fn the_key_does_not_depend_on_what_is_still_unsettled() {
    let directory = tempfile::tempdir().unwrap();
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    let (source, items) = (source(), items(&[b"one", b"two"]));
    let mut rest = batch(&source, &items);
    rest.items.remove(0);
    assert_eq!(sink.emit(&rest).await.unwrap().exceptions(), []);
    let written = files(directory.path());
    assert_eq!(written[0].0.file_name().unwrap(), NAME);
    assert_eq!(written[0].1, b"two\n");
}

#[tokio::test]
async fn staging_files_left_by_kills_go_with_the_window_that_is_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let shard = directory.path().join("orders/shardId-000000000003");
    fs::create_dir_all(&shard).unwrap();
    for number in [1, 2] {
        fs::write(shard.join(format!(".{NAME}#{number}")), "on").unwrap();
    }
    let neighbour = format!(".{}#1", NAME.replace('2', "3"));
    fs::write(shard.join(&neighbour), "o").unwrap();
    let sink = S3Emitter::open(config(directory.path())).unwrap();
    let (source, items) = (source(), items(&[b"one", b"two"]));
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert_eq!(fs::read(shard.join(NAME)).unwrap(), b"one\ntwo\n");
    let left = || {
        let mut names: Vec<_> = fs::read_dir(&shard).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let label = format!(".{NAME}.json");
    assert_eq!(left(), [label.as_str(), &neighbour, NAME], "another window's may be a live writer's");
    // Met again as it is, it is the same.
    fs::write(shard.join(format!(".{NAME}#1")), "one\ntwo\n").unwrap();
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert_eq!(left().len(), 3);
}

#[tokio::test]
async fn names_that_look_like_paths_stay_below_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("odd name #1 %41");
    let sink = S3Emitter::open(config(&root)).unwrap();
    sink.check().await.unwrap();
    let mut source = source();
    source.stream = "..".parse().unwrap();
    let items = items(&[b"one", b"two"]);
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(files(&root).len(), 1);
}

#[tokio::test]
async fn check_creates_the_directory_and_leaves_nothing_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b");
    S3Emitter::open(config(&root)).unwrap().check().await.unwrap();
    assert!(root.is_dir());
    assert_eq!(files(directory.path()), []);
}

#[tokio::test]
async fn what_is_in_the_way_of_the_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let (source, items) = (source(), items(&[b"one"]));
    for place in [file.clone(), file.join("orders")] {
        let sink = S3Emitter::open(config(&place)).unwrap();
        for failure in [sink.check().await.unwrap_err(), sink.emit(&batch(&source, &items)).await.unwrap_err()] {
            assert_eq!(failure.class, Class::Configuration, "{failure}");
            assert!(failure.message.contains(place.to_str().unwrap()), "{failure}");
            assert!(failure.message.ends_with("move what is in the way, or mend the url"), "{failure}");
        }
    }
}

/// A full and a read-only disk need a mount; the end-to-end tests have one. Here is what their error numbers mean.
#[test]
fn disk_errors_are_judged_by_their_kind() {
    let cases = [
        (28, Class::Transient, "no space left"),
        (122, Class::Transient, "no space left"),
        (13, Class::Configuration, "let this user write there"),
        (1, Class::Configuration, "let this user write there"),
        (30, Class::Configuration, "let this user write there"),
        (17, Class::Configuration, "in the way"),
        (20, Class::Configuration, "in the way"),
        (24, Class::Transient, "os error 24"),
        (5, Class::Transient, "os error 5"),
    ];
    for (number, class, text) in cases {
        let failure = disk("write /data/x", &io::Error::from_raw_os_error(number));
        assert_eq!(failure.class, class, "{number}: {failure}");
        assert!(failure.message.starts_with("cannot write /data/x: "), "{failure}");
        assert!(failure.message.contains(text), "{number}: {failure}");
    }
}
