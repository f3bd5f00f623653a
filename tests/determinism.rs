//! The same stream, read by processes that differ in threads, in how and in how much they fetch, and in where they were
//! killed: the same objects, byte for byte.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use crate::harness::{Process, Services, eventually};

const STREAM: &str = "same";
const RECORDS: usize = 3_000;
const PARTITIONS: usize = 3;
const SIGABRT: i32 = 6;

/// How a process reads.
#[derive(Clone, Copy)]
struct Reader {
    /// Its name as a worker.
    id: &'static str,
    threads: usize,
    /// Of `[source]`.
    fetch: &'static str,
}

const PLAIN: Reader = Reader { id: "plain", threads: 2, fetch: "idle = \"200ms\"" };
const ONE_THREAD: Reader = Reader { id: "one-thread", threads: 1, fetch: "idle = \"200ms\"\nmax_records = 7" };
const MANY_THREADS: Reader = Reader { id: "many-threads", threads: 16, fetch: "idle = \"200ms\"\nmax_records = 333" };
const PUSHED: Reader = Reader { id: "pushed", threads: 3, fetch: "fetch = \"fan-out\"" };

/// Windows close by their count alone, and at the end of a shard.
fn pipeline(app: &str, reader: Reader, objects: &Path) -> String {
    let Reader { id, fetch, .. } = reader;
    let objects = objects.display();
    format!(
        r#"version = 1
app = "{app}"
memory = "128MiB"
[source]
stream = "{STREAM}"
start = "trim-horizon"
{fetch}
[transform]
jq = "if .n % 5 == 0 then ., {{n: -.n, part: .part}} else . end"
[lease]
worker_id = "{id}"
failover = "1s"
[buffer]
records = 230
bytes = "32MiB"
age = "1h"
[[sink]]
name = "lines"
type = "s3"
url = "file://{objects}/lines"
format = "ndjson"
compression = "gzip"
key = "part={{.part}}/{{shard}}-{{first}}-{{last}}"
[[sink]]
name = "columns"
type = "s3"
url = "file://{objects}/columns"
format = "parquet"
[sink.columns]
n = "int64"
part = "string"
"#
    )
}

/// A stream whose two shards have ended.
fn stream() -> Services {
    let services = Services::start();
    services.create_stream(STREAM, 2);
    let record = |n: usize| format!(r#"{{"n":{n},"part":"p{}"}}"#, n % PARTITIONS).into_bytes();
    services.put(STREAM, &(0..RECORDS).map(record).collect::<Vec<_>>());
    let merge = services.kinesis.merge_shards().stream_name(STREAM).shard_to_merge("shardId-000000000000");
    services.block_on(merge.adjacent_shard_to_merge("shardId-000000000001").send()).unwrap();
    services
}

fn start(services: &Services, app: &str, reader: Reader, fault: Option<&str>) -> Process {
    let file = services.path(&format!("{app}-{}.toml", reader.id));
    std::fs::write(&file, pipeline(app, reader, &services.path(app))).unwrap();
    let mut command = services.kinesink();
    command.env("TOKIO_WORKER_THREADS", reader.threads.to_string());
    command.arg("run").arg(&file).args(fault.map(|fault| format!("--fault={fault}")));
    Process::start(command, &services.path(&format!("{app}.log")))
}

/// Runs until both shards are done. Their rows may be gone then: the merged shard's is there before.
fn finish(services: &Services, app: &str, process: Process) -> BTreeMap<String, Vec<u8>> {
    let done = |checkpoints: &BTreeMap<String, String>, shard: &str| {
        checkpoints.get(shard).is_none_or(|checkpoint| checkpoint == "SHARD_END")
    };
    eventually("both shards are done", || {
        let checkpoints = services.checkpoints(app);
        let merged = checkpoints.contains_key("shardId-000000000002");
        (merged && (0..2).all(|n| done(&checkpoints, &format!("shardId-{n:012}")))).then_some(())
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    files(&services.path(app))
}

/// Every file below a folder: objects, and what they say of themselves, with their digests.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(inner) = folders.pop() {
        for path in inner.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !name.contains("_kinesink_check") {
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn are_the_same(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>, what: &str) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{what}: other names");
    for (name, bytes) in one {
        assert!(other[name] == *bytes, "{what}: {name} has other bytes");
    }
}

#[test]
fn threads_sizes_and_ways_of_a_fetch_change_no_object() {
    let services = stream();
    let objects = finish(&services, "plain", start(&services, "plain", PLAIN, None));
    // For each of 16 windows: three partitions and a file of columns, and what each of them says of itself.
    assert!(objects.len() >= 2 * 4 * RECORDS * 6 / 5 / 230, "{} files", objects.len());
    for reader in [ONE_THREAD, MANY_THREADS, PUSHED] {
        let again = finish(&services, reader.id, start(&services, reader.id, reader, None));
        are_the_same(&objects, &again, reader.id);
    }
}

#[cfg(feature = "planted-faults")]
#[test]
fn a_window_begun_by_one_and_finished_by_another_is_the_same() {
    let services = stream();
    let objects = finish(&services, "plain", start(&services, "plain", PLAIN, None));
    let pairs = [
        (ONE_THREAD, "announced:3=crash", PUSHED),
        (PUSHED, "put:14=crash", ONE_THREAD),
        (MANY_THREADS, "delivered:9=crash", PUSHED),
        (PUSHED, "checkpointing:5=crash", MANY_THREADS),
    ];
    for (index, (one, fault, other)) in pairs.into_iter().enumerate() {
        let app = format!("begun-{index}");
        let status = start(&services, &app, one, Some(fault)).wait();
        assert_eq!(status.signal(), Some(SIGABRT), "{fault}");
        let again = finish(&services, &app, start(&services, &app, other, None));
        let log = std::fs::read_to_string(services.path(&format!("{app}.log"))).unwrap();
        assert!(log.contains("finished the window that was announced"), "{fault}: {log}");
        are_the_same(&objects, &again, fault);
    }
}
