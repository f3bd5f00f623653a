//! `kinesink replay FILE`: dead letters back into the sinks.

use kinesink::aws::{AwsOptions, connect};
use kinesink::{ReplayReport, Stop, replay};

use crate::args::Replay;
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

/// Letters that are shown which are refused still.
const SHOWN_MAX: usize = 10;

pub(crate) async fn run(args: Replay) -> Result<Exit, Problem> {
    let (config, programs) = super::check::read(&args.file)?;
    if config.dead_letter.is_none() {
        let file = args.file.display();
        return Err(Problem::new(Exit::Configuration, format!("{file} has no [dead_letter] to read from: add it")));
    }
    let options = AwsOptions { region: config.source.region.clone(), ..AwsOptions::default() };
    let clients = connect(&options).await?;
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    let report = tokio::select! {
        report = replay(&config, programs, &clients) => report?,
        // What was sent is met again the next time.
        () = stop.drain.cancelled() => return Ok(Exit::Aborted),
        () = signals => return Ok(Exit::Aborted),
    };
    tell(&report)
}

fn tell(report: &ReplayReport) -> Result<Exit, Problem> {
    let total = &report.total;
    stdout::line(format!(
        "{} records of {} windows: {} outputs delivered, {} filtered, {} refused again",
        total.records,
        report.windows,
        total.delivered,
        total.filtered,
        total.refused.len()
    ))?;
    for (position, stage, reason) in total.refused.iter().take(SHOWN_MAX) {
        stdout::line(format!("  {position}, {stage}: {reason}"))?;
    }
    if let Some(more) = total.refused.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        stdout::line(format!("  and {more} more"))?;
    }
    Ok(if total.refused.is_empty() { Exit::Drained } else { Exit::Failed })
}
