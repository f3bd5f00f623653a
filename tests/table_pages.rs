//! The files of `docs/dynamodb.md`, run as they stand there, but for where dead letters go and how old a window becomes.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use serde_json::{Value, json};

use crate::harness::{Process, Services, eventually};

const PAGE: &str = include_str!("../docs/dynamodb.md");

/// A stream's records, by the field that is their partition key; and the items that have to come of them, without `_position`.
struct Example {
    stream: &'static str,
    table: &'static str,
    partition_key: &'static str,
    records: Vec<Value>,
    items: Vec<Value>,
}

fn examples() -> [Example; 3] {
    [
        Example {
            stream: "orders",
            table: "orders-latest",
            partition_key: "id",
            records: vec![
                json!({"id": "a", "op": "put", "total": 1.5}),
                json!({"id": "b", "op": "put", "total": 2}),
                json!({"id": "a", "op": "put", "total": 3.25, "expires": 4_000_000_000_u64}),
                json!({"id": "b", "op": "delete"}),
            ],
            items: vec![json!({"id": "a", "op": "put", "total": "3.25", "expires": "4000000000"})],
        },
        Example {
            stream: "clicks",
            table: "clicks-by-customer",
            partition_key: "customer",
            records: vec![
                json!({"customer": "c", "ts": "09:00", "price": 0.1, "page": "/"}),
                json!({"customer": "c", "ts": "09:01", "page": "/cart"}),
                json!({"customer": "c", "ts": "09:02", "price": 0.2, "page": "/paid"}),
            ],
            items: vec![
                json!({"customer": "c", "last_seen": "09:02", "clicks": "3", "spent": "0.3", "pages": ["/", "/cart", "/paid"]}),
            ],
        },
        Example {
            stream: "orders",
            table: "revenue-by-minute",
            partition_key: "id",
            records: vec![
                json!({"id": "a", "country": "DE", "ts": "2026-01-31T12:00:10Z", "price": 5}),
                json!({"id": "b", "country": "DE", "ts": "2026-01-31T12:00:50Z", "price": 2.5}),
                json!({"id": "a", "country": "DE", "ts": "2026-01-31T12:01:00Z"}),
            ],
            items: vec![
                json!({"country": "DE", "minute": "2026-01-31T12:00:00Z", "orders": "2", "revenue": "7.5", "least": "2.5", "most": "5",
                       "expires": (1_769_860_860 + 2160 * 3600).to_string()}),
                json!({"country": "DE", "minute": "2026-01-31T12:01:00Z", "orders": "1",
                       "expires": (1_769_860_920 + 2160 * 3600).to_string()}),
            ],
        },
    ]
}

fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => json!(text),
        AttributeValue::L(values) => values.iter().map(plain).collect(),
        AttributeValue::Bool(truth) => json!(truth),
        other => panic!("{other:?}"),
    }
}

/// Those that are not marked as deleted; none where there is no table yet.
fn items(services: &Services, table: &str) -> Vec<Value> {
    let pages = services.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().items();
    let found: Vec<HashMap<_, _>> = services.block_on(pages.send().collect::<Result<_, _>>()).unwrap_or_default();
    let live = found.into_iter().filter(|item| !item.contains_key("_deleted"));
    let shown = live.map(|item| {
        let fields = item.iter().filter(|(name, _)| *name != "_position");
        fields.map(|(name, value)| (name.clone(), plain(value))).collect::<BTreeMap<_, _>>()
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by_key(|item| format!("{item:?}"));
    shown.into_iter().map(|item| json!(item)).collect()
}

fn put(services: &Services, example: &Example) {
    for record in &example.records {
        let request = services.kinesis.put_record().stream_name(example.stream).data(Blob::new(record.to_string()));
        let request = request.partition_key(record[example.partition_key].as_str().unwrap());
        services.block_on(request.send()).unwrap();
    }
}

#[test]
fn each_file_on_the_page_of_tables_makes_the_table_that_it_says() {
    let files: Vec<_> = PAGE.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    let examples = examples();
    assert_eq!(files.len(), examples.len());
    for (number, (file, example)) in files.into_iter().zip(&examples).enumerate() {
        let services = Services::start();
        services.create_stream(example.stream, 1);
        put(&services, example);
        let letters = format!("file://{}/", services.directory.path().display());
        let file = file.replace("file:///var/", &letters) + "\n[buffer]\nage = \"200ms\"\n";
        let path = services.path(&format!("{number}.toml"));
        std::fs::write(&path, file).unwrap();
        let mut command = services.kinesink();
        command.arg("run").arg(&path).arg("--create");
        let process = Process::start(command, &services.path("run.log"));
        eventually("the table is what the page says", || {
            (items(&services, example.table) == example.items).then_some(())
        });
        assert_eq!(process.terminate().0, 0);
        assert_eq!(items(&services, example.table), example.items);
    }
}
