//! A shard that gives what a script says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kinesink_core::{Budget, Checkpoint, Failure, Position, Read, Record, Records, Reservation, ShardReader};
use tokio::time::sleep;

/// What a shard gives, step by step.
#[derive(Clone)]
pub(crate) enum Step {
    /// A reply, after a delay.
    Reply(Duration, Vec<Record>),
    Fail(Failure),
    /// The shard's end; without it the reader waits for ever after the last step.
    End,
}

pub(super) struct Reader {
    pub(super) script: Vec<Step>,
    pub(super) left: VecDeque<Step>,
    pub(super) budget: Budget,
    pub(super) bytes_per_reply: usize,
    pub(super) rewinds: Arc<Mutex<Vec<Checkpoint>>>,
}

#[async_trait]
impl ShardReader for Reader {
    async fn next(&mut self) -> Result<Read, Failure> {
        let Some(step) = self.left.front_mut() else { return std::future::pending().await };
        match step {
            Step::Reply(delay, _) => {
                sleep(*delay).await;
                let reservation = if self.bytes_per_reply == 0 {
                    Reservation::none()
                } else {
                    self.budget.reserve(self.bytes_per_reply).await
                };
                let Some(Step::Reply(_, records)) = self.left.pop_front() else { unreachable!() };
                let more = self.left.iter().any(|step| matches!(step, Step::Reply(_, later) if !later.is_empty()));
                Ok(Read::Records(Records { records, behind_latest_ms: u64::from(more), reservation }))
            }
            Step::Fail(failure) => {
                let failure = failure.clone();
                self.left.pop_front();
                Err(failure)
            }
            Step::End => Ok(Read::ShardEnd),
        }
    }

    fn rewind(&mut self, checkpoint: Checkpoint) {
        self.rewinds.lock().unwrap().push(checkpoint);
        self.left = self.again(|position| checkpoint.is_before(position)).collect();
        for step in &mut self.left {
            if let Step::Reply(delay, _) = step {
                *delay = Duration::ZERO;
            }
        }
    }

    fn seek(&mut self, first: Position) {
        self.left = self.again(|position| first <= position).collect();
    }
}

impl Reader {
    /// The script without its failures and the records that are not wanted.
    fn again(&self, wanted: impl Fn(Position) -> bool) -> impl Iterator<Item = Step> {
        let steps = self.script.iter().filter(|step| !matches!(step, Step::Fail(_))).cloned();
        steps.map(move |mut step| {
            if let Step::Reply(_, records) = &mut step {
                records.retain(|record| wanted(record.position));
            }
            step
        })
    }
}
