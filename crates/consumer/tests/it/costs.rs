//! What the lease table is asked for, counted by the consumer and by the service.

use std::time::Duration;

use prometheus_client::registry::Registry;

use crate::recorder::{Commit, Recorder};
use crate::world::{FAILOVER, World, exposed, run_counted, until};

/// Requests of an operation, for all purposes or for one.
fn requests(registry: &Registry, operation: &str, purpose: &str) -> u64 {
    let labels = |line: &&str| {
        line.starts_with("lease_table_requests_total{")
            && line.contains(&format!("operation=\"{operation}\""))
            && line.contains(&format!("purpose=\"{purpose}"))
    };
    let text = exposed(registry);
    text.lines().filter(labels).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_operation_and_purpose_and_an_idle_worker_makes_few() {
    let world = World::new(4).await;
    let (recorder, mut registry) = (Recorder::new(Commit::Each), Registry::default());
    let running = run_counted(world.consumer("one"), &recorder, &mut registry);
    until("all are started", async || recorder.starts().len() == 4).await;
    for key in 0..8 {
        world.put(&format!("key{key}"), &["a".to_owned()]).await;
    }
    until("all came", async || recorder.texts().len() == 8).await;
    // Whatever the service saw.
    for operation in ["PutItem", "UpdateItem", "DeleteItem", "GetItem", "Scan", "Query"] {
        assert_eq!(requests(&registry, operation, ""), world.dynamo.served(operation), "{operation}");
    }
    assert_eq!(requests(&registry, "PutItem", "start"), 4);
    assert_eq!(requests(&registry, "UpdateItem", "take"), 4);
    assert_eq!(requests(&registry, "UpdateItem", "checkpoint"), u64::try_from(recorder.records().len()).unwrap());

    let count = |operation, purpose| requests(&registry, operation, purpose);
    let before = [count("UpdateItem", "renew"), count("Scan", "take"), count("GetItem", ""), count("UpdateItem", "")];
    let minutes = 10;
    tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
    let after = [count("UpdateItem", "renew"), count("Scan", "take"), count("GetItem", ""), count("UpdateItem", "")];
    let [renewals, scans, gets, updates] = [0, 1, 2, 3].map(|index: usize| after[index] - before[index]);
    // Four leases, each three times a failover; a scan every second and a half.
    let failovers = minutes * 60 / FAILOVER.as_secs();
    assert!((12 * failovers..=13 * failovers).contains(&renewals), "{renewals} renewals");
    assert!((380..=401).contains(&scans), "{scans} scans");
    // It is looked twice a minute who assigns leases: how the tables are laid out, and by which version.
    assert!((18..=22).contains(&gets), "{gets} reads of one row");
    assert_eq!(updates, renewals);
    running.drained().await;
    assert_eq!(requests(&registry, "UpdateItem", "give"), 4);
}
