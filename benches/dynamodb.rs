//! What items cost in a DynamoDB table: unguarded puts, guarded ones, updates, aggregates; beside the Java Kinesis Connector Library's emitter.
//!
//! ```text
//! mvn -q -f benches/kclib compile                                          # into target/kclib; without it Java is left out
//! cargo bench --profile dist -p kinesink-cli --bench dynamodb              # about three minutes
//! cargo bench --profile dist -p kinesink-cli --bench dynamodb -- --records 10000 --rounds 1
//! ```
//!
//! `kinesink run` as users run it, on local services in a process of their own, whose CPU is counted on neither side. Every record
//! has a key of its own, so that no write saves another. Every job runs in turn within the same minutes, each into a new table with
//! new leases; each table has to have every item afterwards. Prints a table in Markdown and asserts nothing about time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and says what broke by panicking"
)]

mod harness;

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, Select,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use tokio::runtime::Runtime;

use crate::harness::{Services, client, cpu_s, drain, eventually, free_port, memory_kib, metric, numbers, runtime};

const STREAM: &str = "bench";
const SHARDS: i32 = 4;
const RECORD_BYTES: usize = 200;
const KCLIB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/kclib");

/// A job's name, and what its sink has besides its table. Java has none.
const JOBS: [(&str, Option<&str>); 5] = [
    ("put, `guard = \"never\"`", Some("key = { id = \".id\" }\nguard = \"never\"")),
    ("put, guarded", Some("key = { id = \".id\" }")),
    ("update: one field set, one added up", Some("key = { id = \".id\" }\nset = [\".pad\"]\nadd = [\".n\"]")),
    (
        "aggregate: a count and a sum of each key and hour",
        Some(
            "key = { id = \".id\", hour = \"{window}\" }\n[sink.aggregate]\nwindow = \"1h\"\nevent_time = { field = \
             \".at\" }\ncount = \"records\"\nsum = { total = \".n\" }",
        ),
    ),
    ("put, Java's emitter", None),
];

fn main() {
    let [records, rounds] = numbers([("--records", 30_000), ("--rounds", 2)]);
    let java = Path::new(KCLIB).join("classes").is_dir();
    println!("{records} records of {RECORD_BYTES} B, each of a key of its own, {SHARDS} shards\n");
    println!("| round | job | items/s | CPU s per 100,000 items | with start-up | peak RSS MiB |");
    println!("|---|---|---|---|---|---|");
    let services = Services::start();
    let runtime = runtime();
    runtime.block_on(fill(&services, records));
    for round in 1..=rounds {
        for (job, (name, sink)) in JOBS.iter().enumerate() {
            let table = format!("bench-{job}-{round}");
            let Run { wall_s, cpu_s, start_s, rss_mib } = match sink {
                Some(sink) => services.kinesink(&table, sink, records),
                None if java => services.java(&runtime, &table, records),
                None => continue,
            };
            assert_eq!(runtime.block_on(services.items(&table)), records, "{name}");
            let of_100_000 = 100_000.0 / records as f64;
            println!(
                "| {round} | {name} | {:.0} | {:.2} | {:.2} | {rss_mib:.0} |",
                records as f64 / wall_s,
                (cpu_s - start_s) * of_100_000,
                cpu_s * of_100_000,
            );
        }
    }
    if !java {
        println!("\nJava is left out: build it with `mvn -q -f benches/kclib compile`");
    }
}

async fn fill(services: &Services, records: usize) {
    services.create_stream(STREAM, SHARDS, &record("k", 0)).await;
    let client = client(&services.kinesis);
    for start in (1..records).step_by(500) {
        let entries = (start..records.min(start + 500)).map(|number| {
            let id = format!("{number:07}");
            let entry = PutRecordsRequestEntry::builder().data(Blob::new(record(&id, number)));
            entry.partition_key(id).build().unwrap()
        });
        let put = client.put_records().stream_name(STREAM).set_records(Some(entries.collect()));
        assert_eq!(put.send().await.unwrap().failed_record_count(), Some(0));
    }
}

fn record(id: &str, number: usize) -> String {
    let mut data = format!("{{\"id\":\"{id}\",\"n\":{number},\"at\":\"2026-01-31T08:00:00Z\",\"pad\":\"");
    while data.len() + 2 < RECORD_BYTES {
        data.push_str(&format!("{:x} ", (number * 2_654_435_761 + data.len() * 40_503) % 0xffff));
    }
    data.truncate(RECORD_BYTES - 2);
    data.push_str("\"}");
    data
}

