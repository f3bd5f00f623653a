//! Each step of a commit, and after it a crash, an answer that is lost, or a long pause: every record once, in its object.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::harness::{Process, Services, eventually, http, lines, objects, output, pipeline_toml, text};

/// More than the objects that are written side by side, so that a crash after the first leaves some that are not begun.
const PARTITIONS: usize = 24;
const WINDOW: usize = 60;
/// The fault is in the second window; the third, which is not full, closes by age.
const RECORDS: usize = 150;
/// A window is three times the records that a memory of one megabyte holds.
const SPILLED_RECORD_BYTES: usize = 25_000;
/// The local S3 looks at no key.
pub(crate) const SIGNED: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=any&X-Amz-Date=29991231T000000Z&X-Amz-Expires=60\
                      &X-Amz-SignedHeaders=host&X-Amz-Signature=any";
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
    worker: &'static str,
    /// Whether a window is more than memory, and its objects go to a bucket.
    is_spilled: bool,
}

impl Case {
    /// With nothing in the stream.
    fn new() -> Self {
        let services = Services::start();
        services.create_stream("faults", 1);
        let record = |n: usize| format!(r#"{{"n":{n},"part":{}}}"#, n % PARTITIONS).into_bytes();
        let records = (0..RECORDS).map(record).collect();
        let folder = services.path("objects");
        Self { folder, services, records, start: "trim-horizon", age: "200ms", worker: "one", is_spilled: false }
    }

    /// With windows of more than memory, and objects in a bucket of the local S3, which keeps them as files.
    fn spilled() -> Self {
        let case = Self::new();
        let made = http(case.services.endpoint("S3"), "PUT", &format!("/faults?{SIGNED}"), "");
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        let pad = "x".repeat(SPILLED_RECORD_BYTES);
        let record = |n: usize| format!(r#"{{"n":{n},"part":{},"pad":"{pad}"}}"#, n % PARTITIONS).into_bytes();
        let folder = case.services.path("local/s3/faults/objects");
        Self { records: (0..RECORDS).map(record).collect(), folder, is_spilled: true, ..case }
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
        let mut text = text.replace("\"one\"", &format!("{:?}", self.worker));
        if self.is_spilled {
            let spill = self.services.path("spill");
            text = text.replace(&format!("file://{}", self.folder.display()), "s3://faults/objects");
            text = text.replace("32MiB", "1MiB").replace("bytes = \"1MiB\"", "bytes = \"16MiB\"");
            text.push_str(&format!("[spill]\ndir = \"{}\"\nmax = \"64MiB\"\n", spill.display()));
        }
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

#[test]
fn what_left_the_stream_during_a_takeover_is_told_and_the_rest_of_its_window_is_there_once() {
    is_finished_as_far_as_it_can_be_made(Case::new());
}

#[test]
fn a_spilled_window_of_many_partitions_is_finished_as_far_as_it_can_be_made_in_a_bucket() {
    is_finished_as_far_as_it_can_be_made(Case::spilled());
}

/// A worker dies amid a window, and before another has its lease the first half of that window leaves the stream.
fn is_finished_as_far_as_it_can_be_made(case: Case) {
    const SHARD: &str = "shardId-000000000000";
    const OLD: usize = WINDOW + WINDOW / 2;
    let mut case = Case { age: "48h", ..case };
    case.services.put("faults", &case.records[..OLD]);
    let process = case.run(Some(&format!("put:{}=crash", PARTITIONS + 5)));
    eventually("the first window is checkpointed", || (lines(&case.folder).len() == WINDOW).then_some(()));
    let passes = |hours: u64| {
        let jump = format!(r#"{{"jump_ms":{}}}"#, hours * 3_600_000);
        let reply = http(case.services.endpoint("KINESIS"), "POST", "/_kinesink/clock", &jump);
        assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
    };
    passes(23);
    case.services.put("faults", &case.records[OLD..]);
    let in_stream = case.services.read_stream("faults");
    case.crashes(process);
    assert_eq!(case.left(), (true, false, Objects::Some));
    let before: BTreeMap<_, _> = objects(&case.folder).into_iter().collect();
    passes(2);
    assert_eq!(case.services.read_stream("faults").len(), RECORDS - OLD);

    case.worker = "two";
    let process = case.run(None);
    let (window, rest) = (&in_stream[WINDOW..2 * WINDOW], &in_stream[OLD..2 * WINDOW]);
    let of = |records: &[(String, String, Vec<u8>)]| (records[0].1.clone(), records.last().unwrap().1.clone());
    let ((first, last), (first_left, last_left)) = (of(window), of(rest));
    eventually("the shard halts and says what is left", || {
        let log = case.log();
        let left = log.lines().find(|line| line.contains("left in the stream"))?;
        [&first, &last, &first_left, &last_left].iter().all(|position| left.contains(*position)).then_some(())
    });
    assert_eq!(
        objects(&case.folder).into_iter().collect::<BTreeMap<_, _>>(),
        before,
        "nothing is made of it before somebody has decided"
    );
    let asked = ["leases", "faults", "--finish-plan", SHARD, "--yes"];
    let asked = output(case.services.kinesink().args(asked));
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
    eventually("the window is checkpointed", || {
        (case.services.checkpoints("faults").get(SHARD)? == &last).then_some(())
    });
    // What came after it is not enough for a window, and is flushed.
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let landed = lines(&case.folder);
    let there: BTreeMap<_, _> = objects(&case.folder).into_iter().collect();
    assert!(landed.values().all(|count| *count == 1), "some are there twice: {log}");
    assert!(before.iter().all(|(path, lines)| there.get(path) == Some(lines)), "what was there stays as it was");
    let gone = |record: &Vec<u8>| {
        case.records[WINDOW..OLD].contains(record) && !before.values().flatten().any(|line| line == record)
    };
    let expected: BTreeSet<_> = case.records.iter().filter(|record| !gone(record)).cloned().collect();
    assert_eq!(landed.into_keys().collect::<BTreeSet<_>>(), expected);
}
