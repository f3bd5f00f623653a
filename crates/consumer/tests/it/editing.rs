//! The table as it is shown and edited from outside, and what the stream says of it.

use std::time::Duration;

use kinesink_aws::dynamodb::primitives::Blob;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_consumer::{Handoff, Lease, LeaseEdit, Leases, Look, Place, look};
use kinesink_core::{Checkpoint, Clock as _, Position};

use crate::dumps::{Row, directory, lease_table};
use crate::foreign_rows::{fill, unread};
use crate::recorder::{Commit, Event, Recorder};
use crate::world::{APP, STREAM, World, run, until};

const SHARD: &str = "shardId-000000000000";

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A lease of a worker of the Java KCL, with a plan and something of somebody else's.
fn java(owner: &str) -> Row {
    let mut row = unread("7");
    row.insert("leaseOwner".into(), text(owner));
    row.insert("leaseCounter".into(), number(41));
    row.insert("checkpointSubSequenceNumber".into(), number(3));
    row.insert("pendingCheckpoint".into(), text("9"));
    row.insert("pendingCheckpointSubSequenceNumber".into(), number(0));
    row.insert("pendingCheckpointState".into(), AttributeValue::B(Blob::new(b"their state")));
    row.insert("theirs".into(), text("kept"));
    row
}

async fn table(rows: &[Row]) -> (World, Leases) {
    let world = World::new(1).await;
    fill(&world, rows).await;
    let leases = Leases::new(world.dynamo.client(), APP);
    (world, leases)
}

