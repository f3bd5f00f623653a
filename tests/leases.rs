//! `kinesink leases`: what it shows, what it refuses, and edits of a table that workers use.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use serde_json::Value;

use crate::harness::{Process, Services, eventually, kinesink, lines, numbered, objects, output, pipeline_toml, text};

const APP: &str = "leases";
const FIRST: &str = "shardId-000000000000";

fn file(services: &Services, worker: &str, failover: &str) -> std::path::PathBuf {
    let toml = pipeline_toml(APP, APP, &services.path("objects"), "");
    let toml = toml.replace("\"one\"", &format!("{worker:?}")).replace("\"3s\"", &format!("{failover:?}"));
    let file = services.path(&format!("{worker}.toml"));
    std::fs::write(&file, toml).unwrap();
    file
}

fn start(services: &Services, worker: &str, failover: &str) -> Process {
    let mut command = services.kinesink();
    command.arg("run").arg(file(services, worker, failover));
    Process::start(command, &services.path(&format!("{worker}.log")))
}

/// A stream of two shards, read to its end by a worker that has left.
fn read_once() -> Services {
    let services = Services::start();
    services.create_stream(APP, 2);
    services.put(APP, &numbered(0, 300));
    let worker = start(&services, "one", "3s");
    eventually("all records land", || (lines(&services.path("objects")).len() == 300).then_some(()));
    let (code, log) = worker.terminate();
    assert_eq!(code, 0, "{log}");
    services
}

fn leases(services: &Services, arguments: &[&str]) -> Output {
    output(services.kinesink().args(["--log-level", "warn", "leases"]).args(arguments))
}

fn rows(services: &Services) -> BTreeMap<String, String> {
    let reply = services.block_on(services.dynamodb.scan().table_name(APP).send()).unwrap();
    let sorted = |row: &std::collections::HashMap<String, AttributeValue>| {
        let row: BTreeMap<_, _> = row.iter().collect();
        format!("{row:?}")
    };
    reply.items().iter().map(|row| (row["leaseKey"].as_s().unwrap().clone(), sorted(row))).collect()
}

#[test]
fn what_cannot_be_is_named_and_nothing_is_written() {
    let services = read_once();
    let before = rows(&services);
    let checkpoints = services.checkpoints(APP);
    let of_the_other = checkpoints["shardId-000000000001"].clone();
    services.create_stream("another", 1);
    services.put("another", &numbered(0, 1));
    let of_another_stream = services.read_stream("another").remove(0).1;
    let cases: [(&[&str], i32, &str); 23] = [
        (&[APP, "--drop-plan", FIRST, "--yes"], 2, "has no plan"),
        (&[APP, "--finish-plan", FIRST, "--yes"], 2, "has no plan"),
        (&["nobody"], 3, "region and account, or name the table with --table"),
        (&[APP, "--stream", "no/name"], 2, "no/name"),
        (&["nowhere.toml"], 2, "nowhere.toml"),
        (&[APP, "--yes"], 2, "--move"),
        (&[APP, "--move", FIRST], 2, "2 values"),
        (&[APP, "--move", FIRST, "latest", "--release", "one"], 2, "cannot be used with"),
        (&[APP, "--move", FIRST, "latest"], 2, "add --yes"),
        (&[APP, "--move", FIRST, "latest", "--dry-run"], 2, "add --stream"),
        (&[APP, "--stream", APP, "--move", FIRST, "tomorrow", "--yes"], 2, "is no position"),
        (&[APP, "--stream", APP, "--move", FIRST, "2999-01-01T00:00:00Z", "--yes"], 2, "has not come yet"),
        (
            &[APP, "--stream", APP, "--move", "shardId-000000000007", "latest", "--yes"],
            2,
            "no lease shardId-000000000007",
        ),
        (&[APP, "--stream", APP, "--move", FIRST, &of_the_other, "--yes"], 2, "is of shard shardId-000000000001"),
        (&[APP, "--stream", APP, "--move", FIRST, &of_another_stream, "--yes"], 2, "is no position of shard"),
        (&[APP, "--stream", APP, "--move", FIRST, "shard-end", "--yes"], 2, "has not been read to its end"),
        (&[APP, "--stream", "missing", "--move", FIRST, "latest", "--yes"], 3, "missing"),
        (&[APP, "--release", "stranger", "--yes"], 2, "owns no lease of the table; nobody does"),
        (&[APP, "--assign", "one", "shardId-000000000007", "--yes"], 2, "no lease shardId-000000000007"),
        (&[APP, "--assign", "one"], 2, "2 values required"),
        (&[APP, "--assign", "", FIRST, "--yes"], 2, "no worker can be called"),
        (&[APP, "--assign", "a\n\u{1b}[31mb", FIRST, "--yes"], 2, "no worker can be called"),
        (&[APP, "--table", "zz"], 2, "the lease table cannot be"),
    ];
    for (arguments, code, said) in cases {
        let refused = leases(&services, arguments);
        let says = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {says}");
        assert!(says.contains(said), "{arguments:?}: {said:?} is missing in\n{says}");
    }
    assert_eq!(rows(&services), before);
}

