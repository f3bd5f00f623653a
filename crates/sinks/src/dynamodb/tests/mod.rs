//! The sink on a DynamoDB in process, and on one that goes wrong.

mod aggregate;
mod answers;
mod contract;
mod dynamo;
mod mapping;
mod order;
mod start;
mod updates;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::testkit::ManualClock;
use kinesink_core::{Batch, Emitted, Emitter as _, Exception, Failure, Item, Position, Record, ShardId, StreamName};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::{DynamoDbConfig, DynamoDbEmitter, KeyAttribute, KeySource, TableMetrics};

const TABLE: &str = "items";

/// A record of partition key and JSON, at a sequence number.
type Sample<'a> = (u64, &'a str, Value);

fn field(name: &str, path: &str) -> KeyAttribute {
    KeyAttribute { name: name.into(), source: KeySource::Field(path.parse().unwrap()), key_type: None }
}

/// The table's key is `id`, from the field of that name.
fn config(client: Client) -> DynamoDbConfig {
    let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_700_000_000).unwrap()));
    DynamoDbConfig { clock, ..DynamoDbConfig::new(client, TABLE, vec![field("id", ".id")]) }
}

async fn sink(config: DynamoDbConfig) -> DynamoDbEmitter {
    let sink = DynamoDbEmitter::open(config).unwrap();
    assert!(sink.create_table().await.unwrap());
    sink
}

fn items(samples: &[Sample<'_>]) -> Vec<Item<Bytes>> {
    let item = |(sequence, key, json): &Sample<'_>| {
        let data: Bytes = json.to_string().into();
        let record = Record {
            shard: shard(),
            position: Position { sequence: sequence.to_string().parse().unwrap(), sub_sequence: 0 },
            arrival: Timestamp::from_second(1_700_000_000).unwrap(),
            partition_key: Some((*key).into()),
            data: data.clone(),
        };
        Item { record, ordinal: 0, outputs: 1, value: data }
    };
    samples.iter().map(item).collect()
}

fn shard() -> ShardId {
    "shardId-000000000003".parse().unwrap()
}

async fn emit_items(sink: &DynamoDbEmitter, items: &[Item<Bytes>]) -> Result<Emitted, Failure> {
    emit_part(sink, items, items).await
}

/// Some items of a window.
async fn emit_part(sink: &DynamoDbEmitter, window: &[Item<Bytes>], items: &[Item<Bytes>]) -> Result<Emitted, Failure> {
    let stream: StreamName = "orders".parse().unwrap();
    let (first, last) = (window[0].record.position, window.last().unwrap().record.position);
    sink.emit(&Batch {
        stream: &stream,
        shard: &shard(),
        first,
        last,
        items: items.iter().collect(),
        partitions: Vec::new(),
        keep_existing: false,
    })
    .await
}

async fn emit(sink: &DynamoDbEmitter, samples: &[Sample<'_>]) -> Result<Emitted, Failure> {
    emit_items(sink, &items(samples)).await
}

/// Why the first item was refused.
async fn refusal(sink: &DynamoDbEmitter, json: Value) -> String {
    let emitted = emit(sink, &[(1, "a", json)]).await.unwrap();
    match emitted.exceptions() {
        [(0, Exception::Rejected(why))] => why.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What a metric says, if it is there.
fn sample(metrics: &TableMetrics, labelled: &str) -> Option<String> {
    let (mut registry, mut page) = (Registry::default(), String::new());
    metrics.register(&mut registry);
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    page.lines().find_map(|line| line.strip_prefix(labelled)).map(|value| value.trim().to_owned())
}

/// What the table holds, as a stock client reads it: DynamoDB's JSON by the text of `id`.
async fn stored(client: &Client) -> BTreeMap<String, Value> {
    let reply = client.scan().table_name(TABLE).consistent_read(true).send().await.unwrap();
    let id = |item: &Value| item["id"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    let items = reply.items().iter().map(|item| {
        let item: serde_json::Map<_, _> = item.iter().map(|(name, value)| (name.clone(), typed(value))).collect();
        Value::from(item)
    });
    items.map(|item| (id(&item), item)).collect()
}

fn typed(value: &AttributeValue) -> Value {
    let sorted = |mut values: Vec<String>| {
        values.sort();
        values
    };
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": bytes.as_ref() }),
        AttributeValue::Bool(truth) => json!({ "BOOL": truth }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::L(values) => json!({ "L": values.iter().map(typed).collect::<Vec<_>>() }),
        AttributeValue::M(map) => {
            let map: serde_json::Map<_, _> = map.iter().map(|(name, value)| (name.clone(), typed(value))).collect();
            json!({ "M": map })
        }
        AttributeValue::Ss(texts) => json!({ "SS": sorted(texts.clone()) }),
        AttributeValue::Ns(numbers) => json!({ "NS": sorted(numbers.clone()) }),
        AttributeValue::Bs(all) => {
            let mut all: Vec<_> = all.iter().map(|bytes| bytes.as_ref().to_vec()).collect();
            all.sort();
            json!({ "BS": all })
        }
        other => panic!("{other:?}"),
    }
}
