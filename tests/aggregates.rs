//! Numbers of each key and minute in a DynamoDB table: each record once, whatever is killed, paused or taken over.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::harness::{Process, Services, eventually, http, output, pause, text};
use crate::kills::Random;

const STREAM: &str = "metrics";
const KEYS: u64 = 12;
const SIGABRT: i32 = 6;
const FINISHED: &str = "finished the window that was announced";

/// Windows that close by age alone.
fn pipeline(worker: &str, age: &str, more: &str) -> String {
    format!(
        r#"version = 1
app = "counting"
memory = "32MiB"
[source]
stream = "{STREAM}"
region = "us-east-1"
start = "trim-horizon"
idle = "200ms"
[lease]
worker_id = "{worker}"
failover = "3s"
[buffer]
age = "{age}"
{more}
[[sink]]
type = "dynamodb"
table = "minutes"
key = {{ id = ".id", minute = "{{window}}" }}
[sink.aggregate]
window = "1m"
event_time = {{ field = ".ts" }}
count = "count"
sum = {{ sum = ".n" }}
min = {{ least = ".n" }}
max = {{ most = ".n" }}
"#
    )
}

/// By key and minute: count, sum, least, most.
type Numbers = BTreeMap<(String, String), [i64; 4]>;

fn letters(services: &Services) -> String {
    format!("[dead_letter]\nurl = \"file://{}\"", services.path("letters").display())
}

fn start(services: &Services, worker: &str, age: &str, arguments: &[&str]) -> Process {
    let file = services.path(&format!("{worker}.toml"));
    std::fs::write(&file, pipeline(worker, age, &letters(services))).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file).arg("--create").args(arguments);
    Process::start(command, &services.path("run.log"))
}

fn log(services: &Services) -> String {
    std::fs::read_to_string(services.path("run.log")).unwrap()
}

/// What the table holds; nothing where there is none yet.
fn counted(services: &Services) -> Numbers {
    let pages = services.dynamodb.scan().table_name("minutes").consistent_read(true).into_paginator().items();
    let Ok(items) = services.block_on(pages.send().collect::<Result<Vec<_>, _>>()) else { return Numbers::new() };
    let text = |value: &AttributeValue| value.as_s().unwrap().clone();
    let number = |value: &AttributeValue| value.as_n().unwrap().parse().unwrap();
    let numbers = |item: &std::collections::HashMap<String, AttributeValue>| {
        ["count", "sum", "least", "most"].map(|name| number(&item[name]))
    };
    items.iter().map(|item| ((text(&item["id"]), text(&item["minute"])), numbers(item))).collect()
}

/// What the stream's records say.
fn expected(services: &Services) -> Numbers {
    let mut expected = Numbers::new();
    for (_, _, data) in services.read_stream(STREAM) {
        let record: Value = serde_json::from_slice(&data).unwrap();
        let minute = format!("{}:00Z", record["ts"].as_str().unwrap().rsplit_once(':').unwrap().0);
        let n = record["n"].as_i64().unwrap();
        let key = (record["id"].as_str().unwrap().to_owned(), minute);
        let [count, sum, least, most] = expected.entry(key).or_insert([0, 0, n, n]);
        (*count, *sum, *least, *most) = (*count + 1, *sum + n, n.min(*least), n.max(*most));
    }
    expected
}

fn records(random: &mut Random, count: u64) -> Vec<Vec<u8>> {
    let record = |_| {
        let n = i64::try_from(random.below(2_000)).unwrap() - 1_000;
        let (key, minute, second) = (random.below(KEYS), random.below(3), random.below(60));
        let ts = format!("2026-01-31T12:0{minute}:{second:02}Z");
        json!({ "id": format!("key-{key}"), "n": n, "ts": ts }).to_string().into_bytes()
    };
    (0..count).map(record).collect()
}

