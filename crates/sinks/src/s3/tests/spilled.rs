//! Partitions that memory does not hold.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_core::{Class, Emitted, Emitter as _, Failure, Item, Partition, Piece, Pieces, Reject, Reservation};

use super::{batch, items, source};
use crate::Location;
#[cfg(feature = "parquet")]
use crate::s3::parquet::{Codec, FileSettings, ParquetSettings};
use crate::s3::{Compression, Encoding, Format, KeySettings, KeyTemplate, S3Config, S3Emitter};

/// Items three by three; the reading of a piece fails where it is asked to.
struct Threes {
    items: Vec<(usize, Item<Bytes>)>,
    fails_at: Option<usize>,
}

/// Many items a piece, and those of them that were handed back.
struct Many {
    pieces: Vec<Vec<(usize, Item<Bytes>)>>,
    refused: Mutex<BTreeMap<usize, Reject>>,
}

#[async_trait]
impl Pieces<Bytes> for Many {
    async fn piece(&self, number: usize) -> Result<Option<Piece<Bytes>>, Failure> {
        Ok(self.pieces.get(number).cloned().map(|items| Piece { items, memory: Reservation::none() }))
    }

    async fn refused(&self, number: usize, rejects: Vec<(usize, Reject)>) -> ControlFlow<()> {
        for (index, why) in rejects {
            assert!(
                self.pieces[number].iter().any(|(of_piece, _)| *of_piece == index),
                "{index} is not in piece {number}"
            );
            assert_eq!(self.refused.lock().unwrap().insert(index, why), None, "{index} twice");
        }
        ControlFlow::Continue(())
    }
}

#[async_trait]
impl Pieces<Bytes> for Threes {
    async fn piece(&self, number: usize) -> Result<Option<Piece<Bytes>>, Failure> {
        if self.fails_at == Some(number) {
            return Err(Failure::transient("damaged"));
        }
        // As a disk is read.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        let items = self.items.chunks(3).nth(number).map(<[_]>::to_vec);
        Ok(items.map(|items| Piece { items, memory: Reservation::none() }))
    }

    async fn refused(&self, _: usize, _: Vec<(usize, Reject)>) -> ControlFlow<()> {
        unreachable!("so few are named at the end")
    }
}

const PARTITIONS: [&str; 2] = ["a", "b"];

/// Rows of two partitions; of the first, one that no format of text and columns holds.
fn rows() -> Vec<Item<Bytes>> {
    let row = |n: usize| match n {
        4 => "{\"p\":\"a\",\n no JSON".to_owned(),
        n => format!("{{\"p\":\"{}\",\"n\":{n},\"text\":\"{}\"}}", PARTITIONS[n % 2], "x".repeat(20_000 + n * 7)),
    };
    let rows: Vec<String> = (0..40).map(row).collect();
    items(&rows.iter().map(|row| row.as_bytes()).collect::<Vec<_>>())
}

fn config(directory: &Path) -> S3Config {
    let mut config = S3Config::new(Location::Directory(directory.join("objects")));
    let settings = KeySettings { template: "p={.p}/{first}-{count}".into(), ..KeySettings::default() };
    config.key = KeyTemplate::new(settings).unwrap();
    config
}

fn configs(directory: &Path) -> Vec<S3Config> {
    let mut configs = Vec::new();
    for format in [Format::Ndjson, Format::Raw, Format::LengthDelimited] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            configs.push(S3Config { format, compression, ..config(directory) });
        }
    }
    #[cfg(feature = "parquet")]
    {
        let schema = "n: int64 dead-letter, text: string dead-letter, .._rest".parse().unwrap();
        let parquet = Some(ParquetSettings { schema, codec: Codec::Zstd, file: FileSettings::default() });
        configs.push(S3Config { parquet, ..config(directory) });
    }
    configs
}

