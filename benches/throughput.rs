//! What the whole pipeline costs beside a bare loop of the SDK's GetRecords over the same stream.
//!
//! ```text
//! cargo bench --profile dist -p kinesink-cli --bench throughput            # every job, about ten minutes
//! cargo bench --profile dist -p kinesink-cli --bench throughput -- --megabytes 100 --rounds 1
//! ```
//!
//! The local Kinesis is a process of its own, and its CPU is counted on neither side. Every job runs in turn within
//! the same minutes; the ratio of a round compares runs that stood next to each other. Machines are noisy: read the
//! ratios. Prints a table in Markdown and asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and says what broke by panicking"
)]

mod harness;
mod records;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aws_sdk_kinesis::types::ShardIteratorType;

use crate::harness::{
    Services, arguments, client, cpu_s, drain, eventually, free_port, memory_kib, metric, numbers, runtime,
};
use crate::records::{STREAM, record};

const JOBS: [&str; 6] = ["bare GetRecords", "NDJSON", "NDJSON, gzip", "NDJSON, zstd", "raw", "Parquet, zstd"];
/// The sink of each job but the first.
const SINKS: [&str; 5] = [
    "format = \"ndjson\"",
    "format = \"ndjson\"\ncompression = \"gzip\"",
    "format = \"ndjson\"\ncompression = \"zstd\"",
    "format = \"raw\"",
    "format = \"parquet\"\ncolumns = { n = \"int64\", pad = \"string\" }",
];
const SHARDS: i32 = 4;
const MEMORY: &str = "64MiB";

fn main() {
    if let [first, kinesis, records] = &arguments()[..]
        && first == "bare"
    {
        return bare(kinesis, records.parse().unwrap());
    }
    let [megabytes, rounds] = numbers([("--megabytes", 200), ("--rounds", 3)]);
    println!("| record | job | records/s | MB/s | CPU s/GB | peak RSS MiB | CPU over bare |");
    println!("|---|---|---|---|---|---|---|");
    for (size, megabytes) in [(100, megabytes / 4), (1_000, megabytes), (10_000, megabytes)] {
        let records = megabytes * 1_000_000 / size;
        let services = Services::start(&[]);
        let of = |number: usize| (number.to_string(), record(&format!("\"n\":{number}"), number, size));
        runtime().block_on(services.fill(SHARDS, records, &of));
        let mut runs: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
        for round in 0..rounds {
            runs.entry(0).or_default().push(services.bare_loop(records));
            for job in 1..JOBS.len() {
                runs.entry(job).or_default().push(services.pipeline(job, round, records));
            }
        }
        let bare: Vec<f64> = runs[&0].iter().map(|run| run.cpu_s).collect();
        let gigabytes = (records * size) as f64 / 1e9;
        for (job, runs) in &runs {
            let ratio = median(runs.iter().zip(&bare).map(|(run, bare)| run.cpu_s / bare));
            let wall = median(runs.iter().map(|run| run.wall_s));
            println!(
                "| {size} B | {} | {:.0} | {:.0} | {:.2} | {:.0} | {ratio:.2} |",
                JOBS[*job],
                records as f64 / wall,
                gigabytes * 1e3 / wall,
                median(runs.iter().map(|run| run.cpu_s)) / gigabytes,
                median(runs.iter().map(|run| run.rss_mib)),
            );
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One run of one job.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    rss_mib: f64,
}

impl Services {
    fn bare_loop(&self, records: usize) -> Run {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["bare", &self.kinesis, &records.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let run = measured(child.id(), start);
        drop(child.stdin.take());
        child.wait().unwrap();
        run
    }

    fn pipeline(&self, job: usize, round: usize, records: usize) -> Run {
        let objects = self.path(&format!("{job}-{round}"));
        let port = free_port();
        let file = self.write_pipeline(job, round, &objects, port);
        let start = Instant::now();
        let mut child = self.run(&file, &self.dynamodb);
        // Records that the sink has made durable.
        eventually(|| (metric(port, "kinesink_records_emitted_total{")? >= records as f64).then_some(()));
        let run = measured(child.id(), start);
        drain(&mut child);
        std::fs::remove_dir_all(objects).unwrap();
        run
    }

    fn write_pipeline(&self, job: usize, round: usize, objects: &Path, port: u16) -> PathBuf {
        let file = self.path("bench.toml");
        let text = format!(
            "version = 1\napp = \"bench-{job}-{round}\"\nmemory = \"{MEMORY}\"\n\n[source]\nstream = \
             \"{STREAM}\"\nregion = \"us-east-1\"\nstart = \"trim-horizon\"\nidle = \"200ms\"\n\n[buffer]\nrecords = \
             100_000\nbytes = \"8MiB\"\nage = \"500ms\"\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[[sink]]\ntype = \
             \"s3\"\nurl = \"file://{}\"\n{}\n",
            objects.display(),
            SINKS[job - 1],
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}

/// CPU and peak memory of a process that is done and still alive.
fn measured(pid: u32, start: Instant) -> Run {
    Run { wall_s: start.elapsed().as_secs_f64(), cpu_s: cpu_s(pid), rss_mib: memory_kib(pid, "VmHWM:") / 1024.0 }
}

/// The bare loop: one task a shard, GetRecords in a row, lengths added up. Prints the sum and stays for its meter.
fn bare(endpoint: &str, records: usize) {
    let bytes = runtime().block_on(async {
        let client = client(endpoint);
        let shards = client.list_shards().stream_name(STREAM).send().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for shard in shards.shards() {
            let (client, shard) = (client.clone(), shard.shard_id().to_owned());
            tasks.spawn(async move {
                let request = client.get_shard_iterator().stream_name(STREAM).shard_id(shard);
                let reply = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
                let (mut iterator, mut records, mut bytes) = (reply.shard_iterator, 0, 0);
                while let Some(current) = iterator.take() {
                    let reply = client.get_records().shard_iterator(current).send().await.unwrap();
                    records += reply.records().len();
                    bytes += reply.records().iter().map(|record| record.data().as_ref().len()).sum::<usize>();
                    let at_tip = reply.millis_behind_latest() == Some(0);
                    iterator = reply.next_shard_iterator.filter(|_| !at_tip);
                }
                (records, bytes)
            });
        }
        let done = tasks.join_all().await;
        let seen: usize = done.iter().map(|(records, _)| records).sum();
        assert_eq!(seen, records);
        done.iter().map(|(_, bytes)| bytes).sum::<usize>()
    });
    println!("{bytes}");
    let mut rest = String::new();
    std::io::stdin().read_line(&mut rest).unwrap();
}
