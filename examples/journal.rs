//! The consumer alone, without a pipeline: a KCL for Rust. A worker that appends a line for each record to a file, and
//! checkpoints only what is in it. It shares its lease table with any other worker of the application, Java's too.
//!
//! ```text
//! kinesink local -- cargo run --example journal -- STREAM APP WORKER FILE FAILOVER_MS     # ends at Ctrl-C
//! ```
//!
//! A line has the time in milliseconds, the worker, what happened, the shard, sequence number and sub-sequence, between
//! tabs. Workers of one application need the same failover, and ids of their own.

#![expect(clippy::print_stderr, reason = "an example has no log")]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesink::consumer::{Consumer, Finished, Shard, ShardHandler, Start};
use kinesink::{Checkpoint, CheckpointError, Clock as _, Failure, Read, Settlement, ShardId, SystemClock};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

const CHECKPOINT_PERIOD: Duration = Duration::from_secs(1);

/// The file that all shards of this worker write to.
struct Journal {
    worker: String,
    file: Mutex<BufWriter<File>>,
}

impl Journal {
    fn line(&self, what: &str, shard: &ShardId, at: Checkpoint) -> Result<(), Failure> {
        let (time, worker) = (SystemClock.now().as_millisecond(), &self.worker);
        let (sequence, sub_sequence) = (at.sequence_text(), at.sub_sequence());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{time}\t{worker}\t{what}\t{shard}\t{sequence}\t{sub_sequence}").map_err(|error| broken(&error))
    }

    /// From here on a killed worker leaves its lines behind.
    fn flush(&self) -> Result<(), Failure> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush().map_err(|error| broken(&error))
    }

    /// A line that is seen at once.
    fn event(&self, what: &str, shard: &ShardId, at: Checkpoint) -> Result<(), Failure> {
        self.line(what, shard, at)?;
        self.flush()
    }

    /// Checkpoints what is in the file. Whether the lease is still held.
    async fn commit(&self, shard: &mut Shard, through: Checkpoint) -> Result<bool, Failure> {
        // Nothing is owed for records that are in the file already: no sinks, no dead letters.
        let Ok(durable) = Settlement::new(through, 0, 0, 0).finish() else { return Ok(true) };
        match shard.checkpointer.commit(durable).await {
            Ok(()) => self.event("checkpoint", &shard.id, through).map(|()| true),
            Err(CheckpointError::LeaseLost) => self.event("refused", &shard.id, through).map(|()| false),
            Err(CheckpointError::Store(failure)) => Err(failure),
            Err(error) => Err(Failure::transient(error.to_string())),
        }
    }

    async fn read(&self, shard: &mut Shard) -> Result<Finished, Failure> {
        let drain = shard.drain.clone();
        let mut written = None;
        let mut due = Instant::now();
        loop {
            let read = tokio::select! {
                () = drain.cancelled() => break,
                () = sleep_until(due), if written.is_some() => None,
                read = shard.reader.next() => Some(read?),
            };
            match read {
                Some(Read::Records(records)) => {
                    for record in &records.records {
                        let at = Checkpoint::At(record.position);
                        self.line("record", &shard.id, at)?;
                        if written.replace(at).is_none() {
                            due = Instant::now() + CHECKPOINT_PERIOD;
                        }
                    }
                    self.flush()?;
                }
                Some(Read::ShardEnd) => {
                    let held = self.commit(shard, Checkpoint::ShardEnd).await?;
                    return Ok(if held { Finished::ShardEnd } else { Finished::LeaseLost });
                }
                None => {
                    if let Some(through) = written.take()
                        && !self.commit(shard, through).await?
                    {
                        return Ok(Finished::LeaseLost);
                    }
                }
            }
        }
        if let Some(through) = written
            && !self.commit(shard, through).await?
        {
            return Ok(Finished::LeaseLost);
        }
        Ok(Finished::Drained)
    }
}

/// Notes the end of a shard's run, also if it is dropped because the lease is lost.
struct Run<'a> {
    journal: &'a Journal,
    shard: ShardId,
    ended: &'static str,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.journal.event(self.ended, &self.shard, Checkpoint::TrimHorizon) {
            eprintln!("{failure}");
        }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::fatal(format!("cannot write the journal: {error}"))
}

#[async_trait]
impl ShardHandler for Journal {
    async fn run(&self, mut shard: Shard) -> Result<Finished, Failure> {
        self.event("gained", &shard.id, shard.start)?;
        let mut run = Run { journal: self, shard: shard.id.clone(), ended: "lost" };
        let finished = self.read(&mut shard).await?;
        if finished != Finished::LeaseLost {
            run.ended = "drained";
        }
        Ok(finished)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // What the consumer says, as far as `RUST_LOG` asks for it.
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [stream, app, worker, path, failover_ms] = arguments.as_slice() else {
        return Err("usage: journal STREAM APP WORKER FILE FAILOVER_MS".into());
    };
    // Address, region and credentials are those of the environment.
    let clients = kinesink::aws::connect(&kinesink::aws::AwsOptions::default()).await?;
    let consumer = Consumer::builder(app, stream.parse()?, clients)
        .worker_id(worker)
        .start(Start::TrimHorizon)
        .failover(Duration::from_millis(failover_ms.parse()?))
        .idle(Duration::from_millis(250))
        .build(&mut Registry::default())?;
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let journal = Arc::new(Journal { worker: worker.clone(), file: Mutex::new(BufWriter::new(file)) });

    let (drain, abort) = (CancellationToken::new(), CancellationToken::new());
    let running = consumer.run(journal, drain.clone(), abort);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        signal = tokio::signal::ctrl_c() => signal?,
    }
    drain.cancel();
    Ok(running.await?)
}
