//! Rows of the lease table as files: what Java wrote, read here; and what is written here, for Java to read.
//!
//! `tests/golden/rows/README.md` says where each file is from.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Checkpoint, Position, ShardId};
use serde_json::{Map, Value, json};

use self::dumps::{directory, lease_table};
use super::dynamo::Dynamo;
use super::term_of;
use crate::lease::row::{HashRange, LeaseRow, Wish, child_ids, number, text};
use crate::lease::{Change, HeldLease, LeaseTable, TableOptions};

const FAILOVER: Duration = Duration::from_secs(10);

#[path = "../../../tests/it/dumps.rs"]
pub(super) mod dumps;

/// A value as DynamoDB has it on the wire, for the types that are written here. Sets in order.
fn wire(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Ss(set) => {
            let mut set = set.clone();
            set.sort();
            json!({ "SS": set })
        }
        other => panic!("no lease has {other:?}"),
    }
}

/// One lease in a line, as the files of expectations have it: what is not there is `-`.
fn line(lease: &LeaseRow) -> String {
    fn or<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    fn ids(shards: &[ShardId]) -> String {
        let mut shards: Vec<_> = shards.iter().map(ShardId::as_str).collect();
        shards.sort_unstable();
        if shards.is_empty() { "-".to_owned() } else { shards.join(",") }
    }
    let at = |checkpoint: Checkpoint| format!("{}/{}", checkpoint.sequence_text(), checkpoint.sub_sequence());
    let pending = lease.pending.as_ref();
    let state = pending.and_then(|pending| pending.state.as_ref());
    [
        lease.shard.to_string(),
        or(lease.owner.as_ref()),
        or(lease.checkpoint_owner.as_ref()),
        lease.counter.to_string(),
        lease.switches.to_string(),
        at(lease.checkpoint),
        or(pending.map(|pending| at(pending.checkpoint))),
        or(state.map(|state| String::from_utf8_lossy(state))),
        ids(&lease.parents),
        ids(&lease.children),
        or(lease.hash_range.map(|range| format!("{}..{}", range.first, range.last))),
    ]
    .join(" | ")
}

#[test]
fn what_java_wrote_is_read_as_it_was_meant() {
    let expected = std::fs::read_to_string(directory().join("expected.txt")).unwrap();
    let mut files = BTreeMap::<&str, Vec<&str>>::new();
    let mut file = "";
    for line in expected.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_suffix(':') {
            Some(name) => file = name,
            None => files.entry(file).or_default().push(line),
        }
    }
    for (file, expected) in &files {
        let items = lease_table(&directory().join(file));
        let leases = items.iter().filter_map(|item| LeaseRow::from_item(item).unwrap());
        let read: Vec<_> = leases.map(|lease| line(&lease)).collect();
        assert_eq!(&read, expected, "{file}");
    }
    let java = |name: &String| name.starts_with("kcl-") && name.ends_with(".json");
    let names = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(java).collect();
    names.sort();
    assert_eq!(names, files.keys().copied().collect::<Vec<_>>(), "files without expectations");
}

/// Java's take keeps what it does not know, and none of it may pass for ours any more.
#[test]
fn what_java_took_from_us_is_not_ours() {
    for file in ["kcl-1.x-took-ours.json", "kcl-2.x-took-ours.json", "kcl-3.x-took-ours.json"] {
        let items = lease_table(&directory().join(file));
        assert_eq!(items.len(), 12, "{file}");
        for (ours, java) in lease_table(&directory().join("ours.json")).iter().zip(&items) {
            let lease = LeaseRow::from_item(java).unwrap().unwrap();
            assert_eq!((lease.owner.as_deref(), lease.is_marked()), (Some("java"), false), "{file}: {}", lease.shard);
            for name in
                ["kinesink_token", "kinesink_owner", "kinesink_wanted_by", "kinesink_start_ms", "kinesink_announced"]
            {
                assert_eq!(java.get(name), ours.get(name), "{file}: {} {name}", lease.shard);
            }
        }
    }
}

fn shard(number: usize) -> ShardId {
    format!("shardId-{number:012}").parse().unwrap()
}

/// As long as the service's are.
fn at(last_digits: u64, sub_sequence: u64) -> Checkpoint {
    let sequence = format!("49590338271490256608559692538361571095921575989{last_digits:09}");
    Checkpoint::At(Position { sequence: sequence.parse().unwrap(), sub_sequence })
}

