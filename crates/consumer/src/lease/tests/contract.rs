//! What the lease table needs of a DynamoDB: every operation, with what is stored after it.
//!
//! Plain `cargo test` runs this on the DynamoDB in process. `cargo xtask test dynamodb-local` runs the same on AWS's
//! DynamoDB Local, which it names in [`ENDPOINT`].

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::config::retry::RetryConfig;
use kinesink_aws::dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use kinesink_aws::dynamodb::primitives::Blob;
use kinesink_aws::dynamodb::types::{AttributeValue, BillingMode, KeyType};
use kinesink_core::{Checkpoint, Position, Prepared, ShardId};
use uuid::Uuid;

use super::dynamo::Dynamo;
use super::term_of;
use crate::Error;
use crate::lease::row::{HashRange, Item, KEY, LeaseRow, OWNER, Pending, Wish, child_ids, number, text};
use crate::lease::table::{Mark, WriteError};
use crate::lease::{Change, HeldLease, LeaseError, LeaseTable, TableOptions};

/// Another DynamoDB than the one in process.
const ENDPOINT: &str = "KINESINK_TEST_DYNAMODB";
/// Longer than any test here takes: no lease expires.
const FAILOVER: Duration = Duration::from_secs(600);

/// A new lease table, and a client of its own to look at it with.
struct Store {
    client: Client,
    name: String,
    table: LeaseTable,
}

impl Store {
    /// Without the table.
    fn bare() -> Self {
        #[expect(clippy::disallowed_methods, reason = "one suite for two services: its caller says which")]
        let client = match std::env::var(ENDPOINT) {
            Ok(endpoint) => client(endpoint),
            Err(_) => Dynamo::new().client(),
        };
        let name = format!("contract-{}", Uuid::new_v4());
        Self { table: LeaseTable::new(client.clone(), name.clone()), client, name }
    }

    async fn new() -> Self {
        let store = Self::bare();
        store.table.ensure(&TableOptions::default()).await.unwrap();
        store
    }

    /// With the lease of [`lease`].
    async fn with_lease() -> Self {
        let store = Self::new().await;
        store.table.create(&lease()).await.unwrap();
        store
    }

    async fn take(&self, observed: &LeaseRow, worker: &str) -> Result<HeldLease, LeaseError> {
        HeldLease::take(&self.table, observed, worker, None, &term_of(FAILOVER)).await
    }

    async fn stored(&self) -> LeaseRow {
        self.table.get(&lease().shard).await.unwrap().unwrap()
    }

    /// All attributes, read past the row's own reader.
    async fn item(&self) -> Item {
        let get = self.client.get_item().table_name(&self.name).key(KEY, text(lease().shard.as_str()));
        get.consistent_read(true).send().await.unwrap().item.unwrap()
    }

    async fn put(&self, item: Item) {
        self.client.put_item().table_name(&self.name).set_item(Some(item)).send().await.unwrap();
    }
}

fn client(endpoint: String) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint);
    Client::from_conf(config.build())
}

fn shard(number: usize) -> ShardId {
    format!("shardId-{number:012}").parse().unwrap()
}

fn lease() -> LeaseRow {
    LeaseRow::new(shard(1), Checkpoint::TrimHorizon, Vec::new(), None)
}

fn at(sequence: u64) -> Checkpoint {
    Checkpoint::At(Position { sequence: sequence.to_string().parse().unwrap(), sub_sequence: 0 })
}

