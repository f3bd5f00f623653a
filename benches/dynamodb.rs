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
mod kclib;
mod records;

use std::process::{Command, Stdio};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, Select,
};

use crate::harness::{Services, free_port, numbers, runtime};
use crate::kclib::Run;
use crate::records::record;

const SHARDS: i32 = 4;
const RECORD_BYTES: usize = 200;

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
    let java = kclib::is_built();
    println!("{records} records of {RECORD_BYTES} B, each of a key of its own, {SHARDS} shards\n");
    println!("| round | job | items/s | CPU s per 100,000 items | with start-up | peak RSS MiB |");
    println!("|---|---|---|---|---|---|");
    let services = Services::start(&[]);
    let runtime = runtime();
    let of = |number| {
        let fields = format!("\"id\":\"{number:07}\",\"n\":{number},\"at\":\"2026-01-31T08:00:00Z\"");
        (format!("{number:07}"), record(&fields, number, RECORD_BYTES))
    };
    runtime.block_on(services.fill(SHARDS, records, &of));
    for round in 1..=rounds {
        for (job, (name, sink)) in JOBS.iter().enumerate() {
            let app = format!("bench-{job}-{round}");
            let table = format!("{app}-items");
            let Run { wall_s, cpu_s, start_s, rss_mib } = match sink {
                Some(sink) => {
                    let sink = format!("type = \"dynamodb\"\ntable = \"{table}\"\n{sink}");
                    services.create(&app, &sink);
                    services.kinesink(&app, &sink, records)
                }
                None if java => {
                    runtime.block_on(services.create_table(&table));
                    let emitter = [("connectorDestination", "dynamodb"), ("dynamoDBDataTableName", &*table)];
                    services.java("kinesink.bench.Tables", &app, records, &emitter)
                }
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
}

impl Services {
    /// The sink's tables, by the pipeline's own words.
    fn create(&self, app: &str, sink: &str) {
        let mut create = Command::new(env!("CARGO_BIN_EXE_kinesink"));
        create.arg("check").arg(self.pipeline(app, sink, free_port())).arg("--create").envs(self.environment());
        assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
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
