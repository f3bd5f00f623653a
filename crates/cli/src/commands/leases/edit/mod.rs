//! An edit: asked for, checked, shown, asked about, written.

mod showing;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use kinesink::config::{WORKER_ID, is_worker_id};
use kinesink::consumer::{Lease, LeaseEdit, Leases as Table, Place, Plan};
use kinesink::{Checkpoint, Class, Clock as _, Failure, Prepared, ShardId, SystemClock, finished_as_is};

use self::showing::{report, show};
use super::rows::Lag;
use super::{Stream, problem};
use crate::args::Leases;
use crate::exit::{Exit, Problem};

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Asked {
    Move(ShardId, Place),
    /// No shards: all of the worker's.
    Release(String, Vec<ShardId>),
    Assign(String, Vec<ShardId>),
    FinishPlan(ShardId),
    DropPlan(ShardId),
}

/// One lease, as it is and as it is to be.
struct Step {
    before: Lease,
    edit: LeaseEdit,
    lags: [Lag; 2],
    /// What is known of the time between: positive is skipped, negative delivered again.
    skipped: Option<Skipped>,
}

#[derive(Debug, Clone, Copy)]
enum Skipped {
    Forwards(Duration),
    Backwards(Duration),
    /// The checkpoint stays; the announced window is read again.
    Dropped,
    /// The checkpoint stays; the announced window is finished as far as it can be made.
    AsIs,
}

fn refuse(message: impl std::fmt::Display) -> Problem {
    Problem::new(Exit::Configuration, message)
}

/// Before anything is read: whether the answer to the question could be given.
pub(super) fn can_be_asked(args: &Leases) -> Result<(), Problem> {
    let lists = [&args.move_to, &args.release, &args.assign];
    let plans = [&args.finish_plan, &args.drop_plan];
    let is_edit = lists.iter().any(|given| given.is_some()) || plans.iter().any(|given| given.is_some());
    if !is_edit || args.yes || args.dry_run || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(refuse("cannot ask before writing: standard input is no terminal; add --yes to write, or --dry-run to look"))
}

impl Asked {
    pub(super) fn of(args: &Leases) -> Result<Option<Self>, Problem> {
        if let Some([shard, place]) = args.move_to.as_deref() {
            return Ok(Some(Self::Move(parsed(shard)?, parsed(place)?)));
        }
        if let Some(shard) = &args.finish_plan {
            return Ok(Some(Self::FinishPlan(parsed(shard)?)));
        }
        if let Some(shard) = &args.drop_plan {
            return Ok(Some(Self::DropPlan(parsed(shard)?)));
        }
        let shards = |shards: &[String]| shards.iter().map(|shard| parsed(shard)).collect::<Result<Vec<_>, _>>();
        Ok(match (args.release.as_deref(), args.assign.as_deref()) {
            (Some([worker, of @ ..]), _) => Some(Self::Release(worker.clone(), shards(of)?)),
            (_, Some([worker, ..])) if !is_worker_id(worker) => {
                return Err(refuse(format!("no worker can be called {worker:?}: {WORKER_ID}")));
            }
            (_, Some([worker, of @ ..])) => Some(Self::Assign(worker.clone(), shards(of)?)),
            _ => None,
        })
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(refuse)
}

pub(super) async fn run(
    args: &Leases,
    asked: &Asked,
    leases: &Table,
    stream: &Stream,
    seen: &[Lease],
) -> Result<Exit, Problem> {
    let steps = match asked {
        Asked::Move(shard, place) => vec![moved(find(seen, shard)?, *place, stream, seen).await?],
        Asked::FinishPlan(shard) => vec![finished(find(seen, shard)?, stream).await?],
        Asked::DropPlan(shard) => vec![dropped(find(seen, shard)?, stream).await?],
        Asked::Release(worker, shards) => released(seen, worker, shards, stream).await?,
        Asked::Assign(worker, shards) => assigned(seen, worker, shards, stream).await?,
    };
    if !args.json {
        show(&steps)?;
    }
    if args.dry_run {
        report(args, &steps, &[])?;
        return Ok(Exit::Drained);
    }
    if !args.yes && !confirmed()? {
        return Err(Problem::new(Exit::Failed, "nothing was written: the answer was not yes"));
    }
    let mut written = Vec::new();
    let mut failed = None;
    for step in &steps {
        match leases.edit(&step.before, &step.edit).await {
            Ok(after) => written.push((step, after)),
            Err(error) => {
                tracing::error!(shard = %step.before.shard(), %error, "not written");
                failed.get_or_insert(error);
            }
        }
    }
    report(args, &steps, &written)?;
    failed.map_or(Ok(Exit::Drained), |error| Err(problem(error)))
}

fn find<'a>(seen: &'a [Lease], shard: &ShardId) -> Result<&'a Lease, Problem> {
    seen.iter().find(|lease| lease.shard() == shard).ok_or_else(|| {
        let known: Vec<_> = seen.iter().take(4).map(|lease| lease.shard().as_str()).collect();
        let more = if seen.len() > known.len() { ", ..." } else { "" };
        refuse(format!("there is no lease {shard} in the table; it has {}{more}", known.join(", ")))
    })
}

