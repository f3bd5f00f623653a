//! `kinesink demo`: the main job on local services, then a verification that shares no code with it.

mod layout;
mod verify;

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kinesink::aws::connect;
use kinesink::local::{Limits, Local, LocalOptions};
use kinesink::{Connector, Metrics, Progress, Stop, connector_from, create_stream};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use self::layout::Layout;
use super::put::Producer;
use crate::args::Demo;
use crate::exit::{Exit, Problem};
use crate::shell::quoted;
use crate::{signals, stdout};

const STREAM: &str = "flights";
const SHARDS: u16 = 4;
/// 20,000 rows of the New York 2013 flights table; `data/README.md` names source and licence.
const FLIGHTS: &[u8] = include_bytes!("../../../data/flights.ndjson.gz");
/// A demo that has not read its own records after this long has failed.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a pipe is told how far the pipeline is; a terminal has a bar.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Demo) -> Result<Exit, Problem> {
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::select! {
        exit = demo(&args, &stop) => exit,
        () = signals => Err(interrupted()),
    }
}

async fn demo(args: &Demo, stop: &Stop) -> Result<Exit, Problem> {
    let layout = if args.verify { Layout::existing(&args.dir)? } else { Layout::fresh(&args.dir)? };
    let directory = Some(layout.local.clone());
    let local = Local::start(&LocalOptions { directory, limits: Limits::none(), ..LocalOptions::default() }).await?;
    let clients = connect(&local.aws_options()).await?;
    if !args.verify {
        let records = flights()?;
        say(format!("local services: Kinesis at {}, DynamoDB at {}", local.kinesis_url(), local.dynamodb_url()))?;
        create_stream(&clients.kinesis, STREAM, SHARDS).await?;
        put(&clients.kinesis, &records, stop).await?;
        say(format!("{} records of New York flights put into stream {STREAM}, {SHARDS} shards", records.len()))?;
        let (config, programs) = super::check::read(&layout.pipeline)?;
        let mut registry = Registry::default();
        let connector = connector_from(&config, programs, clients.clone(), &mut registry).await?;
        let landed = pipeline(&connector, records.len() as u64, stop).await?;
        if landed.is_none() {
            local.stop().await;
            return Err(interrupted());
        }
        layout.note_objects()?;
        report(&layout, &landed.unwrap_or_default())?;
    }
    let verdict = verify::verify(&clients.kinesis, STREAM, &layout).await?;
    local.stop().await;
    if !verdict.differences.is_empty() {
        let lines = verdict.differences.join("\n  ");
        return Err(Problem::new(Exit::Failed, format!("what landed is not what was put:\n  {lines}")));
    }
    say(format!(
        "verified: the stream read again with GetRecords, filtered by hand, equals the objects: {} records",
        verdict.records
    ))?;
    next_steps(&layout)?;
    Ok(Exit::Drained)
}

fn interrupted() -> Problem {
    Problem::new(Exit::Aborted, "stopped by a signal before the demo was done; run it again")
}

/// What the pipeline did, and how long it took.
#[derive(Debug, Default)]
struct Landed {
    progress: Progress,
    took: Duration,
}

/// Runs the pipeline until a checkpoint has passed every record, then drains it. `None` if a signal came first.
async fn pipeline(connector: &Connector, records: u64, stop: &Stop) -> Result<Option<Landed>, Problem> {
    let metrics = connector.metrics();
    let run_stop = Stop { drain: stop.drain.child_token(), abort: stop.abort.clone() };
    let start = Instant::now();
    let bar = progress_bar(records);
    let all_committed = async {
        let (mut said, mut shown) = (Instant::now(), 0);
        while shown < records && !run_stop.drain.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let delivered = done(&metrics);
            bar.set_position(delivered);
            if delivered > shown && (delivered >= records || said.elapsed() > PLAIN_LINE_EVERY) {
                (said, shown) = (Instant::now(), delivered);
                if bar.is_hidden() {
                    // The final report follows, so a reader that left is noticed there.
                    let _reader_left = stdout::line(format!("{delivered} of {records} records delivered or filtered"));
                }
            }
        }
        run_stop.drain.cancel();
        // The connector ends then, or has ended by itself already.
        std::future::pending().await
    };
    let outcome = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            outcome = connector.run(&run_stop) => outcome,
            never = all_committed => never,
        }
    });
    let outcome = outcome.await;
    bar.finish_and_clear();
    outcome.map_err(|_| {
        Problem::new(
            Exit::Failed,
            format!("the pipeline was done with {} of {records} records in time", done(&metrics)),
        )
    })??;
    let finished = done(&metrics) >= records;
    Ok(finished.then(|| Landed { progress: metrics.progress(), took: start.elapsed() }))
}

/// Not what was read: a lease that was lost for a moment has its records read again.
fn done(metrics: &Metrics) -> u64 {
    metrics.progress().committed
}

fn progress_bar(records: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(records), target);
    match ProgressStyle::with_template("{bar:40} {pos}/{len} records  {per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn flights() -> Result<Vec<Bytes>, Problem> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(FLIGHTS)
        .read_to_end(&mut text)
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot unpack the demo's records: {error}")))?;
    let text = Bytes::from(text);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(|line| text.slice_ref(line)).collect())
}

async fn put(client: &kinesink::aws::kinesis::Client, records: &[Bytes], stop: &Stop) -> Result<(), Problem> {
    let mut producer = Producer::new(client, STREAM, None, None, &stop.drain);
    for (number, record) in records.iter().enumerate() {
        producer.add(number.to_string(), record.clone()).await?;
    }
    producer.finish().await
}

fn report(layout: &Layout, landed: &Landed) -> Result<(), Problem> {
    let objects = layout.objects_on_disk()?;
    let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
    let Progress { records, filtered, .. } = landed.progress;
    let lines = layout.lines_on_disk()?;
    let per_second = records as f64 / landed.took.as_secs_f64().max(0.001);
    say(format!(
        "{} objects, {lines} records, {filtered} filtered, {bytes} bytes, {per_second:.0} records/s, in {}",
        objects.len(),
        layout.objects.display()
    ))?;
    if let Some(object) = objects.first() {
        say(format!("  first: {}", object.path.display()))?;
    }
    Ok(())
}

fn next_steps(layout: &Layout) -> Result<(), Problem> {
    let [pipeline, local] = [&layout.pipeline, &layout.local].map(|path| quoted(&path.display().to_string()));
    say("try next:")?;
    say(format!("  kinesink check {pipeline}"))?;
    say(format!("  kinesink run {pipeline} --local {local}"))?;
    say(format!("  kinesink local {local} -- kinesink tail {STREAM} --from trim-horizon --records 5"))
}

fn say(text: impl AsRef<[u8]>) -> Result<(), Problem> {
    stdout::line(text).map(drop)
}