/// One run of one job. What it took before its first record is part of neither `cpu_s` less `start_s` nor `wall_s`, where that is
/// told apart.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    start_s: f64,
    rss_mib: f64,
}

impl Services {
    fn kinesink(&self, table: &str, sink: &str, records: usize) -> Run {
        let port = free_port();
        let file = self.write_pipeline(table, sink, port);
        let mut create = Command::new(env!("CARGO_BIN_EXE_kinesink"));
        create.arg("check").arg(&file).arg("--create").envs(self.environment());
        assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
        let start = Instant::now();
        let mut child = self.run(&file, &self.dynamodb);
        eventually(|| (metric(port, "kinesink_records_committed_total ")? >= records as f64).then_some(()));
        let wall_s = start.elapsed().as_secs_f64();
        let (cpu_s, rss_mib) = (cpu_s(child.id()), memory_kib(child.id(), "VmHWM:") / 1024.0);
        drain(&mut child);
        Run { wall_s, cpu_s, start_s: 0.0, rss_mib }
    }

    fn java(&self, runtime: &Runtime, table: &str, records: usize) -> Run {
        runtime.block_on(self.create_table(table));
        let mut command = Command::new("java");
        // Its Jackson is of 2015, and reaches into java.lang.
        command.args(["-Xmx1g", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"]);
        command.arg(format!("{KCLIB}/classes:{KCLIB}/lib/*")).arg("kinesink.bench.Tables").arg(records.to_string());
        for (name, value) in [
            ("appName", &*format!("app-{table}")),
            ("connectorDestination", "dynamodb"),
            ("workerID", "java"),
            ("kinesisEndpoint", &self.kinesis),
            ("dynamoDBEndpoint", &self.dynamodb),
            ("dynamoDBDataTableName", table),
            ("kinesisInputStream", STREAM),
            ("initialPositionInStream", "TRIM_HORIZON"),
            ("regionName", "us-east-1"),
            ("maxRecords", "10000"),
            ("idleTimeBetweenReads", "200"),
            ("bufferRecordCountLimit", "10000"),
            ("bufferByteSizeLimit", "8388608"),
            ("bufferMillisecondsLimit", "500"),
        ] {
            command.arg(format!("{name}={value}"));
        }
        command.envs(self.environment()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let start_s = lines.next().unwrap().strip_prefix("cpu ").unwrap().parse().unwrap();
        let start = Instant::now();
        assert_eq!(lines.next().unwrap(), "done");
        let wall_s = start.elapsed().as_secs_f64();
        let (cpu_s, rss_mib) = (cpu_s(child.id()), memory_kib(child.id(), "VmHWM:") / 1024.0);
        drop(child.stdin.take());
        child.wait().unwrap();
        Run { wall_s, cpu_s, start_s, rss_mib }
    }

    fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL_KINESIS", &self.kinesis),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    fn write_pipeline(&self, table: &str, sink: &str, port: u16) -> PathBuf {
        let (file, dead) = (self.path(&format!("{table}.toml")), self.path("dead"));
        let text = format!(
            "version = 1\napp = \"app-{table}\"\nmemory = \"64MiB\"\n\n[source]\nstream = \"{STREAM}\"\nregion = \
             \"us-east-1\"\nstart = \"trim-horizon\"\nidle = \"200ms\"\n\n[buffer]\nrecords = 10_000\nbytes = \
             \"8MiB\"\nage = \"500ms\"\n\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n\n[dead_letter]\nurl = \
             \"file://{}\"\n\n[[sink]]\ntype = \"dynamodb\"\ntable = \"{table}\"\n{sink}\n",
            dead.display(),
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn table_client(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_dynamodb::config::Credentials::new("local", "local", None, None, "bench"))
            .endpoint_url(&self.dynamodb);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    async fn create_table(&self, table: &str) {
        let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S).build();
        let hash = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
        let request = self.table_client().create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        request.attribute_definitions(id.unwrap()).key_schema(hash.unwrap()).send().await.unwrap();
    }

    async fn items(&self, table: &str) -> usize {
        let mut pages = self.table_client().scan().table_name(table).select(Select::Count).into_paginator().send();
        let mut items = 0;
        while let Some(page) = pages.next().await {
            items += usize::try_from(page.unwrap().count()).unwrap();
        }
        items
    }
}
