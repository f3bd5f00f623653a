//! Rows against what Java wrote, and the owner of a lease while answers are lost, hang and come late. What every
//! DynamoDB has to do is in `contract`, rows as files in `golden`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_core::{Checkpoint, Clock, Position, ShardId};
use proptest::prelude::*;
use tokio::time::Instant;

use self::dynamo::{Dynamo, Fault};
use self::golden::dumps::{lease_table, of_java_alone};
use super::row::{HashRange, Item, LeaseRow, number, text};
use super::table::Mark;
use super::{HeldLease, LeaseError, LeaseTable, TableOptions, Term};

mod contract;
#[path = "../../../tests/it/dynamo.rs"]
#[expect(dead_code, reason = "some faults are for whole consumers")]
mod dynamo;
mod golden;
mod handoff;

const FAILOVER: Duration = Duration::from_secs(10);

/// Every row of every lease table that a Java KCL wrote, by file.
fn java_rows() -> Vec<(String, Item)> {
    let rows = |path: PathBuf| {
        let rows = lease_table(&path).into_iter();
        rows.map(move |row| (path.display().to_string(), row))
    };
    of_java_alone().into_iter().flat_map(rows).collect()
}

#[test]
fn what_java_wrote_is_read_and_would_be_created_the_same() {
    let created = [
        "leaseKey",
        "leaseCounter",
        "ownerSwitchesSinceCheckpoint",
        "checkpoint",
        "checkpointSubSequenceNumber",
        "parentShardId",
        "startingHashKey",
        "endingHashKey",
    ];
    let mut leases = 0;
    for (file, mut item) in java_rows() {
        let is_lease = item.get("entityType").is_none_or(|entity| entity.as_s().unwrap() == "LEASE");
        let parsed = LeaseRow::from_item(&item).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(parsed.is_some(), is_lease, "{file}: {item:?}");
        let Some(lease) = parsed else { continue };
        leases += 1;
        let owner = item.get("leaseOwner").map(|owner| owner.as_s().unwrap());
        assert_eq!(lease.owner.as_ref(), owner, "{file}");
        assert_eq!(lease.pending.is_some(), item.contains_key("pendingCheckpoint"), "{file}");
        assert_eq!(
            (lease.token.as_ref(), lease.start, lease.mark.as_ref()),
            (None, None, None),
            "{file}: ours in a row of Java's"
        );
        item.retain(|name, _| created.contains(&name.as_str()));
        assert_eq!(lease.to_item(), item, "{file}");
    }
    assert_eq!(leases, 47, "leases in the dumps");
}

#[test]
fn a_row_that_is_no_lease_is_named_with_its_attribute() {
    let said = |name: &str, value: Option<AttributeValue>| {
        let mut item = lease().to_item();
        match value {
            Some(value) => item.insert(name.into(), value),
            None => item.remove(name),
        };
        LeaseRow::from_item(&item).unwrap_err().to_string()
    };
    let missing = said("leaseCounter", None);
    assert!(missing.contains("shardId-000000000001") && missing.contains("leaseCounter"), "{missing}");
    for attribute in ["ownerSwitchesSinceCheckpoint", "checkpoint"] {
        assert!(said(attribute, None).contains(attribute));
    }
    assert!(said("checkpoint", Some(text("NEVER"))).contains("checkpoint"));
    assert!(said("leaseCounter", Some(text("1"))).contains("leaseCounter"));
    assert!(said("leaseCounter", Some(AttributeValue::N("1.5".into()))).contains("leaseCounter"));
    assert!(said("parentShardId", Some(text("shardId-0"))).contains("parentShardId"));
    assert!(said("leaseKey", Some(text("1:orders:2:shardId-0"))).contains("leaseKey"));
}

#[test]
fn what_a_reader_must_bear_is_borne() {
    let mut item = lease().to_item();
    item.insert("throughputKBps".into(), AttributeValue::N("1.5".into()));
    item.insert("someone_elses".into(), AttributeValue::Bool(true));
    item.insert("pendingCheckpoint".into(), text("TRIM_HORIZON"));
    item.insert("pendingCheckpointState".into(), number(7));
    item.remove("checkpointSubSequenceNumber");
    let read = LeaseRow::from_item(&item).unwrap().unwrap();
    let pending = read.pending.unwrap();
    assert_eq!((pending.checkpoint, pending.state), (Checkpoint::TrimHorizon, None));
    item.insert("entityType".into(), text("WORKER_METRIC_STATS"));
    assert!(LeaseRow::from_item(&item).unwrap().is_none());
}