#[tokio::test]
async fn whoever_wants_the_table_first_makes_it_as_kcl_does() {
    let store = Store::bare();
    let options = TableOptions::default();
    let made = join_all((0..8).map(|_| store.table.ensure(&options))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let described = store.client.describe_table().table_name(&store.name).send().await.unwrap().table.unwrap();
    let [key] = described.key_schema() else { panic!("{:?}", described.key_schema()) };
    assert_eq!((key.attribute_name(), key.key_type()), ("leaseKey", &KeyType::Hash));
    let billing = described.billing_mode_summary.unwrap().billing_mode;
    assert_eq!(billing, Some(BillingMode::PayPerRequest));
    assert!(store.table.scan().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_table_that_is_missing_is_a_failure_and_not_an_empty_one() {
    let store = Store::bare();
    assert!(matches!(store.table.scan().await, Err(Error::NoTable(_))));
    assert!(store.table.get(&shard(1)).await.is_err());
    assert!(store.table.create(&lease()).await.is_err());
}

#[tokio::test]
async fn a_new_lease_is_read_as_it_was_created() {
    let store = Store::new().await;
    let range = HashRange { first: 0, last: u128::MAX };
    let far = Position {
        sequence: "49590338271490256608559692538361571095921575989136588898".parse().unwrap(),
        sub_sequence: 7,
    };
    let merged = LeaseRow::new(shard(9), Checkpoint::At(far), vec![shard(1), shard(2)], Some(range));
    assert!(store.table.get(&merged.shard).await.unwrap().is_none());
    store.table.create(&merged).await.unwrap();
    let mut read = store.table.get(&merged.shard).await.unwrap().unwrap();
    // A set has no order.
    read.parents.sort();
    assert_eq!(read, merged);
}

#[tokio::test]
async fn a_lease_that_exists_is_not_created_again() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "me").await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
    store.table.create(&lease()).await.unwrap();
    store.table.ensure(&TableOptions::default()).await.unwrap();
    assert_eq!(store.stored().await.checkpoint, at(9));
}

#[tokio::test]
async fn of_sixteen_takers_exactly_one_wins() {
    let store = Store::with_lease().await;
    for round in 0..10 {
        let observed = store.stored().await;
        let workers: Vec<_> = (0..16).map(|worker| format!("{round}-{worker}")).collect();
        let taken = join_all(workers.iter().map(|worker| store.take(&observed, worker))).await;
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
        assert!(taken.iter().flat_map(|taken| taken.as_ref().err()).all(|error| matches!(error, LeaseError::Lost)));
        let winner = taken.iter().position(Result::is_ok).unwrap();
        let now = store.stored().await;
        assert_eq!((now.owner.as_ref(), now.counter), (Some(&workers[winner]), observed.counter + 1));
    }
}

#[tokio::test]
async fn renewals_and_checkpoints_of_one_holder_use_each_counter_value_once() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "me").await.unwrap();
    let writes = (1..=40).map(|n| {
        let held = &held;
        async move { if n % 2 == 0 { held.renew(None).await } else { held.checkpoint(at(100)).await } }
    });
    assert!(join_all(writes).await.iter().all(Result::is_ok));
    // One take, twenty renewals, one checkpoint: the others found it made.
    assert_eq!((store.stored().await.counter, store.stored().await.checkpoint), (22, at(100)));
}

#[tokio::test]
async fn a_checkpoint_never_moves_backwards_and_clears_what_was_prepared() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "me").await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
    assert!(matches!(held.checkpoint(at(8)).await, Err(LeaseError::Failed(_))));
    let prepared = |state| Some(Pending { checkpoint: at(10), state });
    let plan = Bytes::from_static(b"\0plan");
    assert!(matches!(held.prepare(at(8), &plan).await, Err(LeaseError::Failed(_))));
    held.prepare(at(10), &plan).await.unwrap();
    assert_eq!((store.stored().await.checkpoint, store.stored().await.pending), (at(9), prepared(Some(plan))));
    held.prepare(at(10), &Bytes::new()).await.unwrap();
    assert_eq!(store.stored().await.pending, prepared(None), "an empty state is none");
    held.checkpoint(at(10)).await.unwrap();
    assert_eq!((store.stored().await.checkpoint, store.stored().await.pending), (at(10), None));
    held.prepare(at(10), &Bytes::new()).await.unwrap();
    held.checkpoint(at(10)).await.unwrap();
    assert_eq!(store.stored().await.pending, None, "though the checkpoint stands there already");
    held.checkpoint(Checkpoint::ShardEnd).await.unwrap();
    assert!(store.stored().await.is_finished());
}