/// Every file, labels too, by path from `directory`.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![directory.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(found.insert(path.strip_prefix(directory).unwrap().into(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// Sends the window's partitions side by side. Reading fails after so many halves of a partition, if it does.
async fn send(sink: &S3Emitter, fails: Option<usize>) -> Vec<Result<Emitted, Failure>> {
    let (source, rows) = (source(), rows());
    let mut names: Vec<String> = rows.iter().map(|item| sink.partition(item).unwrap()).collect();
    let all: Vec<_> = rows.iter().cloned().enumerate().zip(names.clone()).collect();
    names.sort();
    names.dedup();
    let (source, rows, all) = (&source, &rows, &all);
    let sent = names.iter().map(|name| async move {
        let of = all.iter().filter(|(_, partition)| partition == name).map(|(item, _)| item.clone());
        let items: Vec<_> = of.collect();
        let pieces = items.len().div_ceil(3);
        let pieces = Threes { items, fails_at: fails.map(|halves| pieces * halves / 2) };
        let partition = Partition {
            stream: &source.stream,
            shard: &source.shard,
            first: rows.first().unwrap().record.position,
            last: rows.last().unwrap().record.position,
            name: Some(name),
            bytes: pieces.items.iter().map(|(_, item)| item.value.len()).sum(),
            pieces: &pieces,
            keep_existing: false,
        };
        sink.emit_partition(&partition).await
    });
    futures::future::join_all(sent).await
}

/// They were all kept in mind until the object was there.
#[tokio::test]
async fn more_refused_items_than_are_kept_in_mind_are_handed_back_and_the_object_is_the_same() {
    let (held, read) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (config, other) in configs(held.path()).into_iter().zip(configs(read.path())) {
        // Only of lines and columns can an item be refused.
        if config.format != Format::Ndjson {
            continue;
        }
        let row = |n: usize| if n % 7 == 3 { format!("{{\"n\":{n}}}") } else { format!("{n}\nno JSON") };
        let rows: Vec<String> = (0..20_000).map(row).collect();
        let items = items(&rows.iter().map(|row| row.as_bytes()).collect::<Vec<_>>());
        let key = |config: S3Config| S3Config { key: KeyTemplate::default(), ..config };
        let source = source();
        let of_held = S3Emitter::open(key(config)).unwrap().emit(&batch(&source, &items)).await.unwrap();

        let indexed: Vec<_> = items.iter().cloned().enumerate().collect();
        let pieces = indexed.chunks(999).map(<[_]>::to_vec).collect();
        let pieces = Many { pieces, refused: Mutex::default() };
        let partition = Partition {
            stream: &source.stream,
            shard: &source.shard,
            first: items.first().unwrap().record.position,
            last: items.last().unwrap().record.position,
            name: None,
            bytes: rows.iter().map(String::len).sum(),
            pieces: &pieces,
            keep_existing: false,
        };
        let sink = S3Emitter::open(key(other)).unwrap();
        let emitted = sink.emit_partition(&partition).await.unwrap();
        assert_eq!(emitted.exceptions(), [], "they are handed back");
        let refused = pieces.refused.lock().unwrap().clone();
        let named = of_held.exceptions().iter().map(|(index, _)| *index);
        assert!(refused.len() > 17_000 && refused.keys().copied().eq(named), "{}", refused.len());
        assert_eq!(files(read.path()), files(held.path()));
        // After a crash they are handed back again, and what is there is the same.
        pieces.refused.lock().unwrap().clear();
        assert_eq!(sink.emit_partition(&partition).await.unwrap().exceptions(), []);
        assert!(pieces.refused.lock().unwrap().keys().eq(refused.keys()));
    }
}

