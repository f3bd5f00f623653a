//! `kinesink replay FILE`: dead letters back into the sinks, or a time range of the stream into another place.

use kinesink::config::Config;
use kinesink::{
    Clock as _, FailedWindow, Outcome, Programs, Progress, ReplayReport, Stop, SystemClock, TimeRange, replay,
    replay_range,
};

use crate::args::Replay;
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

pub(crate) async fn run(args: Replay) -> Result<Exit, Problem> {
    let (config, programs) = super::check::read(&args.file)?;
    if let Some(range) = range(&args)? {
        return run_range(&config, programs, &range).await;
    }
    if config.dead_letter.is_none() {
        let file = args.file.display();
        return Err(Problem::new(Exit::Configuration, format!("{file} has no [dead_letter] to read from: add it")));
    }
    let clients = super::check::clients(&config).await?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    let report = tokio::select! {
        report = replay(&config, programs, &clients) => report?,
        // What was sent is met again the next time.
        () = stop.drain.cancelled() => return Ok(Exit::Aborted),
        () = signals => return Ok(Exit::Aborted),
    };
    if report.objects == 0 {
        let place = config.dead_letter.as_ref().map(|dead_letter| dead_letter.url.to_string()).unwrap_or_default();
        stdout::line(format!("there are no dead letters in {place}: nothing to replay"))?;
        return Ok(Exit::Drained);
    }
    tell(&report)
}

/// What of the stream is asked for, if that and no dead letters are.
fn range(args: &Replay) -> Result<Option<TimeRange>, Problem> {
    let (Some(from), Some(to)) = (args.from, args.to) else { return Ok(None) };
    let refuse = |why: String| Problem::new(Exit::Configuration, why);
    let into = args.into.as_deref().map(str::parse).transpose();
    let into = into.map_err(|error: kinesink::sinks::Error| refuse(format!("cannot write to --into: {error}")))?;
    Ok(Some(TimeRange { from, to, into }))
}

async fn run_range(config: &Config, programs: Programs, range: &TimeRange) -> Result<Exit, Problem> {
    super::check::complete(config)?;
    let applied = range.applied(config, SystemClock.now())?;
    let clients = super::check::clients(config).await?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    let (outcome, progress, is_over) = tokio::select! {
        ran = replay_range(config, programs, clients, range, &stop) => ran?,
        () = signals => return Ok(Exit::Aborted),
    };
    let Progress { committed, filtered, .. } = progress;
    stdout::line(format!(
        "{committed} records from {} to {} in this run, of which {filtered} were filtered",
        range.from, range.to
    ))?;
    match outcome {
        Outcome::Halted => Ok(Exit::Halted),
        Outcome::Drained if is_over => {
            let table = applied.lease.table;
            stdout::line(format!(
                "table {table} remembers that this range is done: delete it to replay the range anew, or when nobody does"
            ))?;
            Ok(Exit::Drained)
        }
        Outcome::Drained | Outcome::Aborted => {
            stdout::line("stopped before the end; the same command goes on")?;
            Ok(Exit::Aborted)
        }
    }
}

fn tell(report: &ReplayReport) -> Result<Exit, Problem> {
    let ReplayReport { windows, records, delivered, filtered, refused, unknown_sinks, failed, .. } = report;
    stdout::line(format!(
        "{records} records of {windows} windows: {delivered} outputs delivered, {filtered} filtered, {} refused again",
        refused.count
    ))?;
    if report.delivered_before > 0 {
        stdout::line(format!("{} outputs had been delivered by earlier replays", report.delivered_before))?;
    }
    let shown = refused.first.iter().map(|(position, stage, reason)| format!("{position}, {stage}: {reason}"));
    show(shown, refused.count)?;
    for name in unknown_sinks {
        stdout::line(format!(
            "letters are for sink {name}, which the file has not: give its name to the sink that is to have them, or remove them"
        ))?;
    }
    if failed.count > 0 {
        stdout::line(format!("{} of the windows could not be replayed:", failed.count))?;
    }
    let shown = failed
        .first
        .iter()
        .map(|FailedWindow { shard, first, last, why }| format!("records {first} to {last} of {shard}: {why}"));
    show(shown, failed.count)?;
    if report.untried > 0 {
        stdout::line(format!("{} windows behind were not tried, as the sinks do not come back", report.untried))?;
    }
    match failed.count {
        0 if refused.count == 0 && unknown_sinks.is_empty() => Ok(Exit::Drained),
        0 => Ok(Exit::Failed),
        failed => Err(Problem::new(
            Exit::Failed,
            format!("{failed} of the windows could not be replayed: mend what is said of each, and replay again"),
        )),
    }
}

/// The first of them, a line each.
fn show(first: impl ExactSizeIterator<Item = String>, count: usize) -> Result<(), Problem> {
    let more = count - first.len();
    for line in first {
        stdout::line(format!("  {line}"))?;
    }
    if more > 0 {
        stdout::line(format!("  and {more} more"))?;
    }
    Ok(())
}
