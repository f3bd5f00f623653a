//! Dead letters in a bucket, and what replays note beside them: the local S3, behind a policy that denies what a test says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::harness::{Process, Services, eventually, lines, objects};
use crate::proxy::{self, Answer};
use crate::replay::{killed_at_work, record, write_file};

const RECORDS: usize = 200;
const STRICT: &str = r#"if .bad then error("bad") else . end"#;
const BUCKET: &str = "letters-bucket";
const DENIED: Answer = Answer {
    status: "403 Forbidden",
    kind: "application/xml",
    text: "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
};

/// What the keys end with that may not be put; nothing is denied without it.
type Policy = Arc<Mutex<Option<&'static str>>>;

/// The bucket's service, on a state of its own.
struct Bucket {
    services: Services,
    url: String,
    policy: Policy,
    _process: Process,
    _state: tempfile::TempDir,
    /// Where its objects are, as plain files.
    folder: PathBuf,
}

impl Bucket {
    fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("local/s3").join(BUCKET);
        std::fs::create_dir_all(&folder).unwrap();
        let (services, process) = Services::start_in(state.path());
        let policy = Policy::default();
        let denied = Arc::clone(&policy);
        let url = proxy::start(services.endpoint("S3"), move |head| {
            let target = head.strip_prefix("PUT ")?.split([' ', '?']).next()?;
            denied.lock().unwrap().is_some_and(|end| target.ends_with(end)).then_some(DENIED)
        });
        Self { services, url, policy, _process: process, _state: state, folder }
    }

    fn deny(&self, end: Option<&'static str>) {
        *self.policy.lock().unwrap() = end;
    }

    /// The pipeline's file: objects and letters in the bucket.
    fn file(&self, jq: &str) -> PathBuf {
        let unused = Path::new("/objects");
        let file = write_file(&self.services, unused, jq);
        let dead = format!("file://{}", self.services.path("dead").display());
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("file:///objects", &format!("s3://{BUCKET}/objects"));
        std::fs::write(&file, text.replace(&dead, &format!("s3://{BUCKET}/dead"))).unwrap();
        file
    }

    fn command(&self, name: &str, file: &Path) -> std::process::Command {
        let mut command = self.services.kinesink();
        command.env("AWS_ENDPOINT_URL_S3", &self.url).arg(name).arg(file);
        command
    }

    fn replayed(&self, file: &Path) -> (Option<i32>, String) {
        let output = self.command("replay", file).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    /// Where the objects of the sink are.
    fn landed(&self) -> PathBuf {
        self.folder.join("objects")
    }

    /// Every fifth record is in the dead letters, the others in objects.
    fn refused(&self, records: &[Vec<u8>], file: &Path) {
        self.services.create_stream("letters", 1);
        self.services.put("letters", records);
        let process = Process::start(self.command("run", file), &self.services.path("run.log"));
        let good = records.len() - records.len().div_ceil(5);
        eventually("what is good lands", || (lines(&self.landed()).len() == good).then_some(()));
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
    }
}

fn once(records: &[Vec<u8>]) -> BTreeMap<Vec<u8>, usize> {
    records.iter().map(|record| (record.clone(), 1)).collect()
}

#[test]
fn letters_in_a_bucket_are_sent_once_whatever_is_killed_and_what_is_refused_again_by_the_next_replay() {
    let bucket = Bucket::start();
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let few = |jq: &str| {
        let file = bucket.file(jq);
        let text = std::fs::read_to_string(&file).unwrap().replace("records = 30", "records = 10");
        std::fs::write(&file, text).unwrap();
        file
    };
    let file = few(STRICT);
    bucket.refused(&records, &file);
    // Every second one of them is mended.
    few(r#"if .n % 10 == 0 then error("bad") else . end"#);
    let start = || Process::start(bucket.command("replay", &file), &bucket.services.path("replay.log"));
    killed_at_work(&bucket.landed(), 4, start);
    let at_once: Vec<_> = (0..2).map(|_| start()).collect();
    for process in at_once {
        assert_eq!(process.wait().code(), Some(1), "some are refused again");
    }
    let landed = objects(&bucket.landed());
    let (code, told) = bucket.replayed(&file);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(": 0 outputs delivered, 0 filtered, 20 refused again"), "{told}");
    assert!(told.contains("20 outputs had been delivered by earlier replays"), "{told}");
    assert!(objects(&bucket.landed()) == landed, "a second replay changes nothing");

    few(".");
    let (code, told) = bucket.replayed(&file);
    assert!(code == Some(0) && told.contains(": 20 outputs delivered, 0 filtered, 0 refused again"), "{told}");
    assert!(lines(&bucket.landed()) == once(&records), "each is there once");
    let landed = objects(&bucket.landed());
    let names = |end: &str| landed.iter().filter(|(path, _)| path.to_string_lossy().ends_with(end)).count();
    assert!(names("-replay.ndjson") > 1 && names("-replay.ndjson") == names("-replay-2.ndjson"), "{landed:?}");
    for jq in [".n", STRICT] {
        few(jq);
        let (code, told) = bucket.replayed(&file);
        assert!(code == Some(0) && told.starts_with("0 records"), "{told}");
        assert!(told.contains("40 outputs had been delivered by earlier replays"), "{told}");
    }
    assert!(objects(&bucket.landed()) == landed, "whatever the file makes of them now");
}

