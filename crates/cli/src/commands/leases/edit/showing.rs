//! What an edit would write and what it has written, as a table or as JSON, and the command that undoes it.

use std::time::Duration;

use kinesink::consumer::{Lease, LeaseEdit};
use serde_json::json;

use super::{Skipped, Step};
use crate::args::Leases;
use crate::commands::leases::rows::{Row, table};
use crate::exit::Problem;
use crate::shell::quoted;
use crate::stdout;

pub(super) fn show(steps: &[Step]) -> Result<(), Problem> {
    let afters: Vec<_> = steps.iter().map(|step| step.before.after(&step.edit)).collect();
    let rows: Vec<_> = steps
        .iter()
        .zip(&afters)
        .flat_map(|(step, after)| {
            let [here, there] = step.lags;
            [
                Row { label: Some("before"), lease: &step.before, lag: here },
                Row { label: Some("after"), lease: after, lag: there },
            ]
        })
        .collect();
    for line in table(&rows) {
        stdout::line(line)?;
    }
    for step in steps {
        if let Some(says) = consequence(step) {
            stdout::line(says)?;
        }
        if let Some(owner) = step.before.owner() {
            let shard = step.before.shard();
            stdout::line(format!(
                "{owner} loses the lease of {shard} if it is alive; what it has read and not checkpointed is read again"
            ))?;
        }
    }
    Ok(())
}

/// What the rows do not show: what would be lost or doubled.
fn consequence(step: &Step) -> Option<String> {
    Some(match step.skipped {
        Some(Skipped::Forwards(time)) => format!("{} of records would be skipped, delivered to nobody", minutes(time)),
        Some(Skipped::Backwards(time)) => format!("{} of records would be delivered again", minutes(time)),
        Some(Skipped::Dropped) => {
            "the announced window would be read again; what of it is in the sinks already may be there twice".to_owned()
        }
        Some(Skipped::AsIs) => "the announced window would be finished as far as it can be made now: objects that exist \
            stay as they are, whoever wrote them, and records that belong there and are in none of them are lost, as are those that \
            have left the stream; records whose object has another name now may be there twice"
            .to_owned(),
        None if matches!(step.edit, LeaseEdit::Move(_)) => "how much would be skipped is not known".to_owned(),
        None => return None,
    })
}

fn minutes(time: Duration) -> String {
    match time.as_secs_f64() / 60.0 {
        some if some > 0.0 && some < 0.1 => "less than 0.1 minutes".to_owned(),
        some => format!("{some:.1} minutes"),
    }
}

/// What was written, and how it is undone.
pub(super) fn report(args: &Leases, steps: &[Step], written: &[(&Step, Lease)]) -> Result<(), Problem> {
    if args.json {
        for step in steps {
            let done = written.iter().find(|(other, _)| std::ptr::eq(*other, step));
            let after = done.map_or_else(|| step.before.after(&step.edit), |(_, after)| after.clone());
            let [here, there] = step.lags;
            let skipped_ms = step.skipped.map(|skipped| match skipped {
                Skipped::Forwards(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
                Skipped::Dropped | Skipped::AsIs => 0,
                Skipped::Backwards(time) => -i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            });
            let object = json!({
                "before": Row { label: None, lease: &step.before, lag: here }.json(),
                "after": Row { label: None, lease: &after, lag: there }.json(),
                "skipped_ms": skipped_ms,
                "written": done.is_some(),
                "undo": undo(args, &[step]),
            });
            stdout::line(object.to_string())?;
        }
        return Ok(());
    }
    if written.is_empty() {
        stdout::line("nothing was written")?;
        return Ok(());
    }
    stdout::line(format!("written: {} of {}", written.len(), steps.len()))?;
    let steps: Vec<_> = written.iter().map(|(step, _)| *step).collect();
    stdout::line(match undo(args, &steps) {
        Some(command) => format!("to undo: {command}"),
        None => {
            "it cannot be undone; until a worker has finished the window, --drop-plan gives it up instead".to_owned()
        }
    })?;
    Ok(())
}

/// The command that leads back, if one does. All steps of one command are of one kind.
fn undo(args: &Leases, steps: &[&Step]) -> Option<String> {
    let mut words = vec!["kinesink".to_owned(), "leases".into(), quoted(&args.app)];
    for (flag, value) in [("--table", &args.table), ("--stream", &args.stream)] {
        words.extend(value.iter().flat_map(|value| [flag.to_owned(), quoted(value)]));
    }
    for (index, step) in steps.iter().enumerate() {
        let shard = step.before.shard().to_string();
        match step.edit.undo(&step.before)? {
            LeaseEdit::Move(place) => words.extend(["--move".into(), shard, place.to_string()]),
            _ if index > 0 => words.push(shard),
            LeaseEdit::Assign(worker) => words.extend(["--assign".into(), quoted(&worker), shard]),
            LeaseEdit::Release(worker) => words.extend(["--release".into(), quoted(&worker), shard]),
            LeaseEdit::Announce(_) => return None,
        }
    }
    Some(words.join(" "))
}
