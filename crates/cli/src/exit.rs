//! How the program ends.

use std::fmt;
use std::process::ExitCode;

/// Every exit code. The table in `--help` and in the README is made from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Drained, or done.
    Drained = 0,
    /// Failed while running.
    Failed = 1,
    /// The command line or the configuration is wrong; nothing was started.
    Configuration = 2,
    /// A service, a resource or a permission was missing at start.
    Start = 3,
    /// Aborted before the drain ended.
    Aborted = 4,
    /// Drained by a signal while every held shard was halted.
    Halted = 5,
}

impl Exit {
    const ALL: [(Self, &str); 6] = [
        (Self::Drained, "drained, or done"),
        (Self::Failed, "failed while running"),
        (Self::Configuration, "the command line or the configuration is wrong; nothing was started"),
        (Self::Start, "a service, a resource or a permission was missing at start"),
        (Self::Aborted, "aborted before the drain ended; the rest is read again at the next start"),
        (Self::Halted, "drained by a signal while every held shard was halted"),
    ];

    /// The table for `--help`.
    pub(crate) fn table() -> String {
        let rows = Self::ALL.iter().map(|(exit, meaning)| format!("  {}  {meaning}", *exit as u8));
        format!("Exit codes:\n{}", rows.collect::<Vec<_>>().join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with the code that the program ends with.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) exit: Exit,
    report: String,
}

impl Problem {
    /// One line: what was attempted, on what, why, what to do.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, report: format!("error: {message}") }
    }

    /// A report that is laid out already, such as a mistake in a file with its line.
    pub(crate) fn report(exit: Exit, report: &miette::Report) -> Self {
        Self { exit, report: format!("{report:?}") }
    }

    /// Standard output was closed by its reader, as in `kinesink tail s | head`: no error.
    pub(crate) fn is_broken_pipe(error: &std::io::Error) -> bool {
        error.kind() == std::io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl From<kinesink::Error> for Problem {
    fn from(error: kinesink::Error) -> Self {
        let exit = match &error {
            kinesink::Error::Configuration(_) => Exit::Configuration,
            kinesink::Error::Start(_) => Exit::Start,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<kinesink::aws::Error> for Problem {
    fn from(error: kinesink::aws::Error) -> Self {
        let exit = match &error {
            kinesink::aws::Error::NoCredentials(_) => Exit::Start,
            _ => Exit::Configuration,
        };
        Self::new(exit, error)
    }
}

impl From<kinesink::local::Error> for Problem {
    fn from(error: kinesink::local::Error) -> Self {
        let exit = match &error {
            kinesink::local::Error::Ended { .. } => Exit::Failed,
            _ => Exit::Start,
        };
        Self::new(exit, error)
    }
}
