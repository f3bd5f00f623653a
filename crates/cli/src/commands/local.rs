//! `kinesink local`: the local services until a signal, or around a command.

use std::path::Path;
use std::process::ExitStatus;

use kinesink::Stop;
use kinesink::local::{Limits, Local as Services, LocalOptions};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::args::Local;
use crate::exit::{Exit, Problem};
use crate::shell::quoted;
use crate::{signals, stdout};

/// What the shell lines begin with.
const FIRST_WORDS: &str = "export AWS_ENDPOINT_URL_KINESIS=";

pub(crate) async fn run(args: Local) -> Result<Exit, Problem> {
    let limits = if args.no_limits { Limits::none() } else { Limits::default() };
    let options = LocalOptions {
        directory: args.dir,
        kinesis_port: args.kinesis_port,
        dynamodb_port: args.dynamodb_port,
        s3_port: args.s3_port,
        limits: args.no_limit.into_iter().fold(limits, Limits::without),
        transitions: args.transitions,
        tls: args.tls,
    };
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::pin!(signals);
    if let Some(file) = &args.env {
        forget(file)?;
    }
    let mut services = Services::start(&options).await?;
    let lines = shell_lines(&services);
    match &args.env {
        Some(file) => write_whole(file, &(lines + "\n"))?,
        None if args.command.is_empty() => drop(stdout::line(lines)?),
        None => {}
    }
    if let Some((program, arguments)) = args.command.split_first() {
        let mut command = Command::new(program);
        command.args(arguments).envs(services.environment());
        let ended = tokio::select! {
            ended = run_command(command, &stop) => ended,
            () = &mut signals => Ok(None),
            error = services.ended() => return Err(error.into()),
        };
        services.stop().await;
        let ended = ended.map_err(|error| {
            Problem::new(Exit::Start, format!("cannot run {}: {error}", Path::new(program).display()))
        })?;
        return Ok(ended.map_or(Exit::Aborted, exit_with));
    }
    tokio::select! {
        () = &mut signals => {}
        () = stop.drain.cancelled() => {}
        error = services.ended() => return Err(error.into()),
    }
    services.stop().await;
    Ok(Exit::Drained)
}

/// The file of an earlier run names ports that nobody serves any more. Any other file is left alone.
fn forget(file: &Path) -> Result<(), Problem> {
    let refuse = |exit, why: String| Err(Problem::new(exit, format!("cannot replace {}: {why}", file.display())));
    match std::fs::read(file) {
        Ok(found) if !found.starts_with(FIRST_WORDS.as_bytes()) => {
            return refuse(Exit::Configuration, "kinesink local did not write it; name another file with --env".into());
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return refuse(Exit::Start, error.to_string()),
    }
    std::fs::remove_file(file).or_else(|error| refuse(Exit::Start, error.to_string()))
}

/// Whoever waits for the file finds all of it or none.
fn write_whole(file: &Path, text: &str) -> Result<(), Problem> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, file))
        .map_err(|error| Problem::new(Exit::Start, format!("cannot write {}: {error}", file.display())))
}

/// Runs the command to its end. A first signal is passed on to it; a second one kills it, when this is dropped.
async fn run_command(mut command: Command, stop: &Stop) -> std::io::Result<Option<ExitStatus>> {
    let mut child = command.kill_on_drop(true).spawn()?;
    tokio::select! {
        status = child.wait() => return status.map(Some),
        () = stop.drain.cancelled() => {}
    }
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        kill_process(pid, Signal::TERM)?;
    }
    child.wait().await.map(Some)
}

fn shell_lines(services: &Services) -> String {
    let lines = services.environment().into_iter().map(|(name, value)| format!("export {name}={}", quoted(&value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Ends this process as the command ended: with its code, or 128 + the signal, as a shell says it.
#[expect(clippy::exit, reason = "the command's code may be any, which Exit does not name; the services are stopped")]
fn exit_with(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    if status.success() {
        return Exit::Drained;
    }
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
