//! A `kinesink local DIR` that is killed while it writes its log anew: what it acknowledged stays.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{Process, Services};

const STREAM: &str = "orders";
const RECORD_BYTES: usize = 50_000;
/// These are more than what a start is allowed to write in any round.
const KEPT: usize = 60;
/// The signal of a process that makes a file longer than it may.
const SIGXFSZ: i32 = 25;

fn record(number: usize) -> Vec<u8> {
    format!("{number:0>RECORD_BYTES$}").into_bytes()
}

fn numbers(services: &Services) -> Vec<usize> {
    let number = |data: Vec<u8>| String::from_utf8(data).unwrap().parse().unwrap();
    services.read_stream(STREAM).into_iter().map(|(_, _, data)| number(data)).collect()
}

/// A directory whose log is mostly of a stream that is gone, so that the next start writes it anew.
fn mostly_of_what_is_gone(state: &Path) -> Vec<usize> {
    let (services, process) = Services::start_in(state);
    for stream in [STREAM, "gone"] {
        services.create_stream(stream, 1);
    }
    for number in 0..KEPT {
        services.put(STREAM, &[record(number)]);
    }
    for _ in 0..30 {
        services.put("gone", &vec![vec![7; 100_000]; 10]);
    }
    services.block_on(services.kinesis.delete_stream().stream_name("gone").send()).unwrap();
    process.kill();
    (0..KEPT).collect()
}

#[test]
fn a_start_that_is_killed_inside_the_rewrite_of_its_log_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let expected = mostly_of_what_is_gone(directory.path());
    let (log, next) =
        (directory.path().join("local/kinesis/kinesis.log"), directory.path().join("local/kinesis/kinesis.log.next"));
    let before = std::fs::read(&log).unwrap();
    // Longer than the database beside it, shorter than the new log.
    for mebibytes in [1, 2, 3] {
        // In blocks of 512 bytes. Where it ends, the system kills the process.
        let limited = format!("ulimit -c 0; ulimit -f {}; exec \"$@\"", mebibytes * 2048);
        let mut command = Command::new("sh");
        command
            .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_kinesink"), "local"])
            .arg(directory.path().join("local"));
        let ended = Process::start(command, &directory.path().join("killed.log")).wait();
        assert_eq!(ended.signal(), Some(SIGXFSZ), "{ended:?}");
        assert_eq!(
            std::fs::metadata(&next).unwrap().len(),
            mebibytes * 1024 * 1024,
            "it was killed inside the rewrite"
        );
        assert!(std::fs::read(&log).unwrap() == before, "the log is as it was");
    }
    let (services, _process) = Services::start_in(directory.path());
    assert_eq!(numbers(&services), expected);
    assert!(!next.exists() && std::fs::metadata(&log).unwrap().len() < before.len() as u64 / 2);
}
