//! `kinesink local`: the local services until a signal, or around a command.

use std::path::Path;
use std::process::ExitStatus;

use kinesink::Stop;
use kinesink::local::{Local as Services, LocalOptions};

use crate::args::Local;
use crate::exit::{Exit, Problem};
use crate::{signals, stdout};

pub(crate) async fn run(args: Local) -> Result<Exit, Problem> {
    let options =
        LocalOptions { directory: args.dir, kinesis_port: args.kinesis_port, dynamodb_port: args.dynamodb_port };
    let stop = Stop::new();
    let signals = signals::watch(stop.clone())?;
    tokio::pin!(signals);
    let services = Services::start(&options).await?;
    if let Some((program, arguments)) = args.command.split_first() {
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(services.environment());
        let status = command.status().await.map_err(|error| {
            Problem::new(Exit::Start, format!("cannot run {}: {error}", Path::new(program).display()))
        });
        services.stop().await;
        return Ok(exit_with(status?));
    }
    let lines = shell_lines(&services);
    match &args.env {
        Some(file) => std::fs::write(file, lines + "\n")
            .map_err(|error| Problem::new(Exit::Start, format!("cannot write {}: {error}", file.display())))?,
        None => drop(stdout::line(lines)?),
    }
    tokio::select! {
        () = &mut signals => {}
        () = stop.drain.cancelled() => {}
    }
    services.stop().await;
    Ok(Exit::Drained)
}

fn shell_lines(services: &Services) -> String {
    let lines = services.environment().into_iter().map(|(name, value)| format!("export {name}={value}"));
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
