//! The real binary on disks that are full or read-only. They have to be mounted, which needs a user namespace:
//!
//! ```text
//! unshare --map-root-user --mount cargo test --workspace --all-features --test disks    # cargo xtask test disks
//! ```
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests say what broke by panicking")]

#[expect(dead_code, reason = "the other tests need more of it")]
mod harness;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aws_sdk_kinesis::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_kinesis::primitives::Blob;

use crate::harness::{Process, Services, eventually, http, lines, numbered, pause, pipeline_toml};

fn start(services: &Services, name: &str, folder: &Path) -> Process {
    start_with(services, name, folder, "")
}

fn start_with(services: &Services, name: &str, folder: &Path, more: &str) -> Process {
    let file = services.path(&format!("{name}.toml"));
    std::fs::write(&file, pipeline_toml(name, name, folder, more)).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    Process::start(command, &services.path("run.log"))
}

fn all_land_once(folder: &Path, records: usize) {
    let expected: BTreeSet<Vec<u8>> = numbered(0, records).into_iter().collect();
    eventually("every record lands", || {
        let landed: BTreeSet<Vec<u8>> = lines(folder).into_keys().collect();
        (landed == expected).then_some(())
    });
    assert!(lines(folder).values().all(|count| *count == 1), "nothing is there twice");
}

