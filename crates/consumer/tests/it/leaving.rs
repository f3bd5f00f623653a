//! A worker that leaves while something is under way.

use std::time::Duration;

use serde_json::Value;

use crate::dynamo::Fault;
use crate::fleet::{Slow, balanced};
use crate::recorder::{Commit, Recorder};
use crate::world::{FAILOVER, World, run, until};

/// Leaves as soon as the table shows leases of its own, of which it does not know yet. How many leases it had, and what
/// it wrote when it left.
async fn leaves_while_it_takes(fault: Fault) -> (u64, u64) {
    let world = World::new(60).await;
    let recorder = Recorder::new(Commit::Each);
    let one = run(world.consumer("one"), &recorder);
    // Of the second look: it takes more than are taken at once.
    until("the first look is done", async || !recorder.starts().is_empty()).await;
    let known = recorder.starts().len();
    world.dynamo.every("UpdateItem", Some(fault));
    let owned = async || world.texts("leaseOwner").await.len();
    until("more leases are taken", async || owned().await > known).await;
    world.dynamo.every("UpdateItem", None);
    let (taken, sent) = (owned().await as u64, world.dynamo.served("UpdateItem"));
    one.drained().await;
    assert_eq!(recorder.starts().len(), known, "it knew of its leases");
    assert_eq!(owned().await, 0, "leases have to expire after {fault:?}");
    (taken, world.dynamo.served("UpdateItem") - sent)
}

#[tokio::test(start_paused = true)]
async fn leases_that_were_being_taken_as_their_worker_left_had_to_expire() {
    let (taken, written) = leaves_while_it_takes(Fault::Slow(Duration::from_millis(500))).await;
    assert_eq!(written, taken, "others were taken, to be released at once");
}

#[tokio::test(start_paused = true)]
async fn leases_that_were_taken_without_an_answer_are_released_by_a_worker_that_leaves() {
    leaves_while_it_takes(Fault::LoseAnswer).await;
}

#[tokio::test(start_paused = true)]
async fn a_take_that_hangs_keeps_no_worker_from_leaving() {
    let world = World::new(1).await;
    world.dynamo.every("UpdateItem", Some(Fault::Hang));
    let one = run(world.consumer("one"), &Recorder::new(Commit::Each));
    until("a take is under way", async || world.dynamo.served("UpdateItem") > 0).await;
    let began = tokio::time::Instant::now();
    one.drained().await;
    assert!(began.elapsed() < FAILOVER / 2, "it left after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_to_a_worker_as_it_leaves_is_nobodys_at_once() {
    let world = World::new(2).await;
    let (recorder, unread) = (Recorder::new(Commit::Each), Recorder::new(Commit::Each));
    let a = run(world.consumer("a"), &recorder);
    balanced(&world, &[("a", 2)]).await;
    let b = run(world.consumer("b"), &unread);
    let owned = async || world.texts("leaseOwner").await.into_values().filter(|owner| owner == "b").count();
    until("a lease is given", async || owned().await == 1).await;
    b.drained().await;
    assert!(unread.starts().is_empty(), "it had begun");
    assert_eq!(owned().await, 0, "what was given to it has to expire");
    a.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_shard_was_drained_quickly_was_given_to_a_worker_that_had_left() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let drain = FAILOVER / 2;
    let a = run(world.consumer("a"), &Slow::new(&recorder, drain));
    balanced(&world, &[("a", 2)]).await;
    let b = run(world.consumer("b"), &recorder);
    until("a lease is asked for", async || !world.texts("kinesink_wanted_by").await.is_empty()).await;
    // Its owner drains it by now.
    tokio::time::sleep(drain / 2).await;
    b.drained().await;
    let owners = async || world.texts("leaseOwner").await.into_values().collect::<Vec<_>>();
    assert_eq!(owners().await, ["a", "a"]);
    until("it is drained", async || owners().await != ["a", "a"]).await;
    assert_eq!(owners().await, ["a"], "it was given away, and has to expire");
    a.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_goes_to_who_asked_for_it_where_the_table_does_not_say_whether_it_still_does() {
    for fault in [Fault::Throttle, Fault::Hang] {
        let world = World::new(2).await;
        let (recorder, ways) = (Recorder::new(Commit::Each), world.dynamo.apart());
        let a = run(world.consumer("a"), &recorder);
        balanced(&world, &[("a", 2)]).await;
        world.dynamo.every("GetItem", Some(fault));
        let b = run(world.consumer_by(&ways, "b"), &recorder);
        balanced(&world, &[("a", 1), ("b", 1)]).await;
        let released = |(_, request): &&(String, Value)| request.to_string().contains("REMOVE #leaseOwner");
        let writes = world.dynamo.writes();
        assert_eq!(writes.iter().find(released), None, "after {fault:?} it was nobody's for a while");
        world.dynamo.every("GetItem", None);
        a.drained().await;
        assert!(world.dynamo.writes().iter().any(|write| released(&write)), "no release is seen at all");
        b.drained().await;
    }
}