#[test]
fn a_new_row_has_what_java_requires_and_nothing_that_it_refuses() {
    let one_key = HashRange { first: 5, last: 5 };
    let item = LeaseRow::new("shardId-1".parse().unwrap(), Checkpoint::Latest, Vec::new(), Some(one_key)).to_item();
    let mut names: Vec<_> = item.keys().map(String::as_str).collect();
    names.sort_unstable();
    let required =
        ["checkpoint", "checkpointSubSequenceNumber", "leaseCounter", "leaseKey", "ownerSwitchesSinceCheckpoint"];
    assert_eq!(names, required);
}

fn any_shard() -> impl Strategy<Value = ShardId> {
    (0_u64..1_000_000).prop_map(|number| format!("shardId-{number:012}").parse().unwrap())
}

fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
    prop_oneof![
        Just(Checkpoint::AtTimestamp),
        Just(Checkpoint::TrimHorizon),
        Just(Checkpoint::Latest),
        Just(Checkpoint::ShardEnd),
        ("[1-9][0-9]{0,55}", any::<u64>()).prop_map(|(digits, sub)| Checkpoint::from_row(&digits, sub).unwrap()),
    ]
}

prop_compose! {
    /// As it may be created: nobody's, and with nothing prepared.
    fn new_lease()(
        (shard, checkpoint) in (any_shard(), any_checkpoint()),
        (counter, switches) in (any::<u64>(), any::<u64>()),
        parents in prop::collection::btree_set(any_shard(), 0..3),
        (first, length) in (0..=u128::MAX / 2, 1..u128::MAX / 2),
    ) -> LeaseRow {
        let range = HashRange { first, last: first + length };
        let mut lease = LeaseRow::new(shard, checkpoint, parents.into_iter().collect(), Some(range));
        (lease.counter, lease.switches) = (counter, switches);
        lease
    }
}

proptest! {
    #[test]
    fn a_new_lease_survives_its_row(lease in new_lease()) {
        let read = LeaseRow::from_item(&lease.to_item());
        prop_assert_eq!(read.unwrap().unwrap(), lease);
    }
}

fn lease() -> LeaseRow {
    LeaseRow::new("shardId-000000000001".parse().unwrap(), Checkpoint::TrimHorizon, Vec::new(), None)
}

fn at(sequence: u64) -> Checkpoint {
    Checkpoint::At(Position { sequence: sequence.to_string().parse().unwrap(), sub_sequence: 0 })
}

async fn table(dynamo: &Dynamo) -> LeaseTable {
    let table = LeaseTable::new(dynamo.client(), "leases");
    table.ensure(&TableOptions::default()).await.unwrap();
    table.create(&lease()).await.unwrap();
    table
}

/// A wall clock that says nothing of the paused one.
#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn term() -> Term {
    term_of(FAILOVER)
}

fn term_of(failover: Duration) -> Term {
    Term::new(failover, Arc::new(StoppedClock))
}

async fn take(table: &LeaseTable, observed: &LeaseRow, worker: &str) -> Result<HeldLease, LeaseError> {
    HeldLease::take(table, observed, worker, None, &term()).await
}

async fn stored(table: &LeaseTable) -> LeaseRow {
    table.get(&lease().shard).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_recognized_by_its_token() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    dynamo.fail("UpdateItem", Fault::LoseAnswer);
    assert!(matches!(held.checkpoint(at(9)).await, Err(LeaseError::Failed(_))));
    assert_eq!(stored(&table).await.checkpoint, at(9), "the write had its effect");
    for fault in [Fault::Cut, Fault::Throttle, Fault::Cut] {
        dynamo.fail("UpdateItem", fault);
        assert!(matches!(held.renew(None).await, Err(LeaseError::Failed(_))));
    }
    assert_eq!(dynamo.faults_left(), 0);
    held.renew(None).await.unwrap();
    held.checkpoint(at(10)).await.unwrap();
    assert_eq!(stored(&table).await.checkpoint, at(10));
}