#[test]
fn a_policy_that_denies_a_note_is_told_with_the_remedy_and_nothing_is_there_twice() {
    let bucket = Bucket::start();
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let file = bucket.file(STRICT);
    bucket.refused(&records, &file);
    bucket.file(".");
    let good = lines(&bucket.landed());
    // Of a round's begin: nothing is sent that would not be known of.
    for (end, delivered) in [("-replay-1.json", 0), ("-replay-1-done.json", 40), ("-replay-1-done.json", 40)] {
        bucket.deny(Some(end));
        let (code, told) = bucket.replayed(&file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(&format!(": {delivered} outputs delivered")), "{end}: {told}");
        assert!(told.contains("of the windows could not be replayed:\n  records "), "{told}");
        let note = format!("cannot write s3://{BUCKET}/dead/letters/shardId-000000000000/.");
        assert!(told.contains(&note) && told.contains(&format!("{end}: AccessDenied: ")), "{told}");
        assert!(told.contains(&format!("allow s3:PutObject and s3:GetObject on the objects of {BUCKET}")), "{told}");
        let now = lines(&bucket.landed());
        assert!(now == if delivered == 0 { good.clone() } else { once(&records) }, "{end}: {told}");
    }
    let landed = objects(&bucket.landed());
    bucket.deny(None);
    for before in [0, 40] {
        let (code, told) = bucket.replayed(&file);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains(&format!(": {} outputs delivered", 40 - before)), "{told}");
    }
    assert!(objects(&bucket.landed()) == landed, "what is there is not changed");
}

/// A block is read by its range; letters lie across two.
#[test]
fn letters_that_take_more_than_one_request_are_read_whole() {
    let bucket = Bucket::start();
    let pad = "x".repeat(380_000);
    let record = |n: usize| format!(r#"{{"n":{n},"bad":{},"pad":"{pad}"}}"#, n > 0).into_bytes();
    let records: Vec<_> = (0..25).map(record).collect();
    let large = |jq: &str| {
        let file = bucket.file(jq);
        let text = std::fs::read_to_string(&file).unwrap().replace("bytes = \"1MiB\"", "bytes = \"64MiB\"");
        std::fs::write(&file, text.replace("age = \"200ms\"", "age = \"2s\"").replace("32MiB", "256MiB")).unwrap();
        file
    };
    let file = large(STRICT);
    bucket.services.create_stream("letters", 1);
    for few in records.chunks(5) {
        bucket.services.put("letters", few);
    }
    let process = Process::start(bucket.command("run", &file), &bucket.services.path("run.log"));
    let letters = || objects(&bucket.folder.join("dead")).iter().map(|(_, lines)| lines.len()).sum::<usize>();
    eventually("the letters are there", || (letters() == 24).then_some(()));
    assert_eq!(process.terminate().0, 0);
    let largest = objects(&bucket.folder.join("dead")).iter().map(|(path, _)| path.metadata().unwrap().len()).max();
    assert!(largest > Some(8 * 1024 * 1024), "{largest:?}: one block");

    large(".");
    let (code, told) = bucket.replayed(&file);
    assert!(code == Some(0) && told.contains(": 24 outputs delivered"), "{told}");
    assert!(lines(&bucket.landed()) == once(&records), "each is there once");
}
