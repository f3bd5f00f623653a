//! Lines of a file or of standard input, read beside the runtime so that a signal is noticed while nothing comes.

use std::io::{self, BufRead, Read as _};
use std::path::Path;

use kinesink::{Budget, Reservation};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;

use super::RECORD_BYTES_MAX;
use crate::exit::{Exit, Problem};

/// Lines that are read ahead, and their bytes.
const LINES_AHEAD_MAX: usize = 1_000;
const BYTES_AHEAD_MAX: usize = 8 * 1024 * 1024;

/// The lines, in order, and the task that reads them.
pub(crate) struct Lines {
    lines: Receiver<(io::Result<String>, Reservation)>,
    _reader: JoinSet<()>,
}

impl Lines {
    pub(crate) fn open(file: &Path) -> Result<Self, Problem> {
        let mut reader: Box<dyn BufRead + Send> = if file == Path::new("-") {
            Box::new(io::BufReader::new(io::stdin()))
        } else {
            let refuse =
                |why: String| Problem::new(Exit::Configuration, format!("cannot read {}: {why}", file.display()));
            let opened = std::fs::File::open(file).map_err(|error| refuse(error.to_string()))?;
            if opened.metadata().is_ok_and(|opened| opened.is_dir()) {
                return Err(refuse("it is a directory; name a file of lines".into()));
            }
            Box::new(io::BufReader::new(opened))
        };
        let (sender, lines) = channel(LINES_AHEAD_MAX);
        let budget = Budget::new(BYTES_AHEAD_MAX);
        let runtime = Handle::current();
        let mut task = JoinSet::new();
        task.spawn_blocking(move || {
            while let Some(line) = next_line(&mut reader).transpose() {
                let bytes = line.as_ref().map_or(0, String::len);
                let reservation = runtime.block_on(budget.reserve(bytes));
                let is_last = line.is_err();
                if sender.blocking_send((line, reservation)).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self { lines, _reader: task })
    }

    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<io::Result<String>> {
        self.lines.recv().await.map(|(line, _reservation)| line)
    }
}

/// The next line without its end, or as much of it as shows that it is too long to be sent.
fn next_line(reader: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    // The end of a line has two bytes at most.
    let read = reader.take(RECORD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
    }
    if line.len() > RECORD_BYTES_MAX {
        // Cut in the middle of a character, perhaps.
        return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
    }
    String::from_utf8(line).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_no_further_than_shows_that_it_is_too_long() {
        let text = [b"one\r\ntwo\n\n", vec![b'x'; 3 * RECORD_BYTES_MAX].as_slice()].concat();
        let mut rest = text.as_slice();
        for expected in ["one", "two", ""] {
            assert_eq!(next_line(&mut rest).unwrap().as_deref(), Some(expected));
        }
        let long = next_line(&mut rest).unwrap().unwrap();
        assert!(long.len() > RECORD_BYTES_MAX && rest.len() > RECORD_BYTES_MAX, "{} read", long.len());
        assert!(next_line(&mut &b"\xff\n"[..]).is_err());
        assert_eq!(next_line(&mut &b""[..]).unwrap(), None);
        assert_eq!(next_line(&mut &b"no end"[..]).unwrap().as_deref(), Some("no end"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn lines_that_nobody_takes_are_read_ahead_up_to_a_number_of_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = [vec![b'x'; 1024 * 1024 - 1], vec![b'\n']].concat();
        for _ in 0..100 {
            io::Write::write_all(&mut file, &line).unwrap();
        }
        let mut lines = Lines::open(file.path()).unwrap();
        while lines.lines.len() < 8 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        // A reader without a limit is through the file by then.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(lines.lines.len(), 8, "lines of 1 MiB that are held");
        let mut read = 0;
        while let Some(line) = lines.next().await {
            read += line.unwrap().len();
        }
        assert_eq!(read, 100 * (1024 * 1024 - 1));
    }
}