/// A file system of one megabyte, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success(), "mounting a small tmpfs needs root");
        Self(path)
    }

    fn remount(&self, how: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.0).status().unwrap();
        assert!(done.success(), "remounting the small tmpfs needs root");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _left_to_the_system = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_pauses_the_sink_and_loses_nothing_when_space_returns() {
    let services = Services::start();
    services.create_stream("full", 1);
    let folder = services.path("disk");
    let _disk = SmallDisk::mount(&folder);
    let filler = folder.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    drop(file);
    let process = start(&services, "full", &folder.join("objects"));
    services.put("full", &numbered(0, 1_000));
    eventually("the sink says that it is paused", || {
        let log = process.log();
        log.contains("no space left on the device: make room").then_some(())
    });
    pause(Duration::from_secs(1));
    let stays = services.checkpoints("full");
    assert!(stays.values().all(|at| at == "TRIM_HORIZON"), "the checkpoint moved without an object: {stays:?}");
    std::fs::remove_file(&filler).unwrap();
    all_land_once(&folder.join("objects"), 1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_disk_that_becomes_read_only_halts_the_shard_until_it_is_writable_again() {
    let services = Services::start();
    services.create_stream("readonly", 1);
    let folder = services.path("disk");
    let disk = SmallDisk::mount(&folder);
    let process = start(&services, "readonly", &folder.join("objects"));
    services.put("readonly", &numbered(0, 500));
    all_land_once(&folder.join("objects"), 500);
    let before = eventually("the checkpoint is at the last record", || {
        let checkpoints = services.checkpoints("readonly");
        let last = services.read_stream("readonly").pop().unwrap().1;
        checkpoints.values().eq([&last]).then_some(checkpoints)
    });
    disk.remount("ro");
    services.put("readonly", &numbered(500, 1_000));
    eventually("it says what is wrong and what to do", || {
        let log = process.log();
        (log.contains("Read-only") && log.contains("let this user write there")).then_some(())
    });
    pause(Duration::from_secs(1));
    assert_eq!(services.checkpoints("readonly"), before, "the checkpoint moved without an object");
    disk.remount("rw");
    all_land_once(&folder.join("objects"), 1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_second_signal_aborts_a_drain_that_cannot_end() {
    let services = Services::start();
    services.create_stream("abort", 1);
    let folder = services.path("disk");
    let _disk = SmallDisk::mount(&folder);
    let mut file = std::fs::File::create(folder.join("filler")).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    let process = start(&services, "abort", &folder.join("objects"));
    services.put("abort", &numbered(0, 10));
    eventually("the sink is paused", || process.log().contains("space").then_some(()));
    process.signal("-TERM");
    eventually("the drain begins", || process.log().contains("draining").then_some(()));
    // A repeat that comes at once is the same signal.
    process.signal("-TERM");
    pause(Duration::from_millis(700));
    process.signal("-TERM");
    assert_eq!(process.wait().code(), Some(4));
    assert!(services.checkpoints("abort").values().all(|at| at == "TRIM_HORIZON"));
}

#[test]
fn the_grace_period_ends_a_drain_that_cannot_end() {
    let services = Services::start();
    services.create_stream("grace", 1);
    let folder = services.path("disk");
    let _disk = SmallDisk::mount(&folder);
    let mut file = std::fs::File::create(folder.join("filler")).unwrap();
    while file.write_all(&[0; 1024]).is_ok() {}
    let process = start_with(&services, "grace", &folder.join("objects"), "[drain]\ngrace = \"1s\"\n");
    services.put("grace", &numbered(0, 10));
    eventually("the sink is paused", || process.log().contains("space").then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 4, "{log}");
}

#[test]
fn a_full_disk_closes_a_window_that_should_be_spilled_and_loses_nothing() {
    let services = Services::start();
    services.create_stream("spilled", 1);
    let spill = services.path("disk");
    let _disk = SmallDisk::mount(&spill);
    let (file, folder) = (services.path("spilled.toml"), services.path("objects"));
    let more = format!("[spill]\ndir = \"{}\"\nmax = \"1GiB\"\n", spill.display());
    // Many times the megabyte, and the memory.
    let text = pipeline_toml("spilled", "spilled", &folder, &more).replace("\"32MiB\"", "\"4MiB\"");
    let text = text.replace("records = 200", "records = 1_000_000").replace("bytes = \"1MiB\"", "bytes = \"64MiB\"");
    let records = 40_000;
    services.put("spilled", &numbered(0, records));
    let start = |age: &str| {
        std::fs::write(&file, text.replace("age = \"200ms\"", &format!("age = \"{age}\""))).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };
    let process = start("1h");
    eventually("it says why windows close early", || {
        let log = process.log();
        (log.contains("cannot be spilled and closes early") && log.contains("No space left")).then_some(())
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let process = start("200ms");
    all_land_once(&folder, records);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
}

/// Takes whatever is free on a disk as soon as it is, until it is dropped.
struct Greedy {
    is_wanted: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Greedy {
    fn start(filler: &Path) -> Self {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let (wanted, filler) = (Arc::clone(&is_wanted), filler.to_path_buf());
        let thread = std::thread::spawn(move || {
            let mut file = std::fs::File::create(&filler).unwrap();
            while wanted.load(Ordering::Relaxed) {
                let _full = file.write_all(&[0; 64 * 1024]).or_else(|_| file.write_all(&[0; 4096]));
            }
            std::fs::remove_file(&filler).unwrap();
        });
        Self { is_wanted, thread: Some(thread) }
    }
}

impl Drop for Greedy {
    fn drop(&mut self) {
        self.is_wanted.store(false, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Others fill the disk: a window that cannot go on there closes, and what it kept for its object is gone before that is made.
#[test]
fn a_disk_that_is_full_while_an_object_is_encoded_is_told_and_the_object_is_made_once_there_is_room() {
    const BATCH: usize = 10_000;
    const BATCHES_MAX: usize = 20;
    let services = Services::start();
    services.create_stream("encoded", 1);
    let spill = services.path("disk");
    let disk = SmallDisk::mount(&spill);
    disk.remount("size=32m");
    let (file, folder) = (services.path("encoded.toml"), services.path("objects"));
    let more =
        format!("[spill]\ndir = \"{}\"\nmax = \"64MiB\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n", spill.display());
    let text = pipeline_toml("encoded", "encoded", &folder, &more).replace("\"32MiB\"", "\"4MiB\"");
    let text = text.replace("records = 200", "records = 1_000_000").replace("bytes = \"1MiB\"", "bytes = \"64MiB\"");
    std::fs::write(&file, text.replace("age = \"200ms\"", "age = \"1h\"")).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    let address = eventually("the metrics are served", || {
        let log = process.log();
        Some(log.split_once("bound=")?.1.split_whitespace().next()?.to_owned())
    });

    services.put("encoded", &numbered(0, 3 * BATCH));
    // Memory takes half a megabyte of an object.
    eventually("most of a window is on the disk", || {
        let metrics = http(&address, "GET", "/metrics", "");
        let spilled = metrics.lines().find_map(|line| line.strip_prefix("kinesink_spilled_bytes_total "))?;
        (spilled.parse::<f64>().unwrap() > 2e6).then_some(())
    });
    let greedy = Greedy::start(&spill.join("filler"));
    let is_told = || {
        let log = process.log();
        log.contains("cannot encode an object") && log.contains("bytes are missing") && log.contains("No space left")
    };
    let batches = (3..BATCHES_MAX).find(|batches| {
        services.put("encoded", &numbered(batches * BATCH, (batches + 1) * BATCH));
        (0..40).any(|_| {
            pause(Duration::from_millis(50));
            is_told()
        })
    });
    let records = (batches.expect("a full disk while an object is encoded is told") + 1) * BATCH;
    drop(greedy);
    // What came after that window is read, and flushed.
    eventually("everything is read", || {
        let read = format!("kinesink_records_in_total {records}\n");
        http(&address, "GET", "/metrics", "").contains(&read).then_some(())
    });
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    all_land_once(&folder, records);
}

const RECORD_BYTES: usize = 50_000;
/// No disk of a megabyte takes so many of these records.
const RECORDS_MAX: usize = 20;

fn record(number: usize) -> Vec<u8> {
    format!("{number:0>RECORD_BYTES$}").into_bytes()
}

fn numbers(services: &Services) -> Vec<usize> {
    let number = |data: Vec<u8>| String::from_utf8(data).unwrap().parse().unwrap();
    services.read_stream("local").into_iter().map(|(_, _, data)| number(data)).collect()
}

#[test]
fn a_full_disk_of_the_local_kinesis_refuses_records_loses_none_and_takes_them_again_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(directory.path());
    let (services, process) = Services::start_in(directory.path());
    services.create_stream("local", 1);
    let put = |number: usize| {
        let put = services.kinesis.put_record().stream_name("local").partition_key("k").data(Blob::new(record(number)));
        // Once: a refusal is to be seen.
        let once = put.customize().config_override(Config::builder().retry_config(RetryConfig::disabled()));
        services.block_on(once.send()).err().map(SdkError::into_service_error)
    };
    let refused = (0..RECORDS_MAX).find_map(|number| Some((number, put(number)?)));
    let (first_refused, error) = refused.expect("a full disk refuses a record");
    assert_eq!(error.code(), Some("InternalFailure"));
    assert!(error.message().unwrap().contains("cannot write its log"), "{error:?}");
    let before: Vec<usize> = (0..first_refused).collect();
    assert!(!before.is_empty());
    assert_eq!(numbers(&services), before, "what it acknowledged can be read, and what it refused is not there");

    disk.remount("size=8m");
    assert!(put(first_refused).is_none());
    process.kill();
    drop(services);
    let (services, _process) = Services::start_in(directory.path());
    assert_eq!(numbers(&services), (0..=first_refused).collect::<Vec<_>>());
}
