//! Records that count up to items: each once, whoever sends it how often.

mod refusals;
mod room;
mod shards;
mod slices;
mod start;
mod windows;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Batch, Emitted, Emitter as _, Failure, Item, Position, Record, ShardId, StreamName};
use serde_json::{Value, json};

use super::dynamo::Dynamo;
use super::{TABLE, config, field};
use crate::dynamodb::{Aggregate, DynamoDbConfig, DynamoDbEmitter, KeyAttribute, KeySource};
use crate::{EventTime, FieldPath, TimeFormat};

const GUARDS: &str = "guards";
/// When records of the tests arrive, and what their clock says: within the minute that begins 20 s before.
const ARRIVAL: i64 = 1_700_000_000;
const MINUTE: &str = "2023-11-14T22:13:00Z";

/// A record: sequence number, and JSON.
type Sent = (u64, Value);

fn named(names: &[(&str, &str)]) -> BTreeMap<String, FieldPath> {
    names.iter().map(|(name, path)| ((*name).to_owned(), path.parse().unwrap())).collect()
}

/// By `.id` and minute: how many, their sum, lowest and highest.
pub(super) fn counting(client: Client) -> DynamoDbConfig {
    let aggregate = Aggregate {
        window: Duration::from_secs(60),
        event_time: Some(EventTime { field: ".ts".parse().unwrap(), format: TimeFormat::Rfc3339 }),
        count: Some("count".into()),
        sum: named(&[("sum", ".n")]),
        min: named(&[("least", ".n")]),
        max: named(&[("most", ".n")]),
        guards: GUARDS.into(),
        keep: Duration::from_secs(192 * 3600),
    };
    let minute = KeyAttribute { name: "minute".into(), source: KeySource::Window, key_type: None };
    DynamoDbConfig { key: vec![field("id", ".id"), minute], aggregate: Some(aggregate), ..config(client) }
}

fn open(dynamo: &Dynamo) -> DynamoDbEmitter {
    DynamoDbEmitter::open(counting(dynamo.client())).unwrap()
}

async fn sink(dynamo: &Dynamo) -> DynamoDbEmitter {
    super::sink(counting(dynamo.client())).await
}

fn shard(number: u64) -> ShardId {
    format!("shardId-{number:012}").parse().unwrap()
}

fn items(shard_number: u64, sent: &[Sent]) -> Vec<Item<Bytes>> {
    let item = |(sequence, json): &Sent| {
        let data: Bytes = json.to_string().into();
        let record = Record {
            shard: shard(shard_number),
            position: Position { sequence: sequence.to_string().parse().unwrap(), sub_sequence: 0 },
            arrival: Timestamp::from_second(ARRIVAL).unwrap(),
            // Records of a key are in any shard: what orders them counts for nothing.
            partition_key: None,
            data: data.clone(),
        };
        Item { record, ordinal: 0, outputs: 1, value: data }
    };
    sent.iter().map(item).collect()
}

/// A window of that shard.
pub(super) async fn emit(sink: &DynamoDbEmitter, shard_number: u64, sent: &[Sent]) -> Result<Emitted, Failure> {
    let (stream, items): (StreamName, _) = ("orders".parse().unwrap(), items(shard_number, sent));
    sink.emit(&Batch {
        stream: &stream,
        shard: &shard(shard_number),
        first: items[0].record.position,
        last: items.last().unwrap().record.position,
        items: items.iter().collect(),
        partitions: Vec::new(),
        keep_existing: false,
    })
    .await
}

/// The same until all of it is durable, as the pipeline sends it; how often it was sent.
async fn deliver(sink: &DynamoDbEmitter, shard_number: u64, sent: &[Sent]) -> usize {
    for attempt in 1..100 {
        if emit(sink, shard_number, sent).await.is_ok_and(|emitted| emitted == Emitted::all()) {
            return attempt;
        }
    }
    panic!("never delivered");
}

fn number(n: u64) -> Value {
    json!({"id": "a", "n": n})
}

pub(super) async fn scan(client: &Client, table: &str) -> Vec<BTreeMap<String, String>> {
    let reply = client.scan().table_name(table).consistent_read(true).send().await.unwrap();
    let text = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let items = reply.items().iter();
    items.map(|item| item.iter().map(|(name, value)| (name.clone(), text(value))).collect()).collect()
}

/// The numbers of each item, by key and minute: count, sum, least, most.
async fn counted(dynamo: &Dynamo) -> BTreeMap<(String, String), [String; 4]> {
    let of = |item: &BTreeMap<String, String>| {
        assert_eq!(item.len(), 6, "an item has its key and its numbers, and nothing of any shard: {item:?}");
        let numbers = ["count", "sum", "least", "most"].map(|name| item[name].clone());
        ((item["id"].clone(), item["minute"].clone()), numbers)
    };
    scan(&dynamo.client(), TABLE).await.iter().map(of).collect()
}

/// The numbers of the one item.
async fn of_a(dynamo: &Dynamo) -> [String; 4] {
    let mut counted = counted(dynamo).await;
    assert_eq!(counted.len(), 1, "{counted:?}");
    counted.remove(&("a".into(), MINUTE.into())).unwrap()
}

fn totals(count: &str, sum: &str, least: &str, most: &str) -> [String; 4] {
    [count, sum, least, most].map(str::to_owned)
}

/// The same at every run (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