async fn moved(before: &Lease, to: Place, stream: &Stream, seen: &[Lease]) -> Result<Step, Problem> {
    if stream.target.stream.is_none() {
        return Err(refuse(
            "cannot tell what a move would skip without the stream: add --stream NAME, or name the pipeline file \
             instead of the application",
        ));
    }
    check(before, to)?;
    let there = match stream.look(before.shard(), to).await {
        Some(Err(failure)) => return Err(no_such_place(before.shard(), to, &failure)),
        Some(Ok(look)) => Some(look),
        None => None,
    };
    let is_record = matches!(to.checkpoint, Checkpoint::At(_));
    if is_record && there.is_some_and(|look| look.first.is_none() && look.lag.is_zero()) {
        return Err(refuse(format!("{to} is no position of shard {}: it has no such record yet", before.shard())));
    }
    // To latest, this is the only question that the stream is asked.
    if let Some(Err(failure)) = stream.look(before.shard(), before.place()).await
        && failure.class == Class::Configuration
    {
        return Err(Problem::new(Exit::Start, failure));
    }
    let here = stream.lag(before).await;
    let there = there.map_or(Lag::Unknown, |look| Lag::Behind(look.lag));
    let edit = LeaseEdit::Move(to);
    warn(before, to, seen);
    Ok(Step {
        before: before.clone(),
        edit,
        skipped: skipped(before.checkpoint(), to, here, there),
        lags: [here, there],
    })
}

async fn finished(before: &Lease, stream: &Stream) -> Result<Step, Problem> {
    let Plan { checkpoint, state, .. } = plan(before)?;
    let prepared = Prepared { checkpoint, plan: state };
    let state = finished_as_is(&prepared, before.checkpoint())
        .map_err(|why| refuse(format!("cannot have the plan of lease {} finished: {why}", before.shard())))?;
    Ok(Step { skipped: Some(Skipped::AsIs), ..kept_in_place(before, LeaseEdit::Announce(state), stream).await })
}

async fn dropped(before: &Lease, stream: &Stream) -> Result<Step, Problem> {
    plan(before)?;
    warn(before, before.place(), &[]);
    Ok(Step { skipped: Some(Skipped::Dropped), ..kept_in_place(before, LeaseEdit::Move(before.place()), stream).await })
}

fn plan(of: &Lease) -> Result<Plan, Problem> {
    let none = || refuse(format!("lease {} has no plan: nothing was announced and not committed", of.shard()));
    of.plan().ok_or_else(none)
}

/// What needs no look at the stream.
fn check(before: &Lease, to: Place) -> Result<(), Problem> {
    let shard = before.shard();
    match to.checkpoint {
        Checkpoint::At(position) => {
            let own = shard.as_str().rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
            match (position.sequence.shard_index(), own) {
                (Some(other), Some(own)) if other != own => Err(refuse(format!(
                    "{to} is no position of shard {shard}: its sequence number is of shard shardId-{other:012}"
                ))),
                _ => Ok(()),
            }
        }
        Checkpoint::AtTimestamp if to.start.is_some_and(|time| time > SystemClock.now()) => {
            Err(refuse(format!("{to} has not come yet; write latest to resume at what arrives from now on")))
        }
        Checkpoint::ShardEnd if before.children().is_empty() => Err(refuse(format!(
            "shard {shard} has not been read to its end: without its children's leases nobody would read them"
        ))),
        _ => Ok(()),
    }
}

