//! Dead letters come back once, whatever was killed while they were written.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::{Process, Services, eventually, lines, objects, pause, pipeline_toml};

const RECORDS: usize = 600;
const QUARTER: &str = "85070591730234615865843651857942052864";

fn record(n: usize) -> Vec<u8> {
    format!(r#"{{"n":{n},"bad":{}}}"#, n.is_multiple_of(5)).into_bytes()
}

fn write_file(services: &Services, folder: &Path, jq: &str) -> std::path::PathBuf {
    let file = services.path("letters.toml");
    let text = pipeline_toml("letters", "letters", folder, "").replace("records = 200", "records = 30");
    let dead = services.path("dead");
    let text = text.replacen("[[sink]]", &format!("[transform]\njq = '{jq}'\n[[sink]]"), 1);
    std::fs::write(&file, format!("{text}\n[dead_letter]\nurl = \"file://{}\"\n", dead.display())).unwrap();
    file
}

fn replayed(services: &Services, file: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = services.kinesink().arg("replay").arg(file).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

/// What arrived in the middle, through kills, a split and a merge, into another place: once. Then where the file says: once
/// more.
#[test]
fn a_time_range_lands_once_in_another_place_whatever_is_killed_and_with_force_once_more_in_its_own() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let folder = services.path("objects");
    let file = write_file(&services, &folder, ".");
    let put = |part: usize| services.put("letters", &(200 * part..200 * (part + 1)).map(record).collect::<Vec<_>>());
    // A moment between the last record and the next.
    let moment = || {
        let newest = services.arrivals_ms("letters").into_iter().map(|(_, arrival_ms)| arrival_ms).max().unwrap();
        pause(Duration::from_millis(5));
        // The SDK reads a time as a fraction of seconds, and tells the millisecond below it.
        jiff::Timestamp::from_millisecond(newest + 2).unwrap().to_string()
    };
    put(0);
    let from = moment();
    put(1);
    let split = services.kinesis.split_shard().stream_name("letters").shard_to_split("shardId-000000000000");
    services.block_on(split.new_starting_hash_key(QUARTER).send()).unwrap();
    put(2);
    eventually("the stream is active", || {
        let request = services.kinesis.describe_stream_summary().stream_name("letters").send();
        let reply = services.block_on(request).unwrap();
        (reply.stream_description_summary().unwrap().stream_status().as_str() == "ACTIVE").then_some(())
    });
    // Shard 0 became 2 and 3; 3 and 1 are neighbours.
    let merge = services.kinesis.merge_shards().stream_name("letters").shard_to_merge("shardId-000000000003");
    services.block_on(merge.adjacent_shard_to_merge("shardId-000000000001").send()).unwrap();
    put(3);
    let to = moment();
    put(4);
    let wanted: std::collections::BTreeMap<_, _> = (200..800).map(|n| (record(n), 1)).collect();

    let again = services.path("again");
    let into = format!("file://{}", again.display());
    let replay = |place: &[&str]| {
        let mut command = services.kinesink();
        command.arg("replay").arg(&file).args(["--from", &from, "--to", &to]).args(place);
        command
    };
    for kill in 0..3 {
        let before = objects(&again).len();
        let process = Process::start(replay(&["--into", &into]), &services.path("replay.log"));
        eventually("an object lands", || (objects(&again).len() > before || lines(&again) == wanted).then_some(()));
        pause(Duration::from_millis(15 * kill));
        process.kill();
    }
    let told = |place: &[&str]| {
        let Output { status, stdout, stderr } = replay(place).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    };
    let (code, said, log) = told(&["--into", &into]);
    assert_eq!(code, Some(0), "{log}");
    assert!(said.contains("remembers that this range is done"), "{said}");
    let lines_again = lines(&again);
    assert_eq!(lines_again.len(), wanted.len());
    assert!(lines_again == wanted, "a record is there twice");
    let landed = objects(&again);
    let (code, said, log) = told(&["--into", &into]);
    assert_eq!(code, Some(0), "{log}");
    assert!(said.starts_with("0 records from"), "{said}");
    assert!(objects(&again) == landed, "the same command changes nothing");

    let (code, _, log) = told(&["--into", &format!("file://{}/again", folder.display())]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("would find each record twice"), "{log}");
    assert_eq!(lines(&folder).len(), 0);
    let (code, _, log) = told(&["--force"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(lines(&folder) == wanted);
}

#[test]
fn a_time_range_that_is_none_is_refused_before_anything_is_started() {
    let services = Services::start();
    let file = write_file(&services, &services.path("objects"), ".");
    for (arguments, says) in [
        (&["--from", "2026-01-01T00:00:00Z"][..], "--to"),
        (&["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z"], "--into"),
        (&["--to", "2026-01-02T00:00:00Z", "--force"], "--from"),
        (&["--from", "2026-01-02T00:00:00Z", "--to", "2026-01-02T00:00:00Z", "--force"], "has to come after"),
        (&["--from", "2026-01-01T00:00:00Z", "--to", "2999-01-01T00:00:00Z", "--force"], "has not come yet"),
        (&["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-02T00:00:00Z", "--into", "orders"], "s3://bucket/prefix"),
        (&["--from", "yesterday", "--to", "2026-01-02T00:00:00Z", "--force"], "--from"),
    ] {
        let Output { status, stderr, .. } =
            services.kinesink().arg("replay").arg(&file).args(arguments).output().unwrap();
        let log = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {log}");
        assert!(log.contains(says), "{arguments:?}: {log}");
    }
}

#[test]
fn dead_letters_are_delivered_once_however_often_they_are_replayed() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let folder = services.path("objects");
    let strict = r#"if .bad then error("bad") else . end"#;
    let file = write_file(&services, &folder, strict);
    let start = || {
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };
    for round in 0..3 {
        let records: Vec<_> = (RECORDS / 3 * round..RECORDS / 3 * (round + 1)).map(record).collect();
        let before = objects(&folder).len();
        let process = start();
        services.put("letters", &records);
        eventually("an object lands", || (objects(&folder).len() > before).then_some(()));
        pause(Duration::from_millis(40 * round as u64));
        process.kill();
    }
    let good = RECORDS - RECORDS / 5;
    let process = start();
    eventually("what is good lands", || (lines(&folder).len() == good).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");

    // Nothing was mended.
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("120 records of") && told.contains("120 refused again") && told.contains("transform: "),
        "{told}"
    );
    assert_eq!(lines(&folder).len(), good);

    write_file(&services, &folder, ".");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.starts_with("120 records of") && told.contains("120 outputs delivered, 0 filtered, 0 refused"),
        "{told}"
    );
    let landed = objects(&folder);
    let (code, again) = replayed(&services, &file);
    assert_eq!((code, again), (Some(0), told));
    assert!(objects(&folder) == landed, "a second replay changes nothing");
    assert!(lines(&folder) == (0..RECORDS).map(|n| (record(n), 1)).collect(), "each record is there once");

    // A filter of then sees what it sees now.
    write_file(&services, &folder, "empty");
    let (code, told) = replayed(&services, &file);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("0 outputs delivered"), "{told}");
    assert!(objects(&folder) == landed);
}

#[test]
fn a_file_without_dead_letters_has_nothing_to_replay() {
    let services = Services::start();
    let file = services.path("none.toml");
    std::fs::write(&file, pipeline_toml("none", "none", &services.path("objects"), "")).unwrap();
    let output = services.kinesink().arg("replay").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("none.toml has no [dead_letter] to read from: add it"), "{said}");
}