#[test]
fn a_table_that_is_no_lease_table_and_a_row_that_is_no_lease_are_named() {
    let services = Services::start();
    for (table, key) in [("users", "id"), ("rows", "leaseKey")] {
        let attribute = AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S);
        let keys = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build().unwrap();
        let create = services.dynamodb.create_table().table_name(table).key_schema(keys);
        let create = create.attribute_definitions(attribute.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
        services.block_on(create.send()).unwrap();
        let item = services.dynamodb.put_item().table_name(table).item(key, AttributeValue::S("x".into()));
        services.block_on(item.send()).unwrap();
    }
    let refused = leases(&services, &["users"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("no lease table: its key is id"), "{}", text(&refused.stderr));
    let refused = leases(&services, &["rows"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("row \"x\""), "{}", text(&refused.stderr));
}

#[test]
fn the_lag_comes_from_the_stream_and_is_unknown_without_it() {
    let services = read_once();
    let json = |arguments: &[&str]| {
        let shown = leases(&services, arguments);
        assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
        let objects = text(&shown.stdout);
        objects.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert!(json(&[APP, "--json"]).iter().all(|lease| lease["lag_ms"].is_null()));
    let table = text(&leases(&services, &[APP]).stdout);
    assert_eq!(table.matches("unknown").count(), 2, "{table}");
    assert!(json(&[APP, "--stream", APP, "--json"]).iter().all(|lease| lease["lag_ms"] == 0));
    // The pipeline file names the stream.
    let file = services.path("one.toml");
    let file = file.to_str().unwrap();
    assert!(json(&[file, "--json"]).iter().all(|lease| lease["lag_ms"] == 0));
    services.put(APP, &numbered(300, 340));
    crate::harness::pause(std::time::Duration::from_millis(100));
    let behind = json(&[file, "--json"]);
    assert!(behind.iter().all(|lease| lease["lag_ms"].as_u64().unwrap() >= 100), "{behind:?}");
}

/// The command that the output says undoes it, as arguments after `kinesink leases`.
fn undo(shown: &str) -> Vec<String> {
    let line = shown.lines().find_map(|line| line.strip_prefix("to undo: kinesink leases "));
    let words = line.unwrap_or_else(|| panic!("no undo in\n{shown}")).split(' ');
    words.map(str::to_owned).chain(["--yes".to_owned()]).collect()
}

#[test]
fn a_move_says_what_it_skips_or_repeats_and_its_undo_leads_back() {
    let services = read_once();
    let before = services.checkpoints(APP);
    let again = [APP, "--stream", APP, "--move", FIRST, "trim-horizon"];
    let dry = leases(&services, &[&again[..], &["--dry-run"]].concat());
    let shown = text(&dry.stdout);
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry.stderr));
    for part in ["before", "after", "TRIM_HORIZON", &before[FIRST], "minutes of records would be delivered again"] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    assert!(shown.contains("nothing was written"), "{shown}");
    assert_eq!(services.checkpoints(APP), before);

    let moved = leases(&services, &[&again[..], &["--yes"]].concat());
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
    assert_eq!(services.checkpoints(APP)[FIRST], "TRIM_HORIZON");
    let skipping = leases(&services, &[APP, "--stream", APP, "--move", FIRST, "latest", "--dry-run", "--json"]);
    let skipping: Value = serde_json::from_str(&text(&skipping.stdout)).unwrap();
    assert!(skipping["skipped_ms"].as_i64().unwrap() > 0, "{skipping}");
    assert_eq!((&skipping["written"], &skipping["before"]["checkpoint"]), (&false.into(), &"TRIM_HORIZON".into()));
    let skipping = leases(&services, &[APP, "--stream", APP, "--move", FIRST, "latest", "--dry-run"]);
    assert!(text(&skipping.stdout).contains("would be skipped"), "{}", text(&skipping.stdout));

    let back = undo(&text(&moved.stdout));
    let back = leases(&services, &back.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(back.status.code(), Some(0), "{}", text(&back.stderr));
    assert_eq!(services.checkpoints(APP), before);
}

#[test]
fn a_move_back_among_records_that_came_together_was_said_to_skip_some() {
    let services = read_once();
    // In one call, so that all of them arrived in one millisecond.
    services.put(APP, &numbered(600, 1_000));
    let back = leases(&services, &[APP, "--stream", APP, "--move", FIRST, "trim-horizon", "--dry-run"]);
    assert!(text(&back.stdout).contains("would be delivered again"), "{}", text(&back.stdout));
    let first = services.read_stream(APP).into_iter().find(|(shard, _, _)| shard == FIRST).unwrap().1;
    let back = leases(&services, &[APP, "--stream", APP, "--move", FIRST, &first, "--dry-run"]);
    assert!(text(&back.stdout).contains("would be delivered again"), "{}", text(&back.stdout));
}

#[test]
fn a_live_worker_loses_a_moved_lease_and_delivers_from_there() {
    let services = Services::start();
    services.create_stream(APP, 1);
    services.put(APP, &numbered(0, 300));
    let worker = start(&services, "one", "3s");
    let landed = || lines(&services.path("objects")).len();
    eventually("all records land", || (landed() == 300).then_some(()));
    let last = services.read_stream(APP).pop().unwrap().1;
    eventually("the checkpoint is there", || (services.checkpoints(APP)[FIRST] == last).then_some(()));
    for (object, _) in objects(&services.path("objects")) {
        std::fs::remove_file(object).unwrap();
    }
    let moved = leases(&services, &[APP, "--stream", APP, "--move", FIRST, "trim-horizon", "--yes"]);
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
    assert!(text(&moved.stdout).contains("one loses the lease"), "{}", text(&moved.stdout));
    eventually("all records land again", || (landed() == 300).then_some(()));
    let (code, log) = worker.terminate();
    assert_eq!(code, 0, "{log}");
    assert_eq!(log.matches("lease taken").count(), 2, "{log}");
}

#[test]
fn the_leases_of_a_dead_worker_are_released_for_the_next_and_the_undo_gives_them_back() {
    let services = Services::start();
    services.create_stream(APP, 2);
    let dead = start(&services, "dead", "1h");
    eventually("it owns both", || (services.owners(APP).len() == 2).then_some(()));
    dead.kill();
    let released = leases(&services, &[APP, "--release", "dead", "--yes"]);
    assert_eq!(released.status.code(), Some(0), "{}", text(&released.stderr));
    assert!(services.owners(APP).is_empty());
    let back = undo(&text(&released.stdout));
    let back = leases(&services, &back.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(back.status.code(), Some(0), "{}", text(&back.stderr));
    let owners: Vec<_> = services.owners(APP).into_values().collect();
    assert_eq!(owners, ["dead", "dead"]);
    let again = undo(&text(&back.stdout));
    assert_eq!(again[..2], [APP.to_owned(), "--release".to_owned()]);
    let again = leases(&services, &again.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    // Long before the hour is over.
    let next = start(&services, "next", "1h");
    eventually("the next owns both", || {
        let owners = services.owners(APP);
        (owners.len() == 2 && owners.values().all(|owner| owner == "next")).then_some(())
    });
    let (code, log) = next.terminate();
    assert_eq!(code, 0, "{log}");
}

/// On a terminal of its own, with this answer.
#[cfg(target_os = "linux")]
fn asked(services: &Services, answer: &str, arguments: &str) -> Output {
    use std::io::Write as _;
    let command = format!("{} --log-level warn leases {arguments}", env!("CARGO_BIN_EXE_kinesink"));
    let environment = services.kinesink();
    let mut script = std::process::Command::new("script");
    script.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_it_asks_and_writes_only_after_yes() {
    let services = read_once();
    let before = services.checkpoints(APP);
    let arguments = format!("{APP} --stream {APP} --move {FIRST} trim-horizon");
    for answer in ["n\n", "\n"] {
        let refused = asked(&services, answer, &arguments);
        let says = text(&refused.stdout);
        assert_eq!(refused.status.code(), Some(1), "{says}");
        assert!(says.contains("Write this? [y/N]") && says.contains("nothing was written"), "{says}");
        assert_eq!(services.checkpoints(APP), before);
    }
    let written = asked(&services, "y\n", &arguments);
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stdout));
    assert_eq!(services.checkpoints(APP)[FIRST], "TRIM_HORIZON");
}

#[test]
fn a_plan_is_dropped_and_the_checkpoint_stays() {
    let services = read_once();
    let checkpoint = services.checkpoints(APP)[FIRST].clone();
    let announce = services.dynamodb.update_item().table_name(APP).key("leaseKey", AttributeValue::S(FIRST.into()));
    let announce = announce.update_expression(
        "SET pendingCheckpoint = :pending, pendingCheckpointSubSequenceNumber = :sub, pendingCheckpointState = :plan",
    );
    let announce = announce
        .expression_attribute_values(":pending", AttributeValue::S(format!("{checkpoint}0")))
        .expression_attribute_values(":sub", AttributeValue::N("0".into()))
        .expression_attribute_values(":plan", AttributeValue::B(b"KNSP\x07".to_vec().into()));
    services.block_on(announce.send()).unwrap();

    // A worker does not pass what it cannot read.
    let worker = start(&services, "two", "3s");
    eventually("the shard halts", || worker.log().contains("--drop-plan").then_some(()));
    let unreadable = leases(&services, &[APP, "--finish-plan", FIRST, "--yes"]);
    assert_eq!(unreadable.status.code(), Some(2));
    assert!(text(&unreadable.stderr).contains("version 7"), "{}", text(&unreadable.stderr));
    let looked = leases(&services, &[APP, "--drop-plan", FIRST, "--dry-run"]);
    assert!(text(&looked.stdout).contains("may be there twice"), "{}", text(&looked.stdout));
    let dropped = leases(&services, &[APP, "--drop-plan", FIRST, "--yes"]);
    assert_eq!(dropped.status.code(), Some(0), "{}", text(&dropped.stderr));
    services.put(APP, &numbered(300, 400));
    eventually("the shard goes on", || (lines(&services.path("objects")).len() == 400).then_some(()));
    let (code, log) = worker.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(!rows(&services)[FIRST].contains("pendingCheckpoint"));
    assert!(lines(&services.path("objects")).into_values().all(|count| count == 1));
}

#[test]
fn a_window_that_cannot_be_kept_is_finished_as_it_is_and_what_exists_stays() {
    let services = read_once();
    let folder = services.path("objects");
    let (object, _) = objects(&folder).into_iter().find(|(path, _)| path.to_string_lossy().contains(FIRST)).unwrap();
    let before = std::fs::read(&object).unwrap();
    let label = object.with_file_name(format!(".{}.json", object.file_name().unwrap().to_string_lossy()));
    let mut says: Value = serde_json::from_slice(&std::fs::read(&label).unwrap()).unwrap();
    says["digest"] = "0".repeat(32).into();
    std::fs::write(&label, says.to_string()).unwrap();
    let moved = leases(&services, &[APP, "--stream", APP, "--move", FIRST, "trim-horizon", "--yes"]);
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));

    let worker = start(&services, "two", "3s");
    eventually("the shard halts", || worker.log().contains("exists with other content").then_some(()));
    let looked = leases(&services, &[APP, "--finish-plan", FIRST, "--dry-run"]);
    assert!(text(&looked.stdout).contains("objects that exist stay as they are"), "{}", text(&looked.stdout));
    let asked = leases(&services, &[APP, "--finish-plan", FIRST, "--yes"]);
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
    assert!(text(&asked.stdout).contains("it cannot be undone"), "{}", text(&asked.stdout));
    services.put(APP, &numbered(300, 400));
    eventually("the shard goes on", || (lines(&folder).len() == 400).then_some(()));
    let (code, log) = worker.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("the object has other content and is kept, as was asked"), "{log}");
    assert_eq!(std::fs::read(&object).unwrap(), before);
    assert!(lines(&folder).into_values().all(|count| count == 1));
}

