//! Several `kinesink run` of one application: they divide the shards, and come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::harness::{Process, Services, eventually, lines, numbered, output, pipeline_toml, text};

const APP: &str = "fleet";

/// A worker of the application under a name of its own.
fn start(services: &Services, worker: &str) -> Process {
    let toml = pipeline_toml(APP, APP, &services.path("objects"), "").replace("\"one\"", &format!("{worker:?}"));
    let file = services.path(&format!("{worker}.toml"));
    std::fs::write(&file, toml).unwrap();
    let mut command = services.kinesink();
    command.arg("run").arg(&file);
    Process::start(command, &services.path(&format!("{worker}.log")))
}

fn balanced(services: &Services, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(worker, leases)| ((*worker).to_owned(), *leases)).collect();
    eventually("the leases are balanced", || {
        let mut loads = BTreeMap::new();
        for owner in services.owners(APP).into_values() {
            *loads.entry(owner).or_insert(0) += 1;
        }
        (loads == wanted).then_some(())
    });
}

fn put_and_land(services: &Services, folder: &Path, from: usize, to: usize) {
    services.put(APP, &numbered(from, to));
    eventually("all records land", || (lines(folder).len() == to).then_some(()));
}

#[test]
fn workers_join_leave_and_die_and_every_record_lands() {
    let services = Services::start();
    services.create_stream(APP, 6);
    let folder = services.path("objects");
    let a = start(&services, "a");
    put_and_land(&services, &folder, 0, 600);
    services.put(APP, &numbered(600, 1_200));
    let (b, c) = (start(&services, "b"), start(&services, "c"));
    balanced(&services, &[("a", 2), ("b", 2), ("c", 2)]);
    put_and_land(&services, &folder, 1_200, 1_800);
    let (code, log) = b.terminate();
    assert_eq!(code, 0, "{log}");
    balanced(&services, &[("a", 3), ("c", 3)]);
    put_and_land(&services, &folder, 1_800, 2_400);
    let twice: Vec<_> = lines(&folder).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "a worker that came or left has doubled {} records", twice.len());

    services.put(APP, &numbered(2_400, 3_000));
    c.kill();
    let d = start(&services, "d");
    balanced(&services, &[("a", 3), ("d", 3)]);
    put_and_land(&services, &folder, 3_000, 3_600);
    let landed: BTreeSet<_> = lines(&folder).into_keys().collect();
    assert_eq!(landed, numbered(0, 3_600).into_iter().collect());
    leases_are_shown(&services);
    for worker in [a, d] {
        let (code, log) = worker.terminate();
        assert_eq!(code, 0, "{log}");
    }
    let owners = services.owners(APP);
    assert!(owners.is_empty(), "leases are not released: {owners:?}");
}

fn leases_are_shown(services: &Services) {
    let shown = output(services.kinesink().args(["leases", APP]));
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    let table = text(&shown.stdout);
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.starts_with("SHARD") && table.contains("shardId-000000000005"), "{table}");
    let shown = output(services.kinesink().args(["leases", APP, "--json"]));
    let checkpoints = services.checkpoints(APP);
    for line in text(&shown.stdout).lines() {
        let lease: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(lease["kinesink"], true, "{line}");
        assert_eq!(lease["checkpoint"], checkpoints[lease["shard"].as_str().unwrap()], "{line}");
    }
    let missing = output(services.kinesink().args(["leases", "nobody"]));
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing.stderr));
}
