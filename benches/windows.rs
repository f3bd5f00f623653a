//! What windows cost: of 10,000 partitions each and many times the memory, and of the usual size.
//!
//! ```text
//! cargo bench --profile dist -p kinesink-cli --bench windows               # about five minutes
//! cargo bench --profile dist -p kinesink-cli --bench windows -- --megabytes 100 --partitions 1000
//! ```
//!
//! `kinesink run` as users run it, into a directory, on local services in a process of their own. Requests to DynamoDB are counted
//! by a relay between the two. Prints a table in Markdown, compares what landed with what was put, and asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and says what broke by panicking"
)]

mod harness;
mod records;
mod relay;

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::harness::{Services, cpu_s, drain, eventually, free_port, memory_kib, metric, numbers, runtime};
use crate::records::{STREAM, record};
use crate::relay::Relay;

const MEMORY: &str = "256MiB";
const RECORD_BYTES: usize = 1_000;
const USUAL_RECORDS: usize = 10_000;

/// One job: how many records close a window, and the sink.
struct Job {
    name: &'static str,
    records: usize,
    sink: &'static str,
}

fn main() {
    let [megabytes, partitions] = numbers([("--megabytes", 600), ("--partitions", 10_000)]);
    let records = megabytes * 1_000_000 / RECORD_BYTES;
    let services = Services::start(&[]);
    let runtime = runtime();
    // Of all partitions in turn.
    let fields = |number| format!("\"p\":\"{:05}\",\"n\":{number}", number * 7_919 % partitions);
    let of = |number: usize| (number.to_string(), record(&fields(number), number, RECORD_BYTES));
    runtime.block_on(services.fill(1, records, &of));
    let one = "key = \"{shard}/{first}-{last}\"\n";
    let many = "key = \"p={.p}/{shard}-{first}\"\n";
    let zstd = "format = \"ndjson\"\ncompression = \"zstd\"\n";
    let plain = "format = \"ndjson\"\n";
    let parquet = "format = \"parquet\"\ncolumns = { p = \"string\", n = \"int64\", pad = \"string\" }\n";
    let sink = |key: &str, format: &str| -> &'static str { format!("{key}{format}").leak() };
    let jobs = [
        Job { name: "usual windows, NDJSON", records: USUAL_RECORDS, sink: sink(one, plain) },
        Job { name: "one window, one partition, NDJSON", records, sink: sink(one, plain) },
        Job { name: "one window, all partitions, NDJSON, zstd", records, sink: sink(many, zstd) },
        Job { name: "one window, all partitions, Parquet, zstd", records, sink: sink(many, parquet) },
    ];
    println!("{records} records of {RECORD_BYTES} B, {partitions} partitions, one shard, memory = \"{MEMORY}\"\n");
    println!("| job | windows | files | s | CPU s/GB | peak RSS MiB | spilled MB | lease writes | of each window |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (number, job) in jobs.iter().enumerate() {
        let relay = runtime.block_on(Relay::start(&services.dynamodb));
        run(&services, &relay, number, job, records);
    }
}

fn run(services: &Services, relay: &Relay, number: usize, job: &Job, records: usize) {
    let (port, objects) = (free_port(), services.path(&format!("objects-{number}")));
    let file = pipeline(services, number, job, &objects, port);
    let start = Instant::now();
    let mut child = services.run(&file, &relay.address);
    eventually(|| (metric(port, "kinesink_records_committed_total ")? >= records as f64).then_some(()));
    let (wall_s, cpu_s, rss_mib) =
        (start.elapsed().as_secs_f64(), cpu_s(child.id()), memory_kib(child.id(), "VmHWM:") / 1024.0);
    let spilled = metric(port, "kinesink_spilled_bytes_total ").unwrap_or_default();
    let of_reason = |name: &str| {
        let reasons = ["count", "bytes", "age", "shard_end", "drain", "memory", "halt", "plan"];
        let samples = reasons.iter().map(|reason| format!("{name}{{reason=\"{reason}\"}}"));
        samples.filter_map(|sample| metric(port, &sample)).sum::<f64>()
    };
    let (windows, files) = (of_reason("kinesink_windows_closed_total"), of_reason("kinesink_files_closed_total"));
    let writes = relay.take_counts().get("UpdateItem").copied().unwrap_or_default() as f64;
    drain(&mut child);
    let gigabytes = (records * RECORD_BYTES) as f64 / 1e9;
    println!(
        "| {} | {windows} | {files} | {wall_s:.1} | {:.2} | {rss_mib:.0} | {:.0} | {writes} | {:.2} |",
        job.name,
        cpu_s / gigabytes,
        spilled / 1e6,
        writes / windows,
    );
    std::fs::remove_dir_all(objects).unwrap();
}

fn pipeline(services: &Services, number: usize, job: &Job, objects: &Path, port: u16) -> PathBuf {
    let file = services.path("windows.toml");
    let text = format!(
        "version = 1\napp = \"bench-windows-{number}\"\nmemory = \"{MEMORY}\"\n\n[source]\nstream = \"{STREAM}\"\nregion = \
         \"us-east-1\"\nstart = \"trim-horizon\"\nidle = \"200ms\"\n\n[buffer]\nrecords = {}\nbytes = \"16GiB\"\nage = \
         \"1h\"\n\n[spill]\ndir = \"{}\"\nmax = \"16GiB\"\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[[sink]]\ntype = \
         \"s3\"\nurl = \"file://{}\"\n{}",
        job.records,
        services.path("spill").display(),
        objects.display(),
        job.sink,
    );
    std::fs::write(&file, text).unwrap();
    file
}
