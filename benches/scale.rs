//! What one worker costs that holds thousands of idle shards, and how long a new application waits for its first record.
//!
//! ```text
//! cargo bench --profile dist -p kinesink-cli --bench scale                       # 4,000 shards, about three minutes
//! cargo bench --profile dist -p kinesink-cli --bench scale -- --shards 1000 --seconds 30
//! ```
//!
//! `kinesink run` as users run it, on local services in a process of their own. Requests to DynamoDB are counted by a
//! relay between the two. Memory of a shard is the difference to a run with one shard. Prints a table in Markdown and
//! asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and says what broke by panicking"
)]

mod harness;
mod relay;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Services, cpu_s, drain, eventually, free_port, memory_kib, metric, numbers, runtime};
use crate::relay::Relay;

/// Time to come to rest after the last lease was taken.
const SETTLING: Duration = Duration::from_secs(20);

fn main() {
    let [shards, seconds] = numbers([("--shards", 4_000), ("--seconds", 60)]).map(|number| number as u64);
    let runtime = runtime();
    let mut runs = Vec::new();
    for shards in [1, 4, shards] {
        let services = Services::start(&[]);
        runtime.block_on(services.create_stream("bench", i32::try_from(shards).unwrap(), ("k", "{}")));
        let relay = runtime.block_on(Relay::start(&services.dynamodb));
        runs.push(run(&services, &relay, shards, Duration::from_secs(seconds)));
    }
    let one_kib = runs[0].rss_kib;
    println!(
        "| shards | to the first record s | to all leases s | MiB | KiB/shard | CPU % | reads/s | DynamoDB requests/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for run in &runs {
        let per_shard = match run.shards {
            1 => "-".to_owned(),
            shards => format!("{:.1}", (run.rss_kib - one_kib) / (shards - 1) as f64),
        };
        let requests = run.requests_per_s.iter().map(|(name, rate)| format!("{name} {rate:.1}"));
        println!(
            "| {} | {:.2} | {:.1} | {:.1} | {per_shard} | {:.0} | {:.0} | {} |",
            run.shards,
            run.first_record_s,
            run.all_leases_s,
            run.rss_kib / 1024.0,
            run.cpu_percent,
            run.reads_per_s,
            requests.collect::<Vec<_>>().join(", "),
        );
    }
}

struct Run {
    shards: u64,
    first_record_s: f64,
    all_leases_s: f64,
    rss_kib: f64,
    cpu_percent: f64,
    reads_per_s: f64,
    requests_per_s: BTreeMap<String, f64>,
}

fn run(services: &Services, relay: &Relay, shards: u64, idle: Duration) -> Run {
    let port = free_port();
    let file = pipeline(services, port);
    let start = Instant::now();
    let mut child = services.run(&file, &relay.address);
    eventually(|| (metric(port, "kinesink_fetched_records_total")? >= 1.0).then_some(()));
    let first_record_s = start.elapsed().as_secs_f64();
    eventually(|| (metric(port, "kinesink_leases_held")? >= shards as f64).then_some(()));
    let all_leases_s = start.elapsed().as_secs_f64();
    std::thread::park_timeout(SETTLING);
    let reads = || metric(port, "kinesink_fetch_requests_total").unwrap();
    let (began, cpu, reads_before) = (Instant::now(), cpu_s(child.id()), reads());
    relay.take_counts();
    std::thread::park_timeout(idle);
    let seconds = began.elapsed().as_secs_f64();
    let counts = relay.take_counts().into_iter();
    let run = Run {
        shards,
        first_record_s,
        all_leases_s,
        rss_kib: memory_kib(child.id(), "VmRSS:"),
        cpu_percent: (cpu_s(child.id()) - cpu) / seconds * 100.0,
        reads_per_s: (reads() - reads_before) / seconds,
        requests_per_s: counts.map(|(name, count)| (name, count as f64 / seconds)).collect(),
    };
    drain(&mut child);
    run
}

fn pipeline(services: &Services, port: u16) -> PathBuf {
    let file = services.path("scale.toml");
    let objects = services.path("objects");
    let text = format!(
        "version = 1\napp = \"scale\"\n\n[source]\nstream = \"bench\"\nregion = \"us-east-1\"\nstart = \
         \"trim-horizon\"\n\n[buffer]\nage = \"1s\"\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[[sink]]\ntype = \
         \"s3\"\nurl = \"file://{}\"\n",
        objects.display()
    );
    std::fs::write(&file, text).unwrap();
    file
}