#[tokio::test]
async fn what_was_prepared_is_the_next_owners() {
    let store = Store::with_lease().await;
    let old = store.take(&lease(), "old").await.unwrap();
    old.prepare(at(10), &Bytes::from_static(b"plan")).await.unwrap();
    let new = store.take(&store.stored().await, "new").await.unwrap();
    let pending = Pending { checkpoint: at(10), state: Some(Bytes::from_static(b"plan")) };
    assert_eq!(new.row().await.pending, Some(pending));
}

/// KCL 2.x and 3.x remove all of it with their checkpoint, 1.15 all but the state.
#[tokio::test]
async fn what_was_prepared_and_removed_by_java_is_not_forgotten() {
    let store = Store::with_lease().await;
    let old = store.take(&lease(), "old").await.unwrap();
    old.prepare(at(10), &Bytes::from_static(b"plan")).await.unwrap();
    let remove = vec!["pendingCheckpoint", "pendingCheckpointSubSequenceNumber"];
    let set = vec![("checkpoint", text("8"))];
    store.table.annotate(&lease().shard, &Change { set, remove, ..Change::default() }).await.unwrap();
    let gone = Some(Prepared { checkpoint: at(10), plan: None });
    assert_eq!(store.stored().await.prepared(), gone);
    let remove = vec!["pendingCheckpointState"];
    let set = vec![("checkpoint", text("8"))];
    store.table.annotate(&lease().shard, &Change { set, remove, ..Change::default() }).await.unwrap();
    assert_eq!(store.stored().await.prepared(), gone);
    let new = store.take(&store.stored().await, "new").await.unwrap();
    new.checkpoint(at(9)).await.unwrap();
    assert_eq!(store.stored().await.prepared(), None);
}

#[tokio::test]
async fn a_worker_that_was_overtaken_can_write_nothing() {
    let store = Store::with_lease().await;
    let overtaken = async || {
        let old = store.take(&store.stored().await, "old").await.unwrap();
        (old, store.take(&store.stored().await, "new").await.unwrap())
    };
    let (old, _new) = overtaken().await;
    assert!(matches!(old.checkpoint(at(9)).await, Err(LeaseError::Lost)) && old.is_lost());
    let (old, _new) = overtaken().await;
    assert!(matches!(old.renew(None).await, Err(LeaseError::Lost)));
    let (old, _new) = overtaken().await;
    assert!(matches!(old.prepare(at(9), &Bytes::new()).await, Err(LeaseError::Lost)));
    let (old, _new) = overtaken().await;
    assert!(matches!(old.give(Some("third")).await, Err(LeaseError::Lost)));
    let (old, _new) = overtaken().await;
    assert!(matches!(old.delete().await, Err(LeaseError::Lost)));
    let (_old, new) = overtaken().await;
    new.checkpoint(at(5)).await.unwrap();
    let row = store.stored().await;
    assert_eq!((row.owner.as_deref(), row.checkpoint, row.switches), (Some("new"), at(5), 0));
}

#[tokio::test]
async fn the_same_worker_id_in_another_process_is_another_worker() {
    let store = Store::with_lease().await;
    let old = store.take(&lease(), "me").await.unwrap();
    // Owner and counter are as an own renewal would have left them; the token is not.
    let _new = store.take(&store.stored().await, "me").await.unwrap();
    assert!(matches!(old.renew(None).await, Err(LeaseError::Lost)));
}

