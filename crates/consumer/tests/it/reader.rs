//! What a shard's reader promises to the handler that drives it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Budget, Checkpoint, Failure, Read};
use kinesink_emulator::{Fault, FaultKind};
use tokio::time::timeout;

use crate::world::{World, run, until};

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:04}")).collect()
}

/// Gives up each read after a moment and asks again.
#[derive(Default)]
struct Impatient {
    texts: Mutex<Vec<String>>,
    given_up: Mutex<u32>,
}

#[async_trait]
impl ShardHandler for Impatient {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        while !shard.drain.is_cancelled() {
            match timeout(Duration::from_millis(7), shard.reader.next()).await {
                Ok(Ok(Read::Records(read))) => {
                    let texts = read.records.iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap());
                    self.texts.lock().unwrap().extend(texts);
                }
                Ok(Ok(Read::ShardEnd)) => break,
                Ok(Err(failure)) => return Err(failure),
                Err(_) => *self.given_up.lock().unwrap() += 1,
            }
        }
        Ok(Finished::Drained)
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_given_up_again_and_again_loses_and_doubles_nothing() {
    let world = World::new(1).await;
    // Each call takes far longer than the handler waits for it.
    world.emulator.faults().push(Fault::on("GetRecords", FaultKind::DelayMs(100)).times(50));
    let handler = Arc::new(Impatient::default());
    let running = run(world.consumer("one").idle(Duration::from_millis(50)), &handler);
    let all = numbered(3_000);
    for part in all.chunks(300) {
        world.put("key", part).await;
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    until("all came", async || handler.texts.lock().unwrap().len() >= all.len()).await;
    running.drained().await;
    assert_eq!(*handler.texts.lock().unwrap(), all);
    assert!(*handler.given_up.lock().unwrap() > 50, "nothing was given up");
}

/// Reads three replies, goes back to after the tenth record, and reads on.
#[derive(Default)]
struct Rewinder {
    before: Mutex<Vec<String>>,
    after: Mutex<Vec<String>>,
}

#[async_trait]
impl ShardHandler for Rewinder {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        let mut tenth = None;
        for reply in 0_u32.. {
            let read = tokio::select! {
                () = shard.drain.cancelled() => break,
                read = shard.reader.next() => read?,
            };
            let Read::Records(read) = read else { break };
            let texts = if reply < 3 { &self.before } else { &self.after };
            for record in &read.records {
                texts.lock().unwrap().push(String::from_utf8(record.data.to_vec()).unwrap());
                if texts.lock().unwrap().len() == 10 {
                    tenth.get_or_insert(record.position);
                }
            }
            if let (2, Some(position)) = (reply, tenth) {
                shard.reader.rewind(Checkpoint::At(position));
            }
        }
        Ok(Finished::Drained)
    }
}

#[tokio::test(start_paused = true)]
async fn a_rewound_reader_continues_after_the_checkpoint_and_gives_back_what_it_read_ahead() {
    let world = World::new(1).await;
    let all = numbered(5_000);
    world.put("key", &all).await;
    let handler = Arc::new(Rewinder::default());
    let budget = Budget::new(16 * 1024 * 1024);
    let running = run(world.consumer("one").budget(budget.clone()), &handler);
    until("all came again", async || handler.after.lock().unwrap().len() >= all.len() - 10).await;
    running.drained().await;
    assert_eq!(*handler.after.lock().unwrap(), all[10..]);
    let before = handler.before.lock().unwrap();
    assert!(before.len() > 10 && *before == all[..before.len()]);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}

/// Holds everything it is given, and notes how much memory that says it takes.
struct Hoarder {
    budget: Budget,
    held: Mutex<Vec<kinesink_core::Records>>,
}

#[async_trait]
impl ShardHandler for Hoarder {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        loop {
            tokio::select! {
                () = shard.drain.cancelled() => return Ok(Finished::Drained),
                read = shard.reader.next() => match read? {
                    Read::Records(records) => self.held.lock().unwrap().push(records),
                    Read::ShardEnd => return Ok(Finished::Drained),
                },
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_paid_for_while_they_are_held_and_reading_stops_when_nothing_is_left() {
    let world = World::new(4).await;
    let record = "x".repeat(10_000);
    for key in 0..16 {
        world.put(&format!("key{key}"), &vec![record.clone(); 100]).await;
    }
    let budget = Budget::new(4 * 1024 * 1024);
    let handler = Arc::new(Hoarder { budget: budget.clone(), held: Mutex::default() });
    let running = run(world.consumer("one").budget(budget.clone()), &handler);
    tokio::time::sleep(Duration::from_secs(600)).await;
    {
        let held = handler.held.lock().unwrap();
        let paid: usize = held.iter().map(|records| records.reservation.bytes()).sum();
        let taken: usize = held.iter().flat_map(|records| &records.records).map(|record| record.memory_bytes()).sum();
        assert!(taken <= paid, "{taken} bytes are held and {paid} reserved");
        assert!(taken <= handler.budget.total_bytes(), "{taken} bytes are held");
        assert!(taken > handler.budget.total_bytes() / 4, "only {taken} bytes came");
        let records: usize = held.iter().map(|records| records.records.len()).sum();
        assert!(records < 1_600, "everything was read although nothing was given back");
    }
    // Giving memory back lets the rest come.
    let count = Mutex::new(0);
    until("the rest came", async || {
        let mut count = count.lock().unwrap();
        *count += handler.held.lock().unwrap().drain(..).map(|records| records.records.len()).sum::<usize>();
        *count >= 1_600
    })
    .await;
    running.drained().await;
    drop(handler);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}