/// It was announced with what there was. Since then there is more, and the next worker's windows are longer, and end elsewhere.
#[test]
fn a_window_that_age_had_closed_is_counted_as_it_was_though_it_would_end_elsewhere_now() {
    for fault in ["announced:1=crash", "delivered:1=crash", "checkpointing:1=crash"] {
        let services = Services::start();
        services.create_stream(STREAM, 1);
        let mut random = Random(7);
        services.put(STREAM, &records(&mut random, 60));
        let crashed = start(&services, "one", "200ms", &[&format!("--fault={fault}")]);
        assert_eq!(crashed.wait().signal(), Some(SIGABRT), "it crashes: {}", log(&services));
        let before = counted(&services);
        assert_eq!(before.is_empty(), fault.starts_with("announced"), "{fault}: {before:?}");
        services.put(STREAM, &records(&mut random, 60));
        let process = start(&services, "two", "700ms", &[]);
        let expected = expected(&services);
        eventually("all is counted", || (counted(&services) == expected).then_some(()));
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        assert!(log.contains(FINISHED), "{fault}: {log}");
        assert_eq!(counted(&services), expected, "{fault}");
    }
}

/// Nothing of the announced window is counted yet, and another field would be added up now.
#[test]
fn a_window_is_counted_on_by_the_settings_that_it_was_announced_with() {
    let services = Services::start();
    services.create_stream(STREAM, 1);
    let mut random = Random(8);
    services.put(STREAM, &records(&mut random, 40));
    let expected = expected(&services);
    let crashed = start(&services, "one", "200ms", &["--fault=announced:1=crash"]);
    assert_eq!(crashed.wait().signal(), Some(SIGABRT), "it crashes: {}", log(&services));
    let file = services.path("two.toml");
    let changed = pipeline("two", "200ms", &letters(&services));
    let changed = changed.replace("window = \"1m\"", "window = \"5m\"").replace("= \".n\"", "= \".other\"");
    std::fs::write(&file, changed).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    eventually("the window is counted", || (counted(&services) == expected).then_some(()));
    let (code, log) = process.terminate();
    assert!(code == 0 && log.contains(FINISHED), "{log}");
}

const SHARD: &str = "shardId-000000000000";

fn leases(services: &Services, arguments: &[&str]) {
    let edited = output(services.kinesink().args(["leases", "counting"]).args(arguments).args([SHARD, "--yes"]));
    assert_eq!(edited.status.code(), Some(0), "{arguments:?}: {}", text(&edited.stderr));
}

