//! Completions and the man page, from the same definitions as `--help`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Exit, Problem};
use crate::stdout;

pub(crate) fn completions(shell: Shell) -> Result<Exit, Problem> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kinesink", &mut text);
    stdout::line(text.trim_ascii_end())?;
    Ok(Exit::Drained)
}

pub(crate) fn man(command: Option<&str>) -> Result<Exit, Problem> {
    let mut whole = Cli::command();
    // Names the commands after the whole, as in kinesink-run.
    whole.build();
    let page = match command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Problem::new(Exit::Configuration, format!("there is no command {name:?}; kinesink --help lists them"))
        })?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot render the man page: {error}")))?;
    stdout::line(text.trim_ascii_end())?;
    Ok(Exit::Drained)
}
