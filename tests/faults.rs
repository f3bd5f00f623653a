//! Services and disks that go wrong under the real binary: nothing is lost, and it says what it does.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Process, Services, eventually, lines, numbered, pause, pipeline_toml};

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

fn all_land(folder: &Path, records: usize) {
    let expected: BTreeSet<Vec<u8>> = numbered(0, records).into_iter().collect();
    eventually("every record lands", || {
        let landed: BTreeSet<Vec<u8>> = lines(folder).into_keys().collect();
        (landed == expected).then_some(())
    });
}

#[test]
fn throttles_expired_iterators_and_cut_connections_lose_nothing() {
    let services = Services::start();
    services.create_stream("faults", 2);
    let folder = services.path("objects");
    let process = start(&services, "faults", &folder);
    services.put("faults", &numbered(0, 500));
    all_land(&folder, 500);
    let mut put = 500;
    for fault in [
        r#"[{"operation":"GetRecords","times":5,"kind":{"error":{"code":"ProvisionedThroughputExceededException"}}}]"#,
        r#"[{"operation":"GetRecords","times":2,"kind":{"error":{"code":"ExpiredIteratorException"}}}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":{"error":{"code":"InternalFailure"}}}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":"cut"}]"#,
        r#"[{"operation":"GetRecords","times":3,"kind":"truncate"}]"#,
        r#"[{"operation":"GetRecords","times":1,"kind":{"error":{"code":"ExpiredIteratorException"}}},
            {"operation":"GetShardIterator","times":2,"kind":{"error":{"code":"ProvisionedThroughputExceededException"}}}]"#,
    ] {
        services.fault(fault);
        services.put("faults", &numbered(put, put + 500));
        put += 500;
        all_land(&folder, put);
    }
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(lines(&folder).values().all(|count| *count == 1), "without a crash nothing is delivered twice");
}

/// Where mounting is not allowed, runs the test again in a namespace of its own, where it is. `true` if it did.
pub(crate) fn ran_in_a_namespace(test: &str) -> bool {
    let user = Command::new("id").arg("-u").output().unwrap();
    if user.stdout == b"0\n" {
        return false;
    }
    let itself = std::env::current_exe().unwrap();
    let run = Command::new("unshare").arg("-rm").arg(itself).args(["--exact", test]).status().unwrap();
    assert!(run.success(), "{test} in a namespace of its own; see above");
    true
}

/// A file system of one megabyte, unmounted when dropped.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    pub(crate) fn mount(path: &'a Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success(), "mounting a small tmpfs needs root");
        Self(path)
    }

    pub(crate) fn remount(&self, how: &str) {
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
    if ran_in_a_namespace("faults::a_full_disk_pauses_the_sink_and_loses_nothing_when_space_returns") {
        return;
    }
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
        (log.contains("space") && log.contains("full")).then_some(())
    });
    let stays = services.checkpoints("full");
    assert!(stays.values().all(|at| at == "TRIM_HORIZON"), "the checkpoint moved without an object: {stays:?}");
    std::fs::remove_file(&filler).unwrap();
    all_land(&folder.join("objects"), 1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_disk_that_becomes_read_only_halts_the_shard_until_it_is_writable_again() {
    if ran_in_a_namespace("faults::a_disk_that_becomes_read_only_halts_the_shard_until_it_is_writable_again") {
        return;
    }
    let services = Services::start();
    services.create_stream("readonly", 1);
    let folder = services.path("disk");
    let disk = SmallDisk::mount(&folder);
    let process = start(&services, "readonly", &folder.join("objects"));
    services.put("readonly", &numbered(0, 500));
    all_land(&folder.join("objects"), 500);
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
    assert_eq!(services.checkpoints("readonly"), before, "the checkpoint moved without an object");
    disk.remount("rw");
    all_land(&folder.join("objects"), 1_000);
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(lines(&folder.join("objects")).values().all(|count| *count == 1), "nothing is there twice");
}

#[test]
fn a_second_signal_aborts_a_drain_that_cannot_end() {
    if ran_in_a_namespace("faults::a_second_signal_aborts_a_drain_that_cannot_end") {
        return;
    }
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
    if ran_in_a_namespace("faults::the_grace_period_ends_a_drain_that_cannot_end") {
        return;
    }
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