#[test]
fn a_table_that_kcl_3_uses_is_warned_of() {
    let services = read_once();
    let quiet = leases(&services, &[APP]);
    assert!(!text(&quiet.stderr).contains("KCL 3.x"), "{}", text(&quiet.stderr));
    let asking = file(&services, "asking", "3s");
    let toml = std::fs::read_to_string(&asking).unwrap().replace("[lease]", "[lease]\ncoordination = \"kcl-3\"");
    assert!(toml.contains("kcl-3"), "{toml}");
    std::fs::write(&asking, toml).unwrap();
    let warned = leases(&services, &[asking.to_str().unwrap()]);
    assert_eq!(warned.status.code(), Some(0));
    assert!(text(&warned.stderr).contains("makes the application one of KCL 3.x"), "{}", text(&warned.stderr));
    let text_of = |value: &str| AttributeValue::S(value.to_owned());
    let row = services.dynamodb.put_item().table_name(APP).item("leaseKey", text_of("Migration3.0"));
    let row = row.item("entityType", text_of("CLIENT_VERSION_MIGRATION")).item("cv", text_of("CLIENT_VERSION_3X"));
    services.block_on(row.send()).unwrap();
    let warned = leases(&services, &[APP]);
    assert_eq!(warned.status.code(), Some(0));
    assert!(text(&warned.stderr).contains("KCL 1.x and 2.x keep what they hold"), "{}", text(&warned.stderr));
}

#[test]
fn one_edit_at_a_time_is_taken_and_no_second_one_is_passed_over() {
    for edit in [["--move", FIRST, "latest"].as_slice(), &["--release", "one"], &["--assign", "one", FIRST]] {
        let refused = output(kinesink().args(["leases", APP]).args(edit).args(edit).arg("--yes"));
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{edit:?}: {said}");
        assert!(said.contains("cannot be used multiple times"), "{edit:?}: {said}");
    }
}
