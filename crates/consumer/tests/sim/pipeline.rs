//! What stands for the pipeline: windows of records go to a sink that takes its time, then the checkpoint moves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use kinesink_consumer::{Finished, Shard, ShardHandler};
use kinesink_core::{Checkpoint, CheckpointError, Class, Durable, Failure, Position, Read, Reservation, Settlement};
use tokio::time::{sleep, sleep_until};

use crate::clock::SimClock;
use crate::witness::Witness;

/// How a pipeline goes about its windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) window_records_max: usize,
    pub(crate) window_age_ms: u64,
    pub(crate) sink_ms_max: u64,
    /// How many windows are prepared, from 0 to 1.
    pub(crate) prepared: f64,
    /// How many windows fail for a reason of the sink's, so that the shard starts again.
    pub(crate) failing: f64,
}

pub(crate) struct Pipeline {
    pub(crate) process: usize,
    pub(crate) clock: SimClock,
    pub(crate) witness: Arc<Mutex<Witness>>,
    pub(crate) rng: Mutex<Rng>,
    pub(crate) habits: Habits,
}

/// The open window of one shard.
#[derive(Default)]
struct Window {
    positions: Vec<Position>,
    reservations: Vec<Reservation>,
}

/// Ends a session, however it ends.
struct Session<'a> {
    pipeline: &'a Pipeline,
    number: usize,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut witness = self.pipeline.witness();
        // A process that is dead has no clock any more.
        let now = witness.is_alive(self.pipeline.process).then(|| self.pipeline.clock.elapsed());
        witness.ended(now, self.number);
    }
}

impl Pipeline {
    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn process(&self, session: &Session<'_>, shard: &mut Shard) -> Result<Finished, Failure> {
        let mut window = Window::default();
        let mut closes_at = self.clock.instant(self.clock.elapsed());
        let drain = shard.drain.clone();
        loop {
            let read = tokio::select! {
                biased;
                () = drain.cancelled() => {
                    self.commit(session, shard, &mut window).await?;
                    return Ok(Finished::Drained);
                }
                () = sleep_until(closes_at), if !window.positions.is_empty() => {
                    self.commit(session, shard, &mut window).await?;
                    continue;
                }
                read = shard.reader.next() => read?,
            };
            let records = match read {
                Read::Records(records) => records,
                Read::ShardEnd => {
                    self.witness().reached_the_end(session.number);
                    self.commit(session, shard, &mut window).await?;
                    self.move_checkpoint(shard, Checkpoint::ShardEnd).await?;
                    return Ok(Finished::ShardEnd);
                }
            };
            let sizes = records.records.iter().map(|record| record.data.len()).sum();
            let positions: Vec<_> = records.records.iter().map(|record| record.position).collect();
            let (now, held) = (self.clock.elapsed(), records.reservation.bytes());
            self.witness().delivered(now, session.number, &positions, sizes, held);
            if window.positions.is_empty() {
                closes_at = self.clock.instant(now + Duration::from_millis(self.habits.window_age_ms));
            }
            window.positions.extend(positions);
            window.reservations.push(records.reservation);
            if window.positions.len() >= self.habits.window_records_max {
                self.commit(session, shard, &mut window).await?;
            }
        }
    }

    /// Makes the window durable, then moves the checkpoint.
    async fn commit(&self, session: &Session<'_>, shard: &mut Shard, window: &mut Window) -> Result<(), Failure> {
        let Some(last) = window.positions.last().copied() else { return Ok(()) };
        let (prepares, fails, wait_ms) = {
            let mut rng = self.rng();
            (rng.f64() < self.habits.prepared, rng.f64() < self.habits.failing, rng.u64(0..=self.habits.sink_ms_max))
        };
        if prepares {
            let plan = Bytes::from(format!("up to {last}"));
            loop {
                match shard.checkpointer.prepare(last, plan.clone()).await {
                    Ok(()) => break,
                    Err(error) => self.pause(error).await?,
                }
            }
        }
        sleep(Duration::from_millis(wait_ms)).await;
        if fails {
            return Err(Failure::transient("the sink has no room"));
        }
        self.witness().durable(self.clock.elapsed(), session.number, &window.positions);
        self.move_checkpoint(shard, Checkpoint::At(last)).await?;
        *window = Window::default();
        self.witness().held(session.number, 0);
        Ok(())
    }

    async fn move_checkpoint(&self, shard: &mut Shard, through: Checkpoint) -> Result<(), Failure> {
        loop {
            match shard.checkpointer.commit(durable(through)).await {
                Ok(()) => return Ok(()),
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Before a write is tried again.
    async fn pause(&self, error: CheckpointError) -> Result<(), Failure> {
        match error {
            // The consumer drops this future.
            CheckpointError::LeaseLost => std::future::pending().await,
            CheckpointError::Store(failure) if failure.class == Class::Fatal => Err(failure),
            _ => {
                let wait_ms = self.rng().u64(100..400);
                sleep(Duration::from_millis(wait_ms)).await;
                Ok(())
            }
        }
    }
}

/// The proof of a window without items: whether it is durable is what the witness is there to judge.
fn durable(through: Checkpoint) -> Durable {
    Settlement::new(through, 0, 0, 0).finish().expect("nothing is owed")
}

#[async_trait]
impl ShardHandler for Pipeline {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        let number = self.witness().began(self.clock.elapsed(), self.process, shard.id.as_str(), shard.start);
        let session = Session { pipeline: self, number };
        let finished = self.process(&session, &mut shard).await;
        self.witness().returned(number);
        finished
    }
}
