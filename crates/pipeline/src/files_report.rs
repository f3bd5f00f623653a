//! Why files are not larger.

use std::fmt;

use kinesink_core::{CloseReason, Files};

/// The files of a run by what closed their windows, and what would make them larger. Shown as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesReport {
    /// What closed any, the most files first.
    by_reason: Vec<(CloseReason, Files, u64)>,
}

impl FilesReport {
    /// Of files and windows by what closed them.
    pub(crate) fn of(by_reason: &[(CloseReason, Files, u64)]) -> Self {
        let mut by_reason: Vec<_> = by_reason.iter().copied().filter(|(_, files, _)| files.count > 0).collect();
        by_reason.sort_by_key(|(_, files, _)| std::cmp::Reverse(files.count));
        Self { by_reason }
    }

    /// How many files there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.by_reason.iter().map(|(_, files, _)| files.count).sum()
    }
}

/// What to do for larger files where this closed most of them.
fn remedy(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Count => "raise [buffer] records",
        CloseReason::Bytes => "raise [buffer] bytes",
        CloseReason::Age => "raise [buffer] age",
        CloseReason::Memory => "raise memory, or add [spill]",
        CloseReason::Drain => "stop and hand shards over less often",
        CloseReason::ShardEnd => "reshard less often",
        CloseReason::Halt => "mend what halts the shard",
        CloseReason::Plan => "mend what kills the workers between the parts of a window",
    }
}

impl fmt::Display for FilesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, bytes) = (self.count(), self.by_reason.iter().map(|(_, files, _)| files.bytes).sum());
        write!(f, "{count} files of {} on average", size(bytes, count))?;
        for (place, (reason, files, windows)) in self.by_reason.iter().enumerate() {
            let separator = if place == 0 { ":" } else { "," };
            let (count, windows) = (files.count, (*windows).max(1));
            write!(f, "{separator} {count} of {} closed by {reason}", size(files.bytes, count))?;
            if count > windows {
                write!(f, ", {} of each window", count.div_ceil(windows))?;
            }
        }
        match self.by_reason.first() {
            Some((reason, ..)) => write!(f, "; for larger ones {}", remedy(*reason)),
            None => Ok(()),
        }
    }
}

/// Bytes of one of so many.
fn size(bytes: u64, count: u64) -> String {
    let mean = bytes / count.max(1);
    match mean {
        0..1_000 => format!("{mean} B"),
        1_000..1_000_000 => format!("{} KB", mean / 1_000),
        _ => format!("{} MB", mean / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_closed_files_and_what_would_make_them_larger() {
        let files = |count, bytes| Files { count, bytes };
        let report = FilesReport::of(&[
            (CloseReason::Count, files(3, 30_000_000), 3),
            (CloseReason::Bytes, files(0, 0), 0),
            (CloseReason::Age, files(40, 400_000), 4),
        ]);
        let text = "43 files of 706 KB on average: 40 of 10 KB closed by age, 10 of each window, 3 of 10 MB closed by count; \
                    for larger ones raise [buffer] age";
        assert_eq!((report.count(), report.to_string().as_str()), (43, text));
        assert_eq!(FilesReport::of(&[]).count(), 0);
    }
}
