//! Windows that are larger than memory, and announced.

use std::time::Duration;

use kinesink_core::Budget;
use kinesink_pipeline::Finished;
use tokio::time::{Instant, sleep};

use crate::fakes::{Event, Rig};
use crate::spills::{MIB, RECORDS, divided, plainly, rig, script};

/// One owner announces and sends the window and is killed; the next one finds it.
async fn taken_over(spilled_before: bool, spilled_after: bool) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let memory = |rig: &mut Rig, spilled: bool| {
        if !spilled {
            rig.budget = Budget::new(100 * MIB);
        }
    };
    let mut before = rig(script(divided), &directory, MIB).with_dead_letters();
    memory(&mut before, spilled_before);
    before.lease.lost_at = Some(1);
    assert_eq!(before.run().await.unwrap(), Finished::LeaseLost);
    assert_eq!(before.metric("spilled_bytes_total") > 0.0, spilled_before);
    let left = before.lease.prepared.lock().unwrap().clone();
    let mut after = rig(script(divided), &directory, MIB).with_dead_letters();
    memory(&mut after, spilled_after);
    *after.lease.prepared.lock().unwrap() = left;
    assert_eq!(after.run().await.unwrap(), Finished::ShardEnd);
    assert_eq!(after.metric("spilled_bytes_total") > 0.0, spilled_after);
    after
}

#[tokio::test(start_paused = true)]
async fn whether_it_was_spilled_changes_nothing_of_what_was_announced() {
    for (before, after) in [(true, false), (false, true), (true, true)] {
        let rig = taken_over(before, after).await;
        let mut delivered = rig.delivered("one");
        delivered.sort();
        assert_eq!(delivered, (1..=RECORDS).filter(|number| *number != 17).collect::<Vec<_>>());
        assert_eq!(rig.metric("plans_total{outcome=\"finished\"}"), 1.0);
        assert_eq!(rig.metric("windows_closed_total{reason=\"plan\"}"), 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_while_an_announced_window_is_spilled_ends_at_once_and_gives_everything_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = rig(script(plainly), &directory, MIB);
    before.lease.lost_at = Some(1);
    assert_eq!(before.run().await.unwrap(), Finished::LeaseLost);
    let mut after = rig(script(plainly), &directory, MIB);
    *after.lease.prepared.lock().unwrap() = before.lease.prepared.lock().unwrap().clone();
    let (pipeline, input) = after.build();
    let watch = async {
        sleep(Duration::from_secs(10)).await;
        assert!(after.metric("spilled_bytes_total") > 0.0);
        after.drain.cancel();
        Instant::now()
    };
    let (finished, drained_at) = tokio::join!(pipeline.run_shard(input), watch);
    assert_eq!(finished.unwrap(), Finished::Drained);
    assert!(drained_at.elapsed() < Duration::from_secs(1));
    assert_eq!(after.events(), []);
    assert_eq!(after.spill.as_ref().unwrap().free_bytes(), MIB);
    assert_eq!(after.budget.free_bytes(), MIB);
}

#[tokio::test(start_paused = true)]
async fn a_spilled_window_of_which_everything_is_refused_is_not_announced() {
    let directory = tempfile::tempdir().unwrap();
    let mut rig = rig(script(|_| "unencodable".into()), &directory, MIB).with_dead_letters();
    assert_eq!(rig.run().await.unwrap(), Finished::ShardEnd);
    assert!(!rig.events().iter().any(|event| matches!(event, Event::Announced(_))), "{:?}", rig.events());
    assert_eq!(rig.metric("dead_letters_total{stage=\"transform\"}"), RECORDS as f64);
}
