//! Windows that are larger than memory, whatever is killed.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::{Process, Services, eventually, http, objects, pipeline_toml};

const MEMORY_BYTES: usize = 8 * 1024 * 1024;
const RECORD_BYTES: usize = 10_000;
/// Three times the memory.
const RECORDS: usize = 2_500;
const KINDS: usize = 5;

fn records() -> Vec<Vec<u8>> {
    let pad = "x".repeat(RECORD_BYTES);
    (0..RECORDS).map(|n| format!(r#"{{"n":{n},"kind":"k{}","pad":"{pad}"}}"#, n % KINDS).into_bytes()).collect()
}

/// A pipeline of windows of so many records.
pub(crate) fn pipeline(services: &Services, name: &str, records: usize, key: &str) -> std::path::PathBuf {
    let more = format!(
        "[spill]\ndir = \"{}\"\nmax = \"64MiB\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
        services.path("spill").display()
    );
    let text = pipeline_toml(name, name, &services.path("objects"), &more)
        .replace("memory = \"32MiB\"", &format!("memory = {MEMORY_BYTES}"))
        .replace("records = 200", &format!("records = {records}"))
        .replace("bytes = \"1MiB\"", "bytes = \"64MiB\"")
        .replace("age = \"200ms\"", "age = \"1h\"")
        .replace("format = \"ndjson\"", &format!("format = \"ndjson\"\nkey = \"{key}\""));
    let file = services.path("spills.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn start(services: &Services, file: &Path, log: &str) -> Process {
    let mut command = services.kinesink();
    command.arg("run").arg(file);
    Process::start(command, &services.path(log))
}

/// Waits until it has spilled so much of a window.
fn spilled(process: &Process, bytes: f64) {
    let address = eventually("the metrics are served", || {
        let log = process.log();
        let (_, rest) = log.split_once("bound=")?;
        Some(rest.split_whitespace().next()?.to_owned())
    });
    eventually("a window is spilled", || {
        let metrics = http(&address, "GET", "/metrics", "");
        let value = metrics.lines().find_map(|line| line.strip_prefix("kinesink_spilled_bytes_total "))?;
        (value.parse::<f64>().unwrap() >= bytes).then_some(())
    });
}

#[test]
fn a_window_of_three_times_the_memory_lands_once_whatever_is_killed() {
    let services = Services::start();
    services.create_stream("spills", 1);
    let records = records();
    services.put("spills", &records);
    let (folder, spill) = (services.path("objects"), services.path("spill"));
    let key = "kind={.kind}/{shard}-{first}-{count}";

    // Killed while a window fills.
    let process = start(&services, &pipeline(&services, "spills", RECORDS + 1, key), "first.log");
    spilled(&process, (RECORDS * RECORD_BYTES / 2) as f64);
    process.kill();
    assert_eq!(objects(&folder), [], "nothing of a window is to be seen before it is committed");
    assert_eq!(spill.read_dir().unwrap().count(), 0, "what a killed process spilled is gone");

    // Killed between its objects.
    let process = start(&services, &pipeline(&services, "spills", RECORDS, key), "second.log");
    eventually("an object lands", || (!objects(&folder).is_empty()).then_some(()));
    process.kill();
    assert_eq!(spill.read_dir().unwrap().count(), 0);

    let process = start(&services, &pipeline(&services, "spills", RECORDS, key), "third.log");
    let landed = || objects(&folder).into_iter().flat_map(|(_, lines)| lines).collect::<Vec<_>>();
    eventually("every record lands", || (landed().len() >= RECORDS).then_some(()));
    let (code, log) = process.terminate();
    assert_eq!(code, 0, "{log}");
    let lines = landed();
    assert_eq!(lines.len(), RECORDS, "each once");
    assert!(lines.into_iter().collect::<BTreeSet<_>>() == records.into_iter().collect());
    assert_eq!(objects(&folder).len(), KINDS, "one window, an object for each of its partitions");
}
