//! `kinesink check FILE`: reads and validates, starts nothing.

use std::path::Path;

use kinesink::Programs;
use kinesink::config::Config;

use crate::args::Check;
use crate::exit::{Exit, Problem};
use crate::stdout;

pub(crate) fn run(args: &Check) -> Result<Exit, Problem> {
    let (config, _programs) = read(&args.file)?;
    stdout::line(format!("{}: no mistakes found", args.file.display()))?;
    stdout::line(format!("  app {}, stream {}, delivery: {}", config.app, config.source.stream, config.delivery()))?;
    for sink in &config.sinks {
        stdout::line(format!("  sink {} -> {}", sink.name, sink.url))?;
    }
    if config.dead_letter.is_none() {
        stdout::line("  no [dead_letter]: a record that cannot be transformed or delivered halts its shard")?;
    }
    Ok(Exit::Drained)
}

/// Reads a pipeline file and compiles its programs, or says where it is wrong.
pub(crate) fn read(file: &Path) -> Result<(Config, Programs), Problem> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let remedy = if error.kind() == std::io::ErrorKind::InvalidData { "; save it as UTF-8" } else { "" };
        Problem::new(Exit::Configuration, format!("cannot read {name}: {error}{remedy}"))
    })?;
    let mistake = |mistake: kinesink::config::ConfigError| Problem::report(Exit::Configuration, &mistake.into());
    let config = Config::parse(&text, &name).map_err(mistake)?;
    let programs = Programs::compile(&config).map_err(mistake)?;
    Ok((config, programs))
}