#[tokio::test]
async fn a_write_that_arrives_twice_is_known_by_its_mark() {
    let store = Store::with_lease().await;
    let mark = Mark { counter: 0, token: "once".into(), owner: Some("me".into()) };
    let change = Change { set: vec![(OWNER, text("me"))], ..Change::default() };
    let first = store.table.write(&shard(1), &mark, &change).await.unwrap();
    let again = store.table.write(&shard(1), &mark, &change).await.unwrap();
    assert_eq!((first.counter, again), (1, first));
    let other = Mark { token: "twice".into(), ..mark };
    let overtaken = store.table.write(&shard(1), &other, &change).await.unwrap_err();
    let WriteError::Overtaken(Some(row)) = overtaken else { panic!("{overtaken:?}") };
    assert_eq!(row.token.as_deref(), Some("once"), "the row comes back with the refusal");
    let gone = store.table.write(&shard(2), &other, &change).await;
    assert!(matches!(gone, Err(WriteError::Overtaken(None))), "no row is made by a write that follows a delete");
    assert!(store.table.get(&shard(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_released_lease_has_no_owner_and_keeps_its_checkpoint() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "me").await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
    held.give(None).await.unwrap();
    let row = store.stored().await;
    assert_eq!((row.owner.as_ref(), row.mark.as_ref(), row.checkpoint, row.counter), (None, None, at(9), 3));
    assert!(matches!(held.checkpoint(at(10)).await, Err(LeaseError::Lost)));
    assert!(!store.item().await.contains_key("leaseOwner"), "an owner that is nobody is no attribute");
}

#[tokio::test]
async fn a_start_that_is_stored_stays() {
    let store = Store::with_lease().await;
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    HeldLease::take(&store.table, &lease(), "one", Some(noon), &term_of(FAILOVER)).await.unwrap();
    store.take(&store.stored().await, "two").await.unwrap();
    assert_eq!(store.stored().await.start, Some(noon));
}

#[tokio::test]
async fn a_lease_given_away_is_its_new_owners_at_once() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "one").await.unwrap();
    held.checkpoint(at(9)).await.unwrap();
    assert!(store.table.wish(&store.stored().await, &Wish { number: 1, by: "two".into() }).await.unwrap());
    held.renew(None).await.unwrap();
    assert_eq!(held.row().await.wish, Some(Wish { number: 1, by: "two".into() }), "a renewal shows the wish");
    held.give(Some("two")).await.unwrap();
    let row = store.stored().await;
    assert_eq!((row.owner.as_deref(), row.switches, row.checkpoint), (Some("two"), 1, at(9)));
    assert!(row.is_marked() && row.wish.is_none());
    assert!(matches!(held.renew(None).await, Err(LeaseError::Lost)));
    store.take(&row, "two").await.unwrap();
}

#[tokio::test]
async fn a_wish_needs_the_owner_and_the_wish_that_were_observed() {
    let store = Store::with_lease().await;
    let table = &store.table;
    store.take(&lease(), "one").await.unwrap();
    let observed = store.stored().await;
    let wish = |by: &str| Wish { number: 7, by: by.into() };
    assert!(table.wish(&observed, &wish("two")).await.unwrap());
    assert!(!table.wish(&observed, &wish("three")).await.unwrap(), "another worker was faster");
    let wished = store.stored().await;
    assert_eq!((wished.counter, wished.wish.clone()), (observed.counter, Some(wish("two"))));
    table.refuse(&observed).await.unwrap();
    assert_eq!(store.stored().await, wished, "nothing was observed to refuse");
    assert!(table.wish(&wished, &wish("three")).await.unwrap(), "one that is stale is replaced");
    table.refuse(&wished).await.unwrap();
    assert_eq!(store.stored().await.wish, Some(wish("three")), "another wish was refused");
    let taken_by_java = LeaseRow { owner: Some("java".into()), ..store.stored().await };
    assert!(!table.wish(&taken_by_java, &wish("two")).await.unwrap(), "the owner is another, and the wish the same");
    table.refuse(&store.stored().await).await.unwrap();
    assert_eq!(store.stored().await.wish, None);
    store.take(&store.stored().await, "four").await.unwrap();
    assert!(!table.wish(&observed, &wish("two")).await.unwrap(), "the owner has changed");
}