async fn only(leases: &Leases) -> Lease {
    let [lease] = &*leases.all().await.unwrap().leases else { panic!("there is not one lease") };
    lease.clone()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_move_is_one_write_that_a_live_java_owner_cannot_take_for_its_own() {
    let (world, leases) = table(&[java("java")]).await;
    let before = only(&leases).await;
    let writes = world.dynamo.writes().len();
    let edit = LeaseEdit::Move(place("8"));
    let after = leases.edit(&before, &edit).await.unwrap();
    assert_eq!(world.dynamo.writes().len(), writes + 1);
    assert_eq!(after.place(), before.after(&edit).place());
    let row = &world.rows().await[SHARD];
    assert_eq!(row["leaseCounter"], number(42), "the owner's next write fails");
    // After a failed renewal Java takes the row for its own if the owner is still its own and the counter one ahead.
    assert_eq!(row.get("leaseOwner"), None);
    assert_eq!((&row["checkpoint"], &row["checkpointSubSequenceNumber"]), (&text("8"), &number(0)));
    assert_eq!((row.get("pendingCheckpoint"), &row["theirs"]), (None, &text("kept")));
    let Err(refused) = leases.edit(&before, &edit).await else { panic!("written a second time") };
    assert!(refused.to_string().contains("has changed since it was shown"), "{refused}");
    assert!(refused.to_string().contains("owned by nobody now, at 8"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_edit_needs_owner_checkpoint_and_plan_as_shown_but_not_the_counter() {
    for (attribute, value, is_written) in [
        ("leaseCounter", number(99), true),
        ("leaseOwner", text("other"), false),
        ("checkpointOwner", text("other"), false),
        ("checkpoint", text("8"), false),
        ("checkpointSubSequenceNumber", number(4), false),
        ("pendingCheckpoint", text("10"), false),
    ] {
        let (world, leases) = table(&[java("java")]).await;
        let shown = only(&leases).await;
        let mut row = java("java");
        row.insert(attribute.into(), value);
        world.dynamo.client().put_item().table_name(APP).set_item(Some(row.clone())).send().await.unwrap();
        let edited = leases.edit(&shown, &LeaseEdit::Move(place("trim-horizon"))).await;
        assert_eq!(edited.is_ok(), is_written, "{attribute}");
        if !is_written {
            assert_eq!(world.rows().await[SHARD], row, "{attribute}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_undoes_an_edit_leads_back() {
    for (edit, owner) in [
        (LeaseEdit::Move(place("trim-horizon")), "java"),
        (LeaseEdit::Move(place("2026-03-01T11:00:00Z")), "java"),
        (LeaseEdit::Release("java".into()), "java"),
    ] {
        let (world, leases) = table(&[java(owner)]).await;
        let before = only(&leases).await;
        let row_before = world.rows().await.remove(SHARD).unwrap();
        let after = leases.edit(&before, &edit).await.unwrap();
        assert_ne!((after.place(), after.owner()), (before.place(), before.owner()));
        leases.edit(&after, &edit.undo(&before).unwrap()).await.unwrap();
        let row_after = world.rows().await.remove(SHARD).unwrap();
        let same = |name: &str| row_after.get(name) == row_before.get(name);
        assert!(same("checkpoint") && same("checkpointSubSequenceNumber") && same("theirs"), "{edit:?}");
        assert_eq!(same("leaseOwner"), !matches!(edit, LeaseEdit::Move(_)), "{edit:?}");
        assert!(!row_after.contains_key("kinesink_start_ms"), "{edit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_state_beside_an_announced_window_takes_the_lease_off_its_owner_and_can_be_put_back() {
    let (world, leases) = table(&[java("java")]).await;
    let before = only(&leases).await;
    let row_before = world.rows().await.remove(SHARD).unwrap();
    let edit = LeaseEdit::Announce(bytes::Bytes::from_static(b"otherwise"));
    let after = leases.edit(&before, &edit).await.unwrap();
    assert_eq!((after.owner(), after.place()), (None, before.place()));
    assert_eq!(after.plan().unwrap().state.as_deref(), Some(b"otherwise".as_slice()));
    leases.edit(&after, &edit.undo(&before).unwrap()).await.unwrap();
    let row_after = world.rows().await.remove(SHARD).unwrap();
    for name in ["pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState", "theirs"] {
        assert!(row_before.contains_key(name) && row_after.get(name) == row_before.get(name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_owner_loses_a_moved_lease_and_delivers_from_there() {
    let world = World::new(1).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    world.put("key", &["a".to_owned(), "b".to_owned()]).await;
    until("both came", async || recorder.texts().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leases = Leases::new(world.dynamo.client(), APP);
    let shown = only(&leases).await;
    assert!(shown.is_ours());
    // As long as a person takes to answer: the owner renews meanwhile.
    tokio::time::sleep(Duration::from_secs(60)).await;
    leases.edit(&shown, &LeaseEdit::Move(place("trim-horizon"))).await.unwrap();
    until("both came again", async || recorder.texts().len() == 4).await;
    let dropped = |event: &&Event| matches!(event, Event::Stopped(_, None));
    assert_eq!(recorder.events().iter().filter(dropped).count(), 1, "the owner did not lose the lease");
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_during_a_handoff_of_kcl_3_completes_it() {
    let mut row = java("next");
    row.insert("checkpointOwner".into(), text("present"));
    let (_world, leases) = table(&[row]).await;
    let before = only(&leases).await;
    assert_eq!((before.owner(), before.handoff()), (Some("present"), Some(Handoff::Assigned("next".into()))));
    let after = leases.edit(&before, &LeaseEdit::Release("present".into())).await.unwrap();
    assert_eq!((after.owner(), after.handoff(), after.counter()), (Some("next"), None, 42));
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_that_of_the_first_record_after_the_place() {
    let world = World::new(1).await;
    let start = world.clock.now();
    let shard = SHARD.parse().unwrap();
    let stream = STREAM.parse().unwrap();
    let looked = async |place: Place| look(&world.kinesis, &stream, &shard, place, &*world.clock).await;
    assert_eq!(looked(place("trim-horizon")).await.unwrap(), Look { lag: Duration::ZERO, first: None });
    world.put("key", &["a".to_owned()]).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    // One record, ten minutes old: MillisBehindLatest is 0 after it, and it is still to come.
    let oldest = looked(place("trim-horizon")).await.unwrap();
    let near = |lag: Duration, seconds: u64| lag.abs_diff(Duration::from_secs(seconds)) < Duration::from_secs(1);
    assert!(near(oldest.lag, 600), "{oldest:?}");
    let first = Checkpoint::At(Position { sequence: oldest.first.unwrap(), sub_sequence: 0 });
    assert_eq!(looked(first.into()).await.unwrap().lag, Duration::ZERO, "it is done");
    world.put("key", &["b".to_owned()]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(near(looked(first.into()).await.unwrap().lag, 660), "the checkpoint is eleven minutes behind");
    assert_eq!(looked(place("latest")).await.unwrap().lag, Duration::ZERO);
    let between = Place { checkpoint: Checkpoint::AtTimestamp, start: Some(start + Duration::from_secs(300)) };
    assert!(near(looked(between).await.unwrap().lag, 60), "only the second is to come");
    assert!(looked(place("7")).await.is_err(), "no number of this stream");
}

#[tokio::test(start_paused = true)]
async fn tables_of_java_are_shown_with_what_each_version_writes() {
    for (file, version, measures) in [
        ("kcl-1.x", None, false),
        ("kcl-2.x", None, false),
        ("kcl-3.x", Some("CLIENT_VERSION_3X"), true),
        ("kcl-2.x-with-3.x-compatible", Some("CLIENT_VERSION_UPGRADE_FROM_2X"), true),
    ] {
        let (_world, leases) = table(&lease_table(&directory().join(format!("{file}.json")))).await;
        let seen = leases.all().await.unwrap();
        assert_eq!(seen.client_version.as_deref(), version, "{file}");
        assert_eq!(seen.leases.len(), 4, "{file}");
        assert!(seen.leases.iter().all(|lease| !lease.is_ours()), "{file}");
        let measured = seen.leases.iter().any(|lease| lease.throughput_kb_per_s().is_some());
        assert_eq!(measured, measures, "{file}");
    }
}
