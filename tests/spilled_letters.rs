//! Windows that are larger than memory, of which more is refused than is kept in mind: first the object, then the letters.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::commit_faults::SIGNED;
use crate::harness::{Process, Services, eventually, http, objects, output, text};
use crate::proxy::{self, Answer};
use crate::spills::pipeline;

const APP: &str = "refused";
const BUCKET: &str = "letters-bucket";
/// Of four records three are refused: more than are kept in mind, and more bytes than go into one object of letters.
const RECORDS: usize = 24_000;
const REFUSED: usize = RECORDS / 4 * 3;
const RECORD_BYTES: usize = 1000;
const SIGABRT: i32 = 6;

/// What becomes of each next object of letters: the bucket is busy (`b`), denies it (`d`) or takes it (`.`). The last goes for all that
/// follow.
type Policy = Arc<Mutex<&'static str>>;

struct Case {
    services: Services,
    records: Vec<Vec<u8>>,
    file: PathBuf,
    /// The bucket's service, and what it does.
    url: String,
    policy: Policy,
}

impl Case {
    fn new() -> Self {
        let services = Services::start();
        services.create_stream(APP, 1);
        let made = http(services.endpoint("S3"), "PUT", &format!("/{BUCKET}?{SIGNED}"), "");
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        let pad = "x".repeat(RECORD_BYTES);
        // No JSON, and no line.
        let end = |n: usize| if n.is_multiple_of(4) { "" } else { "\n" };
        let records = (0..RECORDS).map(|n| format!(r#"{{"n":{n},"pad":"{pad}{}"}}"#, end(n)).into_bytes());
        let records: Vec<Vec<u8>> = records.collect();
        services.put(APP, &records);
        let file = pipeline(&services, APP, records.len(), "{shard}-{first}-{count}");
        let toml = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{toml}\n[dead_letter]\nurl = \"s3://{BUCKET}/dead\"\n")).unwrap();
        let policy = Policy::new(Mutex::new("."));
        let asked = Arc::clone(&policy);
        let url = proxy::start(services.endpoint("S3"), move |head| {
            let target = head.strip_prefix("PUT ")?.split([' ', '?']).next()?;
            target.ends_with(".ndjson").then(|| answer(&asked)).flatten()
        });
        Self { services, records, file, url, policy }
    }

    fn command(&self, name: &str) -> std::process::Command {
        let mut command = self.services.kinesink();
        command.env("AWS_ENDPOINT_URL_S3", &self.url).arg(name).arg(&self.file);
        command
    }

    fn run(&self, policy: &'static str, more: &[&str], log: &str) -> Process {
        *self.policy.lock().unwrap() = policy;
        let mut command = self.command("run");
        command.args(more);
        Process::start(command, &self.services.path(log))
    }

    /// The objects of letters.
    fn letters(&self) -> Vec<(PathBuf, Vec<Vec<u8>>)> {
        objects(&self.services.path("local/s3").join(BUCKET).join("dead"))
    }

    fn of_refused(&self, is_refused: bool) -> Vec<Vec<u8>> {
        self.records.iter().filter(|record| record.contains(&b'\n') == is_refused).cloned().collect()
    }

    /// One window, and one object of what is not refused.
    fn object_is_there(&self) {
        let objects = objects(&self.services.path("objects"));
        assert!(objects.len() == 1 && objects[0].1 == self.of_refused(false));
    }

    fn is_checkpointed(&self) -> Option<()> {
        let checkpoints = self.services.checkpoints(APP);
        checkpoints.values().next()?.bytes().all(|byte| byte.is_ascii_digit()).then_some(())
    }
}

fn answer(policy: &Policy) -> Option<Answer> {
    let mut policy = policy.lock().unwrap();
    let (next, rest) = policy.split_at(1);
    if !rest.is_empty() {
        *policy = rest;
    }
    let (status, code) = match next {
        "b" => ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>"),
        "d" => ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
        _ => return None,
    };
    Some(Answer { status, kind: "application/xml", text: code })
}

/// Places of records that have a letter, each once.
fn once(letters: &[Vec<u8>]) -> BTreeSet<String> {
    let place = |letter: &Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(letter).unwrap()["sequence"].as_str().unwrap().to_owned()
    };
    let places: BTreeSet<String> = letters.iter().map(place).collect();
    assert_eq!(places.len(), letters.len(), "each once");
    places
}

fn lines(objects: Vec<(PathBuf, Vec<Vec<u8>>)>) -> Vec<Vec<u8>> {
    objects.into_iter().flat_map(|(_, lines)| lines).collect()
}

/// Each was kept in mind until its object was there.
#[test]
fn of_a_spilled_window_of_which_most_is_refused_each_record_is_in_an_object_or_in_the_letters_once() {
    let case = Case::new();
    let process = case.run("bbb.", &[], "run.log");
    eventually("the window is checkpointed", || case.is_checkpointed());
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    case.object_is_there();
    assert!(log.contains("failed, trying again"), "the bucket was busy: {log}");
    assert!(case.letters().len() > 1, "some are there before the window's end");
    assert_eq!(once(&lines(case.letters())).len(), REFUSED);
}

#[test]
fn whatever_fails_between_an_object_and_its_letters_loses_and_doubles_none() {
    let case = Case::new();
    let crashed = case.run(".", &["--fault=put:1=crash"], "crash.log");
    assert_eq!(crashed.wait().signal(), Some(SIGABRT));
    case.object_is_there();
    assert_eq!((case.letters().len(), case.is_checkpointed()), (0, None));

    // Some of its letters are written, and the rest cannot be.
    let process = case.run(".d", &[], "denied.log");
    eventually("the shard halts", || process.log().contains("the shard is halted").then_some(()));
    process.kill();
    case.object_is_there();
    let before = case.letters();
    assert_eq!((before.len(), case.is_checkpointed()), (1, None));
    let before = lines(before);
    assert!(once(&before).len() < REFUSED);

    let process = case.run(".", &[], "last.log");
    eventually("the window is checkpointed", || case.is_checkpointed());
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    case.object_is_there();
    // This attempt wrote each once, and those of the one before are the same.
    let mut letters = lines(case.letters());
    letters.sort();
    let again = letters.len();
    letters.dedup();
    assert_eq!((again, once(&letters).len()), (REFUSED + before.len(), REFUSED));

    // Sent again, each is there once.
    let toml = std::fs::read_to_string(&case.file).unwrap();
    let toml =
        toml.replace("format = \"ndjson\"", "format = \"raw\"").replace("memory = 8388608", "memory = \"64MiB\"");
    std::fs::write(&case.file, toml).unwrap();
    let replay = output(&mut case.command("replay"));
    assert_eq!(replay.status.code(), Some(0), "{}", text(&replay.stderr));
    let replayed = objects(&case.services.path("objects")).into_iter().map(|(path, _)| path);
    let replayed = replayed.filter(|path| path.to_string_lossy().ends_with(".raw"));
    let replayed: Vec<u8> = replayed.flat_map(|path| std::fs::read(path).unwrap()).collect();
    let mut replayed: Vec<&[u8]> = replayed.split_inclusive(|byte| *byte == b'}').collect();
    let mut refused = case.of_refused(true);
    replayed.sort();
    refused.sort();
    assert!(replayed == refused, "{}", text(&replay.stdout));
}
