//! A worker of KCL 2.x on the same table, as its protocol describes it: it renews without a mark, takes its share every
//! other failover, and takes it from the living.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::clock::SimClock;
use crate::expression::Row;
use crate::process::APP;
use crate::store::{KEY, Store};
use crate::witness::{Read, Witness};

pub(crate) struct Java {
    pub(crate) number: usize,
    pub(crate) clock: SimClock,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) witness: Arc<Mutex<Witness>>,
    pub(crate) rng: Rng,
    pub(crate) failover: Duration,
    /// From then on it is dead.
    pub(crate) until: Duration,
}

fn number(row: &Row) -> u64 {
    row["leaseCounter"]["N"].as_str().expect("a counter").parse().expect("a number")
}

fn owner(row: &Row) -> Option<&str> {
    row.get("leaseOwner")?["S"].as_str()
}

impl Java {
    fn call(&self, operation: &str, mut request: Value) -> bool {
        request["TableName"] = json!(APP);
        let (status, _, write) = self.store.lock().expect("no panic").call(operation, &request);
        if let Some(write) = write {
            let now = self.clock.elapsed();
            self.witness.lock().expect("no panic").wrote(now, self.number, now, &write);
        }
        status == 200
    }

    fn rows(&self) -> BTreeMap<String, Row> {
        self.store.lock().expect("no panic").rows(APP)
    }

    /// A write of the owner, conditional on the counter.
    fn write(&self, key: &str, counter: u64, set: &[(&str, Value)]) -> bool {
        let mut sets = vec!["leaseCounter = :next".to_owned()];
        let mut values = json!({":next": {"N": (counter + 1).to_string()}, ":counter": {"N": counter.to_string()}});
        for (name, value) in set {
            sets.push(format!("{name} = :{name}"));
            values[format!(":{name}")] = value.clone();
        }
        self.call(
            "UpdateItem",
            json!({
                "Key": {KEY: {"S": key}}, "UpdateExpression": format!("SET {}", sets.join(", ")),
                "ConditionExpression": "leaseCounter = :counter", "ExpressionAttributeValues": values,
            }),
        )
    }

    pub(crate) async fn run(mut self) {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen: BTreeMap<String, (u64, Duration)> = BTreeMap::new();
        let period = self.failover / 3 - Duration::from_millis(25);
        let mut rounds = 0_u32;
        while self.clock.elapsed() < self.until {
            for key in held.keys().cloned().collect::<Vec<_>>() {
                let counter = held[&key];
                if self.write(&key, counter, &[]) {
                    let written = self.process(&key, counter + 1);
                    held.insert(key, written);
                } else {
                    held.remove(&key);
                }
            }
            if rounds.is_multiple_of(6) {
                self.take(&mut held, &mut seen);
            }
            rounds += 1;
            self.clock.sleep_until(self.clock.elapsed() + period).await;
        }
        self.witness.lock().expect("no panic").died(self.clock.elapsed(), self.number, "is killed");
    }

    /// The counter after everything of the shard was processed.
    fn process(&self, key: &str, counter: u64) -> u64 {
        let rows = self.rows();
        let Some(row) = rows.get(key) else { return counter };
        if row["checkpoint"]["S"] == "SHARD_END" {
            return counter;
        }
        let parents =
            row.get("parentShardId").and_then(|parents| parents["SS"].as_array()).cloned().unwrap_or_default();
        let done = |row: Option<&Row>| row.is_none_or(|row| row["checkpoint"]["S"] == "SHARD_END");
        if !parents.iter().filter_map(Value::as_str).all(|parent| done(rows.get(parent))) {
            return counter;
        }
        let read = self.witness.lock().expect("no panic").java_reads(self.clock.elapsed(), key);
        let Some(Read { last, children }) = read else {
            return counter;
        };
        if children.iter().flat_map(|(_, parents)| parents).any(|parent| !rows.contains_key(parent)) {
            return counter;
        }
        for (child, parents) in &children {
            self.call(
                "PutItem",
                json!({
                    "Item": {
                        KEY: {"S": child}, "leaseCounter": {"N": "0"}, "ownerSwitchesSinceCheckpoint": {"N": "0"},
                        "checkpoint": {"S": "TRIM_HORIZON"}, "checkpointSubSequenceNumber": {"N": "0"},
                        "parentShardId": {"SS": parents}, "java": {"M": {"of": {"S": "nobody else"}}},
                    },
                    "ConditionExpression": "attribute_not_exists(leaseKey)",
                }),
            );
        }
        let to = if children.is_empty() { last } else { Some("SHARD_END".to_owned()) };
        let Some(to) = to.filter(|to| row["checkpoint"]["S"] != to.as_str()) else { return counter };
        let set = [
            ("checkpoint", json!({"S": to})),
            ("checkpointSubSequenceNumber", json!({"N": "0"})),
            ("ownerSwitchesSinceCheckpoint", json!({"N": "0"})),
        ];
        if self.write(key, counter, &set) { counter + 1 } else { counter }
    }

    fn take(&mut self, held: &mut BTreeMap<String, u64>, seen: &mut BTreeMap<String, (u64, Duration)>) {
        let (now, rows) = (self.clock.elapsed(), self.rows());
        for (key, row) in &rows {
            match seen.get(key) {
                Some((counter, _)) if *counter == number(row) => {}
                _ => drop(seen.insert(key.clone(), (number(row), now))),
            }
        }
        let live = |key: &str, row: &Row| owner(row).is_some() && now - seen[key].1 <= self.failover;
        let mut loads = BTreeMap::from([("java", 0_usize)]);
        for (key, row) in rows.iter().filter(|(key, row)| live(key, row)) {
            *loads.entry(owner(row).expect(key)).or_default() += 1;
        }
        let target = rows.len().div_ceil(loads.len()).max(1);
        let needed = target.saturating_sub(held.len());
        let mut free: Vec<_> = rows.iter().filter(|(key, row)| !live(key, row) && !held.contains_key(*key)).collect();
        self.rng.shuffle(&mut free);
        free.truncate(needed);
        if free.is_empty() && needed > 0 {
            let loaded = loads.iter().filter(|(_, load)| **load > target).max_by_key(|(_, load)| **load);
            let of: BTreeSet<_> = loaded.map(|(worker, _)| *worker).into_iter().filter(|who| *who != "java").collect();
            let stolen = rows.iter().find(|(_, row)| owner(row).is_some_and(|owner| of.contains(owner)));
            free.extend(stolen);
        }
        for (key, row) in free {
            if self.write(key, number(row), &[("leaseOwner", json!({"S": "java"}))]) {
                held.insert(key.clone(), number(row) + 1);
            }
        }
    }
}
