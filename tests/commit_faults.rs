//! Each step of a commit, and after it a crash, an answer that is lost, or a long pause: every record once, in its object.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::harness::{Process, Services, eventually, lines, objects, pipeline_toml};

/// More than the objects that are written side by side, so that a crash after the first leaves some that are not begun.
const PARTITIONS: usize = 24;
const WINDOW: usize = 60;
/// The fault is in the second window; the third, which is not full, closes by age.
const RECORDS: usize = 150;
const SIGABRT: i32 = 6;

/// How many of a window's objects are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objects {
    None,
    Some,
    All,
}

struct Case {
    services: Services,
    folder: PathBuf,
    records: Vec<Vec<u8>>,
}

impl Case {
    fn start() -> Self {
        let services = Services::start();
        services.create_stream("faults", 1);
        let record = |n: usize| format!(r#"{{"n":{n},"part":{}}}"#, n % PARTITIONS).into_bytes();
        let records: Vec<_> = (0..RECORDS).map(record).collect();
        services.put("faults", &records);
        Self { folder: services.path("objects"), services, records }
    }

    fn run(&self, fault: Option<&str>) -> Process {
        let file = self.services.path("faults.toml");
        let text = pipeline_toml("faults", "faults", &self.folder, "");
        let key = "format = \"ndjson\"\nkey = \"{.part}/{shard}-{first}\"";
        let text = text.replace("records = 200", &format!("records = {WINDOW}")).replace("format = \"ndjson\"", key);
        std::fs::write(&file, text).unwrap();
        let mut command = self.services.kinesink();
        command.arg("run").arg(&file).args(fault.map(|fault| format!("--fault={fault}")));
        Process::start(command, &self.services.path("run.log"))
    }

    fn row(&self) -> std::collections::HashMap<String, AttributeValue> {
        let scan = self.services.dynamodb.scan().table_name("faults").consistent_read(true);
        self.services
            .block_on(scan.send())
            .unwrap()
            .items()
            .iter()
            .find(|row| row.contains_key("checkpoint"))
            .unwrap()
            .clone()
    }

    /// The second window's: whether it is announced, whether it is checkpointed, and what is there of it.
    fn left(&self) -> (bool, bool, Objects) {
        let in_stream = self.services.read_stream("faults");
        let (_, last_of_window, _) = &in_stream[2 * WINDOW - 1];
        let row = self.row();
        let text = |name: &str| row.get(name).map(|value| value.as_s().unwrap().clone());
        let parts: BTreeSet<usize> = (WINDOW..2 * WINDOW).map(|n| n % PARTITIONS).collect();
        let landed = lines(&self.folder);
        let there = self.records[WINDOW..2 * WINDOW].iter().filter(|record| landed.contains_key(*record)).count();
        let objects = match there {
            0 => Objects::None,
            WINDOW => Objects::All,
            _ => Objects::Some,
        };
        assert!(parts.len() > 16);
        (
            text("pendingCheckpoint").as_ref() == Some(last_of_window),
            text("checkpoint").as_ref() == Some(last_of_window),
            objects,
        )
    }

    /// Until all that was put has landed and is checkpointed; each record is then there once, in its partition's objects.
    fn finish(&self, process: Process) {
        let in_stream = self.services.read_stream("faults");
        let (_, last, _) = in_stream.last().unwrap();
        eventually("all is checkpointed", || {
            (self.services.checkpoints("faults").values().next()? == last).then_some(())
        });
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        let mut expected = BTreeMap::<String, Vec<Vec<u8>>>::new();
        for (n, (_, _, record)) in in_stream.into_iter().enumerate() {
            expected.entry(format!("{}", n % PARTITIONS)).or_default().push(record);
        }
        let mut found = BTreeMap::<String, Vec<Vec<u8>>>::new();
        for (path, lines) in objects(&self.folder) {
            found.entry(partition(&path, &self.folder)).or_default().extend(lines);
        }
        assert!(found == expected, "records lack, are doubled, out of order, or in another partition's objects\n{log}");
    }
}

fn partition(path: &Path, folder: &Path) -> String {
    path.parent().unwrap().strip_prefix(folder).unwrap().to_str().unwrap().to_owned()
}

/// `pass` is the first one in the second window.
fn faults_after(step: &str, pass: usize, left_by_a_crash: (bool, bool, Objects)) {
    let case = Case::start();
    let status = case.run(Some(&format!("{step}:{pass}=crash"))).wait();
    assert_eq!(status.signal(), Some(SIGABRT), "it crashes");
    assert_eq!(case.left(), left_by_a_crash, "(announced, checkpointed, objects) after a crash");
    let is_announced = left_by_a_crash.0;
    let restarted = case.run(None);
    case.finish(restarted);
    let log = std::fs::read_to_string(case.services.path("run.log")).unwrap();
    assert_eq!(log.contains("finishing the window that was announced"), is_announced, "{log}");

    for kind in ["error", "2500ms"] {
        let case = Case::start();
        case.finish(case.run(Some(&format!("{step}:{pass}={kind}"))));
        let log = std::fs::read_to_string(case.services.path("run.log")).unwrap();
        assert!(log.contains("a planted fault fault="), "{kind}: {log}");
        assert_eq!(
            log.contains("failed, trying again") || log.contains("did not take every item"),
            kind == "error",
            "{log}"
        );
    }
}

#[test]
fn faults_after_the_announcement_of_a_window_cost_nothing() {
    faults_after("announced", 2, (true, false, Objects::None));
}

#[test]
fn faults_between_the_objects_of_a_window_cost_nothing() {
    faults_after("put", PARTITIONS + 1, (true, false, Objects::Some));
}

#[test]
fn faults_after_the_last_object_of_a_window_cost_nothing() {
    faults_after("delivered", 2, (true, false, Objects::All));
}

#[test]
fn faults_before_a_checkpoint_cost_nothing() {
    faults_after("checkpointing", 2, (true, false, Objects::All));
}

#[test]
fn faults_after_a_checkpoint_cost_nothing() {
    faults_after("checkpointed", 2, (false, true, Objects::All));
}
