//! The latest state of each key in a DynamoDB table, whatever is killed, paused or taken over.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, RecordDistributionStrategy, StreamMode, StreamModeDetails};
use serde_json::{Value, json};

use crate::harness::{Process, Services, eventually, pause};
use crate::kills::Random;

const ROUNDS: u64 = 8;
const RECORDS_PER_ROUND: u64 = 400;
const KEYS: u64 = 120;
const HOT_KEYS: u64 = 20;
const SEED: u64 = 71_117;

fn pipeline(worker: &str, sink: &str) -> String {
    format!(
        r#"version = 1
app = "latest"
memory = "32MiB"
[source]
stream = "latest"
region = "us-east-1"
start = "trim-horizon"
idle = "200ms"
[lease]
worker_id = "{worker}"
failover = "3s"
[buffer]
records = 100
bytes = "1MiB"
age = "200ms"
[[sink]]
type = "dynamodb"
table = "latest-items"
{sink}
"#
    )
}

const SINK: &str = r#"key = { id = ".id" }
ttl = "expires"
delete = { field = ".op", is = ["delete"] }"#;

impl Services {
    fn put_keyed(&self, stream: &str, records: &[Value]) {
        for chunk in records.chunks(250) {
            let entries = chunk.iter().map(|record| {
                let key = record["id"].as_str().unwrap();
                PutRecordsRequestEntry::builder()
                    .data(Blob::new(record.to_string()))
                    .partition_key(key)
                    .build()
                    .unwrap()
            });
            let request = self.kinesis.put_records().stream_name(stream).set_records(Some(entries.collect()));
            assert_eq!(self.block_on(request.send()).unwrap().failed_record_count(), Some(0));
        }
    }

    /// Records go to any shard from now on, whatever their keys.
    fn distribute_by_itself(&self, stream: &str) {
        let summary = self.block_on(self.kinesis.describe_stream_summary().stream_name(stream).send()).unwrap();
        let arn = summary.stream_description_summary.unwrap().stream_arn;
        let on_demand = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
        let request = self.kinesis.update_stream_mode().stream_arn(&arn).stream_mode_details(on_demand);
        self.block_on(request.send()).unwrap();
        self.until_active(stream);
        let request = self.kinesis.update_stream_record_distribution_strategy().stream_arn(arn);
        self.block_on(request.record_distribution_strategy(RecordDistributionStrategy::Auto).send()).unwrap();
        self.until_active(stream);
    }

    /// `n` of each item that is not marked as deleted.
    fn latest(&self) -> BTreeMap<String, u64> {
        let pages = self.dynamodb.scan().table_name("latest-items").consistent_read(true).into_paginator().items();
        let Ok(items) = self.block_on(pages.send().collect::<Result<Vec<_>, _>>()) else { return BTreeMap::new() };
        let live = items.iter().filter(|item| !item.contains_key("_deleted"));
        let text = |value: &AttributeValue| value.as_s().unwrap().clone();
        live.map(|item| (text(&item["id"]), item["n"].as_n().unwrap().parse().unwrap())).collect()
    }

    /// What each key's records say, one after the other.
    fn replayed(&self) -> BTreeMap<String, u64> {
        let mut state = BTreeMap::new();
        for (_, _, data) in self.read_stream("latest") {
            let record: Value = serde_json::from_slice(&data).unwrap();
            let id = record["id"].as_str().unwrap().to_owned();
            match record["op"].as_str() {
                Some("delete") => state.remove(&id),
                _ => state.insert(id, record["n"].as_u64().unwrap()),
            };
        }
        state
    }
}

/// Four of five records go to few keys; one of eight deletes.
fn records(random: &mut Random, from: u64) -> Vec<Value> {
    let record = |n| {
        let key = if random.below(5) < 4 { random.below(HOT_KEYS) } else { HOT_KEYS + random.below(KEYS - HOT_KEYS) };
        let op = if random.below(8) == 0 { "delete" } else { "put" };
        json!({ "id": format!("key-{key}"), "op": op, "n": n, "size": "a reserved word" })
    };
    (from..from + RECORDS_PER_ROUND).map(record).collect()
}

