//! Logs go to standard error, data to standard output.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::exit::{Exit, Problem};

/// Libraries whose warnings are answers that we handle, such as a table that is not there yet, or errors that a client is
/// told, such as an object that is not there; or that have the insides of an error which is told in words. A directive of the user's
/// comes later and wins.
const LIBRARIES: &str = "dynoxide=error,s3s=off,aws_config=off";

/// Installs the process's one log writer.
pub(crate) fn install(format: LogFormat, filter: &str) -> Result<(), Problem> {
    let quiet = format!("{LIBRARIES},{filter}");
    let filter = EnvFilter::try_new(quiet)
        .map_err(|error| Problem::new(Exit::Configuration, format!("cannot read --log-level {filter:?}: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written would be complained of on the same standard error, with a panic where that is gone.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Problem::new(Exit::Failed, format!("cannot install the log writer: {error}")))
}
