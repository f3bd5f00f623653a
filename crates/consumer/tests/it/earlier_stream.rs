//! A stream that was deleted, and one of the same name that was created.

use std::time::Duration;

use kinesink_consumer::Error;

use crate::recorder::{Commit, Recorder};
use crate::resharding::QUARTER;
use crate::world::{APP, STREAM, World, run, until};

/// The same name, a minute later, with as many shards.
async fn created_again(world: &World, shards: i32) {
    world.kinesis.delete_stream().stream_name(STREAM).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.kinesis.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

async fn split(world: &World) {
    let split = world.kinesis.split_shard().stream_name(STREAM).shard_to_split("shardId-000000000000");
    split.new_starting_hash_key(QUARTER).send().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

/// What a worker says that starts on the table of the earlier stream, and that it leaves the table as it is.
async fn refused(world: &World) -> String {
    let before = world.rows().await;
    let recorder = Recorder::new(Commit::Each);
    let error = run(world.consumer("two"), &recorder).ended().await.unwrap_err();
    assert!(matches!(error, Error::EarlierStream(_)), "{error:?}");
    assert!(recorder.starts().is_empty());
    assert_eq!(world.rows().await, before);
    error.to_string()
}

/// A run that reads `a` to its checkpoint.
async fn read(world: &World) {
    world.put("key", &["a".to_owned()]).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("it came", async || !recorder.texts().is_empty()).await;
    running.drained().await;
}

#[tokio::test(start_paused = true)]
async fn checkpoints_of_an_earlier_stream_are_refused_and_both_numbers_named() {
    let world = World::new(1).await;
    read(&world).await;
    created_again(&world, 1).await;
    world.put("key", &["new".to_owned()]).await;
    let said = refused(&world).await;
    let checkpoint = world.texts("checkpoint").await.remove("shardId-000000000000").unwrap();
    let first = world.kinesis.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap();
    let first = first[0].sequence_number_range().unwrap().starting_sequence_number().to_owned();
    for part in [APP, STREAM, &checkpoint, &first, "shardId-000000000000", "delete the table"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_shard_is_not_taken_for_the_finished_one_of_an_earlier_stream() {
    let world = World::new(1).await;
    // No record: nothing but the word SHARD_END is in the row.
    split(&world).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the parent is finished", async || recorder.starts().len() == 3).await;
    running.drained().await;
    created_again(&world, 1).await;
    assert!(refused(&world).await.contains("finished in the table and open in the stream"));
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_not_taken_for_the_finished_one_of_an_earlier_stream() {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    split(&world).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    until("the parent is finished", async || recorder.starts().len() == 3).await;
    running.drained().await;
    created_again(&world, 1).await;
    world.put("key", &["never read".to_owned()]).await;
    split(&world).await;
    assert!(refused(&world).await.contains("shardId-000000000000"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_created_again_under_a_running_worker_ends_it() {
    let world = World::new(2).await;
    let recorder = Recorder::new(Commit::Each);
    let running = run(world.consumer("one"), &recorder);
    for key in 0..8 {
        world.put(&format!("key{key}"), &["a".to_owned()]).await;
    }
    until("all came", async || recorder.texts().len() == 8).await;
    created_again(&world, 2).await;
    for key in 0..8 {
        world.put(&format!("key{key}"), &["b".to_owned()]).await;
    }
    let error = running.ended().await.unwrap_err();
    assert!(matches!(error, Error::Running(_)) && error.to_string().contains("earlier stream"), "{error:?}");
    assert!(!recorder.texts().contains(&"b".to_owned()));
}
