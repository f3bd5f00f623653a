//! Dead letters come back once, whatever was killed while they were written.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::harness::{Process, Services, eventually, lines, objects, pause, pipeline_toml};

const RECORDS: usize = 600;
const QUARTER: &str = "85070591730234615865843651857942052864";

pub(crate) fn record(n: usize) -> Vec<u8> {
    format!(r#"{{"n":{n},"bad":{}}}"#, n.is_multiple_of(5)).into_bytes()
}

pub(crate) fn write_file(services: &Services, folder: &Path, jq: &str) -> std::path::PathBuf {
    let file = services.path("letters.toml");
    let text = pipeline_toml("letters", "letters", folder, "").replace("records = 200", "records = 30");
    let dead = services.path("dead");
    let text = text.replacen("[[sink]]", &format!("[transform]\njq = '{jq}'\n[[sink]]"), 1);
    std::fs::write(&file, format!("{text}\n[dead_letter]\nurl = \"file://{}\"\n", dead.display())).unwrap();
    file
}

pub(crate) fn replayed(services: &Services, file: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = services.kinesink().arg("replay").arg(file).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// The time of the newest record, and a moment more.
pub(crate) fn moment(services: &Services) -> String {
    let newest = services.arrivals_ms("letters").into_iter().map(|(_, arrival_ms)| arrival_ms).max().unwrap();
    pause(Duration::from_millis(5));
    // The SDK reads a time as a fraction of seconds, and tells the millisecond below it.
    jiff::Timestamp::from_millisecond(newest + 2).unwrap().to_string()
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
    put(0);
    let from = moment(&services);
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
    let to = moment(&services);
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
    assert!(said.contains("remembers that this range is done: delete it to replay the range anew"), "{said}");
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
    assert!(log.contains("each record that is read now will be there once more"), "{log}");
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
    let nothing = "0 records of 0 windows: 0 outputs delivered, 0 filtered, 0 refused again\n\
                   120 outputs had been delivered by earlier replays\n";
    assert_eq!((code, &*again), (Some(0), nothing));
    assert!(objects(&folder) == landed, "a second replay changes nothing");
    assert!(lines(&folder) == (0..RECORDS).map(|n| (record(n), 1)).collect(), "each record is there once");

    // Whatever the file makes of them now: they were delivered.
    for jq in ["empty", ".n", strict] {
        write_file(&services, &folder, jq);
        assert_eq!(replayed(&services, &file), (Some(0), nothing.into()));
    }
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

/// Each would hold what it has read until the other has read the rest.
#[test]
fn two_replays_of_a_range_at_once_waited_for_each_other_for_ever() {
    let services = Services::start();
    // More than a worker takes at once.
    services.create_stream("letters", 24);
    let file = write_file(&services, &services.path("objects"), ".");
    let records: Vec<_> = (0..400).map(record).collect();
    services.put("letters", &records);
    let to = moment(&services);
    let into = format!("file://{}", services.path("again").display());
    let replay = |log: &str| {
        let mut command = services.kinesink();
        let range = ["--from", "2020-01-01T00:00:00Z", "--to", &to, "--into", &into];
        command.arg("replay").arg(&file).args(range);
        (Process::start(command, &services.path(log)), services.path(log))
    };
    let mut codes: Vec<_> = [replay("one.log"), replay("two.log")]
        .into_iter()
        .map(|(mut process, log)| {
            eventually("it ends", || (!process.is_running()).then_some(()));
            (process.wait().code(), std::fs::read_to_string(log).unwrap())
        })
        .collect();
    codes.sort();
    assert_eq!(codes[0].0, Some(0), "{}", codes[0].1);
    // Unless the first had read all before the other had anything.
    for (_, said) in codes.iter().filter(|(code, _)| *code != Some(0)) {
        assert!(
            said.contains("another process replays the same range, worker ") && said.contains("wait for it"),
            "{said}"
        );
    }
    assert!(
        lines(&services.path("again")) == records.into_iter().map(|line| (line, 1)).collect(),
        "each is there once"
    );
}

/// Kills the command at some moment after each new object.
pub(crate) fn killed_at_work(folder: &Path, rounds: u64, start: impl Fn() -> Process) {
    for round in 0..rounds {
        let before = objects(folder).len();
        let process = start();
        eventually("an object lands", || (objects(folder).len() > before).then_some(()));
        pause(Duration::from_millis(3 * round));
        process.kill();
    }
}

#[test]
fn dead_letters_land_once_whatever_is_killed_while_they_are_replayed_and_however_many_replay_them_at_once() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let folder = services.path("objects");
    // Many windows, so that the kills come amid them.
    let write_file = |jq: &str| {
        let file = write_file(&services, &folder, jq);
        let text = std::fs::read_to_string(&file).unwrap().replace("records = 30", "records = 4");
        std::fs::write(&file, text).unwrap();
        file
    };
    let file = write_file(r#"if .bad then error("bad") else . end"#);
    let records: Vec<_> = (0..3 * RECORDS).map(record).collect();
    let wanted: std::collections::BTreeMap<_, _> = records.iter().cloned().map(|line| (line, 1)).collect();
    services.put("letters", &records);
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    let good = wanted.len() - wanted.len() / 5;
    eventually("what is good lands", || (lines(&folder).len() == good).then_some(()));
    assert_eq!(process.terminate().0, 0);

    write_file(".");
    let start = || {
        let mut command = services.kinesink();
        command.arg("replay").arg(&file);
        Process::start(command, &services.path("replay.log"))
    };
    killed_at_work(&folder, 6, start);
    let landed = lines(&folder).len();
    assert!(landed < wanted.len(), "the kills came before the end");
    let at_once: Vec<_> = (0..3).map(|_| start()).collect();
    for process in at_once {
        let (code, log) = (process.wait().code(), std::fs::read_to_string(services.path("replay.log")).unwrap());
        assert_eq!(code, Some(0), "{log}");
    }
    assert!(lines(&folder) == wanted, "each is there once");
    let landed = objects(&folder);
    let (code, told) = replayed(&services, &file);
    assert!(code == Some(0) && told.contains("360 outputs had been delivered by earlier replays"), "{told}");
    assert!(objects(&folder) == landed, "a second time changes nothing");
}

#[test]
fn nothing_is_lost_of_a_range_that_is_sent_again_with_force_whatever_is_killed() {
    let services = Services::start();
    services.create_stream("letters", 2);
    let folder = services.path("objects");
    let file = write_file(&services, &folder, ".");
    let records: Vec<_> = (0..3 * RECORDS).map(record).collect();
    services.put("letters", &records);
    let to = moment(&services);
    // Behind the range: nobody asks for these.
    services.put("letters", &(9_000..9_020).map(record).collect::<Vec<_>>());
    let start = || {
        let mut command = services.kinesink();
        command.arg("replay").arg(&file).args(["--from", "2020-01-01T00:00:00Z", "--to", &to, "--force"]);
        Process::start(command, &services.path("replay.log"))
    };
    killed_at_work(&folder, 4, start);
    assert!(lines(&folder).len() < records.len(), "the kills came before the end");
    let process = start();
    let log = || std::fs::read_to_string(services.path("replay.log")).unwrap();
    assert_eq!(process.wait().code(), Some(0), "{}", log());
    let found = lines(&folder);
    assert!(
        found.keys().eq(records.iter().cloned().collect::<std::collections::BTreeSet<_>>().iter()),
        "none is missing"
    );
    // What a killed one had sent and not checkpointed is there again: a window of each shard and kill, and one that was full.
    let twice: usize = found.values().map(|count| count - 1).sum();
    assert!(twice <= 4 * 2 * 2 * 30, "{twice} are there more than once");
    let landed = objects(&folder);
    assert_eq!(start().wait().code(), Some(0), "{}", log());
    assert!(objects(&folder) == landed, "the same command does nothing more");
}
