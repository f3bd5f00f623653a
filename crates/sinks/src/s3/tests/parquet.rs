//! The sink's Parquet files, in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kinesink_core::testkit::{EmitterPromises, emitter_contract};
use kinesink_core::{Emitter as _, Exception, Fingerprint};
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::{batch, items, source};
use crate::Location;
use crate::s3::parquet::{Codec, FileSettings, ParquetSettings, Schema};
use crate::s3::{S3Config, S3Emitter};

const DIRECTORY: &str = "orders/shardId-000000000003";

fn open(directory: &Path, columns: &str) -> S3Emitter {
    let mut config = S3Config::new(Location::Directory(directory.into()));
    let schema: Schema = columns.parse().unwrap();
    config.parquet = Some(ParquetSettings { schema, codec: Codec::Snappy, file: FileSettings::default() });
    S3Emitter::open(config).unwrap()
}

/// The files that readers see, by path.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.file_name().unwrap().to_str().unwrap().starts_with('.') => {}
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// The rows of a file as text, and its footer's keys and values.
fn read(path: &Path) -> (Vec<String>, Vec<(String, String)>) {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    (rows, pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap())).collect())
}

#[tokio::test]
async fn a_window_becomes_one_file_that_says_where_it_comes_from() {
    let directory = tempfile::tempdir().unwrap();
    let sink = open(directory.path(), "a: int64 dead-letter, .._rest");
    let (source, items) = (source(), items(&[br#"{"a":1}"#, br#"{"a":2,"b":3}"#]));
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);

    let found = files(directory.path());
    let [file] = &found[..] else { panic!("{found:?}") };
    assert!(file.starts_with(directory.path().join(DIRECTORY)));
    assert_eq!(file.extension().unwrap(), "parquet");
    let (rows, pairs) = read(file);
    assert_eq!(rows, ["{a: 1, _rest: null}", "{a: 2, _rest: \"{\"b\":3}\"}"]);
    let expected = [
        ("kinesink-stream", "orders"),
        ("kinesink-shard", "shardId-000000000003"),
        ("kinesink-first", "1.0"),
        ("kinesink-last", "2.0"),
        ("kinesink-count", "2"),
    ];
    assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));

    let before = fs::read(file).unwrap();
    assert_eq!(sink.emit(&batch(&source, &items)).await.unwrap().exceptions(), []);
    assert_eq!((files(directory.path()), fs::read(file).unwrap()), (vec![file.clone()], before));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_first_position() {
    let directory = tempfile::tempdir().unwrap();
    let sink = open(directory.path(), "a: decimal(5,2) dead-letter, .._rest");
    let (source, items) =
        (source(), items(&[br#"{"a":1}"#, br#"{"a":"x"}"#, b"no", br#"{"a":1000}"#, br#"{"a":"y"}"#]));
    let emitted = sink.emit(&batch(&source, &items)).await.unwrap();
    let reasons: Vec<_> = emitted
        .exceptions()
        .iter()
        .map(|(index, exception)| match exception {
            Exception::Rejected(why) => (*index, why.reason()),
            other => panic!("{other:?}"),
        })
        .collect();
    let text = "field `a`: decimal(5,2) is declared, a string that is no number was found, first at 2.0 of \
                shardId-000000000003";
    let range =
        "field `a`: decimal(5,2) is declared, a number out of range was found, first at 4.0 of shardId-000000000003";
    let expected = [(1, text), (2, "not JSON, of which a row of columns is made"), (3, range), (4, text)];
    assert_eq!(reasons, expected);
    assert_eq!(read(&files(directory.path())[0]).0.len(), 1);

    let all = super::items(&[&br#"{"a":"z"}"#[..]; 9]);
    let later = sink.emit(&batch(&source, &all[6..])).await.unwrap();
    let [(0, Exception::Rejected(why)), ..] = later.exceptions() else { panic!("{later:?}") };
    assert_eq!(why.reason(), text, "what was seen before keeps its place");
}

#[tokio::test]
async fn a_window_of_which_nothing_fits_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let sink = open(directory.path(), "a: int64 dead-letter, .._rest");
    let (source, items) = (source(), items(&[b"[]", b""]));
    let emitted = sink.emit(&batch(&source, &items)).await.unwrap();
    assert_eq!(emitted.exceptions().len(), 2);
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn columns_are_part_of_what_was_announced() {
    let directory = tempfile::tempdir().unwrap();
    let announced = |columns| {
        let mut content = Fingerprint::new();
        assert!(open(directory.path(), columns).plan(&mut content));
        content.finish()
    };
    let declared = "a: int64 dead-letter, .._rest";
    assert_eq!(announced(declared), announced(declared));
    for other in ["a: int32 dead-letter, .._rest", "a: int64 null, .._rest", "a: int64 dead-letter, ..rest"] {
        assert_ne!(announced(declared), announced(other), "{other}");
    }
}

#[tokio::test]
async fn it_keeps_the_contract_of_emitters() {
    let directory = tempfile::tempdir().unwrap();
    let sink = open(directory.path(), "record: string dead-letter, .._rest");
    let row = |text: &str| Bytes::from(format!("{{\"record\":{}}}", serde_json::Value::from(text)));
    let stored = async || {
        let rows =
            files(directory.path()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "parquet"));
        let rows = rows.flat_map(|path| {
            let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
            reader.get_row_iter(None).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        });
        rows.map(|found| row(parquet::record::RowAccessor::get_string(&found, 0).unwrap())).collect()
    };
    let promises = EmitterPromises { ordered: true, idempotent: true };
    let output = |record: &kinesink_core::Record| row(&format!("{:?}", record.data));
    emitter_contract(&sink, promises, output, stored).await.unwrap();
}