#[tokio::test]
async fn a_lease_is_deleted_by_its_holder_alone() {
    let store = Store::with_lease().await;
    let old = store.take(&lease(), "old").await.unwrap();
    let new = store.take(&store.stored().await, "new").await.unwrap();
    assert!(matches!(old.delete().await, Err(LeaseError::Lost)));
    store.stored().await;
    new.delete().await.unwrap();
    assert!(store.table.get(&lease().shard).await.unwrap().is_none() && new.is_lost());
    assert!(!store.table.delete(&shard(1), 0).await.unwrap(), "what is gone was not deleted by this call");
}

#[tokio::test]
async fn the_shards_that_follow_are_written_whoever_holds_the_lease_and_onto_no_deleted_one() {
    let store = Store::with_lease().await;
    let held = store.take(&lease(), "me").await.unwrap();
    let change = Change { set: vec![child_ids(&[shard(2), shard(3)])], ..Change::default() };
    store.table.annotate(&shard(1), &change).await.unwrap();
    let mut row = store.stored().await;
    row.children.sort();
    assert_eq!((row.children, row.counter), (vec![shard(2), shard(3)], 1));
    held.renew(None).await.unwrap();
    held.delete().await.unwrap();
    store.table.annotate(&shard(1), &change).await.unwrap();
    assert!(store.table.get(&shard(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn every_page_of_a_scan_is_read() {
    let store = Store::new().await;
    // A page ends after a megabyte.
    let foreign = "x".repeat(300_000);
    for number in 0..8 {
        let mut item = LeaseRow::new(shard(number), Checkpoint::Latest, Vec::new(), None).to_item();
        item.insert("someone_elses".into(), text(foreign.clone()));
        store.put(item).await;
    }
    let first = store.client.scan().table_name(&store.name).send().await.unwrap();
    assert!(first.last_evaluated_key().is_some(), "one page would hold them all");
    let mut shards: Vec<_> = store.table.scan().await.unwrap().leases.into_iter().map(|lease| lease.shard).collect();
    shards.sort();
    assert_eq!(shards, (0..8).map(shard).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_scan_skips_rows_of_other_kinds_and_tells_what_is_no_lease() {
    let store = Store::with_lease().await;
    let leader = |key: &str| Item::from([(KEY.into(), text(key)), ("ownerName".into(), text("java"))]);
    let mut known = leader("Leader");
    known.insert("entityType".into(), text("LEADER"));
    store.put(known).await;
    assert_eq!(store.table.scan().await.unwrap().leases, [lease()]);
    store.put(leader("stranger")).await;
    let found = store.table.scan().await.unwrap();
    assert_eq!(found.leases, [lease()]);
    assert!(matches!(&found.unreadable[..], [row] if row.to_string().contains("stranger")), "{found:?}");

    let store = Store::new().await;
    store.put(leader("stranger")).await;
    let Err(Error::Row { row, .. }) = store.table.scan().await else { panic!("a row of no kind was read") };
    assert!(row.contains("stranger"), "{row}");
}

#[tokio::test]
async fn attributes_of_others_survive_every_write() {
    let store = Store::with_lease().await;
    let foreign = Item::from([
        ("throughputKBps".into(), AttributeValue::N("1.5".into())),
        ("entityType".into(), text("LEASE")),
        ("someone_elses".into(), AttributeValue::L(vec![number(1), AttributeValue::Bool(true)])),
        ("bytes".into(), AttributeValue::B(Blob::new([0, 255]))),
    ]);
    let mut item = lease().to_item();
    item.extend(foreign.clone());
    store.put(item).await;
    let kept = async |after: &str| {
        let item = store.item().await;
        for (name, value) in &foreign {
            assert_eq!(item.get(name), Some(value), "{name} after {after}");
        }
    };
    let one = store.take(&store.stored().await, "one").await.unwrap();
    kept("take").await;
    one.renew(None).await.unwrap();
    kept("renew").await;
    one.prepare(at(3), &Bytes::from_static(b"plan")).await.unwrap();
    kept("prepare").await;
    one.checkpoint(at(3)).await.unwrap();
    kept("checkpoint").await;
    store.table.wish(&store.stored().await, &Wish { number: 1, by: "two".into() }).await.unwrap();
    kept("wish").await;
    store.table.refuse(&store.stored().await).await.unwrap();
    kept("refuse").await;
    let change = Change { set: vec![child_ids(&[shard(2)])], ..Change::default() };
    store.table.annotate(&shard(1), &change).await.unwrap();
    kept("annotate").await;
    one.give(Some("two")).await.unwrap();
    kept("give").await;
    let two = store.take(&store.stored().await, "two").await.unwrap();
    two.give(None).await.unwrap();
    kept("release").await;
}

#[tokio::test]
async fn a_leader_assigns_what_is_still_owned_as_it_was_observed() {
    let store = Store::with_lease().await;
    let table = &store.table;
    let unowned = store.stored().await;
    assert!(table.assign(&unowned, "one", false).await.unwrap());
    let assigned = store.stored().await;
    assert_eq!((assigned.owner.as_deref(), assigned.counter, assigned.switches), (Some("one"), 1, 0));
    assert!(!table.assign(&unowned, "two", false).await.unwrap(), "it has an owner by now");
    let one = store.take(&assigned, "one").await.unwrap();
    one.renew(None).await.unwrap();
    assert!(!table.assign(&assigned, "two", true).await.unwrap(), "it was renewed");
    assert!(table.assign(&assigned, "two", false).await.unwrap());
    assert!(matches!(one.renew(None).await, Err(LeaseError::Lost)), "the counter has moved");
    let moved = store.stored().await;
    assert_eq!((moved.owner.as_deref(), moved.counter, moved.switches), (Some("two"), 4, 1));
    let gone = LeaseRow::new(shard(2), Checkpoint::Latest, Vec::new(), None);
    assert!(!table.assign(&gone, "two", false).await.unwrap());
    assert!(table.get(&shard(2)).await.unwrap().is_none(), "a lease was made by its assignment");
}

#[tokio::test]
async fn a_handoff_is_found_by_the_holders_next_write_and_ended_by_the_holder() {
    let store = Store::with_lease().await;
    let old = store.take(&lease(), "old").await.unwrap();
    let observed = store.stored().await;
    assert!(store.table.hand_over(&observed, "new").await.unwrap());
    assert!(!store.table.hand_over(&observed, "third").await.unwrap(), "a handoff is under way");
    let asked = store.stored().await;
    assert_eq!((asked.owner.as_deref(), asked.checkpoint_owner.as_deref()), (Some("new"), Some("old")));
    assert_eq!(asked.counter, observed.counter, "the holder can go on");
    old.renew(None).await.unwrap();
    old.checkpoint(at(9)).await.unwrap();
    assert_eq!(store.stored().await.asked_for("old"), Some("new"));
    old.give(Some("new")).await.unwrap();
    let given = store.stored().await;
    assert_eq!((given.owner.as_deref(), given.checkpoint_owner, given.checkpoint), (Some("new"), None, at(9)));
    store.take(&store.stored().await, "new").await.unwrap();
}

#[tokio::test]
async fn a_table_of_kcl_3_finds_leases_by_their_owner() {
    let store = Store::bare();
    let table = store.table.clone().of_kcl3();
    table.ensure(&TableOptions::default()).await.unwrap();
    assert!(table.has_index().await.unwrap());
    for number in 0..3 {
        table.create(&LeaseRow::new(shard(number), Checkpoint::Latest, Vec::new(), None)).await.unwrap();
    }
    assert!(table.owned_by("me").await.unwrap().is_empty());
    for number in [0, 2] {
        let observed = table.get(&shard(number)).await.unwrap().unwrap();
        assert!(table.assign(&observed, "me", false).await.unwrap());
    }
    let mut owned = table.owned_by("me").await.unwrap();
    owned.sort();
    assert_eq!(owned, [shard(0), shard(2)]);
    let item = store.item().await;
    assert_eq!(item["entityType"].as_s().unwrap(), "LEASE");
}
