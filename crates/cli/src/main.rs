//! The kinesink command.

mod admin;
mod args;
mod commands;
mod exit;
mod logs;
mod reader;
mod shards;
mod shell;
mod signals;
mod stdout;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::exit::{Exit, Problem};

/// Threads that write files and compress. An allocator keeps memory for each thread: few threads, and none for long,
/// keep little.
const BLOCKING_THREADS_MAX: usize = 32;
const BLOCKING_IDLE_MAX: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            // Nobody is left to be told if standard error is closed.
            let _closed = writeln!(std::io::stderr(), "{problem}");
            problem.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Problem> {
    logs::install(cli.log, &cli.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(kinesink::JQ_STACK_BYTES)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_IDLE_MAX)
        .build()
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot start the runtime: {error}")))?;
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => commands::demo::run(args).await,
            Command::Run(args) => commands::run::run(args).await,
            Command::Check(args) => commands::check::run(&args).await,
            Command::Replay(args) => commands::replay::run(args).await,
            Command::Leases(args) => commands::leases::run(args).await,
            Command::Local(args) => commands::local::run(args).await,
            Command::Put(args) => commands::put::run(args).await,
            Command::Tail(args) => commands::tail::run(args).await,
            Command::Completions { shell } => commands::completions::completions(shell),
            Command::Man { command } => commands::completions::man(command.as_deref()),
        }
    });
    // A blocked read of standard input, or an aborted write, must not keep the process.
    runtime.shutdown_background();
    exit
}