/// A lease that nobody has held, `number` of the table.
async fn created(table: &LeaseTable, number: usize, checkpoint: Checkpoint, parents: Vec<ShardId>) -> LeaseRow {
    let first = u128::MAX / 16 * u128::try_from(number).unwrap();
    let range = HashRange { first, last: first + u128::MAX / 16 - 1 };
    let lease = LeaseRow::new(shard(number), checkpoint, parents, Some(range));
    table.create(&lease).await.unwrap();
    lease
}

async fn held(table: &LeaseTable, observed: &LeaseRow, start: Option<Timestamp>) -> HeldLease {
    HeldLease::take(table, observed, "kinesink", start, &term_of(FAILOVER)).await.unwrap()
}

/// Every kind of row that a worker of ours leaves behind, by the operations that leave it.
async fn write_all(table: &LeaseTable, dynamo: &Dynamo) {
    let horizon = Checkpoint::TrimHorizon;
    created(table, 0, horizon, Vec::new()).await;
    let noon = "2026-03-01T12:00:00Z".parse().unwrap();
    held(table, &created(table, 1, Checkpoint::Latest, Vec::new()).await, Some(noon)).await;
    let wished = held(table, &created(table, 2, horizon, Vec::new()).await, None).await;
    wished.checkpoint(at(7, 3)).await.unwrap();
    assert!(table.wish(&wished.row().await, &Wish { number: 42, by: "another".into() }).await.unwrap());
    let prepared = held(table, &created(table, 3, horizon, Vec::new()).await, None).await;
    prepared.checkpoint(at(1, 0)).await.unwrap();
    prepared.prepare(at(9, 0), &Bytes::from_static(b"\0a plan\xff")).await.unwrap();
    let stateless = held(table, &created(table, 4, horizon, Vec::new()).await, None).await;
    stateless.prepare(at(9, 4), &Bytes::new()).await.unwrap();
    let ended = held(table, &created(table, 5, horizon, Vec::new()).await, None).await;
    let children = Change { set: vec![child_ids(&[shard(6), shard(7)])], ..Change::default() };
    table.annotate(&shard(5), &children).await.unwrap();
    ended.checkpoint(Checkpoint::ShardEnd).await.unwrap();
    created(table, 6, horizon, vec![shard(5)]).await;
    let one_value = HashRange { first: 7, last: 7 };
    table.create(&LeaseRow::new(shard(7), horizon, vec![shard(5)], Some(one_value))).await.unwrap();
    created(table, 8, Checkpoint::AtTimestamp, vec![shard(6), shard(7)]).await;
    let released = held(table, &created(table, 9, horizon, Vec::new()).await, None).await;
    released.checkpoint(at(2, 0)).await.unwrap();
    released.give(None).await.unwrap();
    let given = held(table, &created(table, 10, horizon, Vec::new()).await, None).await;
    given.give(Some("another")).await.unwrap();
    // Taken in the middle of a handoff of KCL 3.x.
    let mut handed = LeaseRow::new(shard(11), at(3, 0), Vec::new(), None).to_item();
    handed.insert("leaseOwner".into(), text("java-2"));
    handed.insert("checkpointOwner".into(), text("java-1"));
    handed.insert("throughputKBps".into(), AttributeValue::N("1.5".into()));
    handed.insert("entityType".into(), text("LEASE"));
    handed.insert("leaseCounter".into(), number(5));
    dynamo.client().put_item().table_name("ours").set_item(Some(handed)).send().await.unwrap();
    held(table, &table.get(&shard(11)).await.unwrap().unwrap(), None).await;
}

/// Each Java KCL reads, takes and checkpoints these rows: `cargo xtask test java-rows`.
#[tokio::test]
async fn what_is_written_here_is_what_java_was_shown() {
    let dynamo = Dynamo::new();
    let table = LeaseTable::new(dynamo.client(), "ours");
    table.ensure(&TableOptions::default()).await.unwrap();
    Box::pin(write_all(&table, &dynamo)).await;
    let mut items = dynamo.client().scan().table_name("ours").send().await.unwrap().items.unwrap();
    items.sort_by_key(|item| item["leaseKey"].as_s().unwrap().clone());
    let written = items.iter().map(|item| {
        let mut names: Vec<_> = item.keys().collect();
        names.sort();
        let value = |name: &String| match name.as_str() {
            "kinesink_token" => json!({ "S": "a random one" }),
            _ => wire(&item[name]),
        };
        Value::Object(names.into_iter().map(|name| (name.clone(), value(name))).collect::<Map<_, _>>())
    });
    let written: Vec<_> = written.collect();
    let shown: Value = serde_json::from_slice(&std::fs::read(directory().join("ours.json")).unwrap()).unwrap();
    let written = json!({ "ours": { "rows": written } });
    assert_eq!(written, shown, "written:\n{}", serde_json::to_string_pretty(&written).unwrap());
}