/// Encoders wait on threads, and what they wait for is read on threads.
#[test]
fn encoders_leave_a_thread_to_read_what_they_encode() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(PARTITIONS.len()).build();
    let directory = tempfile::tempdir().unwrap();
    for config in configs(directory.path()) {
        // Those of a window's earlier settings and of today's, shard by shard, share what they may take.
        let encoding = Arc::new(Encoding::new(1024 * 1024, 1, None));
        let open = || S3Emitter::open(S3Config { encoding: Arc::clone(&encoding), ..config.clone() }).unwrap();
        let sinks = [open(), open(), open()];
        let sent = futures::future::join_all(sinks.iter().map(|sink| send(sink, None)));
        let sent = async { tokio::time::timeout(Duration::from_secs(60), sent).await };
        let outcomes = runtime.as_ref().unwrap().block_on(sent).expect("nobody reads");
        // Three write each object, and one may take away what another has just made ready.
        for failure in outcomes.into_iter().flatten().filter_map(Result::err) {
            assert_eq!(failure.class, Class::Transient, "{failure}");
        }
    }
}

#[tokio::test]
async fn an_object_is_the_same_whether_memory_holds_its_items_or_not() {
    let (held, read) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (config, other) in configs(held.path()).into_iter().zip(configs(read.path())) {
        let told = format!("{:?}, {:?}, {:?}", config.format, config.compression, config.parquet);
        let (source, rows) = (source(), rows());
        let emitted = S3Emitter::open(config).unwrap().emit(&batch(&source, &rows)).await.unwrap();
        let sink = S3Emitter::open(other).unwrap();
        let mut refused = Vec::new();
        for outcome in send(&sink, None).await {
            refused.extend(outcome.unwrap().exceptions().to_vec());
        }
        assert_eq!(refused, emitted.exceptions(), "{told}");
        assert_eq!(files(read.path()), files(held.path()), "{told}");
        // Again: what is there counts.
        send(&sink, None).await.into_iter().for_each(|outcome| assert!(outcome.is_ok(), "{told}: {outcome:?}"));
    }
}

#[tokio::test]
async fn what_memory_does_not_take_of_an_object_goes_over_the_disk() {
    let (held, read) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (config, mut other) in configs(held.path()).into_iter().zip(configs(read.path())) {
        // Even the first block does not stay.
        other.encoding = Arc::new(Encoding::new(1, 4, Some((read.path().join("spill"), 1024))));
        let (source, rows) = (source(), rows());
        let _refused = S3Emitter::open(config).unwrap().emit(&batch(&source, &rows)).await.unwrap();
        send(&S3Emitter::open(other).unwrap(), None).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
        assert_eq!(files(&read.path().join("objects")), files(&held.path().join("objects")));
    }
}

#[tokio::test]
async fn an_object_that_neither_memory_nor_the_disk_takes_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    for config in configs(directory.path()).into_iter().filter(|config| config.compression == Compression::None) {
        let encoding = |directory: PathBuf| Arc::new(Encoding::new(1, 4, Some((directory, 1024))));
        let sink = S3Emitter::open(S3Config { encoding: encoding(in_the_way.clone()), ..config.clone() }).unwrap();
        let failed: Vec<Failure> = send(&sink, None).await.into_iter().filter_map(Result::err).collect();
        // A file that its codec makes small fits into a block.
        assert!(!failed.is_empty() || config.parquet.is_some());
        for failure in failed {
            assert_eq!(failure.class, Class::Transient);
            assert!(failure.message.contains("bytes are missing"), "{failure}");
        }
        let mended = S3Config { encoding: encoding(directory.path().join("spill")), ..config };
        send(&S3Emitter::open(mended).unwrap(), None).await.into_iter().for_each(|outcome| drop(outcome.unwrap()));
        fs::remove_dir_all(directory.path().join("objects")).unwrap();
    }
}

#[tokio::test]
async fn of_a_partition_that_cannot_be_read_no_object_is_made() {
    for halves in [0, 1, 2] {
        let directory = tempfile::tempdir().unwrap();
        for config in configs(directory.path()) {
            for outcome in send(&S3Emitter::open(config).unwrap(), Some(halves)).await {
                assert_eq!(outcome.unwrap_err().message, "damaged");
            }
        }
        assert!(!directory.path().join("objects").exists());
    }
}