#[test]
fn the_table_is_what_each_keys_records_say_after_kills_takeovers_and_a_worker_that_wakes_late() {
    let services = Services::start();
    services.create_stream("latest", 3);
    let start = |worker: &str, create: bool| {
        let file = services.path(&format!("{worker}.toml"));
        std::fs::write(&file, pipeline(worker, SINK)).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&file).args(create.then_some("--create"));
        Process::start(command, &services.path("run.log"))
    };
    let mut random = Random(SEED);
    let (mut put, mut zombie, mut running) = (0, None, start("one", true));
    for round in 1..=ROUNDS {
        let before = services.latest();
        services.put_keyed("latest", &records(&mut random, put));
        put += RECORDS_PER_ROUND;
        eventually("the table changes", || (services.latest() != before).then_some(()));
        pause(Duration::from_millis(random.below(150)));
        if round == ROUNDS / 2 {
            // It sleeps through its lease, with requests that are not sent yet, and wakes among the others' writes.
            running.signal("-STOP");
            zombie = Some(running);
        } else {
            running.kill();
        }
        running = start(&format!("worker-{round}"), false);
    }
    if let Some(zombie) = &zombie {
        zombie.signal("-CONT");
    }
    let expected = services.replayed();
    assert!(
        expected.len() > 40 && expected.len() < usize::try_from(KEYS).unwrap(),
        "some are deleted: {}",
        expected.len()
    );
    let equal = || (services.latest() == expected).then_some(());
    eventually("the table is what the stream says", equal);
    for process in [Some(running), zombie].into_iter().flatten() {
        let (code, log) = process.terminate();
        assert_eq!(code, 0, "{log}");
    }
    assert_eq!(services.latest(), expected, "nothing came late");
    let log = std::fs::read_to_string(services.path("run.log")).unwrap();
    assert!(log.contains("effectively once"), "{log}");
}

#[test]
fn what_no_table_takes_is_a_dead_letter_and_a_key_that_the_table_has_not_is_known_at_the_start() {
    let services = Services::start();
    services.create_stream("latest", 1);
    let dead = services.path("dead");
    let file = services.path("latest.toml");
    let sink = format!("{SINK}\n[dead_letter]\nurl = \"file://{}\"", dead.display());
    std::fs::write(&file, pipeline("one", &sink)).unwrap();
    let check = |arguments: &[&str]| services.kinesink().arg("check").arg(&file).args(arguments).output().unwrap();
    let checked = check(&["--create"]);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && said.contains("DynamoDB table latest-items, effectively once"), "{said}");

    let good = json!({ "id": "a", "n": 1 });
    let elsewhere = json!({ "id": "b", "n": 2, "expires": "tomorrow" });
    services.put_keyed("latest", &[good, elsewhere]);
    let start = || {
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };
    let process = start();
    let letters = || crate::harness::lines(&dead).into_keys().next();
    let letter = String::from_utf8(eventually("a dead letter lands", letters)).unwrap();
    assert!(letter.contains("its field expires, by which the table expires items, is text"), "{letter}");
    eventually("the other item lands", || (services.latest() == BTreeMap::from([("a".into(), 1)])).then_some(()));
    assert_eq!(process.terminate().0, 0);

    std::fs::write(&file, pipeline("one", &sink.replace("{ id = \".id\" }", "{ pk = \".id\" }"))).unwrap();
    let refused = services.kinesink().arg("run").arg(&file).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("its key is `id` (text)") && said.contains("gives `pk` in the place of `id`"), "{said}");
}

#[test]
fn a_stray_record_first_condemned_all_that_were_put_right_and_a_replay_put_one_over_them() {
    let services = Services::start();
    services.create_stream("latest", 1);
    let (file, dead) = (services.path("latest.toml"), services.path("dead"));
    let sink = "key = { shop = \".shop\", id = \".id\" }\npartition_key = \"id\"";
    let letters = format!("[dead_letter]\nurl = \"file://{}\"", dead.display());
    std::fs::write(&file, pipeline("one", &format!("{sink}\n{letters}"))).unwrap();
    let call = |command: &str, arguments: &[&str]| {
        let output = services.kinesink().arg(command).arg(&file).args(arguments).output().unwrap();
        (output.status.code(), crate::harness::text(&[output.stdout, output.stderr].concat()))
    };
    let (code, said) = call("check", &["--create"]);
    let put_by = "  sink dynamodb: each record's partition key is `id` of its item's key, or the record is refused\n";
    assert!(code == Some(0) && said.contains(put_by), "{said}");

    let record = |id: &str, n: u64| json!({ "shop": "s", "id": id, "n": n });
    let put_by_shop = |record: Value| {
        let request = services.kinesis.put_record().stream_name("latest").partition_key("s");
        services.block_on(request.data(Blob::new(record.to_string())).send()).unwrap();
    };
    put_by_shop(record("a", 10));
    services.put_keyed("latest", &[record("a", 1), record("b", 2)]);
    put_by_shop(record("a", 11));
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    let process = Process::start(command, &services.path("run.log"));
    let strays = || Some(crate::harness::lines(&dead)).filter(|letters| letters.len() == 2);
    let strays = eventually("both strays are dead letters", strays);
    let state = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    eventually("the others land", || (services.latest() == state).then_some(()));
    assert_eq!(process.terminate().0, 0);
    for letter in strays.into_keys() {
        let letter = String::from_utf8(letter).unwrap();
        assert!(
            letter.contains("its partition key is `shop` of its item's key in table latest-items, and not `id`"),
            "{letter}"
        );
    }
    let (code, told) = call("replay", &[]);
    assert!(code == Some(1) && told.contains("2 refused again"), "{told}");
    assert_eq!(services.latest(), state);
}

