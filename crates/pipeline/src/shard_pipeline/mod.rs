//! The loop of one shard.

mod finishing;
mod halting;
mod intake;
mod spilling;
mod window;

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use kinesink_core::{
    Budget, Checkpoint, Checkpointer, CloseReason, Failure, Position, Read, ShardId, ShardReader, StreamName,
    Transformer,
};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::halting::Halting;
use self::intake::Reply;
pub(crate) use self::window::Closed;
use self::window::Window;
use crate::commit::{Halt, Standing, Stop, commit};
use crate::health::ShardHealth;
use crate::pause::{Pause, Reports};
use crate::pipeline::{Retry, ShardInput};
use crate::{Finished, Metrics, Pipeline};

/// What names and reports a shard, shared by its loop and its commits.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) stream: StreamName,
    pub(crate) id: ShardId,
    pub(crate) drain: CancellationToken,
    pub(crate) retry: Retry,
    pub(crate) metrics: Metrics,
    pub(crate) health: ShardHealth,
    /// When it was last told that records go to the dead letters.
    pub(crate) buried: Mutex<Reports>,
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.metrics.shard_gone(&self.id);
    }
}

/// How often a window waits for a sink that is set up wrong, before the shard gives its memory back and halts.
const CONFIGURATION_RETRIES_MAX: u32 = 2;

/// A commit in flight: it owns the checkpointer and gives it back, with how the lease stands then.
type Committing<'a> = BoxFuture<'a, (Box<dyn Checkpointer>, Standing, Result<(), Stop>)>;

/// One shard, the four interfaces, one open window and at most one that commits.
pub(crate) struct ShardPipeline<'a, T: Transformer> {
    pipeline: &'a Pipeline<T>,
    shard: Arc<Shard>,
    reader: Box<dyn ShardReader>,
    read_pause: Pause,
    read_at: Option<Instant>,
    /// What is left of the last reply.
    reply: Reply,
    /// Reused for every record.
    models: Vec<T::Model>,
    /// Empty while `closed` is not.
    window: Window<T::Model, T::Output>,
    /// The open window has to be spilled before anything else comes into it.
    to_spill: bool,
    /// Full, and waiting for the commit in flight. Boxed as what is spilled: most shards have none most of the time.
    closed: Option<Box<Closed<T::Model, T::Output>>>,
    committing: Option<Committing<'a>>,
    /// `None` while a commit has it.
    checkpointer: Option<Box<dyn Checkpointer>>,
    /// How the lease stood when no commit was in flight. A plan in it is the window to read.
    standing: Standing,
    /// Set once nothing more is to be read.
    ending: Option<Finished>,
    /// What stops the shard as soon as the windows before it are committed.
    halt: Option<Halt>,
    /// A record that was refused: it is committed alone.
    blocked: Option<Position>,
    halting: Option<Halting>,
    budget: Budget,
    /// Why nothing is read: a plan of ours that this program cannot read.
    unreadable_plan: Option<String>,
    /// When an announced window that is being read is given up, because memory is wanted and nothing comes.
    give_up_at: Option<Instant>,
    /// Nothing beyond the announced window is read.
    finishes_only: bool,
}

impl<'a, T: Transformer> ShardPipeline<'a, T> {
    pub(crate) fn new(pipeline: &'a Pipeline<T>, input: ShardInput) -> Self {
        #[cfg(feature = "planted-faults")]
        let input = pipeline.plant_in(input);
        let shard = Arc::new(Shard {
            stream: input.stream,
            health: input.health.shard(input.shard.clone()),
            id: input.shard,
            drain: input.drain,
            retry: pipeline.retry.clone(),
            metrics: input.metrics,
            buried: Mutex::default(),
        });
        Self {
            pipeline,
            reader: input.reader,
            read_pause: Pause::new(&shard, "reader".into()),
            read_at: None,
            reply: Reply::default(),
            models: Vec::new(),
            window: Window::new((pipeline.buffer)(), pipeline.idle_age, input.budget.holder()),
            to_spill: false,
            closed: None,
            committing: None,
            checkpointer: Some(input.checkpointer),
            standing: Standing { committed: input.start, plan: None },
            ending: None,
            halt: None,
            blocked: None,
            halting: None,
            unreadable_plan: None,
            give_up_at: None,
            finishes_only: false,
            budget: input.budget,
            shard,
        }
        .finishing(input.prepared.as_ref())
    }

