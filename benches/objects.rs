//! What objects in S3 cost, by format: beside the Java Kinesis Connector Library's emitter.
//!
//! ```text
//! mvn -q -f benches/kclib compile                                          # into target/kclib; without it Java is left out
//! cargo bench --profile dist -p kinesink-cli --bench objects               # about three minutes
//! cargo bench --profile dist -p kinesink-cli --bench objects -- --megabytes 50 --rounds 1
//! ```
//!
//! `kinesink run` as users run it, on local services in a process of their own, whose CPU is counted on neither side. Every job runs
//! in turn within the same minutes, each into a new bucket with new leases. The objects of what is not compressed have to have every
//! byte afterwards. Prints a table in Markdown and asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and says what broke by panicking"
)]

mod harness;
mod kclib;
mod records;

use std::path::Path;

use crate::harness::{Services, endpoint, numbers, runtime};
use crate::kclib::Run;
use crate::records::record;

const SHARDS: i32 = 4;
const RECORD_BYTES: usize = 1_000;

/// A job's name, what its sink has besides its place, and how many bytes it adds to a record; none where it compresses. Java has no
/// sink.
const JOBS: [(&str, Option<&str>, Option<usize>); 6] = [
    ("raw", Some("format = \"raw\""), Some(0)),
    ("NDJSON", Some("format = \"ndjson\""), Some(1)),
    ("NDJSON, gzip", Some("format = \"ndjson\"\ncompression = \"gzip\""), None),
    ("NDJSON, zstd", Some("format = \"ndjson\"\ncompression = \"zstd\""), None),
    ("Parquet, zstd", Some("format = \"parquet\"\ncolumns = { n = \"int64\", pad = \"string\" }"), None),
    ("raw, Java's emitter", None, Some(0)),
];

fn main() {
    let [megabytes, rounds] = numbers([("--megabytes", 200), ("--rounds", 2)]);
    let records = megabytes * 1_000_000 / RECORD_BYTES;
    let java = kclib::is_built();
    println!("{records} records of {RECORD_BYTES} B, {SHARDS} shards\n");
    println!("| round | job | records/s | CPU s/GB | with start-up | peak RSS MiB | MB of objects |");
    println!("|---|---|---|---|---|---|---|");
    let name = |job: usize, round: usize| format!("bench-{job}-{round}");
    let jobs = 0..JOBS.len();
    let buckets: Vec<_> = (1..=rounds).flat_map(|round| jobs.clone().map(move |job| name(job, round))).collect();
    let services = Services::start(&buckets);
    runtime().block_on(services.fill(SHARDS, records, &|number| {
        (number.to_string(), record(&format!("\"n\":{number}"), number, RECORD_BYTES))
    }));
    let s3 = endpoint(&services.path("env"), "S3");
    let gigabytes = (records * RECORD_BYTES) as f64 / 1e9;
    for round in 1..=rounds {
        for (job, (what, sink, added)) in JOBS.iter().enumerate() {
            let app = name(job, round);
            let Run { wall_s, cpu_s, start_s, rss_mib } = match sink {
                Some(format) => {
                    let place = format!("url = \"s3://{app}\"\nendpoint = \"{s3}\"\npath_style = true");
                    services.kinesink(&app, &format!("type = \"s3\"\n{place}\n{format}"), records)
                }
                None if java => {
                    let emitter = [("connectorDestination", "s3"), ("s3Endpoint", &*s3), ("s3Bucket", &*app)];
                    services.java("kinesink.bench.Objects", &app, records, &emitter)
                }
                None => continue,
            };
            let bytes = bytes_in(&services.path("state/s3").join(&app));
            assert!(added.is_none_or(|added| bytes == records * (RECORD_BYTES + added)), "{what}: {bytes} B");
            println!(
                "| {round} | {what} | {:.0} | {:.2} | {:.2} | {rss_mib:.0} | {:.0} |",
                records as f64 / wall_s,
                (cpu_s - start_s) / gigabytes,
                cpu_s / gigabytes,
                bytes as f64 / 1e6,
            );
        }
    }
}

/// A folder's files, all folders in it included, but for what the service keeps hidden.
fn bytes_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let bytes_of = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => bytes_in(&entry.path()),
        false => usize::try_from(entry.metadata().unwrap().len()).unwrap(),
    };
    shown.map(bytes_of).sum()
}
