//! Records go to the object that their fields and times say, once, whatever is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Process, Services, eventually, objects, pause, pipeline_toml};

const ROUNDS: usize = 6;
const RECORDS_PER_ROUND: usize = 300;
const TYPES: [&str; 3] = ["click", "view/all", ""];

/// A record, and the folder that it belongs to.
fn record(n: usize) -> (Vec<u8>, String) {
    let (kind, hour) = (TYPES[n % 3], n % 2);
    // The second hour is one of the day before in Berlin's time.
    let ts = format!("2026-03-0{}T2{}:30:00Z", 1 + hour, 2 + hour);
    let folder = match kind {
        "" => "type=none",
        "view/all" => "type=view%2Fall",
        other => &format!("type={other}"),
    };
    let day = ["2026-03-01", "2026-03-03"][hour];
    (format!(r#"{{"n":{n},"type":"{kind}","at":{{"ts":"{ts}"}}}}"#).into_bytes(), format!("{folder}/day={day}"))
}

#[test]
fn each_record_lands_once_in_its_partition_whatever_is_killed() {
    let services = Services::start();
    services.create_stream("parts", 2);
    let (folder, file) = (services.path("objects"), services.path("parts.toml"));
    let key = r#"key = "type={.type}/day={event:%Y-%m-%d}/{shard}-{first}-{count}"
time_zone = "Europe/Berlin"
event_time = { field = ".at.ts" }
unknown = "none"
format = "ndjson""#;
    let text = pipeline_toml("parts", "parts", &folder, "").replace("records = 200", "records = 40");
    std::fs::write(&file, text.replace("format = \"ndjson\"", key)).unwrap();
    let start = || {
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        Process::start(command, &services.path("run.log"))
    };

    for round in 0..ROUNDS {
        let process = start();
        let records: Vec<_> = (0..RECORDS_PER_ROUND).map(|n| record(round * RECORDS_PER_ROUND + n).0).collect();
        let before = objects(&folder).len();
        services.put("parts", &records);
        eventually("an object lands", || (objects(&folder).len() > before).then_some(()));
        pause(Duration::from_millis(20 * round as u64));
        process.kill();
    }
    let process = start();
    let total = ROUNDS * RECORDS_PER_ROUND;
    let landed = || objects(&folder).iter().map(|(_, lines)| lines.len()).sum::<usize>();
    eventually("every record lands", || (landed() >= total).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");

    let mut expected = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for (record, partition) in (0..total).map(record) {
        expected.entry(partition).or_default().push(record);
    }
    let mut found = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for (path, lines) in objects(&folder) {
        let (parent, name) = (path.parent().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        assert!(name.ends_with(&format!("-{}", lines.len())), "{name} holds {} records", lines.len());
        let partition = parent.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        found.entry(partition).or_default().extend(lines);
    }
    expected.values_mut().chain(found.values_mut()).for_each(|records| records.sort());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "records lack, are doubled, or stand in another partition's objects");
}