    /// Runs the shard to its end. Dropping the future is an abort.
    pub(crate) async fn run(mut self: Box<Self>) -> Result<Finished, Failure> {
        loop {
            if let Some(finished) = self.step().await? {
                return Ok(finished);
            }
        }
    }

    /// One decision, and one thing that is waited for. Says why the shard came to its end, once it has.
    async fn step(&mut self) -> Result<Option<Finished>, Failure> {
        self.fill();
        if std::mem::take(&mut self.to_spill) {
            Box::pin(self.spill_beside_commit()).await;
        }
        self.start_commit();
        if self.committing.is_none() {
            if let Some(halt) = self.halt.take().or_else(|| self.unreadable_plan.clone().map(Halt::Plan)) {
                return Ok(self.wait_halted(halt).await);
            }
            if let Some(finished) = self.ending {
                let halted = self.read_pause.is_misconfigured() || self.halting.is_some();
                return Ok(Some(if halted && finished == Finished::Drained { Finished::Halted } else { finished }));
            }
        }
        self.turn().await
    }

    /// Waits for whatever comes first. The commit goes on while the next window fills; both stop at nothing here, so
    /// every branch is cancel safe.
    async fn turn(&mut self) -> Result<Option<Finished>, Failure> {
        let open = self.closed.is_none() && self.ending.is_none();
        let finishing = self.standing.plan.is_some();
        let flush_at = self.window.flush_at();
        let may_fill = self.may_fill();
        tokio::select! {
            biased;
            (checkpointer, standing, outcome) = settled(&mut self.committing), if self.committing.is_some() => {
                self.committing = None;
                self.checkpointer = Some(checkpointer);
                self.standing = standing;
                return self.settled(outcome);
            }
            () = self.shard.drain.cancelled(), if self.ending != Some(Finished::Drained) => self.drain(),
            () = self.window.asked(), if open && self.window.is_open() && self.give_up_at.is_none() => self.give_memory(),
            () = sleep_until(self.give_up_at.unwrap_or_else(Instant::now)), if finishing && self.give_up_at.is_some() => {
                self.give_plan_up();
            }
            () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if open && flush_at.is_some() && !finishing => {
                self.close(self.window.timed_reason());
            }
            () = yield_now(), if may_fill && !self.reply.is_empty() => {}
            read = next(&mut *self.reader, self.read_at), if may_fill && self.reply.is_empty() => self.accept(read)?,
        }
        Ok(None)
    }

    /// Takes nothing more in while a full window waits, and not past a blocked record while a commit is in flight.
    fn may_fill(&self) -> bool {
        let waits = self.blocked.is_some() && self.committing.is_some() || self.unreadable_plan.is_some();
        let done = self.finishes_only && self.standing.plan.is_none();
        self.closed.is_none() && self.ending.is_none() && self.halt.is_none() && !waits && !done
    }

    fn accept(&mut self, read: Result<Read, Failure>) -> Result<(), Failure> {
        self.read_at = None;
        match read {
            Ok(Read::Records(records)) => {
                self.read_pause.cured();
                self.take_reply(records);
            }
            Ok(Read::ShardEnd) => {
                self.read_pause.cured();
                if self.standing.plan.is_some() {
                    // The reader says so again once the announced window is committed.
                    if let Some(reason) = self.plan_falls_short() {
                        self.close(reason);
                    }
                    return Ok(());
                }
                self.ending = Some(Finished::ShardEnd);
                self.close(CloseReason::ShardEnd);
            }
            Err(failure) => {
                self.read_at = Some(self.read_pause.failed(&failure)?);
                self.read_pause.report(&failure);
            }
        }
        Ok(())
    }

