//! Why files are not larger, as the binary's metrics say it, against the files that are there.

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::{Process, Services, eventually, http, objects, pipeline_toml};

const WINDOW: usize = 40;
/// Of each window that has two records or more.
const PARTITIONS: usize = 2;
/// Two of them are more than a window takes.
const LARGE_BYTES: usize = 60_000;

fn records(count: usize, pad_bytes: usize) -> Vec<Vec<u8>> {
    let pad = "x".repeat(pad_bytes);
    (0..count).map(|n| format!(r#"{{"n":{n},"kind":"k{}","pad":"{pad}"}}"#, n % PARTITIONS).into_bytes()).collect()
}

struct Run {
    process: Process,
    address: String,
    folder: std::path::PathBuf,
    before: Vec<std::path::PathBuf>,
}

impl Run {
    fn start(services: &Services, name: &str, change: impl Fn(String) -> String) -> Self {
        let (file, folder) = (services.path(&format!("{name}.toml")), services.path("objects"));
        let text = pipeline_toml("closed", "closed", &folder, "[metrics]\nlisten = \"127.0.0.1:0\"\n")
            .replace("records = 200", &format!("records = {WINDOW}"))
            .replace("bytes = \"1MiB\"", &format!("bytes = {}", 2 * LARGE_BYTES))
            .replace("format = \"ndjson\"", "format = \"ndjson\"\nkey = \"kind={.kind}/{shard}-{first}\"");
        std::fs::write(&file, change(text)).unwrap();
        let before = paths(&folder);
        let mut command = services.kinesink();
        command.arg("run").arg(&file);
        let process = Process::start(command, &services.path(&format!("{name}.log")));
        let address = eventually("the metrics are served", || {
            let log = process.log();
            Some(log.split_once("bound=")?.1.split_whitespace().next()?.to_owned())
        });
        Self { process, address, folder, before }
    }

    /// A counter by reason, without those that are 0.
    fn counted(&self, name: &str) -> BTreeMap<String, u64> {
        let metrics = http(&self.address, "GET", "/metrics", "");
        let lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("kinesink_{name}{{reason=\""))?.split_once("\"} "));
        let counted = lines.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap()));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    fn closed(&self, expected: &[(&str, u64)]) {
        let expected =
            expected.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect::<BTreeMap<_, _>>();
        eventually(&format!("{expected:?}"), || (self.counted("files_closed_total") == expected).then_some(()));
        self.counts_what_is_there();
    }

    fn counts_what_is_there(&self) {
        let there: Vec<_> = paths(&self.folder).into_iter().filter(|path| !self.before.contains(path)).collect();
        assert_eq!(self.counted("files_closed_total").into_values().sum::<u64>(), there.len() as u64);
        let bytes: u64 = there.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(self.counted("files_closed_bytes_total").into_values().sum::<u64>(), bytes);
    }
}

fn paths(folder: &Path) -> Vec<std::path::PathBuf> {
    objects(folder).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn each_file_is_counted_by_what_closed_its_window() {
    let services = Services::start();
    services.create_stream("closed", 1);

    let run = Run::start(&services, "first", |text| text.replace("age = \"200ms\"", "age = \"1h\""));
    services.put("closed", &records(2 * WINDOW, 1));
    run.closed(&[("count", 4)]);
    services.put("closed", &records(2, LARGE_BYTES));
    run.closed(&[("count", 4), ("bytes", 2)]);
    services.put("closed", &records(3, 1));
    let split = services.kinesis.split_shard().stream_name("closed").shard_to_split("shardId-000000000000");
    services.block_on(split.new_starting_hash_key("1000").send()).unwrap();
    run.closed(&[("count", 4), ("bytes", 2), ("shard_end", 2)]);
    services.until_active("closed");
    // One record is one file, whichever child it is in.
    services.put("closed", &records(1, 1));
    let read = "kinesink_records_in_total 86";
    eventually("it is read", || http(&run.address, "GET", "/metrics", "").contains(read).then_some(()));
    let (code, log) = run.process.terminate();
    assert_eq!(code, 0, "{log}");
    let report = log.lines().find(|line| line.contains("files of this run")).unwrap();
    assert!(report.contains("1 of ") && report.contains("closed by drain"), "{report}");

    let run = Run::start(&services, "second", |text| text);
    services.put("closed", &records(1, 1));
    run.closed(&[("age", 1)]);
    drop(run);

    // Three times the memory.
    let run = Run::start(&services, "third", |text| {
        let text = text.replace("age = \"200ms\"", "age = \"1h\"").replace("memory = \"32MiB\"", "memory = \"2MiB\"");
        text.replace(&format!("bytes = {}", 2 * LARGE_BYTES), "bytes = \"1MiB\"")
            .replace(&format!("records = {WINDOW}"), "records = 1_000")
    });
    services.put("closed", &records(100, LARGE_BYTES));
    eventually("memory closes a window", || run.counted("files_closed_total").contains_key("memory").then_some(()));
}
