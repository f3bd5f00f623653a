//! Data goes to standard output; a reader that left is no error.

use std::io::Write as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::{Exit, Problem};

/// Writes one line. `false` once the reader has gone.
pub(crate) fn line(text: impl AsRef<[u8]>) -> Result<bool, Problem> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_ref()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if Problem::is_broken_pipe(&error) => Ok(false),
        Err(error) => Err(Problem::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
    }
}

/// Whether the reader has gone, which a pipe tells before anything is written.
pub(crate) fn is_closed() -> bool {
    let out = std::io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}