    /// Closes the open window, if it has seen anything or was announced. `closed` must be free.
    fn close(&mut self, reason: CloseReason) {
        let announced = self.standing.plan.as_ref().map(|plan| plan.last);
        let through = match (reason, announced.or_else(|| self.window.last())) {
            (CloseReason::ShardEnd, _) => Checkpoint::ShardEnd,
            (_, Some(last)) => Checkpoint::At(last),
            (_, None) => return,
        };
        debug_assert!(self.closed.is_none(), "a window closed while another one waits");
        self.give_up_at = None;
        self.shard.metrics.window_closed(reason);
        self.closed = Some(Box::new(self.window.close(reason, through)));
    }

    fn drain(&mut self) {
        self.ending = Some(Finished::Drained);
        self.reply = Reply::default();
        if self.standing.plan.is_some() && self.closed.is_none() {
            // A part of the announced window is none: the next owner reads it again.
            self.discard();
        } else if self.closed.is_none() {
            self.close(CloseReason::Drain);
        }
    }

    fn start_commit(&mut self) {
        if self.committing.is_some() || self.closed.is_none() {
            return;
        }
        let (Some(window), Some(mut checkpointer)) = (self.closed.take(), self.checkpointer.take()) else { return };
        let (pipeline, shard) = (self.pipeline, Arc::clone(&self.shard));
        // What fills meanwhile is an ordinary window.
        let mut standing = Standing { committed: self.standing.committed, plan: self.standing.plan.take() };
        let patience = if self.halting.is_some() { 0 } else { CONFIGURATION_RETRIES_MAX };
        self.shard.health.progress(true);
        self.committing = Some(Box::pin(async move {
            let outcome = commit(pipeline, &shard, *window, &mut *checkpointer, &mut standing, patience).await;
            (checkpointer, standing, outcome)
        }));
    }

    /// Notes that the shard moved. While a window commits only the commit can say so: a reader that goes on would hide a
    /// sink that does not answer.
    fn note_progress(&self, busy: bool) {
        if self.committing.is_none() {
            self.shard.health.progress(busy);
        }
    }

    fn settled(&mut self, outcome: Result<(), Stop>) -> Result<Option<Finished>, Failure> {
        match outcome {
            Ok(()) => {
                self.passed(self.standing.committed);
                self.note_progress(self.closed.is_some());
                Ok(None)
            }
            Err(Stop::Halt(halt)) => {
                self.stopped(halt);
                Ok(None)
            }
            Err(Stop::LeaseLost) => Ok(Some(Finished::LeaseLost)),
            Err(Stop::Drained) => Ok(Some(Finished::Halted)),
            Err(Stop::Failed(failure)) => Err(failure),
        }
    }
}

/// The outcome of the commit in flight. Cancel safe: the future stays where it is.
async fn settled<O>(committing: &mut Option<BoxFuture<'_, O>>) -> O {
    match committing {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

/// The next reply, not before `at`. Cancel safe, as the reader is.
async fn next(reader: &mut dyn ShardReader, at: Option<Instant>) -> Result<Read, Failure> {
    if let Some(at) = at {
        sleep_until(at).await;
    }
    reader.next().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Raw;

    fn bytes_of<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// A worker holds thousands of shards that are idle. An async function that owns its `self` keeps it twice.
    #[test]
    fn a_shard_that_waits_is_kept_once_and_without_room_for_what_it_seldom_does() {
        let bytes = bytes_of(|shard: Box<ShardPipeline<'_, Raw>>| shard.run());
        assert!(bytes < 1024, "{bytes} bytes beside {}", size_of::<ShardPipeline<'_, Raw>>());
    }
}