fn no_such_place(shard: &ShardId, to: Place, failure: &Failure) -> Problem {
    match failure.class {
        // The service has refused the position itself.
        Class::Fatal => refuse(format!("{to} is no position of shard {shard}: {failure}")),
        Class::Configuration => Problem::new(Exit::Start, failure),
        Class::Transient => Problem::new(Exit::Failed, failure),
    }
}

fn skipped(from: Checkpoint, to: Place, here: Lag, there: Lag) -> Option<Skipped> {
    let behind = |lag| match lag {
        Lag::Behind(lag) => Some(lag),
        Lag::Finished => Some(Duration::ZERO),
        Lag::Unknown => None,
    };
    let (here, there) = (behind(here)?, behind(there)?);
    // Lags are those of one moment each, and of records that came together: an order that is known goes before them.
    let is_forwards = match (from, to.checkpoint) {
        (_, Checkpoint::TrimHorizon) => false,
        (_, Checkpoint::Latest | Checkpoint::ShardEnd) | (Checkpoint::TrimHorizon, _) => true,
        (Checkpoint::At(from), Checkpoint::At(to)) => to > from,
        _ => here > there,
    };
    let between = here.abs_diff(there);
    Some(if is_forwards { Skipped::Forwards(between) } else { Skipped::Backwards(between) })
}

/// What the rows do not show.
fn warn(before: &Lease, to: Place, seen: &[Lease]) {
    if let Some(plan) = before.plan() {
        tracing::warn!(plan = %Place::from(plan.checkpoint), "the plan goes with it, and the undo does not bring it back");
    }
    if before.checkpoint() == Checkpoint::ShardEnd {
        tracing::warn!("the shards that follow have begun: their records and this shard's will not come in order");
    }
    let theirs = seen.iter().find(|lease| lease.owner().is_some() && !lease.is_ours()).and_then(Lease::owner);
    if let (Checkpoint::AtTimestamp, Some(worker)) = (to.checkpoint, theirs) {
        tracing::warn!(
            worker,
            "a worker of the Java KCL would resume at the time of its own configuration, not at this one"
        );
    }
}

async fn released(seen: &[Lease], worker: &str, shards: &[ShardId], stream: &Stream) -> Result<Vec<Step>, Problem> {
    for shard in shards {
        if find(seen, shard)?.owner() != Some(worker) {
            return Err(refuse(format!("lease {shard} is not owned by {worker:?}")));
        }
    }
    let mut steps = Vec::new();
    let owned = seen.iter().filter(|lease| lease.owner() == Some(worker));
    for lease in owned.filter(|lease| shards.is_empty() || shards.contains(lease.shard())) {
        steps.push(kept_in_place(lease, LeaseEdit::Release(worker.to_owned()), stream).await);
    }
    if steps.is_empty() {
        let owners: std::collections::BTreeSet<_> = seen.iter().filter_map(Lease::owner).collect();
        let owners = owners.into_iter().collect::<Vec<_>>().join(", ");
        let owners = if owners.is_empty() { "nobody does".to_owned() } else { format!("these do: {owners}") };
        return Err(refuse(format!("worker {worker:?} owns no lease of the table; {owners}")));
    }
    Ok(steps)
}

async fn assigned(seen: &[Lease], worker: &str, shards: &[ShardId], stream: &Stream) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for shard in shards {
        let lease = find(seen, shard)?;
        if let Some(owner) = lease.owner() {
            return Err(refuse(format!(
                "lease {shard} is owned by {owner}; take it off that worker with --release first"
            )));
        }
        steps.push(kept_in_place(lease, LeaseEdit::Assign(worker.to_owned()), stream).await);
    }
    Ok(steps)
}

async fn kept_in_place(lease: &Lease, edit: LeaseEdit, stream: &Stream) -> Step {
    let lag = stream.lag(lease).await;
    Step { before: lease.clone(), edit, lags: [lag; 2], skipped: None }
}

fn confirmed() -> Result<bool, Problem> {
    let failed = |error| Problem::new(Exit::Failed, format!("cannot ask before writing: {error}"));
    let mut stderr = std::io::stderr();
    write!(stderr, "Write this? [y/N] ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
