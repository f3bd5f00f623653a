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
const FINISHED: &str = "finished the window that was announced";

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
    /// Where the pipeline starts.
    start: &'static str,
    /// When a window closes that is not full.
    age: &'static str,
}

impl Case {
    /// With nothing in the stream.
    fn new() -> Self {
        let services = Services::start();
        services.create_stream("faults", 1);
        let record = |n: usize| format!(r#"{{"n":{n},"part":{}}}"#, n % PARTITIONS).into_bytes();
        let records = (0..RECORDS).map(record).collect();
        Self { folder: services.path("objects"), services, records, start: "trim-horizon", age: "200ms" }
    }

    fn put(self) -> Self {
        self.services.put("faults", &self.records);
        self
    }

    fn run(&self, fault: Option<&str>) -> Process {
        let file = self.services.path("faults.toml");
        let text = pipeline_toml("faults", "faults", &self.folder, "");
        let key = "format = \"ndjson\"\nkey = \"{.part}/{shard}-{first}\"";
        let text = text.replace("records = 200", &format!("records = {WINDOW}")).replace("format = \"ndjson\"", key);
        let text =
            text.replace("trim-horizon", self.start).replace("age = \"200ms\"", &format!("age = {:?}", self.age));
        std::fs::write(&file, text).unwrap();
        let mut command = self.services.kinesink();
        command.arg("run").arg(&file).args(fault.map(|fault| format!("--fault={fault}")));
        Process::start(command, &self.services.path("run.log"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.services.path("run.log")).unwrap()
    }

    fn crashes(&self, process: Process) {
        assert_eq!(process.wait().signal(), Some(SIGABRT), "it crashes: {}", self.log());
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

    /// Until all that was put has landed and is checkpointed.
    fn finish(&self, process: Process) {
        let in_stream = self.services.read_stream("faults");
        let (_, last, _) = in_stream.last().unwrap();
        eventually("all is checkpointed", || {
            (self.services.checkpoints("faults").values().next()? == last).then_some(())
        });
        self.each_record_is_there_once(process);
    }

    /// Each, and nothing else, in its partition's objects.
    fn each_record_is_there_once(&self, process: Process) {
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        let in_stream = self.services.read_stream("faults");
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
    let case = Case::new().put();
    case.crashes(case.run(Some(&format!("{step}:{pass}=crash"))));
    assert_eq!(case.left(), left_by_a_crash, "(announced, checkpointed, objects) after a crash");
    let is_announced = left_by_a_crash.0;
    case.finish(case.run(None));
    assert_eq!(case.log().contains(FINISHED), is_announced, "{}", case.log());

    for kind in ["error", "2500ms"] {
        let case = Case::new().put();
        case.finish(case.run(Some(&format!("{step}:{pass}={kind}"))));
        let log = case.log();
        assert!(log.contains("a planted fault fault="), "{kind}: {log}");
        let is_tried_again = log.contains("failed, trying again") || log.contains("did not take every item");
        assert_eq!(is_tried_again, kind == "error", "{log}");
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

/// What its plan continues is no position: it is read again from its own first record.
#[test]
fn a_first_window_is_finished_wherever_its_lease_began() {
    for start in ["trim-horizon", "latest", "2020-01-01T00:00:00Z"] {
        let case = Case { start, ..Case::new() };
        // Where LATEST is belongs to the lease from then on: of what is put before the first read, nothing is read otherwise.
        let process = case.run(None);
        eventually("the lease is taken", || case.services.owners("faults").into_keys().next());
        process.kill();
        let case = case.put();
        let process = case.run(Some("put:5=crash"));
        case.crashes(process);
        let row = case.row();
        assert!(row["checkpoint"].as_s().unwrap().bytes().any(|byte| !byte.is_ascii_digit()), "{row:?}");
        assert!(row.contains_key("pendingCheckpoint"), "{row:?}");
        case.finish(case.run(None));
        assert!(case.log().contains(FINISHED), "{}", case.log());
    }
}

/// The plan of a shard's last window ends at a record, and what is checkpointed is the shard's end.
#[test]
fn a_last_window_is_finished_and_its_shard_ends() {
    for (fault, is_announced) in
        [("announced:3=crash", true), ("delivered:3=crash", true), ("checkpointed:3=crash", false)]
    {
        let case = Case { age: "1h", ..Case::new() }.put();
        let split = case.services.kinesis.split_shard().stream_name("faults").shard_to_split("shardId-000000000000");
        case.services.block_on(split.new_starting_hash_key("1000").send()).unwrap();
        case.crashes(case.run(Some(fault)));
        let process = case.run(None);
        eventually("the shard ends and its children are read", || {
            let checkpoints = case.services.checkpoints("faults");
            let ended = checkpoints.get("shardId-000000000000").is_none_or(|checkpoint| checkpoint == "SHARD_END");
            (ended && case.services.owners("faults").contains_key("shardId-000000000002")).then_some(())
        });
        case.each_record_is_there_once(process);
        assert_eq!(case.log().contains(FINISHED), is_announced, "{fault}: {}", case.log());
    }
}