/// A take as Java does it: it keeps the attributes that it does not know.
async fn stolen_by_java(dynamo: &Dynamo, counter: u64) {
    let request = dynamo.client().update_item().table_name("leases").key("leaseKey", text("shardId-000000000001"));
    let request = request.update_expression("SET leaseOwner = :owner, leaseCounter = :counter");
    let request = request.expression_attribute_values(":owner", text("java"));
    request.expression_attribute_values(":counter", number(counter)).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn our_token_under_another_owner_is_not_our_write() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    dynamo.fail("UpdateItem", Fault::LoseAnswer);
    assert!(matches!(held.renew(None).await, Err(LeaseError::Failed(_))));
    stolen_by_java(&dynamo, stored(&table).await.counter + 1).await;
    assert!(matches!(held.checkpoint(at(9)).await, Err(LeaseError::Lost)));
    let row = stored(&table).await;
    assert_eq!((row.owner.as_deref(), row.checkpoint), (Some("java"), Checkpoint::TrimHorizon));
}

#[test]
fn a_mark_is_on_a_row_with_its_token_its_owner_and_the_next_counter() {
    let mark = Mark { counter: 4, token: "mine".into(), owner: Some("me".into()) };
    let mut row = lease();
    (row.counter, row.token, row.owner) = (5, Some("mine".into()), Some("me".into()));
    assert!(mark.is_on(&row));
    let mut renewed = row.clone();
    renewed.counter = 6;
    let mut stolen = row.clone();
    stolen.owner = Some("java".into());
    let mut taken = row;
    taken.token = Some("theirs".into());
    assert!([renewed, stolen, taken].iter().all(|row| !mark.is_on(row)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_expires_by_the_own_clock_failover_after_the_last_write_that_was_sent() {
    let table = table(&Dynamo::new()).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    tokio::time::advance(FAILOVER - Duration::from_millis(1)).await;
    held.checkpoint(at(9)).await.unwrap();
    tokio::time::advance(FAILOVER - Duration::from_millis(1)).await;
    held.renew(None).await.unwrap();
    tokio::time::advance(FAILOVER).await;
    assert!(matches!(held.checkpoint(at(10)).await, Err(LeaseError::Lost)));
    assert!(matches!(held.renew(None).await, Err(LeaseError::Lost)), "an expired lease was revived");
    assert_eq!(stored(&table).await.checkpoint, at(9));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_right_after_a_sleep_is_refused() {
    #[derive(Debug, Default)]
    struct Wall(std::sync::atomic::AtomicI64);
    impl Clock for Wall {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(std::sync::atomic::Ordering::Relaxed)).unwrap()
        }
    }
    let (table, wall) = (table(&Dynamo::new()).await, Arc::new(Wall::default()));
    let term = Term::new(FAILOVER, Arc::<Wall>::clone(&wall));
    let held = HeldLease::take(&table, &lease(), "me", None, &term).await.unwrap();
    wall.0.store(9, std::sync::atomic::Ordering::Relaxed);
    held.checkpoint(at(8)).await.unwrap();
    wall.0.store(19, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(held.checkpoint(at(9)).await, Err(LeaseError::Lost)));
    assert_eq!(stored(&table).await.checkpoint, at(8));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_gone_at_the_moment_it_expires_even_while_a_renewal_hangs() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    tokio::time::advance(FAILOVER / 2).await;
    held.renew(None).await.unwrap();
    let renewed = Instant::now();
    tokio::time::advance(FAILOVER - Duration::from_secs(1)).await;
    dynamo.fail("UpdateItem", Fault::Hang);
    tokio::select! {
        biased;
        () = held.gone() => {}
        _ = held.renew(None) => panic!("it took the renewal to notice"),
    }
    assert_eq!((renewed.elapsed(), held.is_lost()), (FAILOVER, true));
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_not_deleted_though_nobody_has_taken_it_yet() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    tokio::time::advance(FAILOVER).await;
    assert!(matches!(held.delete().await, Err(LeaseError::Lost)));
    stored(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_leaves_time_for_the_next() {
    let dynamo = Dynamo::new();
    let table = table(&dynamo).await;
    let held = take(&table, &lease(), "me").await.unwrap();
    for _ in 0..2 {
        dynamo.fail("UpdateItem", Fault::Hang);
        assert!(matches!(held.renew(None).await, Err(LeaseError::Failed(_))));
    }
    held.renew(None).await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gift_whose_answer_is_lost_is_made_once_and_not_taken_back() {
    for to in [Some("two"), None] {
        let dynamo = Dynamo::new();
        let table = table(&dynamo).await;
        let held = take(&table, &lease(), "one").await.unwrap();
        dynamo.fail("UpdateItem", Fault::LoseAnswer);
        assert!(matches!(held.give(to).await, Err(LeaseError::Lost)), "it was made by the write before");
        let row = stored(&table).await;
        assert_eq!((row.owner.as_deref(), row.counter), (to, 2));
        assert_eq!(row.is_marked(), to.is_some());
    }
}
