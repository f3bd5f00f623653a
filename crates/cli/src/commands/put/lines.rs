//! Lines of a file or of standard input, read beside the runtime so that a signal is noticed while nothing comes.

use std::io::BufRead;
use std::path::Path;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;

use crate::exit::{Exit, Problem};

/// Lines that are read ahead.
const LINES_AHEAD_MAX: usize = 1_000;

/// The lines, in order, and the task that reads them.
pub(crate) struct Lines {
    lines: Receiver<std::io::Result<String>>,
    _reader: JoinSet<()>,
}

impl Lines {
    pub(crate) fn open(file: &Path) -> Result<Self, Problem> {
        let reader: Box<dyn BufRead + Send> = if file == Path::new("-") {
            Box::new(std::io::BufReader::new(std::io::stdin()))
        } else {
            let opened = std::fs::File::open(file).map_err(|error| {
                Problem::new(Exit::Configuration, format!("cannot read {}: {error}", file.display()))
            })?;
            Box::new(std::io::BufReader::new(opened))
        };
        let (sender, lines) = channel(LINES_AHEAD_MAX);
        let mut task = JoinSet::new();
        task.spawn_blocking(move || {
            for line in reader.lines() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { lines, _reader: task })
    }

    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<std::io::Result<String>> {
        self.lines.recv().await
    }
}
