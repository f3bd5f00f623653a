//! A handler that starts again while a write of the run before has no answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Checkpoint, Failure, Read};
use tokio::sync::Mutex;

use crate::dynamo::Fault;
use crate::recorder::{Commit, Recorder, durable};
use crate::world::{World, run, until};

/// What the first run writes, whose answer never comes.
#[derive(Debug, Clone, Copy)]
enum Write {
    Checkpoint,
    Plan,
    End,
}

/// Writes once, gives up on its shard when no answer comes, and records what follows.
struct Stumbling {
    write: Mutex<Option<Write>>,
    fault: Fault,
    world: World,
    recorder: Arc<Recorder>,
    prepared: Mutex<Vec<Option<Bytes>>>,
}

impl Stumbling {
    async fn stumble(&self, shard: &mut Shard, write: Write) -> Result<Finished, Failure> {
        let mut last = None;
        while let Read::Records(records) = shard.reader.next().await? {
            last = records.records.last().map(|record| record.position).or(last);
            if last.is_some() && !matches!(write, Write::End) {
                break;
            }
        }
        let last = last.unwrap();
        // The end of a shard is the third write of its commit.
        for _ in 0..if matches!(write, Write::End) { 2 } else { 0 } {
            self.world.dynamo.fail("UpdateItem", Fault::Pass);
        }
        self.world.dynamo.fail("UpdateItem", self.fault);
        let written = match write {
            Write::Plan => shard.checkpointer.prepare(last, Bytes::from_static(b"plan")).await,
            Write::Checkpoint => shard.checkpointer.commit(durable(Checkpoint::At(last))).await,
            Write::End => shard.checkpointer.commit(durable(Checkpoint::ShardEnd)).await,
        };
        match written {
            Err(error) => Err(Failure::transient(error.to_string())),
            Ok(()) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ShardHandler for Stumbling {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        let write = self.write.lock().await.take();
        if let Some(write) = write {
            return self.stumble(&mut shard, write).await;
        }
        self.prepared.lock().await.push(shard.prepared.as_ref().and_then(|prepared| prepared.plan.clone()));
        self.recorder.run(shard).await
    }
}

async fn stumbling(write: Write, fault: Fault) -> Arc<Stumbling> {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    if matches!(write, Write::End) {
        let split = world.kinesis.split_shard().stream_name(crate::world::STREAM);
        let split = split.shard_to_split("shardId-000000000000").new_starting_hash_key("1000");
        split.send().await.unwrap();
    }
    let recorder = Recorder::new(Commit::Each);
    let prepared = Mutex::default();
    let handler = Arc::new(Stumbling { write: Mutex::new(Some(write)), fault, world, recorder, prepared });
    let running = run(handler.world.consumer("one"), &handler);
    until("it is started again", async || !handler.recorder.starts().is_empty()).await;
    handler.world.put("key", &["b".to_owned()]).await;
    until("the next record came", async || handler.recorder.texts().contains(&"b".to_owned())).await;
    running.drained().await;
    assert_eq!(handler.world.dynamo.faults_left(), 0);
    handler
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_without_an_answer_counts_at_the_restart() {
    let handler = stumbling(Write::Checkpoint, Fault::LoseAnswer).await;
    assert_eq!(handler.recorder.texts(), ["b"], "what was checkpointed came again");
    let handler = stumbling(Write::Checkpoint, Fault::Cut).await;
    assert_eq!(handler.recorder.texts(), ["a", "b"], "what was not checkpointed is missing");
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_an_answer_is_handed_to_the_restart() {
    let handler = stumbling(Write::Plan, Fault::LoseAnswer).await;
    assert_eq!(*handler.prepared.lock().await, [Some(Bytes::from_static(b"plan"))]);
    let handler = stumbling(Write::Plan, Fault::Cut).await;
    assert_eq!(*handler.prepared.lock().await, [None]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_handed_to_the_next_owner() {
    let world = World::new(1).await;
    world.put("key", &["a".to_owned()]).await;
    let (recorder, prepared) = (Recorder::new(Commit::Each), Mutex::default());
    let write = Mutex::new(Some(Write::Plan));
    let handler = Arc::new(Stumbling { write, fault: Fault::Pass, world, recorder, prepared });
    let world = &handler.world;
    let first = run(world.consumer("one"), &handler);
    let announced = async || world.rows().await.values().any(|row| row.contains_key("pendingCheckpointState"));
    until("there is a table", async || !world.dynamo.writes().is_empty()).await;
    until("the window is announced", announced).await;
    first.killed().await;
    let next = run(world.consumer("two"), &handler);
    until("the next owner has read", async || handler.recorder.texts() == ["a"]).await;
    next.drained().await;
    assert_eq!(*handler.prepared.lock().await, [Some(Bytes::from_static(b"plan"))]);
    assert!(!world.rows().await["shardId-000000000000"].contains_key("pendingCheckpointState"), "it is committed");
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_end_was_written_without_an_answer_is_not_run_again() {
    let handler = stumbling(Write::End, Fault::LoseAnswer).await;
    let started: Vec<_> = handler.recorder.starts().into_iter().map(|(shard, _)| shard).collect();
    assert!(!started.contains(&"shardId-000000000000".to_owned()), "{started:?}");
    assert_eq!(handler.recorder.texts(), ["b"]);
}