#[test]
fn what_a_start_would_find_is_told_without_one() {
    let services = Services::start();
    let file = services.path("latest.toml");
    let (dead, spill) = (services.path("dead"), services.path("spill"));
    let [letters, spilled] = [dead.display(), spill.display()];
    let more = format!("[dead_letter]\nurl = \"file://{letters}\"\n[spill]\ndir = \"{spilled}\"\nmax = \"1GiB\"");
    std::fs::write(&file, pipeline("one", &format!("{SINK}\n{more}"))).unwrap();
    std::fs::write(&spill, "no directory").unwrap();
    let check = |arguments: &[&str]| {
        let checked = services.kinesink().arg("check").arg(&file).args(arguments).output().unwrap();
        (checked.status.code(), String::from_utf8(checked.stdout).unwrap(), String::from_utf8(checked.stderr).unwrap())
    };
    let (code, found, missing) = check(&["--connect"]);
    assert_eq!(code, Some(3), "{missing}");
    assert!(missing.contains("error: stream: cannot list the shards of stream latest: "), "{missing}");
    assert!(missing.contains("error: sink dynamodb: cannot describe table latest-items: there is none"), "{missing}");
    assert!(
        missing.contains(&format!("error: [spill]: cannot spill windows: cannot make a file in {spilled}")),
        "{missing}"
    );
    assert!(missing.contains("name a directory in which this user may write"), "{missing}");
    assert!(found.contains("dead letters: it can be written and read"), "the others are asked too: {found}");

    services.create_stream("latest", 1);
    std::fs::remove_file(&spill).unwrap();
    let (code, found, said) = check(&["--create", "--connect"]);
    assert_eq!(code, Some(0), "{found}{said}");
    for fact in [
        "stream: its shards can be listed",
        "sink dynamodb: its key is `id` (text)",
        "sink dynamodb: it is paid by the request",
        "sink dynamodb: dynamodb:DescribeTable and dynamodb:PutItem may be used",
        "sink dynamodb: items expire by `expires`",
        "[spill]: files can be made in its directory",
        "dead letters: it can be written and read",
    ] {
        assert!(found.contains(&format!("  {fact}\n")), "{fact} is missing in {found}");
    }
    assert!(services.latest().is_empty());

    std::fs::write(&file, pipeline("one", &SINK.replace("\"expires\"", "\"until\""))).unwrap();
    let (code, found, _) = check(&["--connect"]);
    assert!(
        code == Some(0) && found.contains("warning: table latest-items expires items by `expires`, not"),
        "{found}"
    );
}

#[test]
fn changes_of_keyed_records_were_lost_where_the_stream_distributes_them_by_itself() {
    let services = Services::start();
    services.create_stream("latest", 2);
    services.distribute_by_itself("latest");
    let file = services.path("latest.toml");
    let letters = format!("[dead_letter]\nurl = \"file://{}\"", services.path("dead").display());
    let with = |more: &str| std::fs::write(&file, pipeline("one", &format!("{SINK}\n{more}\n{letters}"))).unwrap();
    let call = |arguments: &[&str]| {
        let output = services.kinesink().arg(arguments[0]).arg(&file).args(&arguments[1..]).output().unwrap();
        (output.status.code(), crate::harness::text(&output.stdout), crate::harness::text(&output.stderr))
    };
    let why = "cannot order the writes to table latest-items: stream latest distributes its records by itself (AUTO)";
    for guard in ["", "guard = \"takeover\"", "guard = \"never\""] {
        with(guard);
        for arguments in [&["check", "--create", "--connect"][..], &["run"]] {
            let (code, _, said) = call(arguments);
            assert!(code == Some(3) && said.contains(why), "{guard} {arguments:?}: {code:?} {said}");
            assert!(said.contains("name a field with a version in `ordered_by`"), "{said}");
        }
    }
    with("ordered_by = \".n\"");
    let (code, found, said) = call(&["check", "--connect"]);
    assert!(code == Some(0) && !found.contains("distributes"), "{found}{said}");

    // Who may not ask goes on.
    with("");
    services.fault(
        r#"[{"operation":"DescribeStreamSummary","times":1,"kind":{"error":{"code":"AccessDeniedException"}}}]"#,
    );
    let (code, found, said) = call(&["check", "--connect"]);
    let unknown = "sink dynamodb: warning: whether stream latest distributes its records by itself";
    assert!(code == Some(0) && found.contains(unknown) && found.contains("AccessDenied"), "{found}{said}");
}