/// Half of an announced window leaves the stream before another worker has it. Either all of it was counted, or nothing.
#[test]
fn a_window_that_is_finished_as_far_as_it_can_be_counts_what_is_left_and_was_not_counted() {
    for fault in ["announced:1=crash", "delivered:1=crash"] {
        let services = Services::start();
        services.create_stream(STREAM, 1);
        let mut random = Random(9);
        let passes = |hours: u64| {
            let jump = format!(r#"{{"jump_ms":{}}}"#, hours * 3_600_000);
            let reply = http(services.endpoint("KINESIS"), "POST", "/_kinesink/clock", &jump);
            assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
        };
        services.put(STREAM, &records(&mut random, 30));
        passes(23);
        services.put(STREAM, &records(&mut random, 30));
        let all = expected(&services);
        let crashed = start(&services, "one", "1s", &[&format!("--fault={fault}")]);
        assert_eq!(crashed.wait().signal(), Some(SIGABRT), "it crashes: {}", log(&services));
        let is_counted = fault.starts_with("delivered");
        assert_eq!(counted(&services), if is_counted { all.clone() } else { Numbers::new() }, "{fault}");
        passes(2);
        let left = expected(&services);
        assert!(services.read_stream(STREAM).len() == 30 && left != all);
        let process = start(&services, "two", "1s", &[]);
        eventually("the shard halts", || log(&services).contains("left in the stream").then_some(()));
        leases(&services, &["--finish-plan"]);
        let expected = if is_counted { all } else { left };
        eventually("what is left is checkpointed", || log(&services).contains(FINISHED).then_some(()));
        services.put(STREAM, &[br#"{"id":"last","n":1,"ts":"2026-01-31T12:00:00Z"}"#.to_vec()]);
        let mut expected = expected;
        expected.insert(("last".into(), "2026-01-31T12:00:00Z".into()), [1, 1, 1, 1]);
        eventually("it goes on", || (counted(&services) == expected).then_some(()));
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        assert_eq!(counted(&services), expected, "{fault}");
    }
}

/// Its records are read again, in windows that begin and end elsewhere.
#[test]
fn a_window_whose_plan_is_dropped_counts_no_record_twice() {
    for fault in ["announced:1=crash", "delivered:1=crash", "checkpointing:1=crash"] {
        let services = Services::start();
        services.create_stream(STREAM, 1);
        let mut random = Random(10);
        services.put(STREAM, &records(&mut random, 60));
        let crashed = start(&services, "one", "200ms", &[&format!("--fault={fault}")]);
        assert_eq!(crashed.wait().signal(), Some(SIGABRT), "it crashes: {}", log(&services));
        let before = counted(&services);
        assert_eq!(before.is_empty(), fault.starts_with("announced"), "{fault}: {before:?}");
        leases(&services, &["--drop-plan"]);
        services.put(STREAM, &records(&mut random, 60));
        let process = start(&services, "two", "700ms", &[]);
        let expected = expected(&services);
        eventually("all is counted", || (counted(&services) == expected).then_some(()));
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        assert!(!log.contains(FINISHED), "{fault}: there is no plan: {log}");
        assert_eq!(counted(&services), expected, "{fault}");
    }
}

#[test]
fn each_record_counts_once_after_kills_takeovers_and_a_worker_that_wakes_late() {
    let services = Services::start();
    services.create_stream(STREAM, 3);
    let mut random = Random(71_118);
    let (mut zombie, mut running) = (None, start(&services, "one", "150ms", &[]));
    for round in 1..=5 {
        let before = counted(&services);
        services.put(STREAM, &records(&mut random, 400));
        eventually("the table changes", || (counted(&services) != before).then_some(()));
        pause(Duration::from_millis(random.below(150)));
        if round == 3 {
            running.signal("-STOP");
            zombie = Some(running);
        } else {
            running.kill();
        }
        running = start(&services, &format!("worker-{round}"), "150ms", &[]);
    }
    if let Some(zombie) = &zombie {
        zombie.signal("-CONT");
    }
    let expected = expected(&services);
    eventually("the table is what the stream says", || (counted(&services) == expected).then_some(()));
    for process in [Some(running), zombie].into_iter().flatten() {
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
    }
    assert_eq!(counted(&services), expected, "nothing came late");
    assert!(log(&services).contains("effectively once"));
}

#[test]
fn what_cannot_be_counted_is_a_dead_letter_and_a_table_of_another_key_is_known_at_the_start() {
    let services = Services::start();
    services.create_stream(STREAM, 1);
    let dead = services.path("dead");
    let letters = format!("[dead_letter]\nurl = \"file://{}\"", dead.display());
    let file = services.path("one.toml");
    std::fs::write(&file, pipeline("one", "200ms", &letters)).unwrap();
    let check = |arguments: &[&str]| services.kinesink().arg("check").arg(&file).args(arguments).output().unwrap();
    let checked = check(&["--create"]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && said.contains("DynamoDB table minutes, effectively once"), "{said}");
    let logged = String::from_utf8(checked.stderr).unwrap();
    for table in ["minutes", "minutes-guards"] {
        assert_eq!(logged.matches(&format!("table created table=\"{table}\"")).count(), 1, "{logged}");
    }

    let record = |n: Value| json!({ "id": "a", "n": n, "ts": "2026-01-31T12:00:00Z" }).to_string().into_bytes();
    services.put(STREAM, &[record(json!(1)), record(json!("two")), record(json!(3))]);
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    let letter =
        String::from_utf8(eventually("a dead letter lands", || crate::harness::lines(&dead).into_keys().next()))
            .unwrap();
    assert!(letter.contains("its field .n, which is counted, is text, not a number"), "{letter}");
    let key = ("a".to_owned(), "2026-01-31T12:00:00Z".to_owned());
    let expected = Numbers::from([(key, [2, 4, 1, 3])]);
    eventually("the others are counted", || (counted(&services) == expected).then_some(()));
    assert_eq!(process.terminate().0, 0);
    // What comes later has passed it by, and it counts all the same: once.
    let mended = "[transform]\njq = '.n |= if type == \"string\" then 2 else . end'\n";
    std::fs::write(&file, pipeline("one", "200ms", &format!("{letters}\n{mended}"))).unwrap();
    for delivered in ["1 outputs delivered", "1 outputs had been delivered by earlier replays"] {
        let replayed = output(services.kinesink().arg("replay").arg(&file));
        let said = text(&replayed.stdout);
        assert!(replayed.status.success() && said.contains(delivered), "{said}{}", text(&replayed.stderr));
        assert_eq!(counted(&services).into_values().collect::<Vec<_>>(), [[3, 6, 1, 3]]);
    }

    let text =
        pipeline("one", "200ms", &letters).replace("[sink.aggregate]", "[sink.aggregate]\nguards = \"counting\"");
    std::fs::write(&file, text).unwrap();
    let refused = String::from_utf8(check(&[]).stderr).unwrap();
    assert!(refused.contains("table counting has another meaning in this file"), "{refused}");
    let text = pipeline("one", "200ms", &letters).replace("minute = \"{window}\"", "at = \"{window}\"");
    std::fs::write(&file, text).unwrap();
    let refused = services.kinesink().arg("run").arg(&file).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("gives `at` in the place of `minute`"), "{said}");
}

#[test]
fn guards_that_expire_before_the_records_are_told_at_the_start_and_without_one() {
    let services = Services::start();
    services.create_stream(STREAM, 1);
    let longer = services.kinesis.increase_stream_retention_period().stream_name(STREAM).retention_period_hours(720);
    services.block_on(longer.send()).unwrap();
    let file = services.path("one.toml");
    let with = |keep: &str| {
        let kept = format!("[sink.aggregate]\n{keep}");
        std::fs::write(&file, pipeline("one", "200ms", &letters(&services)).replace("[sink.aggregate]", &kept))
            .unwrap();
        let checked = services.kinesink().arg("check").arg(&file).args(["--create", "--connect"]).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        let _started = std::fs::remove_file(services.path("run.log"));
        let process = Process::start(command, &services.path("run.log"));
        eventually("it starts", || log(&services).contains("lease ").then_some(()));
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
        (String::from_utf8(checked.stdout).unwrap(), log)
    };
    let warning = "the guards in table minutes-guards expire after 192h, and stream metrics keeps its records for 720h";
    let remedy = "set `aggregate.keep = \"744h\"`";
    let (checked, logged) = with("");
    for said in [&checked, &logged] {
        assert!(said.contains(warning) && said.contains(remedy), "{said}");
    }
    assert!(checked.contains("sink dynamodb: warning: the guards"), "{checked}");
    let (checked, logged) = with("keep = \"744h\"");
    for said in [&checked, &logged] {
        assert!(!said.contains("expire after"), "{said}");
    }
    services.fault(
        r#"[{"operation":"DescribeStreamSummary","times":9,"kind":{"error":{"code":"AccessDeniedException"}}}]"#,
    );
    let (checked, logged) = with("");
    for said in [&checked, &logged] {
        assert!(
            said.contains("whether `aggregate.keep` is longer than stream metrics keeps records is not known"),
            "{said}"
        );
    }
}
